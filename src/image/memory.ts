import { assertInside, type ImageSource } from '../inspect/image-source.ts';
import { PieceStarts } from '../inspect/piece-starts.ts';

/** An image in memory, in one or more pieces. */
export class MemorySource implements ImageSource {
  readonly size: number;
  #chunks: readonly Uint8Array[];
  readonly #starts: PieceStarts;
  #release: () => void;

  /** @param release called once, when the source is closed */
  constructor(chunks: readonly Uint8Array[], release: () => void = () => {}) {
    this.#chunks = chunks;
    this.#release = release;
    this.#starts = new PieceStarts(chunks);
    this.size = this.#starts.size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    // Always a copy: another image uses the same memory once this one is closed. Not a Buffer, whose `slice` does not copy.
    const allocated = Buffer.allocUnsafe(length);
    const bytes = new Uint8Array(allocated.buffer, allocated.byteOffset, length);
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
    for (let index = this.#starts.find(offset); at < end; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined) throw new Error('the image was closed');
      const start = at - this.#starts.at(index);
      const piece = chunk.subarray(start, Math.min(chunk.length, start + end - at));
      yield piece;
      at += piece.length;
    }
  }
}
