import { processSlabs, SLAB_BYTES, type SlabPool } from './slabs.ts';

/** Bytes in slabs, which must be given back. */
export interface SlabBytes {
  /** In order, none of them empty. */
  readonly pieces: readonly Uint8Array[];
  /** Gives the slabs back. Call it once, when the pieces are no longer read. */
  readonly release: () => void;
}

/** Copies bytes that arrive in chunks into slabs. */
export class SlabList {
  readonly #pool: SlabPool;
  #slabs: Uint8Array[] = [];
  /** Used bytes of the last slab. */
  #used = SLAB_BYTES;
  #bytes = 0;

  constructor(pool: SlabPool = processSlabs) {
    this.#pool = pool;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    for (let at = 0; at < chunk.length; ) {
      if (this.#used === SLAB_BYTES) {
        this.#slabs.push(this.#pool.take());
        this.#used = 0;
      }
      const part = chunk.subarray(at, at + SLAB_BYTES - this.#used);
      this.#slabs.at(-1)?.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
    }
  }

  /** Hands the bytes over. The list is then empty. */
  take(): SlabBytes {
    const slabs = this.#slabs;
    const last = slabs.length - 1;
    const used = this.#used;
    this.#slabs = [];
    this.#used = SLAB_BYTES;
    this.#bytes = 0;
    return {
      pieces: slabs.map((slab, index) => (index === last ? slab.subarray(0, used) : slab)),
      release: () => {
        for (const slab of slabs) this.#pool.give(slab);
      },
    };
  }
}
