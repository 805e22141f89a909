/** Reads strings from a string table of any size; a few windows of it are cached. */
import type { ImageSource } from './image-source.ts';
import { PieceStarts } from './piece-starts.ts';
import { nextTurn } from './turn.ts';

/** A longer name is cut. No kernel has such names; Linux allows 512 bytes. */
export const MAX_NAME_BYTES = 4096;

/** A string may begin anywhere in a window; all of its bytes are read with that window. */
const WINDOW_BYTES = 16 * 1024;
/**
 * At most 2.5 MiB are cached. Linkers write names nearly in the order of their symbols, so a few windows are enough. Where
 * names are spread wider, the source is asked to hold the table; if it does not, each name costs a read of a window.
 */
const MAX_WINDOWS = 128;
/** Reads after which other work gets its turn. */
const READS_PER_TURN = 128;

/** The bytes of a name. They may share memory with the image. */
export interface SymbolName {
  readonly bytes: Uint8Array;
  /** Whether the name is longer, and `bytes` are the first of it. */
  readonly cut: boolean;
}

/** Reads strings of one table. Those near each other are cached. */
export class StringTable {
  readonly #source: ImageSource;
  readonly #offset: number;
  readonly #length: number;
  /** By their number, least recently used first. */
  readonly #windows = new Map<number, Uint8Array>();
  #latest = -1;
  #reads = 0;
  /** The whole table, once the source holds it. */
  #held: HeldTable | null = null;
  #wasHoldAsked = false;

  /** @param range inside the image */
  constructor(source: ImageSource, range: { readonly offset: number; readonly length: number }) {
    this.#source = source;
    this.#offset = range.offset;
    this.#length = range.length;
  }

  /** As `read`, for a string that is cached; otherwise undefined. */
  peek(at: number): SymbolName | null | undefined {
    if (at >= this.#length) return null;
    if (this.#held !== null) return this.#held.nameAt(at);
    const number = Math.floor(at / WINDOW_BYTES);
    const window = this.#windows.get(number);
    if (window === undefined) return undefined;
    if (number !== this.#latest) {
      this.#windows.delete(number);
      this.#windows.set(number, window);
      this.#latest = number;
    }
    const start = at - number * WINDOW_BYTES;
    return nameOf(window.subarray(start, start + MAX_NAME_BYTES + 1));
  }

  /** The string that begins `at` bytes into the table, without its NUL; null when that is outside the table. */
  async read(at: number): Promise<SymbolName | null> {
    const known = this.peek(at);
    if (known !== undefined) return known;
    if (this.#windows.size === MAX_WINDOWS && !this.#wasHoldAsked) {
      this.#wasHoldAsked = true;
      const pieces = await this.#source.hold?.(this.#offset, this.#length);
      if (pieces) {
        this.#windows.clear();
        this.#held = new HeldTable(pieces);
        return this.#held.nameAt(at);
      }
    }
    const number = Math.floor(at / WINDOW_BYTES);
    const start = number * WINDOW_BYTES;
    const length = Math.min(WINDOW_BYTES + MAX_NAME_BYTES, this.#length - start);
    const window = await this.#source.read(this.#offset + start, length);
    this.#reads += 1;
    if (this.#reads % READS_PER_TURN === 0) await nextTurn();
    const [oldest] = this.#windows.keys();
    if (oldest !== undefined && this.#windows.size === MAX_WINDOWS) this.#windows.delete(oldest);
    this.#windows.set(number, window);
    this.#latest = number;
    return this.peek(at) ?? null;
  }
}

/** @param bytes from the start of the name on, one more than `MAX_NAME_BYTES` or up to the end of the table */
function nameOf(bytes: Uint8Array): SymbolName {
  const end = bytes.indexOf(0);
  // Without a NUL the name is longer, or ends with the table.
  const cut = end === -1 && bytes.length > MAX_NAME_BYTES;
  return { bytes: bytes.subarray(0, cut ? MAX_NAME_BYTES : end === -1 ? bytes.length : end), cut };
}

/** A string table that is held as a whole, in pieces. */
class HeldTable {
  readonly #pieces: readonly Uint8Array[];
  readonly #starts: PieceStarts;

  constructor(pieces: readonly Uint8Array[]) {
    this.#pieces = pieces;
    this.#starts = new PieceStarts(pieces);
  }

  /** @param at inside the table */
  nameAt(at: number): SymbolName {
    const index = this.#starts.find(at);
    const start = at - this.#starts.at(index);
    const bytes = this.#pieces[index]?.subarray(start, start + MAX_NAME_BYTES + 1) ?? new Uint8Array();
    return nameOf(bytes.length > MAX_NAME_BYTES || bytes.includes(0) ? bytes : this.#gather(bytes, index + 1));
  }

  /** The start of a name, and what follows it in further pieces. */
  #gather(start: Uint8Array, next: number): Uint8Array {
    const bytes = new Uint8Array(MAX_NAME_BYTES + 1);
    bytes.set(start);
    let length = start.length;
    for (let index = next; index < this.#pieces.length && length < bytes.length; index++) {
      const part = this.#pieces[index]?.subarray(0, bytes.length - length) ?? new Uint8Array();
      bytes.set(part, length);
      length += part.length;
      if (part.includes(0)) break;
    }
    return bytes.subarray(0, length);
  }
}
