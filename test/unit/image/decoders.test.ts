/** The decoders of xz, lzma, bzip2, lz4 and lzop, on files that the tools themselves made. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { DecodeError, type DecoderOptions, Input } from '../../../src/image/unpack/decoder.ts';
import { DECODERS, type DecodedFormat } from '../../../src/image/unpack/formats.ts';
import { Sha256 } from '../../../src/image/unpack/sha256.ts';
import { bzip2OfOneRun, lzmaOfKnownSize } from '../../support/packed.ts';
import { readCompressedVectors } from '../../support/vectors.ts';

const MIB = 1024 * 1024;
const OPTIONS: DecoderOptions = { maxWindowBytes: 128 * MIB, ignoreTrailing: false };

interface Decoded {
  readonly bytes: Buffer;
  readonly members: number;
  /** The most that was asked for. */
  readonly memoryBytes: number;
}

/** @throws DecodeError */
function decode(format: DecodedFormat, packed: Uint8Array, pieceBytes = packed.length, options = OPTIONS): Decoded {
  const input = new Input();
  const pieces: Buffer[] = [];
  let members = 0;
  let memoryBytes = 0;
  let at = 0;
  for (const event of DECODERS[format](input, options)) {
    switch (event.kind) {
      case 'input':
        // A copy whose memory ends with it, and is overwritten as soon as it may be.
        if (at < packed.length) input.feed(packed.slice(at, at + Math.max(1, pieceBytes)));
        else input.finish();
        at += Math.max(1, pieceBytes);
        break;
      case 'piece':
        pieces.push(Buffer.from(event.bytes));
        break;
      case 'member':
        members += 1;
        break;
      case 'memory':
        memoryBytes = Math.max(memoryBytes, event.bytes);
        break;
      case 'trait':
        break;
    }
  }
  return { bytes: Buffer.concat(pieces), members, memoryBytes };
}

function faultOf(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    if (error instanceof DecodeError) return error.fault.kind;
    throw error;
  }
  return 'none';
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const vectors = readCompressedVectors();
const bytesOf = ({ file }: { readonly file: string }): Buffer => Buffer.from(file, 'base64');

test('there are files of every format', () => {
  expect(new Set(vectors.map(({ format }) => format))).toEqual(new Set(Object.keys(DECODERS)));
  expect(vectors.length).toBeGreaterThan(60);
});

describe.each(vectors)('$name', (vector) => {
  const { format, expect: expected } = vector;
  const packed = bytesOf(vector);

  test.each([packed.length, 1000, 7, 1])('is unpacked from pieces of %i bytes', (pieceBytes) => {
    const { bytes, members } = decode(format, packed, pieceBytes);
    expect([bytes.length, sha256(bytes), members]).toEqual([expected.length, expected.sha256, 1]);
  });

  test('is refused when it is cut, wherever that is', () => {
    const faults = new Set<unknown>();
    for (let length = 0; length < packed.length; length += length < 100 ? 1 : 37) {
      // A legacy file of lz4 has no end of its own; nothing at all is a file of nothing.
      const fault = faultOf(() => decode(format, packed.subarray(0, length), 500));
      if (length > 0 && !(vector.name.includes('-l') && fault === 'none')) faults.add(fault);
    }
    faults.delete('damaged');
    expect([...faults]).toEqual(['cut']);
  });

  test('never breaks when a byte is turned', () => {
    const results = new Set<unknown>();
    for (let at = 0; at < packed.length; at += at < 64 ? 1 : 61) {
      const damaged = Buffer.from(packed);
      damaged[at] = (damaged[at] ?? 0) ^ 0x55;
      results.add(faultOf(() => decode(format, damaged, 700)));
    }
    expect(results.has('damaged') || results.has('checksum')).toBe(true);
  });
});

const oneOf = (format: DecodedFormat, name = ''): Buffer => {
  const vector = vectors.find((each) => each.format === format && each.name.includes(name));
  if (vector === undefined) throw new Error(`there is no ${format}`);
  return bytesOf(vector);
};
const FORMATS = Object.keys(DECODERS) as DecodedFormat[];

describe('what follows a member', () => {
  test.each(FORMATS.filter((format) => format !== 'lzma'))('%s: another member', (format) => {
    const packed = oneOf(format);
    const { bytes } = decode(format, packed);
    const twice = decode(format, Buffer.concat([packed, packed]), 333);
    expect([twice.members, Buffer.compare(twice.bytes, Buffer.concat([bytes, bytes]))]).toEqual([2, 0]);
  });

  test.each(FORMATS.filter((format) => format !== 'lz4'))('%s: something else', (format) => {
    const packed = Buffer.concat([oneOf(format), Buffer.from('something else')]);
    expect(faultOf(() => decode(format, packed))).toBe('trailing-data');
    const { members } = decode(format, packed, 100, { ...OPTIONS, ignoreTrailing: true });
    expect(members).toBe(1);
  });

  test.each(['bzip2', 'lzo', 'xz'] as const)('%s: zeros', (format) => {
    const packed = oneOf(format);
    expect(decode(format, Buffer.concat([packed, Buffer.alloc(4096)]), 1000).members).toBe(1);
    const more = Buffer.concat([packed, Buffer.alloc(4096), Buffer.from('x')]);
    expect(faultOf(() => decode(format, more, 1000))).toBe('trailing-data');
  });

  test('xz: zeros whose number is not a multiple of four', () => {
    const packed = Buffer.concat([oneOf('xz'), Buffer.alloc(6)]);
    expect(faultOf(() => decode('xz', packed))).toBe('trailing-data');
  });
});

test.each([
  ['xz', 'cut'],
  ['lzma', 'cut'],
  ['bzip2', 'cut'],
  ['lzo', 'cut'],
  ['lz4', 'none'],
] as const)('nothing at all is, as for its tool, for %s: %s', (format, fault) => {
  expect(faultOf(() => decode(format, new Uint8Array(0)))).toBe(fault);
});

test('lz4: a match of the distance 0, which the format forbids', () => {
  const block = [0x15, 0x78, 0, 0, 0x50, 0x61, 0x61, 0x61, 0x61, 0x61];
  const packed = Uint8Array.from([0x02, 0x21, 0x4c, 0x18, block.length, 0, 0, 0, ...block]);
  expect(() => decode('lz4', packed)).toThrow('a block has a match of the distance 0');
  packed[10] = 1;
  expect(decode('lz4', packed).bytes.toString()).toBe('xxxxxxxxxxaaaaa');
});

function checksum(bytes: Buffer): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32BE(crc32(bytes));
  return word;
}

describe('lzop: an extra field in the header', () => {
  const FLAGS_AT = 17;
  const EXTRA_FIELD = 0x40;
  const HEADER_CRC32 = 0x1000;
  const plain = oneOf('lzo');
  const headerEnd = 34 + (plain[33] ?? 0);

  /** @param covers what the checksum of the extra field is made of */
  function withExtraField(covers: (length: Buffer, field: Buffer) => Buffer): Buffer {
    const header = Buffer.from(plain.subarray(0, headerEnd));
    header.writeUInt32BE((header.readUInt32BE(FLAGS_AT) | EXTRA_FIELD | HEADER_CRC32) >>> 0, FLAGS_AT);
    const field = Buffer.from('extra');
    const length = Buffer.from([0, 0, 0, field.length]);
    const rest = plain.subarray(headerEnd + 4);
    return Buffer.concat([header, checksum(header.subarray(9)), length, field, checksum(covers(length, field)), rest]);
  }

  test('has a checksum of its length and its bytes', () => {
    const packed = withExtraField((length, field) => Buffer.concat([length, field]));
    for (const pieceBytes of [packed.length, 3, 1]) {
      expect(decode('lzo', packed, pieceBytes).bytes.equals(decode('lzo', plain).bytes)).toBe(true);
    }
  });

  test('is refused with another checksum', () => {
    expect(
      faultOf(() =>
        decode(
          'lzo',
          withExtraField((_length, field) => field),
        ),
      ),
    ).toBe('checksum');
  });
});

test('lzop: wrong checksums are a trait when they are to be passed', () => {
  const packed = Buffer.from(oneOf('lzo'));
  const at = 34 + (packed[33] ?? 0);
  packed.writeUInt32BE(1, at);
  expect(faultOf(() => decode('lzo', packed))).toBe('checksum');
  const traits = [...DECODERS.lzo(fed(packed), { ...OPTIONS, passChecksums: true })].filter(
    ({ kind }) => kind === 'trait',
  );
  expect(traits).toContainEqual({ kind: 'trait', trait: 'wrong-checksum' });
});

/** An input that has everything. */
function fed(packed: Uint8Array): Input {
  const input = new Input();
  input.feed(packed);
  input.finish();
  return input;
}

describe('memory', () => {
  test.each(FORMATS)('%s asks before it takes it', (format) => {
    expect(decode(format, oneOf(format)).memoryBytes).toBeGreaterThan(0);
  });

  test('of a dictionary is no larger than what the header allows', () => {
    const big = oneOf('xz', '-6');
    expect(decode('xz', big).memoryBytes).toBeGreaterThan(8 * MIB);
    expect(faultOf(() => decode('xz', big, 100, { ...OPTIONS, maxWindowBytes: 4 * MIB }))).toBe('window-too-large');
    const old = oneOf('lzma', '-6');
    expect(faultOf(() => decode('lzma', old, 100, { ...OPTIONS, maxWindowBytes: 4 * MIB }))).toBe('window-too-large');
  });

  test('of a generator that is closed early is freed', () => {
    const decoding = DECODERS.lz4(new Input(), OPTIONS);
    expect(decoding.next().value).toEqual({ kind: 'input' });
    expect(decoding.return()).toEqual({ done: true, value: undefined });
  });
});

test('SHA-256 is that of the system', () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 128, 1000]) {
    const bytes = Buffer.from(Array.from({ length }, (_, index) => (index * 7) & 0xff));
    const hash = new Sha256();
    hash.update(bytes.subarray(0, length / 3));
    hash.update(bytes.subarray(length / 3));
    expect(Buffer.from(hash.digest()).toString('hex')).toBe(sha256(bytes));
  }
});

/** An lzma file with another size in its header. */
function withSize(file: Buffer, size: number): Buffer {
  const changed = Buffer.from(file);
  changed.writeBigUInt64LE(BigInt(size), 5);
  return changed;
}

describe('lzma: a file with its size in the header and no end mark', () => {
  const bytes = decode('lzma', oneOf('lzma')).bytes.subarray(0, 5000);
  const packed = lzmaOfKnownSize(bytes);

  test.each([packed.length, 100, 7, 1])('is unpacked from pieces of %i bytes', (pieceBytes) => {
    const decoded = decode('lzma', packed, pieceBytes);
    expect([decoded.members, Buffer.compare(decoded.bytes, bytes)]).toEqual([1, 0]);
  });

  test.each([
    ['one byte of it is missing', packed.subarray(0, -1), 'cut'],
    ['something follows', Buffer.concat([packed, Buffer.from('x')]), 'trailing-data'],
    ['the header names less', withSize(packed, bytes.length - 1), 'damaged'],
    ['the header names more', withSize(packed, bytes.length + 1), 'cut'],
  ])('is refused when %s', (_what, file, fault) => {
    expect(faultOf(() => decode('lzma', file, 50))).toBe(fault);
  });
});

test('bzip2: a block may be full to its last byte, and no fuller', () => {
  const { packed, bytes } = bzip2OfOneRun(100_000);
  expect(Buffer.compare(decode('bzip2', packed).bytes, bytes)).toBe(0);
  expect(faultOf(() => decode('bzip2', bzip2OfOneRun(100_005).packed))).toBe('damaged');
});
