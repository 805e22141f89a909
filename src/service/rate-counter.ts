/** Counts uploads of clients in windows of time, for all workers. */

/** Addresses are shorter. */
const MAX_KEY_LENGTH = 64;
const MAX_KEYS = 10_000;

interface Window {
  readonly startedMs: number;
  readonly count: number;
}

interface Counted {
  /** With this one. */
  readonly current: number;
  /** Until the window ends. */
  readonly ttlMs: number;
}

/** Of more than `maxKeys` those that were counted least recently are forgotten. */
export class RateCounter {
  readonly #windowMs: number;
  readonly #maxKeys: number;
  readonly #now: () => number;
  /** Least recently counted first. */
  readonly #windows = new Map<string, Window>();

  /** @param now a clock in milliseconds that only goes forward */
  constructor(windowMs: number, maxKeys = MAX_KEYS, now: () => number = () => performance.now()) {
    this.#windowMs = windowMs;
    this.#maxKeys = maxKeys;
    this.#now = now;
  }

  get size(): number {
    return this.#windows.size;
  }

  count(client: string): Counted {
    const key = client.slice(0, MAX_KEY_LENGTH);
    const now = this.#now();
    const known = this.#windows.get(key);
    const isOver = known === undefined || now >= known.startedMs + this.#windowMs;
    const window = isOver ? { startedMs: now, count: 1 } : { ...known, count: known.count + 1 };
    this.#windows.delete(key);
    this.#windows.set(key, window);
    const [oldest] = this.#windows.keys();
    if (this.#windows.size > this.#maxKeys && oldest !== undefined) this.#windows.delete(oldest);
    return { current: window.count, ttlMs: window.startedMs + this.#windowMs - now };
  }
}
