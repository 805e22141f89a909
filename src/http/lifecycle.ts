/** Whether the process still takes work. */
import { Problem } from './problem.ts';

const RETRY_AFTER_SECONDS = 5;

export class Lifecycle {
  #draining = false;
  #requests = 0;
  #finished = Promise.withResolvers<void>();

  /** From the first signal on: running requests finish, new uploads are refused. */
  get draining(): boolean {
    return this.#draining;
  }

  drain(): void {
    this.#draining = true;
  }

  /** A request has begun; `end` is to be called when its response is closed. */
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

  /** No request is under way. */
  get idle(): boolean {
    return this.#requests === 0;
  }

  /** Settles when no request is under way. */
  async finished(): Promise<void> {
    if (!this.idle) await this.#finished.promise;
  }

  /** The answer to what is no longer taken. */
  refusal(): Problem {
    return new Problem('shutting-down', 'The service is shutting down. Send the request again in a few seconds.', {
      headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) },
    });
  }
}
