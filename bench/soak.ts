/**
 * Mixed uploads for as long as is wanted: good, broken, compressed, aborted and slow ones, held in memory and spooled.
 *
 *   npm run soak [-- --minutes 10] [--plot docs/soak.svg] [--json FILE]
 *
 * Samples memory and open files of the service, and at the end holds its metrics against what the clients counted.
 * Ends with status 1 when there was a 5xx other than 503, when the counts differ, when something stayed open, or when
 * memory grew.
 */
import { randomInt } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, request as sendRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { makeKernel } from './image.ts';
import { drawPlot } from './plot.ts';
import { startServer } from './process.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const CLIENTS = 12;
const SAMPLE_MS = 1000;
/** Part of the run that is left out of the verdict: what is loaded and compiled on first use, and the first large images. */
const WARM_UP = 0.2;
const MAX_GROWTH = 1.1;
const STALL_MS = 2000;

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '10' }, plot: { type: 'string' }, json: { type: 'string' } },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) throw new Error('--minutes: must be a positive number');

const spoolDir = await mkdtemp(join(tmpdir(), 'bsdsyms-soak-'));
const server = await startServer('bsdsyms', {
  BSDSYMS_SPOOL_DIR: spoolDir,
  BSDSYMS_MEMORY_BUDGET_BYTES: String(128 * MiB),
  BSDSYMS_MAX_UPLOADS: '8',
  BSDSYMS_MAX_QUEUED_UPLOADS: '4',
  BSDSYMS_STALL_TIMEOUT_MS: String(STALL_MS),
  LOG_LEVEL: 'warn',
});

interface Upload {
  readonly path: string;
  readonly body: Buffer;
  /** The connection is cut after this many bytes; null to send them all. */
  readonly cutAfter: number | null;
  /** Bytes are sent one by one, and then no more. */
  readonly slow: boolean;
}

const small = makeKernel(4 * KiB, 60);
const middle = makeKernel(2 * MiB, 3000);
const large = makeKernel(48 * MiB, 119_000);
/** What is sent, by name and how often. Broken ones are broken in ways that are found at different stages. */
const MIX: readonly (readonly [weight: number, name: string, upload: () => Upload])[] = [
  [30, 'small', () => whole('/bsdsyms', small)],
  [20, 'middle', () => whole('/bsdsyms', middle)],
  [8, 'large', () => whole('/bsdsyms', large)],
  [6, 'gzip', () => whole('/layout', gzipped)],
  [6, 'zstd', () => whole('/image?symbols=always', zstd)],
  [6, 'kernel', () => whole('/kernel', middle)],
  [5, 'text', () => whole('/bsdsyms', Buffer.from('#!/bin/sh\necho no kernel\n'))],
  [5, 'truncated', () => whole('/bsdsyms', middle.subarray(0, randomInt(middle.length)))],
  [3, 'damaged gzip', () => whole('/bsdsyms', gzipped.subarray(0, gzipped.length / 2))],
  [3, 'parameter', () => whole('/layout?loadAddress=x', small)],
  [8, 'aborted', () => ({ ...whole('/bsdsyms', large), cutAfter: randomInt(large.length) })],
  [1, 'slow', () => ({ ...whole('/bsdsyms', small), slow: true })],
];
const gzipped = gzipSync(middle, { level: 1 });
const zstd = zstdCompressSync(middle);
const totalWeight = MIX.reduce((sum, [weight]) => sum + weight, 0);

function whole(path: string, body: Buffer): Upload {
  return { path, body, cutAfter: null, slow: false };
}

function pick(): readonly [string, Upload] {
  let at = randomInt(totalWeight);
  for (const [weight, name, upload] of MIX) {
    at -= weight;
    if (at < 0) return [name, upload()];
  }
  throw new Error('the weights do not add up');
}

/** @returns the status, or null when this client went away without one */
function send({ path, body, cutAfter, slow }: Upload, agent: Agent): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-length': body.length };
    const outgoing = sendRequest({ host: '127.0.0.1', port: server.port, method: 'POST', path, agent, headers });
    let cut = false;
    outgoing.once('error', (error) => (cut ? resolve(null) : reject(error)));
    outgoing.once('response', (response) => {
      response.resume();
      response.once('error', reject);
      response.once('end', () => resolve(response.statusCode ?? 0));
    });
    if (slow) {
      outgoing.write(body.subarray(0, 1));
    } else if (cutAfter === null) {
      outgoing.end(body);
    } else {
      outgoing.write(body.subarray(0, cutAfter), () => {
        cut = true;
        outgoing.destroy();
        // Whether or not anything was under way.
        resolve(null);
      });
    }
  });
}

/** What the clients saw: by name and status. */
const seen = new Map<string, number>();
const failures: string[] = [];

async function runClient(until: number): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  while (performance.now() < until) {
    const [name, upload] = pick();
    try {
      const status = await send(upload, agent);
      const key = `${name} ${status ?? 'gone'}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
      if (status !== null && status >= 500 && status !== 503) failures.push(key);
      if (status === 503) await sleep(200);
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  agent.destroy();
}

interface Sample {
  readonly minute: number;
  readonly memoryMiB: number;
  readonly openFiles: number;
}
const samples: Sample[] = [];
const countOpen = (): number => readdirSync(`/proc/${server.pid}/fd`).length;

async function takeSamples(started: number, until: number): Promise<void> {
  while (performance.now() < until) {
    const minute = (performance.now() - started) / 60_000;
    samples.push({ minute, memoryMiB: await server.memory(), openFiles: countOpen() });
    await sleep(SAMPLE_MS);
  }
}

/** Requests by status, as the service counted them. */
async function countedByService(): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  const counts = new Map<string, number>();
  for (const [, labels = '', value] of text.matchAll(/^bsdsyms_http_requests_total\{(.*)\} (\d+)$/gm)) {
    if (!labels.includes('method="POST"')) continue;
    const status = /status="(\d+)"/.exec(labels)?.[1] ?? '';
    counts.set(status, (counts.get(status) ?? 0) + Number(value));
  }
  return counts;
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

const openBefore = countOpen();
const started = performance.now();
const until = started + minutes * 60_000;
await Promise.all([...Array.from({ length: CLIENTS }, () => runClient(until)), takeSamples(started, until)]);
// What was cut off last is noticed and given back.
await sleep(STALL_MS);
const counted = await countedByService();
await sleep(SAMPLE_MS);
const openAfter = countOpen();
const spooled = readdirSync(spoolDir).length;
await server.stop();
await rm(spoolDir, { recursive: true, force: true });

const byStatus = new Map<string, number>();
for (const [key, count] of seen) {
  const status = key.slice(key.lastIndexOf(' ') + 1);
  if (status !== 'gone') byStatus.set(status, (byStatus.get(status) ?? 0) + count);
}
const gone = [...seen].reduce((sum, [key, count]) => (key.endsWith(' gone') ? sum + count : sum), 0);
for (const [status, count] of byStatus) {
  const own = counted.get(status) ?? 0;
  // Those that went away may have been answered just before.
  if (own < count || own > count + gone)
    failures.push(`status ${status}: the clients saw ${count}, the service counted ${own}`);
}
const settled = samples.slice(Math.floor(samples.length * WARM_UP));
const third = Math.floor(settled.length / 3);
const early = median(settled.slice(0, third).map(({ memoryMiB }) => memoryMiB));
const late = median(settled.slice(-third).map(({ memoryMiB }) => memoryMiB));
if (late > early * MAX_GROWTH) failures.push(`memory grew from ${early.toFixed(0)} to ${late.toFixed(0)} MiB`);
if (openAfter > openBefore + 1) failures.push(`${openAfter - openBefore} more open files than before`);
if (spooled > 0) failures.push(`${spooled} spool files were left behind`);

const write = (text: string): unknown => process.stdout.write(`${text}\n`);
write(`${minutes} minutes, ${CLIENTS} clients:`);
for (const key of [...seen.keys()].toSorted((a, b) => a.localeCompare(b))) write(`  ${key}: ${seen.get(key)}`);
write(`memory: median ${early.toFixed(0)} MiB in the first third after warm-up, ${late.toFixed(0)} MiB in the last`);
write(`open files: ${openBefore} before, ${openAfter} after, at most ${Math.max(...samples.map((s) => s.openFiles))}`);
write(failures.length === 0 ? 'passed' : `FAILED:\n  ${[...new Set(failures)].slice(0, 10).join('\n  ')}`);
if (failures.length > 0) process.exitCode = 1;
if (values.plot !== undefined) {
  const line = (name: string, unit: string, of: (sample: Sample) => number) => ({
    name,
    unit,
    points: samples.map((sample) => [sample.minute, of(sample)] as const),
  });
  const lines = [
    line('memory (resident)', 'MiB', ({ memoryMiB }) => memoryMiB),
    line('open files', '', ({ openFiles }) => openFiles),
  ];
  await writeFile(values.plot, drawPlot(lines, 'minutes'));
}
if (values.json !== undefined) {
  await writeFile(values.json, `${JSON.stringify({ seen: Object.fromEntries(seen), samples, failures }, null, 2)}\n`);
}
