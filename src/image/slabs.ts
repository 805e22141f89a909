/**
 * Memory for arriving images, used again and again while images arrive, and given back to the system after that.
 *
 * Keeping the chunks that the network delivers costs more than copying them: each is a fresh allocation whose pages are
 * in no cache, and the C library keeps what is freed between other allocations (docs/performance.md).
 */

/** What is taken and given at a time; an image wastes less than one. */
export const SLAB_BYTES = 256 * 1024;
/** C libraries map blocks of more than 32 MiB on their own, so that freeing one returns it. Untouched pages cost nothing. */
const ARENA_BYTES = 64 * 1024 * 1024;
/** How long an unused arena waits for the next image, which would have to have every page made anew. */
const IDLE_MS = 5000;

const SLABS_PER_ARENA = ARENA_BYTES / SLAB_BYTES;

/** A mapped block, cut into slabs. */
class Arena {
  readonly buffer = new ArrayBuffer(ARENA_BYTES);
  readonly #free: Uint8Array[] = [];
  #idle: NodeJS.Timeout | undefined;

  constructor() {
    // The first one is taken first: what is not needed stays untouched.
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

  /** @param onIdle called when nothing of the arena has been used for a while */
  give(slab: Uint8Array, onIdle: () => void): void {
    this.#free.push(slab);
    if (this.used === 0) this.#idle = setTimeout(onIdle, IDLE_MS).unref();
  }
}

/** Gives the memory of a buffer back now instead of at some collection. Views of it are empty from now on. */
export function freeMemory({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/** Slabs of memory, as many as are asked for: budgets decide how many that may be. */
export class SlabPool {
  readonly #arenas = new Map<ArrayBufferLike, Arena>();

  /** Slabs that were taken and not given back yet. */
  get used(): number {
    return [...this.#arenas.values()].reduce((sum, arena) => sum + arena.used, 0);
  }

  /** Bytes of address space, in use or waiting. */
  get mappedBytes(): number {
    return this.#arenas.size * ARENA_BYTES;
  }

  /** `SLAB_BYTES` of anything. */
  take(): Uint8Array {
    for (const arena of this.#arenas.values()) {
      const slab = arena.take();
      if (slab !== undefined) return slab;
    }
    const arena = new Arena();
    this.#arenas.set(arena.buffer, arena);
    return arena.take() as Uint8Array;
  }

  /** Takes a slab back, which nobody reads any more. */
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
