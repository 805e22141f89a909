/** Bytes as the chunks in which they arrived, uncopied as long as that is cheap. */

/**
 * Chunks shorter than this count as small. The first few are kept as they are; further ones are gathered into slabs.
 * A sender of tiny chunks would otherwise make every byte cost an object, and keep alive the network buffers they are
 * slices of.
 */
const SMALL_CHUNK_BYTES = 8 * 1024;
const MAX_SMALL_CHUNKS = 16;
const SLAB_BYTES = 64 * 1024;

export class ChunkList {
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #smallChunks = 0;
  /** The slab that small chunks go to, and how much of it is used. */
  #slab: Uint8Array | null = null;
  #slabUsed = 0;
  /** Whether the last chunk ends where the used part of the slab does, so that it can grow. */
  #growing = false;

  get bytes(): number {
    return this.#bytes;
  }

  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    if (chunk.length < SMALL_CHUNK_BYTES) {
      this.#smallChunks += 1;
      if (this.#smallChunks > MAX_SMALL_CHUNKS) {
        this.#gather(chunk);
        return;
      }
    }
    this.#chunks.push(chunk);
    this.#growing = false;
  }

  /** Hands the chunks over and starts anew. */
  take(): Uint8Array[] {
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#bytes = 0;
    this.#smallChunks = 0;
    this.#slab = null;
    this.#growing = false;
    return chunks;
  }

  #gather(chunk: Uint8Array): void {
    if (this.#slab === null || this.#slabUsed + chunk.length > SLAB_BYTES) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#slabUsed = 0;
      this.#growing = false;
    }
    const slab = this.#slab;
    const from = this.#growing ? this.#slabUsed - (this.#chunks.at(-1)?.length ?? 0) : this.#slabUsed;
    slab.set(chunk, this.#slabUsed);
    this.#slabUsed += chunk.length;
    const gathered = slab.subarray(from, this.#slabUsed);
    if (this.#growing) this.#chunks[this.#chunks.length - 1] = gathered;
    else this.#chunks.push(gathered);
    this.#growing = true;
  }
}
