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
    for (let at = 0; at < length; ) {
      const piece = this.#piece(offset + at, length - at);
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
    for (let at = 0; at < length; ) {
      const piece = this.#piece(offset + at, length - at);
      yield piece;
      at += piece.length;
    }
  }

  /** The bytes from `offset` on that lie in one piece, `length` at most. */
  #piece(offset: number, length: number): Uint8Array {
    const index = this.#starts.find(offset);
    const chunk = this.#chunks[index];
    if (chunk === undefined) throw new Error('the image was closed');
    const start = offset - this.#starts.at(index);
    return chunk.subarray(start, start + length);
  }
}
