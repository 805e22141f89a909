/** An image held in memory, as the chunks in which it arrived. */
import { assertInside, type ImageSink, type ImageSource } from './source.ts';

/**
 * Chunks shorter than this are gathered into slabs. A sender of tiny chunks would otherwise make every byte cost an
 * object and keep alive the network buffer it is a slice of.
 */
const SMALL_CHUNK_BYTES = 8 * 1024;
const SLAB_BYTES = 64 * 1024;

export class MemorySink implements ImageSink {
  readonly #chunks: Uint8Array[] = [];
  /** The slab being filled is the last chunk, cut to what is used; this is the whole of it. */
  #slab: Uint8Array | null = null;
  #slabUsed = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  append(chunk: Uint8Array): void {
    this.#size += chunk.length;
    if (chunk.length >= SMALL_CHUNK_BYTES) {
      this.#slab = null;
      this.#chunks.push(chunk);
      return;
    }
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#slab === null || this.#slabUsed === SLAB_BYTES) {
        this.#slab = new Uint8Array(SLAB_BYTES);
        this.#slabUsed = 0;
        this.#chunks.push(this.#slab.subarray(0, 0));
      }
      const part = rest.subarray(0, SLAB_BYTES - this.#slabUsed);
      this.#slab.set(part, this.#slabUsed);
      this.#slabUsed += part.length;
      this.#chunks[this.#chunks.length - 1] = this.#slab.subarray(0, this.#slabUsed);
      rest = rest.subarray(part.length);
    }
  }

  finish(): Promise<ImageSource> {
    return Promise.resolve(new MemorySource(this.#chunks));
  }

  discard(): Promise<void> {
    this.#chunks.length = 0;
    this.#slab = null;
    return Promise.resolve();
  }
}

export class MemorySource implements ImageSource {
  readonly size: number;
  #chunks: readonly Uint8Array[];
  /** `#starts[i]` is the image offset of the first byte of chunk i. */
  readonly #starts: Float64Array;

  constructor(chunks: readonly Uint8Array[]) {
    this.#chunks = chunks;
    this.#starts = new Float64Array(chunks.length);
    let size = 0;
    chunks.forEach((chunk, index) => {
      this.#starts[index] = size;
      size += chunk.length;
    });
    this.size = size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const pieces = [...this.#pieces(offset, length)];
    const [only] = pieces;
    if (pieces.length === 1 && only !== undefined) return only;
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    yield* this.#pieces(offset, length);
  }

  close(): Promise<void> {
    this.#chunks = [];
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
