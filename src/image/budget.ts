/** A number of bytes that all requests share. */
export class Budget {
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** Bytes that may still be taken. Negative while the budget is overdrawn. */
  get free(): number {
    return this.limit - this.#used;
  }

  /** Takes the bytes, or takes nothing and returns false when that many are not left. */
  take(bytes: number): boolean {
    if (bytes > this.free) return false;
    this.#used += bytes;
    return true;
  }

  /** Takes the bytes even if fewer are left: for small amounts without which the work cannot continue. */
  overdraw(bytes: number): void {
    this.#used += bytes;
  }

  /** Gives taken bytes back. */
  give(bytes: number): void {
    this.#used -= bytes;
  }
}
