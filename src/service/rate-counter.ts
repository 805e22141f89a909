/** Counts uploads of clients in windows of time, for all workers. */

/** Keys of clients are shorter. */
const MAX_KEY_LENGTH = 64;
const MAX_KEYS = 10_000;

interface Window {
  readonly startedMs: number;
  readonly count: number;
}

interface Counted {
  /** Uploads in the window, this one included. */
  readonly current: number;
  /** Time until the window ends. */
  readonly ttlMs: number;
}

/** Counts per client. Beyond `maxKeys` clients, the one that was counted least recently is forgotten. */
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

  /** Counts one more upload of a client. */
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
