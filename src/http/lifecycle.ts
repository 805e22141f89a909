/** Whether the process still takes work. */
import { Problem } from './problem.ts';

const RETRY_AFTER_SECONDS = 5;

export class Lifecycle {
  #draining = false;

  /** From the first signal on: running requests finish, new uploads are refused. */
  get draining(): boolean {
    return this.#draining;
  }

  drain(): void {
    this.#draining = true;
  }

  /** The answer to what is no longer taken. */
  refusal(): Problem {
    return new Problem('shutting-down', 'The service is shutting down. Send the request again in a few seconds.', {
      headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) },
    });
  }
}
