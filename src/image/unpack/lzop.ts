/** Unpacks lzop files: blocks of LZO1X, each with checksums of its own. */
import { freeMemory } from '../free-memory.ts';
import { adler32, crc32 } from './checksums.ts';
import { COPY_SLACK_BYTES, copyLiterals, copyMatch } from './copy-match.ts';
import {
  type DecoderEvent,
  type DecoderOptions,
  type Decoding,
  damaged,
  type Input,
  MEMBER,
  readU32BigEndian,
  startsWith,
  trailingData,
  unsupported,
  wrongChecksum,
} from './decoder.ts';

const MAGIC = [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d, 0x0a, 0x1a, 0x0a];

const ADLER32_UNPACKED = 0x1;
const ADLER32_PACKED = 0x2;
const EXTRA_FIELD = 0x40;
const CRC32_UNPACKED = 0x100;
const CRC32_PACKED = 0x200;
const FILTERED = 0x800;
const HEADER_CRC32 = 0x1000;

/** The first version whose headers have all fields. */
const VERSION_ALL_FIELDS = 0x0940;
/** LZO1X-1, LZO1X-1(15) and LZO1X-999, which one decoder unpacks. */
const METHODS: ReadonlySet<number> = new Set([1, 2, 3]);
/** lzop(1) accepts no larger block. */
const MAX_BLOCK_BYTES = 64 * 1024 * 1024;

/** Unpacks all members of a file. */
export function* decodeLzop(input: Input, { ignoreTrailing, passChecksums = false }: DecoderOptions): Decoding {
  const refuse = function* (what: string): Decoding {
    if (!passChecksums) throw wrongChecksum(what);
    yield { kind: 'trait', trait: 'wrong-checksum' };
  };
  yield* input.need(1);
  for (let isFirst = true; yield* input.hasMore(); isFirst = false) {
    const start = yield* input.peek(MAGIC.length);
    if (!startsWith(start, MAGIC)) {
      if (isFirst) throw damaged('it does not begin as a file of lzop');
      if (ignoreTrailing) yield* input.drop();
      else if (start[0] === 0) yield* input.padding();
      else throw trailingData();
      return;
    }
    input.at += MAGIC.length;
    yield* decodeBlocks(input, yield* readHeader(input, refuse), refuse);
    yield MEMBER;
  }
}

/** Deals with a wrong checksum, of what is named. */
type RefuseChecksum = (what: string) => Decoding;

/** @returns the flags of a header */
function* readHeader(input: Input, refuse: RefuseChecksum): Generator<DecoderEvent, number, void> {
  let header = new Uint8Array(0);
  const read = function* (bytes: number): Generator<DecoderEvent, number, void> {
    const part = yield* input.take(bytes);
    const joined = new Uint8Array(header.length + bytes);
    joined.set(header);
    joined.set(part, header.length);
    header = joined;
    return part.reduce((value, byte) => value * 256 + byte, 0);
  };
  const version = yield* read(2);
  yield* read(2);
  const hasAll = version >= VERSION_ALL_FIELDS;
  const needed = hasAll ? yield* read(2) : version;
  if (version < 0x0900 || needed > 0x1040) throw unsupported('a version of the format that is not known');
  const method = yield* read(1);
  if (!METHODS.has(method)) throw unsupported(`method ${method}`);
  if (hasAll) yield* read(1);
  const flags = yield* read(4);
  if ((flags & FILTERED) !== 0) throw unsupported('a filter');
  // Mode and time of the file.
  yield* read(hasAll ? 12 : 8);
  yield* read(yield* read(1));
  const update = (flags & HEADER_CRC32) !== 0 ? crc32 : adler32;
  if (update(header) !== readU32BigEndian(yield* input.take(4), 0)) yield* refuse('of its header');
  if ((flags & EXTRA_FIELD) !== 0) yield* skipExtraField(input, update, refuse);
  return flags;
}

/** Its checksum covers its length, too. */
function* skipExtraField(
  input: Input,
  update: (bytes: Uint8Array, before?: number) => number,
  refuse: RefuseChecksum,
): Decoding {
  const length = Uint8Array.from(yield* input.take(4));
  let checksum = update(length);
  for (let left = readU32BigEndian(length, 0); left > 0; ) {
    yield* input.need(1);
    const part = yield* input.take(Math.min(left, input.end - input.at));
    checksum = update(part, checksum);
    left -= part.length;
  }
  if (readU32BigEndian(yield* input.take(4), 0) !== checksum) yield* refuse('of its extra field');
}

/** A checksum that blocks have. */
interface BlockChecksum {
  readonly flag: number;
  readonly compute: (bytes: Uint8Array) => number;
}
const OF_UNPACKED: readonly BlockChecksum[] = [
  { flag: ADLER32_UNPACKED, compute: (bytes) => adler32(bytes) },
  { flag: CRC32_UNPACKED, compute: (bytes) => crc32(bytes) },
];
const OF_PACKED: readonly BlockChecksum[] = [
  { flag: ADLER32_PACKED, compute: (bytes) => adler32(bytes) },
  { flag: CRC32_PACKED, compute: (bytes) => crc32(bytes) },
];

const fits = (checksums: readonly (readonly [BlockChecksum, number])[], bytes: Uint8Array): boolean =>
  checksums.every(([{ compute }, value]) => compute(bytes) === value);

function* decodeBlocks(input: Input, flags: number, refuse: RefuseChecksum): Decoding {
  const readChecksums = function* (
    checksums: readonly BlockChecksum[],
  ): Generator<DecoderEvent, [BlockChecksum, number][], void> {
    const read: [BlockChecksum, number][] = [];
    for (const checksum of checksums) {
      if ((flags & checksum.flag) !== 0) read.push([checksum, readU32BigEndian(yield* input.take(4), 0)]);
    }
    return read;
  };
  const checksums = [...OF_UNPACKED, ...OF_PACKED].filter(({ flag }) => (flags & flag) !== 0);
  if (checksums.length !== 1) yield { kind: 'trait', trait: 'other-than-one-checksum' };
  let packed = new Uint8Array(0);
  let unpacked = new Uint8Array(0);
  try {
    for (;;) {
      const unpackedBytes = readU32BigEndian(yield* input.take(4), 0);
      if (unpackedBytes === 0) return;
      if (unpackedBytes > MAX_BLOCK_BYTES) throw damaged('a block is larger than lzop makes them');
      const packedBytes = readU32BigEndian(yield* input.take(4), 0);
      if (packedBytes === 0 || packedBytes > unpackedBytes) throw damaged('a block is larger than what it unpacks to');
      const isStored = packedBytes === unpackedBytes;
      if (isStored) yield { kind: 'trait', trait: 'stored-block' };
      const ofUnpacked = yield* readChecksums(OF_UNPACKED);
      const ofPacked = isStored ? [] : yield* readChecksums(OF_PACKED);
      if (unpackedBytes + COPY_SLACK_BYTES > unpacked.length) {
        yield { kind: 'memory', bytes: 2 * (unpackedBytes + COPY_SLACK_BYTES) };
        freeMemory(packed, unpacked);
        packed = new Uint8Array(unpackedBytes + COPY_SLACK_BYTES);
        unpacked = new Uint8Array(unpackedBytes + COPY_SLACK_BYTES);
      }
      const target = isStored ? unpacked : packed;
      yield* input.fill(target, packedBytes);
      if (!isStored) {
        if (!fits(ofPacked, packed.subarray(0, packedBytes))) yield* refuse('of a block');
        if (unpackLzo1x(packed, packedBytes, unpacked, unpackedBytes) !== unpackedBytes) {
          throw damaged('a block is damaged');
        }
      }
      const piece = unpacked.subarray(0, unpackedBytes);
      if (!fits(ofUnpacked, piece)) yield* refuse('of a block');
      yield { kind: 'piece', bytes: piece };
    }
  } finally {
    freeMemory(packed, unpacked);
  }
}

/**
 * Unpacks one block of LZO1X. Both buffers have `COPY_SLACK_BYTES` after their bytes.
 *
 * Every instruction copies a match and up to three literals, whose number is in its last two bits. The meaning of an
 * instruction below 16 depends on the number of literals before it.
 *
 * @returns how many bytes were unpacked; -1 when the block is damaged, or does not end with the source
 */
function unpackLzo1x(source: Uint8Array, sourceEnd: number, target: Uint8Array, limit: number): number {
  const sourceView = new DataView(source.buffer, source.byteOffset, source.byteLength);
  const targetView = new DataView(target.buffer, target.byteOffset, target.byteLength);
  let read = 0;
  let at = 0;
  /** Literals that the previous instruction copied; 4 for a run of them. */
  let literals = 0;
  let first = sourceEnd > 0 ? (source[0] as number) : 0;
  if (first > 17) {
    // A block may begin with literals in place of an instruction.
    first -= 17;
    read = 1;
    if (first > sourceEnd - read || first > limit) return -1;
    copyLiterals(target, targetView, at, source, sourceView, read, first);
    read += first;
    at += first;
    literals = first < 4 ? first : 4;
  }
  while (read < sourceEnd) {
    const instruction = source[read++] as number;
    let length: number;
    let distance: number;
    let following: number;
    if (instruction >= 64) {
      if (read >= sourceEnd) return -1;
      length = (instruction >>> 5) + 1;
      distance = ((source[read++] as number) << 3) + ((instruction >>> 2) & 7) + 1;
      following = instruction & 3;
    } else if (instruction >= 16) {
      const mask = instruction >= 32 ? 31 : 7;
      length = instruction & mask;
      if (length === 0) {
        length = mask;
        while (source[read] === 0 && read < sourceEnd) {
          length += 255;
          read++;
        }
        if (read >= sourceEnd) return -1;
        length += source[read++] as number;
      }
      length += 2;
      if (sourceEnd - read < 2) return -1;
      const word = (source[read] as number) | ((source[read + 1] as number) << 8);
      read += 2;
      following = word & 3;
      distance = (word >>> 2) + 1;
      if (instruction < 32) {
        distance += ((instruction & 8) << 11) + 0x3fff;
        // The end of the block.
        if (distance === 0x4000) return length === 3 && read === sourceEnd ? at : -1;
      }
    } else if (literals === 0) {
      length = instruction;
      if (length === 0) {
        length = 15;
        while (source[read] === 0 && read < sourceEnd) {
          length += 255;
          read++;
        }
        if (read >= sourceEnd) return -1;
        length += source[read++] as number;
      }
      length += 3;
      if (length > sourceEnd - read || length > limit - at) return -1;
      copyLiterals(target, targetView, at, source, sourceView, read, length);
      read += length;
      at += length;
      literals = 4;
      continue;
    } else {
      if (read >= sourceEnd) return -1;
      const isNear = literals < 4;
      length = isNear ? 2 : 3;
      distance = ((source[read++] as number) << 2) + (instruction >>> 2) + (isNear ? 1 : 2049);
      following = instruction & 3;
    }
    if (distance > at || length > limit - at) return -1;
    copyMatch(target, targetView, at, distance, length);
    at += length;
    literals = following;
    if (following > 0) {
      if (following > sourceEnd - read || following > limit - at) return -1;
      copyLiterals(target, targetView, at, source, sourceView, read, following);
      read += following;
      at += following;
    }
  }
  return -1;
}
