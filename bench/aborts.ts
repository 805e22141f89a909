/**
 * Uploads that are broken off: of every kind, at any moment, held in memory and spooled, in rounds.
 *
 *   npm run soak:aborts [-- --rounds 10] [--uploads 2000]
 *
 * After each round everything must have come back: slots, budgets, spool files, descriptors. Ends with status 1 when
 * something has not, when memory grew from round to round, or when the service does not take an upload any more.
 */
import { randomInt } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { abortedUploads, abortUploads } from '../test/support/aborted-uploads.ts';
import { rawRequest, timeRequest } from './client.ts';
import { makeKernel } from './image.ts';
import { startServer } from './process.ts';

const MiB = 1024 * 1024;
const AT_ONCE = 12;
/** Memory of the first rounds is that of what is loaded and compiled on first use. */
const WARM_UP_ROUNDS = 2;
const MAX_GROWTH_MIB = 24;
/** How long it may take until everything has come back. */
const SETTLE_MS = 20_000;
const POLL_MS = 50;
/** Memory for images goes back to the system five seconds after the last of them. */
const IDLE_MS = 6000;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '10' }, uploads: { type: 'string', default: '2000' } },
});
const rounds = Number(values.rounds);
const uploadsPerRound = Number(values.uploads);
if (!(rounds > 0) || !(uploadsPerRound > 0)) throw new Error('--rounds and --uploads: must be positive numbers');

const spoolDir = await mkdtemp(join(tmpdir(), 'bsdsyms-aborts-'));
const server = await startServer('bsdsyms', {
  BSDSYMS_SPOOL_DIR: spoolDir,
  BSDSYMS_MEMORY_BUDGET_BYTES: String(96 * MiB),
  BSDSYMS_MAX_UPLOADS: '8',
  BSDSYMS_MAX_QUEUED_UPLOADS: '4',
  LOG_LEVEL: 'warn',
});

const GAUGES = [
  'bsdsyms_uploads_in_flight',
  'bsdsyms_uploads_queued',
  'bsdsyms_memory_budget_used_bytes',
  'bsdsyms_spool_budget_used_bytes',
];

const readMetrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();

/** What the service has made of the uploads so far, by status. */
async function readStatuses(): Promise<string> {
  const counts = new Map<string, number>();
  const series = /^bsdsyms_http_requests_total\{.*method="POST",status="(\d+)"\} (\d+)$/gm;
  for (const [, status = '', count] of (await readMetrics()).matchAll(series)) {
    counts.set(status, (counts.get(status) ?? 0) + Number(count));
  }
  const sorted = [...counts].toSorted(([one], [other]) => one.localeCompare(other));
  return sorted.map(([status, count]) => `${count} times ${status}`).join(', ');
}

/** The gauges that are not 0. */
async function readOccupied(): Promise<string[]> {
  const text = await readMetrics();
  return GAUGES.flatMap((name) => {
    const value = new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 'missing';
    return value === '0' ? [] : [`${name} is ${value}`];
  });
}

interface Descriptors {
  readonly open: number;
  readonly spoolFiles: number;
}

function readDescriptors(): Descriptors {
  const folder = `/proc/${server.pid}/fd`;
  const targets = readdirSync(folder).map((name) => {
    try {
      return readlinkSync(join(folder, name));
    } catch {
      return '';
    }
  });
  const spoolFiles = targets.filter((target) => target.startsWith(spoolDir)).length;
  return { open: targets.length, spoolFiles };
}

/** Waits until everything has come back. @returns what has not */
async function settle(openBefore: number): Promise<string[]> {
  let left: string[] = [];
  for (let waited = 0; waited < SETTLE_MS; waited += POLL_MS) {
    const { open, spoolFiles } = readDescriptors();
    left = await readOccupied();
    if (spoolFiles > 0) left.push(`${spoolFiles} spool files are open`);
    // One connection for the metrics.
    if (open > openBefore + 1) left.push(`${open - openBefore} more descriptors are open`);
    if (left.length === 0) break;
    await sleep(POLL_MS);
  }
  const named = readdirSync(spoolDir).length;
  return named > 0 ? [...left, `${named} spool files have a name`] : left;
}

const write = (text: string): unknown => process.stdout.write(`${text}\n`);
const kernel = makeKernel(4 * MiB, 20_000);
// In another order each time, so that other kinds meet.
const uploads = abortedUploads(kernel).toSorted(() => randomInt(3) - 1);
const failures: string[] = [];
const memory: number[] = [];
await timeRequest(server.port, rawRequest(kernel));
const { open: openBefore } = readDescriptors();
write(`${uploadsPerRound} uploads of ${uploads.length} kinds a round; ${openBefore} descriptors before`);
for (let round = 1; round <= rounds; round++) {
  const started = performance.now();
  await abortUploads(server.port, uploads, uploadsPerRound, AT_ONCE);
  const seconds = (performance.now() - started) / 1000;
  const left = await settle(openBefore);
  await timeRequest(server.port, rawRequest(kernel));
  await sleep(IDLE_MS);
  memory.push(await server.memory(true));
  const { open } = readDescriptors();
  write(
    `round ${round}: ${seconds.toFixed(1)} s, ${memory.at(-1)?.toFixed(0)} MiB resident, ${open} descriptors, ` +
      (left.length === 0 ? 'nothing left' : left.join(', ')),
  );
  failures.push(...left.map((what) => `round ${round}: ${what}`));
}
const statuses = await readStatuses();
await server.stop();
await rm(spoolDir, { recursive: true, force: true });

write(`requests: ${statuses}`);
const settled = memory.slice(Math.min(WARM_UP_ROUNDS, memory.length - 1));
const growth = (settled.at(-1) ?? 0) - Math.min(...settled);
if (growth > MAX_GROWTH_MIB) failures.push(`memory grew by ${growth.toFixed(0)} MiB`);
write(failures.length === 0 ? 'passed' : `FAILED:\n  ${failures.join('\n  ')}`);
if (failures.length > 0) process.exitCode = 1;
