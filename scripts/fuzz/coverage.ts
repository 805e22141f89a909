/** Which parts of the source ran, as V8 counts them. */
import { Session } from 'node:inspector';

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface Taken {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly { readonly ranges: readonly Range[] }[];
  }[];
}

export class Coverage {
  readonly #session = new Session();
  readonly #source: string;
  /** Blocks, and how often they ran as a power of two. */
  readonly #seen = new Set<string>();

  /** @param source only files whose URL begins like this count */
  constructor(source: string) {
    this.#session.connect();
    this.#source = source;
  }

  get size(): number {
    return this.#seen.size;
  }

  async start(): Promise<void> {
    await this.#post('Profiler.enable');
    await this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    await this.#post('Profiler.takePreciseCoverage');
  }

  /** Code runs as fast as otherwise after this. */
  async stop(): Promise<void> {
    await this.#post('Profiler.stopPreciseCoverage');
    await this.#post('Profiler.disable');
  }

  /** @returns how many blocks ran since the last call as they had not before */
  async takeNew(): Promise<number> {
    const { result } = (await this.#post('Profiler.takePreciseCoverage')) as Taken;
    const before = this.#seen.size;
    for (const { url, functions } of result) {
      if (!url.startsWith(this.#source)) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count > 0) this.#seen.add(`${url}:${startOffset}:${endOffset}:${Math.floor(Math.log2(count))}`);
        }
      }
    }
    return this.#seen.size - before;
  }

  #post(method: string, parameters: Record<string, unknown> = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#session.post(method, parameters, (error, result) => {
        if (error === null) resolve(result);
        else reject(error);
      });
    });
  }
}
