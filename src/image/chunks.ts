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
  /** The slab being filled; what is used of it is the last chunk. */
  #slab: Uint8Array | null = null;
  #slabUsed = 0;

  get bytes(): number {
    return this.#bytes;
  }

  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    if (chunk.length >= SMALL_CHUNK_BYTES || this.#smallChunks < MAX_SMALL_CHUNKS) {
      if (chunk.length < SMALL_CHUNK_BYTES) this.#smallChunks += 1;
      this.#slab = null;
      this.#chunks.push(chunk);
      return;
    }
    for (let rest = chunk; rest.length > 0; ) {
      const slab = this.#openSlab();
      const part = rest.subarray(0, SLAB_BYTES - this.#slabUsed);
      slab.set(part, this.#slabUsed);
      this.#slabUsed += part.length;
      this.#chunks[this.#chunks.length - 1] = slab.subarray(0, this.#slabUsed);
      rest = rest.subarray(part.length);
    }
  }

  /** Hands the chunks over and starts anew. */
  take(): Uint8Array[] {
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#bytes = 0;
    this.#smallChunks = 0;
    this.#slab = null;
    return chunks;
  }

  #openSlab(): Uint8Array {
    if (this.#slab === null || this.#slabUsed === SLAB_BYTES) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#slabUsed = 0;
      this.#chunks.push(this.#slab.subarray(0, 0));
    }
    return this.#slab;
  }
}
