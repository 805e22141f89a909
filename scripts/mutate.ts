/**
 * Changes the code in small ways and runs the tests that cover each change: `npm run mutate`, or
 * `npm run mutate -- --sample 200 --seed 7 http image`. Tells which changes no test noticed.
 *
 * `--tests 'test/unit/http/**'` runs these tests only, which is faster and notices less.
 *
 * Stryker makes the changes and runs the tests. It is installed into a folder of its own on first use, as nothing else needs it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Mutant as MadeMutant, proseIgnorer, sampleOf } from './mutate/plugin.ts';

const STRYKER = ['@stryker-mutator/core@10.1.1', '@stryker-mutator/vitest-runner@10.1.1'];
/** Inside `node_modules`, so that the runner finds this project's vitest. */
const HOME = fileURLToPath(new URL(`../node_modules/.cache/stryker-${STRYKER[0]?.split('@').at(-1)}`, import.meta.url));
const PLUGIN = fileURLToPath(new URL('mutate/plugin.ts', import.meta.url));

/**
 * The tests that can notice a change in a folder. Not those that start the service or the command in a process of its own, where
 * no mutant is active, and not those of random images, which would give another figure each time.
 */
const CORE_TESTS = ['test/unit/{elf,xen,inspect,report}/**'];
const CONFORMANCE_TESTS = 'test/conformance/!(readelf|nm).test.ts';
const TESTS: Readonly<Record<string, readonly string[]>> = {
  elf: CORE_TESTS,
  xen: [...CORE_TESTS, CONFORMANCE_TESTS, 'test/http/compare.test.ts'],
  inspect: [
    ...CORE_TESTS,
    CONFORMANCE_TESTS,
    'test/unit/image/**',
    'test/http/{check,compare,kernel,recognition,symbols}.test.ts',
  ],
  image: [
    'test/unit/image/**',
    'test/unit/inspect/**',
    'test/http/{compression,reference,reference-hostile,reference-refused,unpacking}.test.ts',
  ],
  http: ['test/unit/http/**', 'test/contract/**', 'test/http/!(connections|curl|log-output|process|workers).test.ts'],
};

/** As much of Stryker's report as is used. */
interface Report {
  readonly files: Readonly<Record<string, { readonly source: string; readonly mutants: readonly Mutant[] }>>;
}
interface Mutant {
  readonly mutatorName: string;
  readonly replacement: string;
  readonly status: string;
  readonly statusReason?: string;
  readonly location: { readonly start: Position; readonly end: Position };
}
interface Position {
  readonly line: number;
  readonly column: number;
}

function install(): void {
  if (existsSync(join(HOME, 'node_modules', '@stryker-mutator'))) return;
  mkdirSync(HOME, { recursive: true });
  writeFileSync(join(HOME, 'package.json'), '{ "private": true }\n');
  // Without its peers: the runner is to use the vitest of this project.
  runOrThrow('npm', ['install', '--prefix', HOME, '--legacy-peer-deps', '--no-audit', '--no-fund', ...STRYKER]);
}

function runOrThrow(program: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): void {
  const { status, error } = spawnSync(program, args, { stdio: 'inherit', env });
  if (status !== 0) throw error ?? new Error(`${program} ended with status ${status}`);
}

interface Instrumenter {
  instrument(files: readonly object[], options: object): Promise<{ readonly mutants: readonly MadeMutant[] }>;
}

/** Only `npm run openapi` loads them; its check compares all that they say with openapi.yaml. */
const DESCRIPTIONS: ReadonlySet<string> = new Set(['src/http/operations.ts', 'src/http/schemas.ts']);

const writePosition = ({ line, column }: Position): string => `${line + 1}:${column}`;

/** Of the places that are tried, some turn out to be tables. */
const CANDIDATES_PER_SAMPLED = 1.5;

/**
 * The places of a folder to be tried. Stryker gets these alone: it passes mutants on with the names of all tests that reach them,
 * which is a gigabyte for all mutants of `http`, more than V8 can make a message of.
 */
async function choosePlaces(folder: string, sample: number, seed: string): Promise<string[]> {
  const path = join(HOME, 'node_modules', '@stryker-mutator', 'instrumenter', 'dist', 'src', 'index.js');
  const { Instrumenter } = (await import(path)) as { Instrumenter: new (logger: object) => Instrumenter };
  const silent = { debug: () => {}, info: () => {}, warn: () => {}, isDebugEnabled: () => false };
  const names = globSync(`src/${folder}/**/*.ts`).filter((name) => !DESCRIPTIONS.has(name));
  const files = names.map((name) => ({
    name: resolve(name),
    content: readFileSync(name, 'utf8'),
    mutate: true,
  }));
  const { mutants } = await new Instrumenter(silent).instrument(files, {
    plugins: null,
    ignorers: [proseIgnorer],
    excludedMutations: [],
  });
  return sampleOf(mutants, Math.ceil(sample * CANDIDATES_PER_SAMPLED), seed).map(
    ({ fileName, location: { start, end } }) =>
      `${relative('.', fileName)}:${writePosition(start)}-${writePosition(end)}`,
  );
}

async function mutate(folder: string, testFiles: readonly string[], sample: string, seed: string): Promise<Report> {
  const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-mutate-'));
  try {
    const fileName = join(directory, 'report.json');
    const config = {
      testRunner: 'vitest',
      plugins: ['@stryker-mutator/vitest-runner', PLUGIN],
      checkers: ['sample'],
      ignorers: ['prose'],
      mutate: await choosePlaces(folder, Number(sample), seed),
      testFiles,
      concurrency: 1,
      // As vitest does by itself: tests count the open files of their process.
      vitest: { pool: 'forks' },
      // What runs while a file is loaded, mostly tables: each such mutant would have to run all tests anew.
      ignoreStatic: true,
      // A mutant may wait for what never comes. The factor leaves room for a machine that is busy.
      timeoutMS: 30_000,
      timeoutFactor: 4,
      dryRunTimeoutMinutes: 30,
      reporters: ['json', 'progress-append-only'],
      jsonReporter: { fileName },
      tempDirName: join(directory, 'sandbox'),
      // It would be rewritten with a TypeScript of another version, and nothing reads it.
      tsconfigFile: 'none.json',
      allowConsoleColors: false,
    };
    const configPath = join(directory, 'stryker.config.json');
    writeFileSync(configPath, JSON.stringify(config));
    const cli = join(HOME, 'node_modules', '@stryker-mutator', 'core', 'bin', 'stryker.js');
    runOrThrow(process.execPath, [cli, 'run', configPath], {
      ...process.env,
      MUTATE_SAMPLE: sample,
      MUTATE_SEED: seed,
    });
    return JSON.parse(readFileSync(fileName, 'utf8')) as Report;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const NOTICED = ['Killed', 'Timeout'];
const UNNOTICED = ['Survived', 'NoCoverage'];

/** Writes what became of the mutants of a folder. @returns its line of the summary */
function tell(folder: string, { files }: Report): string {
  const mutants = Object.entries(files).flatMap(([path, file]) =>
    file.mutants.map((mutant) => ({ path, lines: file.source.split('\n'), mutant })),
  );
  const count = (statuses: readonly string[]): number =>
    mutants.filter(({ mutant }) => statuses.includes(mutant.status)).length;
  for (const { path, lines, mutant } of mutants) {
    if (!UNNOTICED.includes(mutant.status)) continue;
    const { start, end } = mutant.location;
    const before = lines.slice(start.line - 1, end.line);
    const head = before.at(0)?.slice(0, start.column - 1) ?? '';
    const tail = before.at(-1)?.slice(end.column - 1) ?? '';
    const after = `${head}${mutant.replacement}${tail}`.split('\n');
    console.log(`\n${path}:${start.line}:${start.column} ${mutant.mutatorName} (${mutant.status})`);
    console.log([...before.map((line) => `- ${line}`), ...after.map((line) => `+ ${line}`)].join('\n'));
  }
  const [noticed, unnoticed, broken] = [count(NOTICED), count(UNNOTICED), count(['RuntimeError'])];
  const percent = ((noticed / (noticed + unnoticed)) * 100).toFixed(1);
  return `${folder}: ${noticed} of ${noticed + unnoticed} noticed (${percent} %), ${broken} broke the run`;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    tests: { type: 'string', multiple: true },
  },
});
install();
const summary: string[] = [];
for (const folder of positionals.length > 0 ? positionals : Object.keys(TESTS)) {
  const tests = TESTS[folder];
  if (tests === undefined) throw new Error(`no such folder: ${folder}; there are ${Object.keys(TESTS).join(', ')}`);
  summary.push(tell(folder, await mutate(folder, values.tests ?? tests, values.sample, values.seed)));
}
console.log(`\nSample of ${values.sample} for each folder, seed ${values.seed}`);
console.log(summary.join('\n'));
