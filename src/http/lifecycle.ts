/** Whether the process accepts work, and how much of it is under way. */
import { Problem } from './problem.ts';

const RETRY_AFTER_SECONDS = 5;

/** Counts the requests that are under way, from the start of the process to its end. */
export class Lifecycle {
  #draining = false;
  #requests = 0;
  #finished = Promise.withResolvers<void>();

  /** True from the first signal on: running requests finish, new uploads are refused. */
  get draining(): boolean {
    return this.#draining;
  }

  drain(): void {
    this.#draining = true;
  }

  /** Counts a request that begins. Call `end` when its response is closed. */
  begin(): { end(): void } {
    this.#requests += 1;
    return {
      end: () => {
        this.#requests -= 1;
        if (this.#requests > 0) return;
        this.#finished.resolve();
        this.#finished = Promise.withResolvers();
      },
    };
  }

  /** Whether no request is under way. */
  get idle(): boolean {
    return this.#requests === 0;
  }

  /** Settles when no request is under way. */
  async finished(): Promise<void> {
    if (!this.idle) await this.#finished.promise;
  }

  /** The answer to requests that are no longer accepted. */
  refusal(): Problem {
    return new Problem('shutting-down', 'The service is shutting down. Send the request again in a few seconds.', {
      headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) },
    });
  }
}
