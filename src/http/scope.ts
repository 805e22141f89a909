/** What a piece of work occupies, and gives back when it ends. */

export type Release = () => void | Promise<void>;

/** Owns what is to be given back, however the work ends. What comes after that is given back at once. */
export class Scope {
  readonly #onFailure: (error: unknown) => void;
  #releases: Release[] = [];
  #closed = false;

  /** @param onFailure is told what a release fails with; the others are called all the same */
  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  /** Whether the work has ended. */
  get closed(): boolean {
    return this.#closed;
  }

  own(release: Release): void {
    if (this.#closed) void this.#run(release);
    else this.#releases.push(release);
  }

  /** Gives everything back, the last first, each when the one before it has been. Never rejects. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const releases = this.#releases.toReversed();
    this.#releases = [];
    for (const release of releases) await this.#run(release);
  }

  async #run(release: Release): Promise<void> {
    try {
      await release();
    } catch (error) {
      this.#onFailure(error);
    }
  }
}
