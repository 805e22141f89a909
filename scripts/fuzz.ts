/**
 * Looks for images and blobs that the core cannot cope with: that make it throw, plan what is not there, or that cost more
 * processor time, turns, reads or answer than their size allows.
 *
 *     npm run fuzz -- --seconds 60             with another seed every time
 *     npm run fuzz -- --seconds 60 --seed 7    the same again, as far as it comes
 *     npm run fuzz -- FILE …                   what a finding does now
 *
 * Every input is mutated from the images of the tests, goes through the work of every route, and is kept to be mutated
 * further when it reaches code that none before it did. Findings are written to a file each, and end the run with status 1.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { findFault, TARGETS } from './fuzz/targets.ts';
import type { Job, Report } from './fuzz/worker.ts';

const MAX_INPUT_BYTES = 8 * 1024 * 1024;
/** An input that has not come to its end by then never will: processor time, as other programs may have most of it. */
const MAX_INPUT_CPU_MS = 60_000;
/** How often an input has to be found at fault. */
const CONFIRMATIONS = 6;
/** Files for what is about the same. */
const MAX_WRITTEN = 5;
const LOOK_MS = 1000;
const PROGRESS_MS = 10_000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    out: { type: 'string', default: join(tmpdir(), 'bsdsyms-fuzz') },
  },
});
const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
const write = (text: string): unknown => process.stdout.write(`${text}\n`);

/** What is wrong every time; the processor may be another program's now and then. */
async function confirm(target: string, input: Uint8Array): Promise<string | null> {
  let fault: string | null = null;
  for (let time = 0; time < CONFIRMATIONS; time++) {
    fault = await findFault(target, input);
    if (fault === null) break;
  }
  return fault;
}

/** Says what a file does at every target. @returns whether anything is wrong */
async function replay(path: string): Promise<boolean> {
  const bytes = readFileSync(path);
  let isWrong = false;
  for (const target of Object.keys(TARGETS)) {
    const fault = await confirm(target, bytes);
    if (fault === null) continue;
    write(`${path}: ${target}: ${fault}`);
    isWrong = true;
  }
  return isWrong;
}

class Run {
  readonly #endsAt: number;
  readonly #names = Object.keys(TARGETS);
  /** How often, by target and what is wrong, without numbers. */
  readonly #found = new Map<string, number>();
  #inputs = 0;

  constructor(seconds: number) {
    this.#endsAt = Date.now() + seconds * 1000;
  }

  get found(): number {
    return this.#found.size;
  }

  /** Runs until the time is over. A thread that an input holds up is ended, and another one begun. */
  async finish(seed: number): Promise<void> {
    for (let thread = 0; Date.now() < this.#endsAt; thread++) await this.#runThread(seed + thread);
    for (const [key, times] of this.#found) write(`${times} times ${key}`);
    write(`${this.#inputs} inputs, ${this.#found.size} findings`);
  }

  async #look(target: string, input: Uint8Array): Promise<void> {
    const fault = await confirm(target, input);
    if (fault !== null) this.#note(target, fault, input);
  }

  #note(target: string, what: string, input: Uint8Array): void {
    const key = `${target.split(' ', 1)[0]}: ${what.split('\n', 2).join(' ').replaceAll(/\d+/g, 'N')}`;
    const before = this.#found.get(key) ?? 0;
    this.#found.set(key, before + 1);
    if (before >= MAX_WRITTEN) return;
    mkdirSync(values.out, { recursive: true });
    const hash = createHash('sha256').update(input).digest('hex').slice(0, 12);
    const path = join(values.out, `${target.replaceAll(' ', '-')}-${hash}.bin`);
    writeFileSync(path, input);
    write(`FOUND ${target}: ${what}\n  ${input.length} bytes in ${path}`);
  }

  #runThread(seed: number): Promise<void> {
    const state = new Int32Array(new SharedArrayBuffer(12));
    const input = new Uint8Array(new SharedArrayBuffer(MAX_INPUT_BYTES));
    const workerData: Job = { seed, state, input };
    const worker = new Worker(new URL('./fuzz/worker.ts', import.meta.url), { workerData });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let looking = Promise.resolve();
    let [last, cpuAtLast, toldAt] = [-1, cpuMs(), Date.now()];
    const end = (): void => {
      clearInterval(timer);
      this.#inputs += Math.max(0, last);
      void worker
        .terminate()
        .then(() => looking)
        .then(resolve, reject);
    };
    const timer = setInterval(() => {
      const now = cpuMs();
      const done = state[0] ?? 0;
      if (done !== last) [last, cpuAtLast] = [done, now];
      else if (now - cpuAtLast > MAX_INPUT_CPU_MS) {
        this.#note(this.#names[state[2] ?? 0] ?? 'unknown', 'it does not end', input.slice(0, state[1]));
        end();
        return;
      }
      if (Date.now() >= this.#endsAt) end();
    }, LOOK_MS);
    worker.on('message', (message: Report) => {
      if (message.kind === 'suspect') looking = looking.then(() => this.#look(message.target, message.input));
      else if (Date.now() - toldAt > PROGRESS_MS) {
        toldAt = Date.now();
        write(`seed ${seed}: ${message.inputs} inputs, ${message.corpus} kept, ${message.blocks} blocks`);
      }
    });
    worker.on('error', (error) => {
      clearInterval(timer);
      reject(error);
    });
    return promise;
  }
}

if (positionals.length > 0) {
  let isWrong = false;
  for (const path of positionals) isWrong = (await replay(path)) || isWrong;
  if (!isWrong) write('nothing found');
  process.exitCode = isWrong ? 1 : 0;
} else {
  const seconds = Number(values.seconds);
  if (!(seconds > 0)) throw new Error('--seconds: must be a positive number');
  const seed = values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed);
  write(`seed ${seed}, ${seconds} s`);
  const run = new Run(seconds);
  await run.finish(seed);
  process.exitCode = run.found === 0 ? 0 : 1;
}
