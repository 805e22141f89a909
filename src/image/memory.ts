/** An image held in memory, in one or more pieces. */
import { assertInside, type ImageSource } from '../inspect/image-source.ts';

/** An image in memory, in one or more pieces. */
export class MemorySource implements ImageSource {
  readonly size: number;
  #chunks: readonly Uint8Array[];
  /** `#starts[i]` is the image offset of the first byte of chunk i. */
  readonly #starts: Float64Array;
  #release: () => void;

  /** @param release called once, when the source is closed */
  constructor(chunks: readonly Uint8Array[], release: () => void = () => {}) {
    this.#chunks = chunks;
    this.#release = release;
    this.#starts = new Float64Array(chunks.length);
    let size = 0;
    chunks.forEach((chunk, index) => {
      this.#starts[index] = size;
      size += chunk.length;
    });
    this.size = size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    // Always a copy: what the image occupies is another image's as soon as this one is closed.
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const piece of this.#pieces(offset, length)) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    yield* this.#pieces(offset, length);
  }

  hold(offset: number, length: number): Promise<readonly Uint8Array[]> {
    return Promise.resolve([...this.#pieces(offset, length)]);
  }

  close(): Promise<void> {
    this.#chunks = [];
    this.#release();
    this.#release = () => {};
    return Promise.resolve();
  }

  *#pieces(offset: number, length: number): Generator<Uint8Array> {
    assertInside(offset, length, this.size);
    const end = offset + length;
    let at = offset;
    for (let index = this.#chunkAt(offset); at < end; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined) throw new Error('the image was closed');
      const start = at - (this.#starts[index] ?? 0);
      const piece = chunk.subarray(start, Math.min(chunk.length, start + end - at));
      yield piece;
      at += piece.length;
    }
  }

  /** The last chunk that starts at or before `offset`. */
  #chunkAt(offset: number): number {
    let low = 0;
    let high = this.#chunks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
