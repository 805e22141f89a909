/**
 * Checked reads of bytes other than headers, such as notes, by the rules of `View`: bytes outside the image are
 * recorded and read as 0.
 *
 * Each note's size locates the next, so the reads are generators that ask for blocks of the image.
 */
import type { ByteWalk } from './byte-walk.ts';
import { dataOf, readBigint, readNumber } from './fields.ts';
import type { Recorder } from './recorder.ts';
import { type Headers, isInside } from './view.ts';

/** The longest string, without its NUL. */
export const MAX_STRING_BYTES = 4096;

/** Blocks are aligned, and small: notes that lie far apart cost one each. */
export const BLOCK_BYTES = 1024;
/** 1 MiB: small images are read once, however often their notes point to the same bytes. */
const MAX_BLOCKS = 1024;

const NOTHING: Uint8Array = new Uint8Array();
const NO_DATA = dataOf(NOTHING);

/** Reads one image. "At hand" are the bytes of the block that was used last: reading them again takes no lookup. */
export class ImageReader {
  readonly imageSize: number;
  readonly #recorder: Recorder | null;
  readonly #littleEndian: boolean;
  /** By block number, in the order in which they were read. */
  readonly #blocks = new Map<number, Uint8Array>();
  /** The bytes used last: a block, or what reaches from one into the next. */
  #block = NOTHING;
  #data = NO_DATA;
  #blockStart = 0;

  /** @param recorder records reads outside the image; null when they do not count against it */
  constructor({ imageSize, littleEndian }: Pick<Headers, 'imageSize' | 'littleEndian'>, recorder: Recorder | null) {
    this.imageSize = imageSize;
    this.#littleEndian = littleEndian;
    this.#recorder = recorder;
  }

  /** Whether the byte is inside the image. */
  isInside(at: number): boolean {
    return isInside(at, 1, this.imageSize);
  }

  /** A word of 4 bytes. */
  *word(what: string, at: number): ByteWalk<number> {
    return (yield* this.#holds(what, at, 4)) ? this.#readWord(at) : 0;
  }

  /** As `word`, without a generator, which costs more than the word. Undefined when the bytes are not at hand. */
  wordAtHand(at: number): number | undefined {
    return this.#select(at) && this.#isWhole(at, 4) ? this.#readWord(at) : undefined;
  }

  #readWord(at: number): number {
    return readNumber(this.#data, at - this.#blockStart, 4, this.#littleEndian);
  }

  /** A description of 1, 2, 4 or 8 bytes as one number; any other size reads as 0. */
  *number(what: string, at: number, size: number): ByteWalk<bigint> {
    return size === 1 || size === 2 || size === 4 || size === 8 ? yield* this.integer(what, at, size) : 0n;
  }

  /** The first 32-bit words of a description, at most `count`; none when it is not made of whole words. */
  *words(what: string, at: number, size: number, count: number): ByteWalk<bigint[]> {
    const words: bigint[] = [];
    if (size % 4 !== 0) return words;
    while (words.length < count && words.length * 4 < size) {
      words.push(yield* this.integer(what, at + words.length * 4, 4));
    }
    return words;
  }

  /** A string whose NUL is inside the image and at most `MAX_STRING_BYTES` away. Otherwise null, and recorded. */
  *string(what: string, at: number): ByteWalk<Uint8Array | null> {
    const length = yield* this.#lengthOf(what, at);
    return length === null ? null : yield* this.range(at, length);
  }

  /** Whether the string is the one expected. One that `string` would record is recorded. */
  *isString(what: string, at: number, expected: Uint8Array): ByteWalk<boolean> {
    const near = this.#atHand(at);
    // Most names are, with their NUL, in the block of their note.
    if (near?.[expected.length] === 0 && isSame(near.subarray(0, expected.length), expected)) return true;
    const length = yield* this.#lengthOf(what, at);
    return length === expected.length && isSame(yield* this.range(at, length), expected);
  }

  /** Finds the NUL of a string without copying what is before it. */
  *#lengthOf(what: string, at: number): ByteWalk<number | null> {
    const room = this.isInside(at) ? Math.min(MAX_STRING_BYTES + 1, this.imageSize - at) : 0;
    for (let done = 0; done < room; ) {
      const bytes = this.#atHand(at + done) ?? (yield* this.#load(at + done));
      const end = bytes.indexOf(0);
      if (end !== -1 && done + end < room) return done + end;
      done += bytes.length;
    }
    return this.#endless(what, at, room);
  }

  /** Records a string without a NUL in `room` bytes: all that are inside, or all that a string may have. */
  #endless(what: string, at: number, room: number): null {
    if (room > MAX_STRING_BYTES) {
      this.#recorder?.record('string-too-long', () => ({
        what,
        offset: BigInt(at),
        length: null,
        detail: `The ${what} at offset ${at} does not end within ${MAX_STRING_BYTES} bytes.`,
      }));
    } else this.recordOutside(what, at + room, 1);
    return null;
  }

  /** The bytes from `at` on to the end of its block or of the image: at least one. `at` is inside the image. */
  *rest(at: number): ByteWalk<Uint8Array> {
    return this.#atHand(at) ?? (yield* this.#load(at));
  }

  /** An unsigned integer; 0, and recorded, when it is not wholly inside the image. */
  *integer(what: string, at: number, size: 1 | 2 | 4 | 8): ByteWalk<bigint> {
    return (yield* this.#holds(what, at, size))
      ? readBigint(this.#data, at - this.#blockStart, size, this.#littleEndian)
      : 0n;
  }

  /** Makes the bytes those at hand, as one piece. False, and recorded, when they are not inside the image. */
  *#holds(what: string, at: number, size: number): ByteWalk<boolean> {
    if (!isInside(at, size, this.imageSize)) {
      this.recordOutside(what, at, size);
      return false;
    }
    if (!this.#select(at)) yield* this.#load(at);
    if (!this.#isWhole(at, size)) this.#use(at, yield* this.range(at, size));
    return true;
  }

  /** Records a range that is not inside the image. */
  recordOutside(what: string, at: number, size: number): void {
    this.#recorder?.recordOutside(this.imageSize, () => ({
      what,
      offset: BigInt.asUintN(64, BigInt(at)),
      length: BigInt(size),
    }));
  }

  /** `length` bytes from `at` on, all inside the image, whichever blocks they are in. */
  *range(at: number, length: number): ByteWalk<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const part = (this.#atHand(at + done) ?? (yield* this.#load(at + done))).subarray(0, length - done);
      bytes.set(part, done);
      done += part.length;
    }
    return bytes;
  }

  /** Whether the bytes at hand reach that far. */
  #isWhole(at: number, size: number): boolean {
    return at + size <= this.#blockStart + this.#block.length;
  }

  /** The cached bytes from `at` on; undefined when there are none. */
  #atHand(at: number): Uint8Array | undefined {
    return this.#select(at) ? this.#block.subarray(at - this.#blockStart) : undefined;
  }

  /** Whether the block with the byte at `at` is cached, and now the one at hand. */
  #select(at: number): boolean {
    const offset = at - this.#blockStart;
    if (offset >= 0 && offset < this.#block.length) return true;
    const number = Math.floor(at / BLOCK_BYTES);
    const block = this.#blocks.get(number);
    if (block === undefined) return false;
    this.#use(number * BLOCK_BYTES, block);
    return true;
  }

  #use(start: number, block: Uint8Array): void {
    this.#block = block;
    this.#data = dataOf(block);
    this.#blockStart = start;
  }

  /** As `#atHand`, after reading the block. */
  *#load(at: number): ByteWalk<Uint8Array> {
    const number = Math.floor(at / BLOCK_BYTES);
    const offset = number * BLOCK_BYTES;
    const block = yield { offset, length: Math.min(BLOCK_BYTES, this.imageSize - offset) };
    const [oldest] = this.#blocks.keys();
    if (oldest !== undefined && this.#blocks.size === MAX_BLOCKS) this.#blocks.delete(oldest);
    this.#blocks.set(number, block);
    this.#use(offset, block);
    return block.subarray(at - offset);
  }
}

/** Each byte as the character of the same code, as the reference does no decoding. At most `MAX_STRING_BYTES`. */
export function latin1(bytes: Uint8Array): string {
  const codes: ArrayLike<number> = bytes;
  // Not spread: that would iterate, and is ten times slower.
  return Reflect.apply(String.fromCharCode, null, codes) as string;
}

/** The characters of an ASCII text as bytes, without a NUL. */
export function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Whether as many bytes are the same. */
export const isSame = (bytes: Uint8Array, expected: Uint8Array): boolean =>
  expected.every((byte, index) => bytes[index] === byte);
