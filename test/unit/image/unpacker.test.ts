import { Duplex } from 'node:stream';
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';
import {
  type PackedFormat,
  Unpacker,
  type UnpackFault,
  type UnpackOptions,
} from '../../../src/image/unpack/unpacker.ts';
import { eventually, Gate, KIB, MIB, noise, outcome, pieces } from '../../support/uploads.ts';
import { frameHead, rawBlock, repeated, segmentHead, skippableFrame, zerosFrame } from '../../support/zstd.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** A fault as it was found. */
class Fault extends Error {
  readonly fault: UnpackFault;
  constructor(fault: UnpackFault) {
    super(fault.kind);
    this.fault = fault;
  }
}

interface Unpacking {
  readonly unpacker: Unpacker;
  readonly memory: Budget;
  readonly output: Uint8Array[];
}

function start(format: PackedFormat, options: Partial<UnpackOptions> = {}): Unpacking {
  const memory = options.memory ?? new Budget(256 * MIB);
  const output: Uint8Array[] = [];
  const unpacker = new Unpacker({
    format,
    memory,
    maxWindowBytes: 128 * MIB,
    allowPadding: false,
    take: (piece) => void output.push(Uint8Array.from(piece)),
    freePieces: true,
    explain: (fault) => new Fault(fault),
    ...options,
  });
  return { unpacker, memory, output };
}

async function unpack(
  format: PackedFormat,
  packed: Uint8Array,
  { chunkBytes = 64 * KIB, ...options }: Partial<UnpackOptions> & { readonly chunkBytes?: number } = {},
): Promise<Buffer> {
  const { unpacker, memory, output } = start(format, options);
  try {
    for (const piece of pieces(packed, chunkBytes)) await unpacker.append(piece);
    await unpacker.finish();
    expect(memory.used).toBe(0);
  } finally {
    unpacker.destroy();
    expect(memory.used).toBe(0);
  }
  return Buffer.concat(output);
}

const faultOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'none',
    (error: unknown) => (error instanceof Fault ? error.fault : error),
  );

const data = noise(300_000);
const half = data.length / 2;
const twice = (pack: (bytes: Uint8Array) => Uint8Array): Buffer =>
  Buffer.concat([pack(data.subarray(0, half)), pack(data.subarray(half))]);
const checked = (bytes: Uint8Array | string): Buffer =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
const empty = Buffer.alloc(0);

describe.each([64 * KIB, 1000])('in chunks of %i bytes', (chunkBytes) => {
  test.each<[string, PackedFormat, Uint8Array]>([
    ['gzip', 'gzip', gzipSync(data)],
    ['several members', 'gzip', twice((bytes) => gzipSync(bytes))],
    ['deflate', 'deflate', deflateSync(data)],
    ['br', 'br', brotliCompressSync(data, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } })],
    ['zstd', 'zstd', zstdCompressSync(data)],
    ['several frames', 'zstd', twice(checked)],
    [
      'frames with others to be passed over',
      'zstd',
      Buffer.concat([skippableFrame(noise(5)), twice(checked), skippableFrame(noise(9000))]),
    ],
    ['frames with empty ones', 'zstd', Buffer.concat([checked(''), twice(zstdCompressSync), zstdCompressSync('')])],
    ['a small frame before a large one', 'zstd', Buffer.concat([zstdCompressSync(''), checked(data)])],
  ])('%s is unpacked', async (_name, format, packed) => {
    expect(Buffer.compare(await unpack(format, packed, { chunkBytes }), data)).toBe(0);
  });

  test.each<[PackedFormat, Uint8Array, Uint8Array]>([
    ['gzip', gzipSync(data), Buffer.from('junk')],
    ['gzip', gzipSync(data), Buffer.from([0x1f])],
    ['gzip', gzipSync(data), Buffer.alloc(8)],
    ['deflate', deflateSync(data), Buffer.from('junk')],
    ['deflate', deflateSync(data), Buffer.alloc(1)],
    ['deflate', deflateSync(data), deflateSync(data)],
    ['br', brotliCompressSync('x'), Buffer.from('junk')],
    ['br', brotliCompressSync('x'), brotliCompressSync('x')],
    ['zstd', zstdCompressSync(data), Buffer.from('junk')],
    ['zstd', zstdCompressSync(data), Buffer.alloc(1)],
    ['zstd', zstdCompressSync(''), gzipSync(data)],
  ])('what follows the end is found: %s', async (format, packed, more) => {
    const isCutMember = format === 'gzip' && more.length === 1;
    const kind = isCutMember ? 'damaged' : 'trailing-data';
    expect(await faultOf(unpack(format, Buffer.concat([packed, more]), { chunkBytes }))).toMatchObject({ kind });
  });

  test('zeros may follow gzip, and anything after them', async () => {
    for (const more of [Buffer.alloc(1), Buffer.alloc(5000), Buffer.concat([Buffer.alloc(600), Buffer.from('junk')])]) {
      const unpacked = await unpack('gzip', Buffer.concat([gzipSync(data), more]), { chunkBytes, allowPadding: true });
      expect(Buffer.compare(unpacked, data)).toBe(0);
    }
    const junk = Buffer.concat([gzipSync(data), Buffer.from('junk'), Buffer.alloc(100)]);
    expect(await faultOf(unpack('gzip', junk, { chunkBytes, allowPadding: true }))).toEqual({ kind: 'trailing-data' });
  });

  test.each<[string, PackedFormat, Uint8Array]>([
    ['cut short', 'gzip', gzipSync(data).subarray(0, -1)],
    ['cut short', 'deflate', deflateSync(data).subarray(0, -1)],
    ['cut short', 'br', brotliCompressSync('x').subarray(0, -1)],
    ['cut short', 'zstd', zstdCompressSync(data).subarray(0, -1)],
    ['cut short in its second frame', 'zstd', Buffer.concat([zstdCompressSync(data), checked('').subarray(0, 7)])],
    ['cut short in a frame to be passed over', 'zstd', skippableFrame(noise(50)).subarray(0, -1)],
    ['nothing of the kind', 'gzip', data],
    ['nothing of the kind', 'deflate', data],
    ['nothing of the kind', 'br', Buffer.from('no brotli at all')],
    ['nothing of the kind', 'zstd', data],
    ['wrong in its checksum', 'zstd', Buffer.concat([checked(data).subarray(0, -1), Buffer.from([0x42])])],
    ['wrong in the checksum of nothing', 'zstd', Buffer.concat([checked('').subarray(0, -1), Buffer.from([0x42])])],
    ['of a block that does not exist', 'zstd', Buffer.concat([frameHead(20), Buffer.from([7, 0, 0]), noise(100)])],
  ])('what is damaged is found: %s (%s)', async (_what, format, packed) => {
    expect(await faultOf(unpack(format, packed, { chunkBytes }))).toMatchObject({ kind: 'damaged' });
  });
});

test.each<PackedFormat>(['gzip', 'deflate', 'br', 'zstd'])('%s of no bytes is nothing', async (format) => {
  expect(await unpack(format, empty)).toHaveLength(0);
});

describe('the memory of a decompressor is taken from the budget', () => {
  /** As much of a stream as begins it. */
  const begun: [string, PackedFormat, Uint8Array, number][] = [
    ['gzip', 'gzip', gzipSync(data).subarray(0, 1000), 0],
    ['deflate', 'deflate', deflateSync(data).subarray(0, 1000), 0],
    ['br', 'br', brotliCompressSync(data).subarray(0, 1000), 16 * MIB],
    ['zstd, 8 MiB', 'zstd', zerosFrame(23, MIB, { complete: false }), 8 * MIB],
    ['zstd, 128 MiB', 'zstd', zerosFrame(27, MIB, { complete: false }), 128 * MIB],
    ['zstd, one segment of 100 MiB', 'zstd', Buffer.concat([segmentHead(100 * MIB), rawBlock(noise(9))]), 100 * MIB],
  ];

  test.each(begun)('and given back when it is given up: %s', async (_name, format, packed, windowBytes) => {
    const { unpacker, memory } = start(format);
    await unpacker.append(packed);
    // What surrounds a window is little.
    expect(memory.used).toBeGreaterThan(windowBytes);
    expect(memory.used).toBeLessThan(windowBytes + 2 * MIB);
    unpacker.destroy();
    unpacker.destroy();
    expect(memory.used).toBe(0);
    expect(await outcome(unpacker.append(packed))).toBe('rejected');
    expect(await outcome(unpacker.finish())).toBe('rejected');
    expect(memory.used).toBe(0);
  });

  test('of one frame after the other only the largest', async () => {
    const { unpacker, memory } = start('zstd');
    const held: number[] = [];
    for (const log of [20, 26, 24, 17, 26]) {
      await unpacker.append(zerosFrame(log, MIB));
      held.push(Math.floor(memory.used / MIB));
    }
    expect(held).toEqual([2, 65, 65, 65, 65]);
    await unpacker.finish();
    expect(memory.used).toBe(0);
  });

  test('of a frame that states a small size is no more than that', async () => {
    const frame = zstdCompressSync(Buffer.alloc(2 * MIB), {
      pledgedSrcSize: 2 * MIB,
      params: { [constants.ZSTD_c_windowLog]: 27, [constants.ZSTD_c_enableLongDistanceMatching]: 1 },
    });
    const { unpacker, memory } = start('zstd');
    await unpacker.append(frame.subarray(0, -1));
    expect(memory.used).toBeLessThan(4 * MIB);
    unpacker.destroy();
  });

  test('not at all for frames that need none', async () => {
    const memory = new Budget(0);
    const overdraw = vi.spyOn(memory, 'overdraw');
    const frames = Buffer.concat([skippableFrame(noise(9)), zstdCompressSync(''), zstdCompressSync('a')]);
    expect((await unpack('zstd', frames, { memory })).toString()).toBe('a');
    expect(overdraw).not.toHaveBeenCalled();
  });

  test.each(begun)('and refused only when it is much: %s', async (_name, format, packed, windowBytes) => {
    const memory = new Budget(MIB);
    memory.take(MIB);
    const { unpacker } = start(format, { memory });
    const isRefused = format === 'zstd' && windowBytes > 8 * MIB;
    const fault = JSON.stringify(await faultOf(unpacker.append(packed)));
    expect(fault).toMatch(isRefused ? /"no-memory".*"limitBytes":1048576/ : /"none"/);
    expect(memory.used > MIB).toBe(!isRefused);
    unpacker.destroy();
    expect(memory.used).toBe(MIB);
  });

  test('which two large windows share while there is room', async () => {
    const memory = new Budget(200 * MIB);
    const [one, other] = [start('zstd', { memory }), start('zstd', { memory })];
    const packed = zerosFrame(27, MIB);
    await one.unpacker.append(packed);
    expect(await faultOf(other.unpacker.append(packed))).toMatchObject({ kind: 'no-memory' });
    other.unpacker.destroy();
    await one.unpacker.finish();
    expect(Buffer.concat(one.output)).toHaveLength(MIB);
    expect(await unpack('zstd', packed, { memory })).toHaveLength(MIB);
  });
});

describe('what zstd asks for', () => {
  test.each([
    ['2^28', Buffer.concat([frameHead(28), rawBlock(noise(9))]), 2 ** 28],
    ['2^31', Buffer.concat([frameHead(31), rawBlock(noise(9))]), 2 ** 31],
    ['2^41', Buffer.concat([frameHead(41), rawBlock(noise(9))]), 2 ** 41],
    ['one segment', Buffer.concat([segmentHead(2 ** 27 + 1), rawBlock(noise(9))]), 2 ** 27 + 1],
  ])('is refused before there is a decompressor: a window of %s', async (_name, packed, windowBytes) => {
    const { unpacker, memory } = start('zstd', { memory: new Budget(2 ** 50) });
    expect(await faultOf(unpacker.append(packed))).toEqual({
      kind: 'window-too-large',
      windowBytes,
      maxWindowBytes: 128 * MIB,
    });
    expect(memory.used).toBe(0);
    unpacker.destroy();
  });

  test('is allowed up to the limit', async () => {
    const maxWindowBytes = 8 * MIB;
    expect(await unpack('zstd', zerosFrame(23, 9 * MIB), { maxWindowBytes })).toHaveLength(9 * MIB);
    const larger = unpack('zstd', zerosFrame(24, 9 * MIB), { maxWindowBytes });
    expect(await faultOf(larger)).toMatchObject({ kind: 'window-too-large', maxWindowBytes });
  });

  test('is not a dictionary', async () => {
    const named = Buffer.concat([frameHead(20).subarray(0, 4), Buffer.from([1, 0x50, 7]), rawBlock(noise(9), true)]);
    expect(await faultOf(unpack('zstd', named))).toEqual({ kind: 'dictionary-needed' });
  });
});

/** How often a decompressor is asked. */
function countWrites(): { readonly count: () => number } {
  const write = Reflect.get(Duplex.prototype, 'write') as (...given: unknown[]) => boolean;
  const spy = vi.spyOn(Duplex.prototype, 'write').mockImplementation(function (this: Duplex, ...given: unknown[]) {
    return write.apply(this, given);
  });
  return { count: () => spy.mock.calls.length };
}

describe('many small pieces cost little', () => {
  test.each<[string, PackedFormat, Uint8Array, number]>([
    ['empty frames', 'zstd', repeated(zstdCompressSync(''), 100_000), 0],
    ['empty frames with a checksum', 'zstd', repeated(checked(''), 100_000), 0],
    ['frames of a byte', 'zstd', repeated(zstdCompressSync('a'), 100_000), 100_000],
    ['frames to be passed over', 'zstd', repeated(skippableFrame(empty), 100_000), 0],
    [
      'empty blocks',
      'zstd',
      Buffer.concat([frameHead(20), repeated(rawBlock(empty), 300_000), rawBlock(empty, true)]),
      0,
    ],
    ['empty members', 'gzip', repeated(gzipSync(''), 100_000), 0],
    ['members of a byte', 'gzip', repeated(gzipSync('a'), 100_000), 100_000],
  ])('%s', async (_name, format, packed, length) => {
    const { count } = countWrites();
    let taken = 0;
    let takes = 0;
    await unpack(format, packed, {
      take: (piece) => {
        taken += piece.length;
        takes += 1;
      },
    });
    expect(taken).toBe(length);
    // For each of the chunks one, and one for the first member of gzip data.
    const chunks = Math.ceil(packed.length / (64 * KIB)) + 1;
    expect([count() <= chunks, takes <= chunks]).toEqual([true, true]);
  });

  test('as too many of them are refused where each is work', async () => {
    const frame = zstdCompressSync(Buffer.alloc(100, 'ab'));
    const { count } = countWrites();
    const fault = await faultOf(unpack('zstd', repeated(frame, 100_000)));
    expect(fault).toMatchObject({ kind: 'frames-too-small', frames: count() + 1, bytes: count() * frame.length });
    expect(count()).toBeLessThan(1200);
  });

  test('and many frames that are not small are accepted', async () => {
    const pieceBytes = 1000;
    const large = noise(2500 * pieceBytes);
    // Compressed, not stored: a little of each is the same.
    for (let at = 0; at < large.length; at += pieceBytes) large.fill('x', at, at + 300);
    const frames = Array.from(pieces(large, pieceBytes), (piece) => zstdCompressSync(piece));
    expect(Buffer.compare(await unpack('zstd', Buffer.concat(frames)), large)).toBe(0);
  });
});

describe('giving up', () => {
  const formats: [PackedFormat, Uint8Array][] = [
    ['gzip', gzipSync(Buffer.alloc(64 * MIB))],
    ['zstd', zerosFrame(20, 64 * MIB)],
    ['zstd', repeated(zstdCompressSync('a'), 10_000)],
  ];

  test.each(formats)('while what was unpacked is taken: %s', async (format, packed) => {
    const gate = new Gate();
    const { unpacker, memory } = start(format, { take: () => gate.pass() });
    const appended = outcome(unpacker.append(packed));
    await eventually('something is unpacked', () => gate.arrived > 0);
    unpacker.destroy();
    gate.open();
    expect([await appended, memory.used, gate.arrived]).toEqual(['rejected', 0, 1]);
  });

  test.each(formats)('is what follows a failure to take it: %s', async (format, packed) => {
    const { unpacker, memory } = start(format, { take: () => Promise.reject(new Error('there is no room')) });
    await expect(unpacker.append(packed)).rejects.toThrow('there is no room');
    unpacker.destroy();
    expect(memory.used).toBe(0);
  });

  test.each(formats)('ends it for good: %s', async (format, packed) => {
    let taken = 0;
    const { unpacker, memory } = start(format, { take: () => void (taken += 1) });
    unpacker.destroy();
    await expect(unpacker.append(packed)).rejects.toThrow('closed before its end');
    await expect(unpacker.finish()).rejects.toThrow('closed before its end');
    expect([taken, memory.used]).toEqual([0, 0]);
  });
});
