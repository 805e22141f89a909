/** How long to wait before a worker that died is replaced. */

const MIN_PAUSE_MS = 100;
const MAX_PAUSE_MS = 30_000;
/** A worker that lived this long starts the pauses anew. */
const HEALTHY_MS = 10_000;

export class Backoff {
  #failures = 0;

  /**
   * @param livedMs how long the worker that died had lived
   * @returns how long to wait, in milliseconds: twice as long for each that dies soon after its start
   */
  pauseAfter(livedMs: number): number {
    this.#failures = livedMs < HEALTHY_MS ? this.#failures + 1 : 1;
    return Math.min(MIN_PAUSE_MS * 2 ** (this.#failures - 1), MAX_PAUSE_MS);
  }
}
