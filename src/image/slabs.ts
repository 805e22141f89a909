/**
 * Memory for arriving images: reused while images arrive, and given back to the system after that.
 *
 * Keeping the chunks that the network delivers costs more than copying them: each is a fresh allocation whose pages are
 * in no cache, and the C library keeps what is freed between other allocations (docs/performance.md).
 */

import { freeMemory } from './free-memory.ts';

/** The size of a slab; an image wastes less than one. */
export const SLAB_BYTES = 256 * 1024;
/** C libraries map blocks of more than 32 MiB separately, so freeing one returns it. Untouched pages cost nothing. */
const ARENA_BYTES = 64 * 1024 * 1024;
/** How long an unused arena is kept for the next image, for which the system would have to make every page again. */
const IDLE_MS = 5000;

const SLABS_PER_ARENA = ARENA_BYTES / SLAB_BYTES;

/** A mapped block, cut into slabs. */
class Arena {
  readonly buffer = new ArrayBuffer(ARENA_BYTES);
  readonly #free: Uint8Array[] = [];
  #idle: NodeJS.Timeout | undefined;

  constructor() {
    // The last one pushed is taken first, so the end of the buffer stays untouched until it is needed.
    for (let at = ARENA_BYTES - SLAB_BYTES; at >= 0; at -= SLAB_BYTES) {
      this.#free.push(new Uint8Array(this.buffer, at, SLAB_BYTES));
    }
  }

  get used(): number {
    return SLABS_PER_ARENA - this.#free.length;
  }

  take(): Uint8Array | undefined {
    clearTimeout(this.#idle);
    return this.#free.pop();
  }

  /** @param onIdle called when no slab of the arena was used for `IDLE_MS` */
  give(slab: Uint8Array, onIdle: () => void): void {
    this.#free.push(slab);
    if (this.used === 0) this.#idle = setTimeout(onIdle, IDLE_MS).unref();
  }
}

/** Slabs of memory. The pool has no limit of its own: budgets decide how many are taken. */
export class SlabPool {
  readonly #arenas = new Map<ArrayBufferLike, Arena>();

  /** How many slabs are in use. */
  get used(): number {
    return [...this.#arenas.values()].reduce((sum, arena) => sum + arena.used, 0);
  }

  /** Bytes of address space, in use or waiting. */
  get mappedBytes(): number {
    return this.#arenas.size * ARENA_BYTES;
  }

  /** A slab of `SLAB_BYTES`; it holds arbitrary bytes. */
  take(): Uint8Array {
    for (const arena of this.#arenas.values()) {
      const slab = arena.take();
      if (slab !== undefined) return slab;
    }
    const arena = new Arena();
    this.#arenas.set(arena.buffer, arena);
    return arena.take() as Uint8Array;
  }

  /** Takes back a slab that is no longer read. */
  give(slab: Uint8Array): void {
    const { buffer } = slab;
    this.#arenas.get(buffer)?.give(slab, () => {
      this.#arenas.delete(buffer);
      freeMemory(slab);
    });
  }
}

/** The slabs of this process. */
export const processSlabs = new SlabPool();
