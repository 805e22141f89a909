/** Unpacks lz4 files: frames, skippable frames, and the legacy format, which the build of Linux uses. */
import { freeMemory } from '../free-memory.ts';
import { XxHash32, xxHash32 } from './checksums.ts';
import { COPY_SLACK_BYTES, copyLiterals, copyMatch } from './copy-match.ts';
import {
  type DecoderEvent,
  type DecoderOptions,
  type Decoding,
  damaged,
  type Input,
  MEMBER,
  readU32,
  trailingData,
  unsupported,
  wrongChecksum,
} from './decoder.ts';

const FRAME_MAGIC = 0x184d_2204;
const LEGACY_MAGIC = 0x184c_2102;
/** The last four bits are free. */
const SKIPPABLE_MAGIC = 0x184d_2a50;

const KIB = 1024;
const MIB = 1024 * KIB;
/** How far a block may refer to bytes before its start. */
const WINDOW_BYTES = 64 * KIB;
/** The unpacked size of each block of the legacy format, except the last one. */
const LEGACY_BLOCK_BYTES = 8 * MIB;
/** The size that incompressible bytes grow to. */
const maxPackedBytes = (bytes: number): number => bytes + Math.ceil(bytes / 255) + 16;
/** Small blocks share a buffer of this size, so that the window is moved rarely. */
const MIN_BUFFER_BYTES = MIB;

const isSkippable = (magic: number): boolean => (magic & ~0xf) >>> 0 === SKIPPABLE_MAGIC;

/** Unpacks all frames of a file. */
export function* decodeLz4(input: Input, options: DecoderOptions): Decoding {
  let isFirst = true;
  while (yield* input.hasMore()) {
    const start = yield* input.peek(4);
    const magic = start.length === 4 ? readU32(start, 0) : 0;
    if (magic === FRAME_MAGIC) {
      input.at += 4;
      yield* decodeFrame(input);
    } else if (magic === LEGACY_MAGIC) {
      input.at += 4;
      yield* decodeLegacy(input);
    } else if (isSkippable(magic)) {
      input.at += 4;
      yield* input.skip(readU32(yield* input.take(4), 0));
      isFirst = false;
      continue;
    } else if (isFirst) {
      throw damaged('no frame begins at its start');
    } else if (options.ignoreTrailing) {
      yield* input.drop();
      return;
    } else {
      throw trailingData();
    }
    isFirst = false;
    yield MEMBER;
  }
}

/** A buffer for unpacked blocks, with the window before them, and one for a packed block. */
class BlockBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly packed: Uint8Array;
  readonly packedView: DataView;
  at = 0;
  readonly #blockBytes: number;
  readonly #capacity: number;

  /** @param blockBytes the largest unpacked size of a block */
  constructor(blockBytes: number) {
    this.#blockBytes = blockBytes;
    this.#capacity = capacityFor(blockBytes);
    this.bytes = new Uint8Array(this.#capacity + COPY_SLACK_BYTES);
    this.view = new DataView(this.bytes.buffer);
    this.packed = new Uint8Array(maxPackedBytes(blockBytes) + COPY_SLACK_BYTES);
    this.packedView = new DataView(this.packed.buffer);
  }

  static bytesFor(blockBytes: number): number {
    return capacityFor(blockBytes) + maxPackedBytes(blockBytes);
  }

  /** Makes room for a block. */
  prepare(): void {
    if (this.at + this.#blockBytes <= this.#capacity) return;
    const kept = Math.min(this.at, WINDOW_BYTES);
    this.bytes.copyWithin(0, this.at - kept, this.at);
    this.at = kept;
  }

  /**
   * Unpacks a block.
   *
   * @param packedBytes how many bytes of `packed` the block has
   * @param linked whether the block may refer to those before it
   */
  unpack(packedBytes: number, linked: boolean): Uint8Array {
    const start = this.at;
    const lowest = linked ? Math.max(0, start - WINDOW_BYTES) : start;
    const { packed, packedView, bytes, view } = this;
    const end = unpackBlock(packed, packedView, packedBytes, bytes, view, start, start + this.#blockBytes, lowest);
    if (end === NO_DISTANCE) throw damaged('a block has a match of the distance 0');
    if (end < 0) throw damaged('a block is damaged');
    this.at = end;
    return bytes.subarray(start, end);
  }

  /** Takes a block that was stored. */
  store(length: number): Uint8Array {
    const start = this.at;
    this.bytes.set(this.packed.subarray(0, length), start);
    this.at += length;
    return this.bytes.subarray(start, this.at);
  }

  release(): void {
    freeMemory(this.bytes, this.packed);
  }
}

const capacityFor = (blockBytes: number): number => WINDOW_BYTES + Math.max(blockBytes, MIN_BUFFER_BYTES);

function* decodeFrame(input: Input): Decoding {
  yield { kind: 'trait', trait: 'frame-format' };
  yield* input.need(1);
  const flags = input.bytes[input.at] as number;
  if (flags >>> 6 !== 1) throw unsupported('its version of the frame format is not 1');
  const has = (bit: number): boolean => (flags & bit) !== 0;
  const [linked, blockChecksums, hasSize, contentChecksum, hasDictionary] = [
    !has(0x20),
    has(0x10),
    has(0x08),
    has(0x04),
    has(0x01),
  ];
  const descriptor = Uint8Array.from(yield* input.take(2 + (hasSize ? 8 : 0) + (hasDictionary ? 4 : 0)));
  const [headerChecksum] = yield* input.take(1);
  if (((xxHash32(descriptor) >>> 8) & 0xff) !== headerChecksum)
    throw damaged('the checksum of a frame header does not fit');
  const blockCode = ((descriptor[1] ?? 0) >>> 4) & 7;
  if (has(0x02) || ((descriptor[1] ?? 0) & 0x8f) !== 0 || blockCode < 4)
    throw damaged('a frame header has reserved bits');
  if (hasDictionary) throw unsupported('a dictionary');
  const blockBytes = 4 ** (blockCode - 4) * WINDOW_BYTES;
  yield { kind: 'memory', bytes: BlockBuffer.bytesFor(blockBytes) };
  const buffer = new BlockBuffer(blockBytes);
  const hash = new XxHash32();
  let unpacked = 0;
  try {
    for (;;) {
      const word = readU32(yield* input.take(4), 0);
      if (word === 0) break;
      const length = word & 0x7fff_ffff;
      if (length > blockBytes) throw damaged('a block is larger than its frame allows');
      yield* input.fill(buffer.packed, length);
      if (blockChecksums) {
        const checksum = readU32(yield* input.take(4), 0);
        if (xxHash32(buffer.packed.subarray(0, length)) !== checksum) throw wrongChecksum('of a block');
      }
      buffer.prepare();
      const piece = word === length ? buffer.unpack(length, linked) : buffer.store(length);
      unpacked += piece.length;
      if (contentChecksum) hash.update(piece);
      if (piece.length > 0) yield { kind: 'piece', bytes: piece };
    }
    if (contentChecksum && readU32(yield* input.take(4), 0) !== hash.digest()) throw wrongChecksum('of a frame');
    if (hasSize && unpacked !== readU32(descriptor, 2) + readU32(descriptor, 6) * 2 ** 32) {
      throw damaged('a frame has not the size that its header names');
    }
  } finally {
    buffer.release();
  }
}

/** A legacy frame has no end mark: it ends with the file, or before another frame. */
function* decodeLegacy(input: Input): Decoding {
  yield { kind: 'memory', bytes: BlockBuffer.bytesFor(LEGACY_BLOCK_BYTES) };
  const buffer = new BlockBuffer(LEGACY_BLOCK_BYTES);
  try {
    while (yield* input.hasMore()) {
      const start: Uint8Array = yield* input.peek(4);
      if (start.length < 4) throw damaged('the size of a block is cut short');
      const length = readU32(start, 0);
      // Not a size, but the mark of the next frame.
      if (length > maxPackedBytes(LEGACY_BLOCK_BYTES)) return;
      input.at += 4;
      yield* input.fill(buffer.packed, length);
      buffer.at = 0;
      yield { kind: 'piece', bytes: buffer.unpack(length, false) } satisfies DecoderEvent;
    }
  } finally {
    buffer.release();
  }
}

/** The format forbids it, and lz4(1) does not notice it. */
const NO_DISTANCE = -2;

/**
 * Unpacks one block.
 *
 * @param lowest the first position that the block may refer to
 * @returns where the block ends in `target`; -1 when it is damaged, `NO_DISTANCE` when that is how
 */
function unpackBlock(
  source: Uint8Array,
  sourceView: DataView,
  sourceEnd: number,
  target: Uint8Array,
  targetView: DataView,
  start: number,
  limit: number,
  lowest: number,
): number {
  let read = 0;
  let at = start;
  while (read < sourceEnd) {
    const token = source[read++] as number;
    let length = token >>> 4;
    if (length === 15) {
      let byte = 255;
      while (byte === 255) {
        if (read >= sourceEnd) return -1;
        byte = source[read++] as number;
        length += byte;
      }
    }
    if (length > 0) {
      if (length > sourceEnd - read || length > limit - at) return -1;
      copyLiterals(target, targetView, at, source, sourceView, read, length);
      read += length;
      at += length;
    }
    // A block ends with literals.
    if (read === sourceEnd) return at;
    if (sourceEnd - read < 2) return -1;
    const distance = (source[read] as number) | ((source[read + 1] as number) << 8);
    read += 2;
    length = (token & 15) + 4;
    if (length === 19) {
      let byte = 255;
      while (byte === 255) {
        if (read >= sourceEnd) return -1;
        byte = source[read++] as number;
        length += byte;
      }
    }
    if (distance === 0) return NO_DISTANCE;
    if (at - distance < lowest || length > limit - at) return -1;
    copyMatch(target, targetView, at, distance, length);
    at += length;
  }
  return -1;
}
