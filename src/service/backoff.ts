/** How long to wait before a worker that died is replaced. */

const MIN_PAUSE_MS = 100;
const MAX_PAUSE_MS = 30_000;
/** After a worker that lived this long, pauses start from the shortest again. */
const HEALTHY_MS = 10_000;

/** Doubles the pause for each worker that dies soon after its start. */
export class Backoff {
  #failures = 0;

  /**
   * @param livedMs how long the worker that died had lived
   * @returns how long to wait, in milliseconds
   */
  pauseAfter(livedMs: number): number {
    this.#failures = livedMs < HEALTHY_MS ? this.#failures + 1 : 1;
    return Math.min(MIN_PAUSE_MS * 2 ** (this.#failures - 1), MAX_PAUSE_MS);
  }
}
