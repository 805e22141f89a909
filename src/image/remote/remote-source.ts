/** An image that stays at its origin: ranges of it are read when they are needed. */

import { lowerBound } from '../../elf/lower-bound.ts';
import { ImageError } from '../../inspect/image-error.ts';
import { assertInside, type ImageSource } from '../../inspect/image-source.ts';
import type { Budget } from '../budget.ts';
import { freeChunk } from '../consume.ts';
import { SlabList } from '../slab-list.ts';
import { SLAB_BYTES } from '../slabs.ts';
import type { Origin, OriginAnswer } from './origin.ts';
import { resultOf } from './results.ts';
import { assertSame, changed, isStrong, type Validator, validatorOf } from './validator.ts';

/** What is read at least, from a multiple of it on: headers, notes and the like lie close to each other. */
export const PAGE_BYTES = 64 * 1024;
/** What is kept of an image at most: the tables of nearly every kernel. */
const MAX_KEPT_BYTES = 16 * 1024 * 1024;
/** What is read at once of a range that will be needed whole. */
const MAX_AHEAD_BYTES = 8 * 1024 * 1024;
/** The same, when it cannot be kept. */
const MAX_PASSING_BYTES = 2 * 1024 * 1024;
/** Reads that follow each other read ahead, twice as far each time. */
const MAX_GUESSED_BYTES = 1024 * 1024;
/** As the spool. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;
const MAX_EXPECTED_RANGES = 8;

/** The image of one URL, and how its origin identifies this version of it. */
interface RemoteImage {
  /** After redirects. */
  readonly url: URL;
  readonly size: number;
  readonly validator: Validator;
}

interface Range {
  readonly start: number;
  readonly end: number;
}

interface Block extends Range {
  readonly bytes: Uint8Array;
}

export class RemoteSource implements ImageSource {
  readonly size: number;
  readonly #origin: Origin;
  readonly #image: RemoteImage;
  readonly #memory: Budget;
  /** What is kept, in ascending order. */
  readonly #blocks: Block[] = [];
  /** What was read last and could not be kept. */
  #passing: Block | null = null;
  /** Give back the slabs that blocks lie in. */
  #releases: (() => void)[] = [];
  #takenBytes = 0;
  #keptBytes = 0;
  #expected: Range[] = [];
  /** Where the last read without a hint ended, and how far it read ahead. */
  #guess = { end: -1, bytes: PAGE_BYTES };
  #closed = false;

  /**
   * @param origin is closed with the source
   * @param first the bytes at its start, which came with the first answer
   * @param memory what is kept of the image is taken from it
   */
  constructor(origin: Origin, image: RemoteImage, first: Uint8Array, memory: Budget) {
    this.#origin = origin;
    this.#image = image;
    this.#memory = memory;
    this.size = image.size;
    if (this.#reserve(first.length)) this.#insert([{ start: 0, end: first.length, bytes: first }]);
  }

  /** @throws RangeError, and ImageError when the origin fails or the image changed */
  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    this.#assertOpen();
    const end = offset + length;
    // Always a copy: slabs are another image's as soon as this one is closed.
    const bytes = new Uint8Array(length);
    for (let at = offset; at < end; ) {
      const block = this.#blockAt(at) ?? (await this.#load(at, end));
      const part = block.bytes.subarray(at - block.start, end - block.start);
      bytes.set(part, at - offset);
      at += part.length;
    }
    return bytes;
  }

  /** @throws as `read` does */
  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    assertInside(offset, length, this.size);
    this.expect(offset, length);
    const end = offset + length;
    for (let at = offset; at < end; ) {
      this.#assertOpen();
      const block = this.#blockAt(at);
      if (block !== null) {
        const piece = block.bytes.subarray(at - block.start, end - block.start);
        at += piece.length;
        yield piece;
        continue;
      }
      const gapEnd = Math.min(end, this.#nextStart(at));
      if (gapEnd - at <= this.#room) {
        await this.#load(at, gapEnd);
        continue;
      }
      // It passes through, at the pace of its reader.
      for await (const chunk of this.#request(at, gapEnd)) {
        at += chunk.length;
        yield chunk;
      }
    }
  }

  /** All of the range will be read, in order. */
  expect(offset: number, length: number): void {
    if (length <= PAGE_BYTES) return;
    this.#expected = [{ start: offset, end: offset + length }, ...this.#expected].slice(0, MAX_EXPECTED_RANGES);
  }

  /** @throws as `read` does */
  async hold(offset: number, length: number): Promise<readonly Uint8Array[] | null> {
    assertInside(offset, length, this.size);
    this.#assertOpen();
    if (length > MAX_HELD_BYTES || !this.#memory.take(length)) return null;
    this.#takenBytes += length;
    const pieces: Uint8Array[] = [];
    for await (const piece of this.stream(offset, length)) pieces.push(piece);
    return pieces;
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#origin.close();
      this.#blocks.length = 0;
      this.#passing = null;
      for (const release of this.#releases) release();
      this.#memory.give(this.#takenBytes);
    }
    return Promise.resolve();
  }

  #assertOpen(): void {
    if (this.#closed) throw new Error('the image was closed');
  }

  /** How many bytes more may be kept. */
  get #room(): number {
    return Math.min(MAX_KEPT_BYTES - this.#keptBytes, this.#memory.free);
  }

  /** Reads from `at` on, to `end` or further, but not what is kept already. */
  async #load(at: number, end: number): Promise<Block> {
    // What is taken now would never be given back.
    this.#assertOpen();
    const range = this.#plan(at, end);
    if (!this.#reserve(range.end - range.start)) return this.#pass(await this.#readPlain(range));
    const isShort = range.end - range.start < SLAB_BYTES;
    const [block, ...others] = isShort ? [await this.#readPlain(range)] : await this.#readSlabs(range);
    if (block === undefined) throw new Error('a range has bytes');
    this.#insert([block, ...others]);
    return block;
  }

  async #readPlain(range: Range): Promise<Block> {
    const bytes = new Uint8Array(range.end - range.start);
    let filled = 0;
    for await (const chunk of this.#request(range.start, range.end)) {
      bytes.set(chunk, filled);
      filled += chunk.length;
      freeChunk(chunk);
    }
    this.#assertOpen();
    return { ...range, bytes };
  }

  /** As uploads are held: neither the range nor the chunks it comes in are left to the collector. */
  async #readSlabs(range: Range): Promise<readonly Block[]> {
    const list = new SlabList();
    try {
      for await (const chunk of this.#request(range.start, range.end)) {
        list.push(chunk);
        freeChunk(chunk);
      }
      this.#assertOpen();
    } catch (error) {
      list.take().release();
      throw error;
    }
    const { pieces, release } = list.take();
    this.#releases.push(release);
    let { start } = range;
    return pieces.map((bytes) => {
      const block = { start, end: start + bytes.length, bytes };
      start = block.end;
      return block;
    });
  }

  #plan(at: number, end: number): Range {
    const limit = Math.min(this.size, this.#nextStart(at));
    const room = this.#room;
    const expected = this.#expected.find((range) => range.start <= at && at < range.end);
    if (expected !== undefined) {
      const reach = room >= PAGE_BYTES ? Math.min(MAX_AHEAD_BYTES, room) : MAX_PASSING_BYTES;
      return {
        start: at,
        end: Math.min(limit, Math.max(Math.min(end, expected.end), Math.min(expected.end, at + reach))),
      };
    }
    const follows = at === this.#guess.end;
    const ahead = follows ? Math.min(this.#guess.bytes * 2, MAX_GUESSED_BYTES) : PAGE_BYTES;
    const before = this.#blocks[this.#countTo(at) - 1]?.end ?? 0;
    const start = follows ? at : Math.max(before, at - (at % PAGE_BYTES));
    const wanted = Math.max(end, start + ahead);
    const stop = Math.min(limit, Math.ceil(wanted / PAGE_BYTES) * PAGE_BYTES, start + MAX_AHEAD_BYTES);
    this.#guess = { end: stop, bytes: ahead };
    return { start, end: stop };
  }

  /** Takes memory for what is to be kept, before it is read. @returns false when there is no room */
  #reserve(length: number): boolean {
    if (length > MAX_KEPT_BYTES - this.#keptBytes || !this.#memory.take(length)) return false;
    this.#takenBytes += length;
    this.#keptBytes += length;
    return true;
  }

  /** @param blocks next to each other */
  #insert(blocks: readonly [Block, ...Block[]]): void {
    this.#blocks.splice(this.#countTo(blocks[0].start), 0, ...blocks);
  }

  /** Takes the place of what was passing before. It is little, and the work cannot do without it. */
  #pass(block: Block): Block {
    const before = this.#passing?.bytes.length ?? 0;
    this.#passing = block;
    this.#memory.overdraw(block.bytes.length - before);
    this.#takenBytes += block.bytes.length - before;
    return block;
  }

  /** What is at hand of the image at this offset. */
  #blockAt(offset: number): Block | null {
    const block = this.#blocks[this.#countTo(offset) - 1];
    if (block !== undefined && offset < block.end) return block;
    const passing = this.#passing;
    return passing !== null && passing.start <= offset && offset < passing.end ? passing : null;
  }

  /** Where the next kept block begins. */
  #nextStart(offset: number): number {
    return this.#blocks[this.#countTo(offset)]?.start ?? this.size;
  }

  /** How many kept blocks begin at or before this offset. */
  #countTo(offset: number): number {
    return lowerBound(this.#blocks.length, (index) => (this.#blocks[index]?.start ?? 0) <= offset);
  }

  #request(start: number, end: number): AsyncGenerator<Uint8Array, void> {
    return requestRange(this.#origin, this.#image, start, end);
  }
}

/**
 * The bytes of a range, from the origin.
 *
 * @throws ImageError
 */
export async function* requestRange(
  origin: Origin,
  { url, validator }: RemoteImage,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void> {
  const condition = isStrong(validator) && validator.etag !== null ? { 'If-Range': validator.etag } : {};
  const answer = await origin.get(url, { Range: `bytes=${start}-${end - 1}`, ...condition });
  try {
    // The condition does not hold any more, or the file has become shorter.
    if (answer.status === 200 || answer.status === 412 || answer.status === 416) throw changed();
    const range = readContentRange(answer);
    assertSame(validator, validatorOf(answer.headers, range.size));
    if (range.start !== start || range.end !== end) throw otherRange(`${start}-${end - 1}`);
  } catch (error) {
    if (error instanceof ImageError) answer.discard(resultOf(error.code));
    throw error;
  }
  yield* answer.chunks(end - start);
}

/** bytes FIRST-LAST/SIZE (RFC 9110, section 14.4). */
const CONTENT_RANGE = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/;

/**
 * The range of a 206, its end exclusive, and the size of the file.
 *
 * @throws ImageError source-refused, source-unavailable or source-unusable for anything else
 */
export function readContentRange(answer: OriginAnswer): {
  readonly start: number;
  readonly end: number;
  readonly size: number;
} {
  assertPlain(answer);
  const { status, headers } = answer;
  if (status !== 206) throw unusable(`The origin answered a request for a range with ${status}.`);
  const [, first, last, total] = CONTENT_RANGE.exec(headers['content-range'] ?? '') ?? [];
  if (first === undefined || last === undefined) {
    throw unusable(
      headers['content-type']?.startsWith('multipart/') === true
        ? 'The origin answered a request for one range with multipart/byteranges.'
        : 'The origin answered a request for a range without a Content-Range that can be read.',
    );
  }
  if (total === '*') throw unusable('The origin does not say how large the image is (Content-Range: bytes …/*).');
  const range = { start: Number(first), end: Number(last) + 1, size: Number(total) };
  const length = headers['content-length'];
  if (length !== undefined && Number(length) !== range.end - range.start) {
    throw unusable('The origin announces another length than that of the range.');
  }
  return range;
}

/** @throws ImageError for a status that is none of success, or a body that is encoded */
export function assertPlain({ status, headers }: OriginAnswer): void {
  if (status >= 500) throw new ImageError('source-unavailable', `The origin answered ${status}.`);
  if (status >= 400) {
    throw new ImageError('source-refused', `The origin answered ${status}. Look at the URL, and at its credentials.`);
  }
  if (status !== 200 && status !== 206) throw unusable(`The origin answered ${status}.`);
  const coding = headers['content-encoding'] ?? 'identity';
  if (coding.toLowerCase() !== 'identity') {
    throw unusable('The origin sent the image with a Content-Encoding, though the request accepts identity only.');
  }
}

const unusable = (what: string): ImageError => new ImageError('source-unusable', what);

export const otherRange = (asked: string): ImageError =>
  unusable(`The origin answered with another range than the one that was asked for (${asked}).`);
