/** What a piece of work occupies, and gives back when it ends. */

type Release = () => void | Promise<void>;

/** Owns what must be given back when the work ends, however it ends. */
export class Scope {
  readonly #onFailure: (error: unknown) => void;
  #releases: Release[] = [];
  #closed = false;

  /** @param onFailure called with the error of a release that fails; the others run all the same */
  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  /** Whether the work has ended. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Takes over something that `release` gives back: at once when the work has ended already. */
  own(release: Release): void {
    if (this.#closed) void this.#run(release);
    else this.#releases.push(release);
  }

  /**
   * Gives everything back, the last first. None waits for another: a slot does not wait for the disk. Resolves when all of it
   * has been given back; never rejects. Idempotent.
   */
  async close(): Promise<void> {
    this.#closed = true;
    const releases = this.#releases.toReversed();
    this.#releases = [];
    await Promise.all(releases.map((release) => this.#run(release)));
  }

  async #run(release: Release): Promise<void> {
    try {
      await release();
    } catch (error) {
      this.#onFailure(error);
    }
  }
}
