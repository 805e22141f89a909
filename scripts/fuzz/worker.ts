/**
 * Mutates and runs in a thread of its own, so that the main thread can end an input that never ends. What is about to run
 * lies in shared memory: the length of the input, and the input.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Coverage } from './coverage.ts';
import { mutate } from './mutate.ts';
import { Random } from './random.ts';

/** What the main thread says at the start. */
export interface Job {
  readonly seed: number;
  /** Numbers: how many inputs were begun, the length of the last one, and what target it is at. */
  readonly state: Int32Array;
  readonly input: Uint8Array;
}

/** What the thread tells. A suspect may be slow only because coverage is counted: the main thread has to see. */
export type Report =
  | { readonly kind: 'suspect'; readonly target: string; readonly input: Uint8Array }
  | { readonly kind: 'progress'; readonly inputs: number; readonly corpus: number; readonly blocks: number };

/** Inputs between two looks at the coverage, which takes as long as several of them. */
const BATCH = 8;
const MAX_CORPUS = 4000;
const REPORT_EVERY = 50;
const port = parentPort;
if (port === null) throw new Error('this is a thread of the fuzzer');
const { seed, state, input } = workerData as Job;
const report = (message: Report): void => port.postMessage(message);

const coverage = new Coverage(new URL('../../src/', import.meta.url).href);
await coverage.start();
// Only what is loaded from now on is counted block by block.
const { TARGETS, findFault } = await import('./targets.ts');
const { makeSeeds } = await import('./seeds.ts');
const names = Object.keys(TARGETS);
/** Targets by the first word of their names. */
const groups = [...Map.groupBy(names, (name) => name.split(' ', 1)[0]).values()];

const random = new Random(seed);

/** Of each group one target, as the others do nearly the same. */
async function run(bytes: Uint8Array): Promise<void> {
  input.set(bytes);
  state[1] = bytes.length;
  for (const group of groups) {
    const target = random.pick(group);
    state[2] = names.indexOf(target);
    if ((await findFault(target, bytes)) !== null) report({ kind: 'suspect', target, input: bytes });
  }
  state[0] = (state[0] ?? 0) + 1;
}

const corpus = await makeSeeds();
for (const bytes of corpus) await run(bytes);
await coverage.takeNew();

for (let inputs = 0; ; inputs += BATCH) {
  const batch: Uint8Array[] = [];
  for (let index = 0; index < BATCH; index++) {
    const bytes = mutate(random, random.pick(corpus), corpus);
    if (bytes.length > input.length) continue;
    batch.push(bytes);
    await run(bytes);
  }
  if ((await coverage.takeNew()) > 0) corpus.push(...batch);
  // The seeds stay.
  if (corpus.length > MAX_CORPUS) corpus.splice(MAX_CORPUS / 2, corpus.length - MAX_CORPUS);
  if (inputs % REPORT_EVERY < BATCH) {
    report({ kind: 'progress', inputs, corpus: corpus.length, blocks: coverage.size });
  }
}
