/**
 * How long `bsdsyms blob FILE` takes, against a program that also finds the symbols of an image, and how much it reads.
 *
 *     npm run bench:command                    an image of 590 MB made up here, with 119,000 symbols
 *     npm run bench:command -- VMLINUX [RUNS]
 *
 * Wants the compiled command (npm run build) and readelf. Both take turns on a file that is in the page cache, their output
 * going to /dev/null. Prints the medians, and the same figures as one line of JSON.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SUBCOMMANDS } from '../src/cli/subcommands.ts';
import { DEFAULTS } from '../src/config.ts';
import { FileSource } from '../src/image/file.ts';
import { KeptSource } from '../src/image/kept.ts';
import { makeKernel } from './image.ts';

const MAX_RATIO = 2;
const MAX_READ_BYTES = 8_000_000;
const DEFAULT_RUNS = 15;
/** About what a Linux kernel with debug information has. */
const VMLINUX = { imageSize: 590_000_000, symbols: 119_000 };

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url));

const PROGRAMS = {
  readelf: ['readelf', '-sW'],
  bsdsyms: [process.execPath, CLI, 'blob'],
  /** What no program of Node.js can take less than. */
  node: [process.execPath, '-e', '0', '--'],
} as const;
type Program = keyof typeof PROGRAMS;
const NAMES = Object.keys(PROGRAMS) as Program[];

/** @returns milliseconds */
function timed(program: Program, path: string): number {
  const [command, ...args] = PROGRAMS[program];
  const started = performance.now();
  const { status, error } = spawnSync(command, [...args, path], { stdio: 'ignore' });
  const elapsed = performance.now() - started;
  if (status !== 0) throw new Error(`${command} ended with ${status ?? error?.message}`);
  return elapsed;
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

class CountingFile extends FileSource {
  bytesRead = 0;

  override read(offset: number, length: number): Promise<Uint8Array> {
    this.bytesRead += length;
    return super.read(offset, length);
  }
}

/** What `blob` reads of the file, told by the source that it reads from. */
async function countReads(path: string): Promise<number> {
  const file = await open(path);
  const counting = new CountingFile(file, (await file.stat()).size);
  const source = new KeptSource(counting);
  const parameters = { get: () => undefined, getAll: () => [] };
  const run = { source, compression: null, parameters, limits: DEFAULTS, format: 'bytes' } as const;
  const result = await SUBCOMMANDS['blob']?.run(run);
  if (result?.ok !== true) throw new Error(`${path} has no blob`);
  let blobBytes = 0;
  for await (const piece of result.output) blobBytes += piece.length;
  await source.close();
  if (counting.bytesRead < blobBytes / 2) throw new Error('some reads were not counted');
  return counting.bytesRead;
}

const { positionals } = parseArgs({ allowPositionals: true });
if (!existsSync(CLI)) throw new Error('there is no dist/cli.js: npm run build');
const scratch = await mkdtemp(join(tmpdir(), 'bsdsyms-bench-'));
try {
  const [path = await makeFile(scratch), runs = String(DEFAULT_RUNS)] = positionals;
  const times: Record<Program, number[]> = { readelf: [], bsdsyms: [], node: [] };
  // The first turn warms the caches up.
  for (let turn = 0; turn <= Number(runs); turn++) {
    for (const name of NAMES) {
      const time = timed(name, path);
      if (turn > 0) times[name].push(time);
    }
  }
  const bytesRead = await countReads(path);
  const [readelfMs, bsdsymsMs, nodeMs] = [median(times.readelf), median(times.bsdsyms), median(times.node)];
  const ratio = bsdsymsMs / readelfMs;
  const met = ratio <= MAX_RATIO && bytesRead < MAX_READ_BYTES;
  const lines = [
    `${basename(path)}, medians of ${runs} runs`,
    `  readelf -sW     ${readelfMs.toFixed(1)} ms`,
    `  bsdsyms blob    ${bsdsymsMs.toFixed(1)} ms, of which Node.js itself ${nodeMs.toFixed(1)} ms`,
    `  ratio           ${ratio.toFixed(2)} (target: at most ${MAX_RATIO})`,
    `  bytes read      ${bytesRead} (target: below ${MAX_READ_BYTES})`,
    `targets ${met ? 'met' : 'MISSED'}`,
    JSON.stringify({ node: process.version, readelfMs, bsdsymsMs, nodeMs, ratio, bytesRead, met }),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
} finally {
  await rm(scratch, { recursive: true });
}

async function makeFile(directory: string): Promise<string> {
  const path = join(directory, 'made up, 590 MB');
  const file = await open(path, 'w');
  await file.writeFile(makeKernel(VMLINUX.imageSize, VMLINUX.symbols));
  await file.close();
  return path;
}
