/** Releases what a piece of work occupies when the work ends. */

type Release = () => void | Promise<void>;

/** Owns what must be released when the work ends, however it ends. */
export class Scope {
  readonly #onFailure: (error: unknown) => void;
  #releases: Release[] = [];
  #closed = false;

  /** @param onFailure called with the error of a release that fails; the other releases run all the same */
  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  /** Whether the work has ended. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Takes over something. `release` gives it back when the work ends, or at once when it has ended already. */
  own(release: Release): void {
    if (this.#closed) void this.#run(release);
    else this.#releases.push(release);
  }

  /**
   * Runs all releases, the last one first. They do not wait for each other: a slot does not wait for the disk. Resolves when
   * all have finished; never rejects. Idempotent.
   */
  async close(): Promise<void> {
    this.#closed = true;
    const releases = this.#releases;
    this.#releases = [];
    const pending: Promise<void>[] = [];
    for (let index = releases.length - 1; index >= 0; index--) {
      const released = this.#run(releases[index]);
      if (released !== undefined) pending.push(released);
    }
    if (pending.length > 0) await Promise.all(pending);
  }

  /** @returns a promise only for a release that takes time */
  #run(release: Release | undefined): Promise<void> | undefined {
    try {
      return release?.()?.catch(this.#onFailure);
    } catch (error) {
      this.#onFailure(error);
      return undefined;
    }
  }
}
