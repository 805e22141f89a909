/** What Stryker is given: which mutants of a folder are tried, and which are not made at all. */
import { createHash } from 'node:crypto';

interface Position {
  readonly line: number;
  readonly column: number;
}

/** As much of a mutant as is looked at here. Lines count from 0. */
export interface Mutant {
  readonly fileName: string;
  readonly mutatorName: string;
  readonly replacement: string;
  readonly location: { readonly start: Position; readonly end: Position };
}

/** A mutant that Stryker is about to try. */
interface PlannedMutant extends Mutant {
  readonly id: string;
}

interface CheckResult {
  readonly status: 'passed' | 'compileError';
  readonly reason: string;
}

/** As much of a syntax node as is looked at here. */
interface Node {
  readonly type: string;
  readonly value?: unknown;
  readonly quasis?: readonly { readonly value: { readonly raw: string } }[];
}

const { MUTATE_SAMPLE, MUTATE_SEED = '1' } = process.env;
const SAMPLE = Number(MUTATE_SAMPLE);

/** Two words of a sentence. */
const PROSE = /\w[,.:;]? \w/;

/** Lets as many mutants pass as were asked for. The seed decides which; those of a place that did not change stay the same. */
class Sampler {
  readonly #taken = new Set<string>();

  init(): Promise<void> {
    return Promise.resolve();
  }

  group(mutants: readonly PlannedMutant[]): Promise<string[][]> {
    for (const { id } of sampleOf(mutants, SAMPLE, MUTATE_SEED)) this.#taken.add(id);
    return Promise.resolve([mutants.map(({ id }) => id)]);
  }

  check(mutants: readonly PlannedMutant[]): Promise<Record<string, CheckResult>> {
    const results = mutants.map(({ id }): [string, CheckResult] => [
      id,
      { status: this.#taken.has(id) ? 'passed' : 'compileError', reason: 'not in the sample' },
    ]);
    return Promise.resolve(Object.fromEntries(results));
  }
}

/** So many of the mutants, at random. The same for the same seed. */
export function sampleOf<Sampled extends Mutant>(mutants: readonly Sampled[], count: number, seed: string): Sampled[] {
  const ranked = mutants.map((mutant) => ({ mutant, rank: rankOf(mutant, seed) }));
  ranked.sort((a, b) => (a.rank < b.rank ? -1 : 1));
  return ranked.slice(0, count).map(({ mutant }) => mutant);
}

function rankOf({ fileName, mutatorName, replacement, location: { start } }: Mutant, seed: string): string {
  const file = fileName.slice(fileName.lastIndexOf('/src/'));
  const identity = [seed, file, start.line, start.column, mutatorName, replacement].join('\n');
  return createHash('sha256').update(identity).digest('hex');
}

/** No test compares sentences word by word, nor should it. */
export const proseIgnorer = {
  shouldIgnore({ node: { type, value, quasis = [] } }: { readonly node: Node }): string | undefined {
    const texts = type === 'StringLiteral' ? [String(value)] : quasis.map((quasi) => quasi.value.raw);
    return texts.some((text) => PROSE.test(text)) ? 'prose' : undefined;
  },
};

export const strykerPlugins = [
  { kind: 'Checker', name: 'sample', injectableClass: Sampler },
  { kind: 'Ignore', name: 'prose', value: proseIgnorer },
];
