/** How many uploads are under way at once. Refusing at once beats timing out. */
import { Problem } from './problem.ts';

export interface AdmissionLimits {
  readonly maxUploads: number;
  /** How many more may wait for a place, and for how long. */
  readonly maxQueuedUploads: number;
  readonly queueTimeoutMs: number;
}

interface Waiting {
  readonly admit: () => void;
  readonly timer: NodeJS.Timeout;
}

const RETRY_AFTER_SECONDS = 1;

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #queue = new Set<Waiting>();
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

  /**
   * Waits for a place.
   *
   * @param gone aborted when the caller is no longer interested
   * @returns gives the place back; to be called exactly once
   * @throws Problem too-busy
   */
  enter(gone: AbortSignal): Promise<() => void> {
    if (this.#running < this.#limits.maxUploads) {
      this.#running += 1;
      return Promise.resolve(() => this.#leave());
    }
    if (this.#queue.size >= this.#limits.maxQueuedUploads || this.#limits.queueTimeoutMs === 0) {
      return Promise.reject(tooBusy(this.#limits));
    }
    return new Promise((resolve, reject) => {
      const refuse = (): void => {
        settle();
        reject(tooBusy(this.#limits));
      };
      const waiting: Waiting = {
        admit: () => {
          settle();
          resolve(() => this.#leave());
        },
        timer: setTimeout(refuse, this.#limits.queueTimeoutMs),
      };
      const settle = (): void => {
        clearTimeout(waiting.timer);
        gone.removeEventListener('abort', refuse);
        this.#queue.delete(waiting);
      };
      gone.addEventListener('abort', refuse);
      this.#queue.add(waiting);
    });
  }

  /** Hands the place to whoever has waited longest. */
  #leave(): void {
    const [next] = this.#queue;
    if (next === undefined) this.#running -= 1;
    else next.admit();
  }
}

function tooBusy({ maxUploads }: AdmissionLimits): Problem {
  return new Problem(
    'too-busy',
    `All ${maxUploads} places for uploads are taken. Send the request again after the time in Retry-After.`,
    { headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) } },
  );
}
