/**
 * Reads from the frames of zstd data (RFC 8878, section 3.1) what must be known before a decompressor gets them: how much
 * memory each frame asks for, and where it ends. zstd unpacks one frame in a call, but a frame costs its sender only 9
 * bytes. So skippable frames, and those that only store a few bytes, are handled here.
 */

/** The largest unpacked size of a block (section 3.1.1.2.3). */
export const MAX_BLOCK_BYTES = 128 * 1024;

const FRAME_MAGIC = [0x28, 0xb5, 0x2f, 0xfd] as const;
/** The first byte of a skippable frame is 0x50 to 0x5f (section 3.1.2). */
const SKIPPABLE_MAGIC = [0x50, 0x2a, 0x4d, 0x18] as const;
const MAGIC_BYTES = 4;
const SKIPPABLE_HEADER_BYTES = 8;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
/** The lower half of the XXH64 of nothing, little-endian. */
const CHECKSUM_OF_NOTHING = [0x99, 0xe9, 0xd8, 0x51] as const;

const RAW_BLOCK = 0;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** A longer frame of stored bytes that does not lie in one chunk is left to the decompressor. */
const MAX_HELD_BYTES = 1024;

/** What the header of a frame says. */
export interface FrameHeader {
  /** How far back the frame may refer: the window, or for a single segment the content size. */
  readonly windowBytes: number;
  /** The unpacked size of the frame; null when the header lacks it. */
  readonly contentBytes: number | null;
  /** Whether the frame needs a dictionary that is not part of the data. */
  readonly needsDictionary: boolean;
}

/** How to handle the next bytes, in order. */
export type FramePart =
  /** A frame begins `offset` bytes after the start of the data. Its bytes follow as `packed`. */
  | { readonly kind: 'frame'; readonly header: FrameHeader; readonly offset: number }
  /** Bytes of one frame, its header included. */
  | { readonly kind: 'packed'; readonly bytes: Uint8Array }
  /** Unpacked bytes that needed no decompressor. */
  | { readonly kind: 'stored'; readonly bytes: Uint8Array }
  /** No frame begins here. This part is the last. */
  | { readonly kind: 'foreign'; readonly offset: number };

/** The bytes where a frame should begin. */
type Start =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'foreign' }
  | { readonly kind: 'skippable'; readonly bytes: number }
  | { readonly kind: 'stored'; readonly content: Uint8Array; readonly bytes: number }
  | {
      readonly kind: 'frame';
      readonly header: FrameHeader;
      readonly headerBytes: number;
      readonly hasChecksum: boolean;
    };

const INCOMPLETE: Start = { kind: 'incomplete' };
const NOTHING = new Uint8Array(0);

/** Follows the frames as their bytes arrive. */
export class ZstdFrames {
  /** The start of a frame that is too short yet to show what it is. */
  #held: Uint8Array = NOTHING;
  /** Offset of the current bytes in all of the data. */
  #offset = 0;
  /** Bytes of a skippable frame that are still to come. */
  #skipped = 0;
  #foreign = false;

  /** Whether a frame is under way. */
  #open = false;
  #hasChecksum = false;
  /** Bytes of that frame up to the next block header. */
  #ahead = 0;
  /** Whether the frame ends after them. */
  #last = false;
  #blockHeader = 0;
  #blockHeaderBytes = 0;

  /** Whether the data may end here: no frame is under way. */
  get atEnd(): boolean {
    return !this.#open && this.#skipped === 0 && this.#held.length === 0;
  }

  /** Takes the next bytes. The parts refer to them, and must be handled before the next call. */
  *read(chunk: Uint8Array): Generator<FramePart, void> {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = NOTHING;
    let at = 0;
    while (at < bytes.length && !this.#foreign) {
      if (this.#open) {
        const end = this.#walk(bytes, at);
        yield { kind: 'packed', bytes: bytes.subarray(at, end) };
        at = end;
        continue;
      }
      if (this.#skipped > 0) {
        const skipped = Math.min(this.#skipped, bytes.length - at);
        this.#skipped -= skipped;
        at += skipped;
        continue;
      }
      const start = readStart(bytes, at);
      switch (start.kind) {
        case 'incomplete':
          // The caller may reuse the chunk.
          this.#held = Uint8Array.from(bytes.subarray(at));
          this.#offset += at;
          return;
        case 'foreign':
          this.#foreign = true;
          yield { kind: 'foreign', offset: this.#offset + at };
          break;
        case 'skippable':
          this.#skipped = start.bytes;
          break;
        case 'stored':
          if (start.content.length > 0) yield { kind: 'stored', bytes: start.content };
          at += start.bytes;
          break;
        case 'frame':
          yield { kind: 'frame', header: start.header, offset: this.#offset + at };
          this.#open = true;
          this.#hasChecksum = start.hasChecksum;
          this.#ahead = start.headerBytes;
          this.#last = false;
          break;
      }
    }
    this.#offset += bytes.length;
  }

  /** Follows the blocks of the frame under way. @returns where it ends, or where the bytes do */
  #walk(bytes: Uint8Array, from: number): number {
    let at = from;
    while (at < bytes.length) {
      if (this.#ahead > 0) {
        const step = Math.min(this.#ahead, bytes.length - at);
        this.#ahead -= step;
        at += step;
      } else {
        this.#takeBlockHeader(bytes[at] ?? 0);
        at += 1;
      }
      if (this.#last && this.#ahead === 0) {
        this.#open = false;
        break;
      }
    }
    return at;
  }

  #takeBlockHeader(byte: number): void {
    this.#blockHeader |= byte << (8 * this.#blockHeaderBytes);
    this.#blockHeaderBytes += 1;
    if (this.#blockHeaderBytes < BLOCK_HEADER_BYTES) return;
    const { last, type, size } = readBlockHeader(this.#blockHeader);
    this.#blockHeader = 0;
    this.#blockHeaderBytes = 0;
    this.#last = last;
    this.#ahead = (type === RLE_BLOCK ? 1 : size) + (last && this.#hasChecksum ? CHECKSUM_BYTES : 0);
    // The decompressor refuses such a block, whose length is unknown.
    if (type === RESERVED_BLOCK) this.#ahead = Number.POSITIVE_INFINITY;
  }
}

interface BlockHeader {
  readonly last: boolean;
  readonly type: number;
  readonly size: number;
}

/** Section 3.1.1.2. */
const readBlockHeader = (bits: number): BlockHeader => ({
  last: (bits & 1) !== 0,
  type: (bits >> 1) & 3,
  size: bits >>> 3,
});

function readStart(bytes: Uint8Array, at: number): Start {
  const available = bytes.length - at;
  const magicBytes = Math.min(available, MAGIC_BYTES);
  if (matches(bytes, at, SKIPPABLE_MAGIC, magicBytes, 0xf0)) {
    if (available < SKIPPABLE_HEADER_BYTES) return INCOMPLETE;
    return { kind: 'skippable', bytes: SKIPPABLE_HEADER_BYTES + readUint(bytes, at + MAGIC_BYTES, 4) };
  }
  if (!matches(bytes, at, FRAME_MAGIC, magicBytes)) return { kind: 'foreign' };
  if (available <= MAGIC_BYTES) return INCOMPLETE;
  return readFrame(bytes, at);
}

/** Section 3.1.1.1. */
function readFrame(bytes: Uint8Array, at: number): Start {
  const available = bytes.length - at;
  const descriptor = bytes[at + MAGIC_BYTES] ?? 0;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const isReserved = (descriptor & 0x08) !== 0;
  const hasChecksum = (descriptor & 0x04) !== 0;
  const dictionaryIdBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const windowAt = at + MAGIC_BYTES + 1;
  const dictionaryIdAt = windowAt + (isSingleSegment ? 0 : 1);
  const contentSizeAt = dictionaryIdAt + dictionaryIdBytes;
  const headerBytes = contentSizeAt + contentSizeBytes - at;
  if (available < headerBytes + BLOCK_HEADER_BYTES) return INCOMPLETE;

  // A size in two bytes is stored minus 256.
  const contentBytes =
    contentSizeBytes === 0
      ? null
      : readUint(bytes, contentSizeAt, contentSizeBytes) + (contentSizeBytes === 2 ? 256 : 0);
  const header: FrameHeader = {
    windowBytes: isSingleSegment ? (contentBytes ?? 0) : readWindow(bytes[windowAt] ?? 0),
    contentBytes,
    needsDictionary: readUint(bytes, dictionaryIdAt, dictionaryIdBytes) !== 0,
  };
  const frame: Start = { kind: 'frame', header, headerBytes, hasChecksum };

  const { last, type, size } = readBlockHeader(readUint(bytes, at + headerBytes, BLOCK_HEADER_BYTES));
  // Anything else is left to the decompressor, also content with a checksum.
  const isStored =
    last &&
    type === RAW_BLOCK &&
    size <= Math.min(header.windowBytes, MAX_BLOCK_BYTES) &&
    (contentBytes ?? size) === size &&
    !header.needsDictionary &&
    !isReserved &&
    (size === 0 || !hasChecksum);
  if (!isStored) return frame;
  const contentAt = at + headerBytes + BLOCK_HEADER_BYTES;
  const contentEnd = contentAt + size;
  const frameBytes = contentEnd + (hasChecksum ? CHECKSUM_BYTES : 0) - at;
  if (available < frameBytes) return frameBytes <= MAX_HELD_BYTES ? INCOMPLETE : frame;
  if (hasChecksum && !matches(bytes, contentEnd, CHECKSUM_OF_NOTHING, CHECKSUM_BYTES)) return frame;
  return { kind: 'stored', content: bytes.subarray(contentAt, contentEnd), bytes: frameBytes };
}

/** Section 3.1.1.1.2. */
function readWindow(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** A little-endian number of up to 8 bytes. Above 2^53 the lowest bits are lost. */
function readUint(bytes: Uint8Array, at: number, length: number): number {
  let value = 0;
  for (let index = length - 1; index >= 0; index--) value = value * 256 + (bytes[at + index] ?? 0);
  return value;
}

/** @param firstMask bits of the first byte that count */
function matches(
  bytes: Uint8Array,
  at: number,
  expected: readonly number[],
  length: number,
  firstMask = 0xff,
): boolean {
  for (let index = 0; index < length; index++) {
    const mask = index === 0 ? firstMask : 0xff;
    if (((bytes[at + index] ?? 0) & mask) !== ((expected[index] ?? 0) & mask)) return false;
  }
  return true;
}
