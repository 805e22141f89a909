/**
 * The known memory that a guest reads: a blob, or a dump that begins with one.
 *
 * Positions count from the first byte and may lie anywhere; bounds are checked here. A position from a 64-bit field is a
 * signed double, as in `elf/view.ts`: exact wherever it is inside. Reads are done in blocks, and each question reads a
 * part of the memory once.
 */

import type { ByteWalk } from '../../elf/byte-walk.ts';
import { dataOf, readBigint, readNumber } from '../../elf/fields.ts';
import type { Field } from '../../elf/format.ts';
import { isInside } from '../../elf/view.ts';
import { alignedWords } from '../../elf/words.ts';
import { SIZE_WORD_BYTES } from '../loaders/layout.ts';

/** Bytes read at once. */
export const BLOCK_BYTES = 256 * 1024;
/** How much is read first where the answer is nearly always close by. */
const FIRST_LOOK_BYTES = 4096;

/** Ranges that are looked up together: more than a guest reads. */
const MAX_SCATTERED = 2 ** 17;
/** How many of them are sorted or visited in one turn. */
const SCATTERED_PER_TURN = 16_384;
/** Gaps between ranges that are shorter than this are read too: a separate read costs about as much. */
const NEAR_BYTES = 32 * 1024;
/** What is read for a range that is not near the one before it. */
const JUMP_BYTES = 512;

const NOTHING = new Uint8Array();

/** The position of an offset that counts from the ELF header. */
export const positionOf = (offset: bigint): number =>
  Number(BigInt.asIntN(64, BigInt.asUintN(64, offset) + BigInt(SIZE_WORD_BYTES)));

/** Reads the memory, for the judges of all guests. */
export class GuestMemory {
  /** In bytes. */
  readonly size: number;
  /** What `findLastNul` found, by its range: several guests ask for the same. */
  readonly #lastNuls = new Map<string, number>();

  constructor(size: number) {
    this.size = size;
  }

  isInside(at: number, length: number): boolean {
    return isInside(at, length, this.size);
  }

  /** Exactly `length` bytes, at most `BLOCK_BYTES`; bytes outside are zero. */
  *block(at: number, length: number): ByteWalk<Uint8Array> {
    const start = Math.max(0, at);
    const end = Math.min(at + length, this.size);
    if (start >= end) return new Uint8Array(length);
    const bytes = yield { offset: start, length: end - start };
    if (bytes.length === length) return bytes;
    const padded = new Uint8Array(length);
    padded.set(bytes, start - at);
    return padded;
  }

  /** As `block`, for any length, which the guest's own limits must bound. The array may be written to. */
  *copy(at: number, length: number): ByteWalk<Uint8Array> {
    const copy = new Uint8Array(length);
    for (let done = 0; done < length; done += BLOCK_BYTES) {
      copy.set(yield* this.block(at + done, Math.min(BLOCK_BYTES, length - done)), done);
    }
    return copy;
  }

  /** Where the last NUL from `from` to `to` is; -1 when there is none. Both are inside, or the range is empty. */
  *findLastNul(from: number, to: number): ByteWalk<number> {
    const range = `${from} ${to}`;
    const known = this.#lastNuls.get(range);
    if (known !== undefined) return known;
    const found = yield* this.#scanBack(from, to);
    this.#lastNuls.set(range, found);
    return found;
  }

  *#scanBack(from: number, to: number): ByteWalk<number> {
    let wanted = FIRST_LOOK_BYTES;
    for (let end = to; end > from; ) {
      const start = Math.max(from, end - wanted);
      const at = (yield { offset: start, length: end - start }).lastIndexOf(0);
      if (at !== -1) return start + at;
      end = start;
      wanted = BLOCK_BYTES;
    }
    return -1;
  }

  /** Whether the bytes from `from` to `to`, or to the end of the memory, are zero. */
  *isZero(from: number, to: number): ByteWalk<boolean> {
    const end = Math.min(to, this.size);
    for (let at = from; at < end; at += BLOCK_BYTES) {
      if (!isZero(yield { offset: at, length: Math.min(BLOCK_BYTES, end - at) })) return false;
    }
    return true;
  }

  /**
   * Visits short ranges that lie anywhere. They are read in ascending order: no part of the memory is read twice, and no
   * more than a short run for each range.
   *
   * @param base where range i begins: `base + stride * steps[i]`
   * @param steps whole numbers below 2^32, at most `MAX_SCATTERED` of them
   * @param length bytes in each range
   * @param visit receives the index of a range and its bytes: fewer than `length` where the memory ends before it does,
   *   none when it begins outside. The bytes are valid during the call
   */
  *scatter(
    base: number,
    stride: number,
    steps: readonly number[],
    length: number,
    visit: (index: number, bytes: Uint8Array) => void,
  ): ByteWalk<void> {
    let window: Uint8Array = NOTHING;
    let start = 0;
    let visited = 0;
    const order = yield* sortInTurns(steps);
    for (let key = order.next(); key !== undefined; key = order.next()) {
      visited += 1;
      if (visited % SCATTERED_PER_TURN === 0) yield null;
      const index = key % MAX_SCATTERED;
      const at = base + stride * Math.floor(key / MAX_SCATTERED);
      if (!this.isInside(at, 1)) {
        visit(index, NOTHING);
        continue;
      }
      const end = Math.min(at + length, this.size);
      if (at < start || end > start + window.length) {
        const isNear = window.length > 0 && at - (start + window.length) < NEAR_BYTES;
        start = at;
        window = yield { offset: at, length: Math.min(isNear ? BLOCK_BYTES : JUMP_BYTES, this.size - at) };
      }
      visit(index, window.subarray(at - start, end - start));
    }
  }

  /**
   * As `scatter`. Finds the first range, in the order of `steps`, for which `look` has a result; null when there is none.
   *
   * @param look returns null for a range that does not matter
   */
  *findFirst<Result>(
    base: number,
    stride: number,
    steps: readonly number[],
    length: number,
    look: (bytes: Uint8Array) => Result | null,
  ): ByteWalk<{ readonly index: number; readonly result: Result } | null> {
    const first: { hit: { readonly index: number; readonly result: Result } | null } = { hit: null };
    yield* this.scatter(base, stride, steps, length, (index, bytes) => {
      if (first.hit !== null && first.hit.index < index) return;
      const result = look(bytes);
      if (result !== null) first.hit = { index, result };
    });
    return first.hit;
  }
}

/** Numbers in ascending order, out of a few sorted runs. */
class Merged {
  readonly #runs: readonly Float64Array[];
  /** Where in each run the next number is. */
  readonly #next: Int32Array;

  constructor(runs: readonly Float64Array[]) {
    this.#runs = runs;
    this.#next = new Int32Array(runs.length);
  }

  next(): number | undefined {
    let lowest: number | undefined;
    let from = 0;
    for (let run = 0; run < this.#runs.length; run++) {
      const head = this.#runs[run]?.[this.#next[run] ?? 0];
      if (head === undefined || (lowest !== undefined && lowest < head)) continue;
      lowest = head;
      from = run;
    }
    this.#next[from] = (this.#next[from] ?? 0) + 1;
    return lowest;
  }
}

/** Each step with its index, as `step * MAX_SCATTERED + index`, which is below 2^53: numbers are quick to sort. */
function* sortInTurns(steps: readonly number[]): ByteWalk<Merged> {
  const runs: Float64Array[] = [];
  for (let from = 0; from < steps.length; from += SCATTERED_PER_TURN) {
    if (from > 0) yield null;
    const run = new Float64Array(Math.min(SCATTERED_PER_TURN, steps.length - from));
    for (let at = 0; at < run.length; at++) run[at] = (steps[from + at] ?? 0) * MAX_SCATTERED + from + at;
    runs.push(run.sort());
  }
  return new Merged(runs);
}

/** Consecutive structures, read at once. Bytes outside the memory are zero; `has` says whether a field is inside. */
export class Structures {
  readonly #memory: GuestMemory;
  readonly #data: DataView;
  readonly #at: number;
  readonly #stride: number;

  /** @param at position of the first one */
  constructor(memory: GuestMemory, bytes: Uint8Array, at: number, stride: number) {
    this.#memory = memory;
    this.#data = dataOf(bytes);
    this.#at = at;
    this.#stride = stride;
  }

  /** Whether a field is inside the memory. */
  has(index: number, { offset, width }: Field): boolean {
    return this.#memory.isInside(this.#at + index * this.#stride + offset, width);
  }

  /** A field of up to 4 bytes, in the byte order of guests. */
  number(index: number, { offset, width }: Field): number {
    return readNumber(this.#data, index * this.#stride + offset, width, true);
  }

  /** A field of up to 8 bytes. */
  bigint(index: number, { offset, width }: Field): bigint {
    return readBigint(this.#data, index * this.#stride + offset, width, true);
  }
}

function isZero(bytes: Uint8Array): boolean {
  const { lead, words } = alignedWords(bytes);
  let set = 0;
  for (let at = 0; at < lead; at++) set |= bytes[at] ?? 0;
  for (let at = 0; at < words.length; at++) set |= words[at] ?? 0;
  for (let at = lead + words.length * 4; at < bytes.length; at++) set |= bytes[at] ?? 0;
  return set === 0;
}
