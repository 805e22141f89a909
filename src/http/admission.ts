/** How many uploads are under way at once. Refusing at once beats timing out. */
import { Problem } from './problem.ts';

export interface AdmissionLimits {
  readonly maxUploads: number;
  /** How many more may wait for a place, and for how long. */
  readonly maxQueuedUploads: number;
  readonly queueTimeoutMs: number;
}

/** A place among the uploads, or a wait for one. */
export interface Place {
  /** @throws Problem too-busy */
  readonly entered: Promise<void>;
  /** Gives the place back, or stops waiting for it. */
  leave(): void;
}

/** What hands out places: to this process alone, or to it and others. */
export interface AdmissionControl {
  /** Uploads of this process that have a place. */
  readonly running: number;
  /** Those that wait for one. */
  readonly queued: number;
  enter(): Place;
}

const RETRY_AFTER_SECONDS = 1;
const ENTERED = Promise.resolve();

export class Admission implements AdmissionControl {
  readonly #limits: AdmissionLimits;
  /** Those who wait, longest first; called when a place is theirs. */
  readonly #queue = new Set<() => void>();
  #running = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#running;
  }

  get queued(): number {
    return this.#queue.size;
  }

  enter(): Place {
    if (this.#running < this.#limits.maxUploads) {
      this.#running += 1;
      return { entered: ENTERED, leave: () => this.#leave() };
    }
    if (this.#queue.size >= this.#limits.maxQueuedUploads) {
      return { entered: Promise.reject(tooBusy(this.#limits)), leave: () => {} };
    }
    return this.#wait();
  }

  #wait(): Place {
    const { promise: entered, resolve, reject } = Promise.withResolvers<void>();
    let leave = (): void => {
      clearTimeout(timer);
      this.#queue.delete(admit);
    };
    const timer = setTimeout(() => {
      leave();
      reject(tooBusy(this.#limits));
    }, this.#limits.queueTimeoutMs);
    const admit = (): void => {
      leave();
      leave = () => this.#leave();
      resolve();
    };
    this.#queue.add(admit);
    return { entered, leave: () => leave() };
  }

  /** Hands the place to whoever has waited longest. */
  #leave(): void {
    const [next] = this.#queue;
    if (next === undefined) this.#running -= 1;
    else next();
  }
}

export function tooBusy({ maxUploads }: Pick<AdmissionLimits, 'maxUploads'>): Problem {
  return new Problem(
    'too-busy',
    `All ${maxUploads} places for uploads are taken. Send the request again after the time in Retry-After.`,
    { headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) } },
  );
}
