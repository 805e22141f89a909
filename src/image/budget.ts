/** A number of bytes shared by all requests. */
export class Budget {
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** What may still be taken. Negative while the budget is overdrawn. */
  get free(): number {
    return this.limit - this.#used;
  }

  /** Takes the bytes, or takes nothing and returns false when that many are not left. */
  take(bytes: number): boolean {
    if (bytes > this.free) return false;
    this.#used += bytes;
    return true;
  }

  /** Takes the bytes even when that many are not left: for small amounts that the work cannot do without. */
  overdraw(bytes: number): void {
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }
}
