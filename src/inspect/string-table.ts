/** Strings of a string table that may be of any size: a few windows of it are at hand. */
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** A longer name is cut. No kernel has such names; Linux allows 512 bytes. */
export const MAX_NAME_BYTES = 4096;

/** A string may begin anywhere in a window, and its bytes are read along with it. */
const WINDOW_BYTES = 16 * 1024;
/**
 * What is kept at most is 2.5 MiB. Linkers write names nearly in the order of their symbols, so few are enough; a table
 * whose names jump costs a read of a window for each.
 */
const MAX_WINDOWS = 128;
/** Reads after which others get their turn. */
const READS_PER_TURN = 128;

/** The bytes of a name. They may share memory with the image. */
export interface SymbolName {
  readonly bytes: Uint8Array;
  /** It has more than `MAX_NAME_BYTES`, and these are the first. */
  readonly cut: boolean;
}

export class StringTable {
  readonly #source: ImageSource;
  readonly #offset: number;
  readonly #length: number;
  /** By their number, least recently used first. */
  readonly #windows = new Map<number, Uint8Array>();
  #latest = -1;
  #reads = 0;

  /** @param range inside the image */
  constructor(source: ImageSource, range: { readonly offset: number; readonly length: number }) {
    this.#source = source;
    this.#offset = range.offset;
    this.#length = range.length;
  }

  /** As `read`, when that needs no waiting; otherwise undefined. */
  peek(at: number): SymbolName | null | undefined {
    if (at >= this.#length) return null;
    const number = Math.floor(at / WINDOW_BYTES);
    const window = this.#windows.get(number);
    if (window === undefined) return undefined;
    if (number !== this.#latest) {
      this.#windows.delete(number);
      this.#windows.set(number, window);
      this.#latest = number;
    }
    const start = at - number * WINDOW_BYTES;
    const bytes = window.subarray(start, start + MAX_NAME_BYTES + 1);
    const end = bytes.indexOf(0);
    // Without a NUL it runs on, or to the end of the table.
    const cut = end === -1 && bytes.length > MAX_NAME_BYTES;
    return { bytes: bytes.subarray(0, cut ? MAX_NAME_BYTES : end === -1 ? bytes.length : end), cut };
  }

  /** The string that begins `at` bytes into the table, without its NUL; null when that is outside of the table. */
  async read(at: number): Promise<SymbolName | null> {
    const known = this.peek(at);
    if (known !== undefined) return known;
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
