/**
 * Restarts and kills parts of the service under load, and tells what clients saw of it: `npm run test:failover`.
 *
 * `-- --seconds 60` sets how long each scenario takes (30), `-- haproxy nginx workers` which of them run (all).
 * Needs haproxy and nginx. Everything listens on the loopback only.
 */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request as sendRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { kernel } from '../test/support/elf-builder.ts';
import { ServiceProcess } from '../test/support/process.ts';
import { BALANCERS, type Balancer, COMMITTED_PORTS, freePort, startBalancer } from './balancers.ts';

const CLIENTS = 32;
const REQUEST_TIMEOUT_MS = 20_000;
const START_TIMEOUT_MS = 20_000;
/** A client that is told to wait longer does not: the more it asks, the more it would see. */
const MAX_WAIT_MS = 1000;
const MAX_RETRIES = 60;
/** The balancers notice within this time that an instance stops. */
const SHUTDOWN_DELAY_MS = 3000;

const { values, positionals } = parseArgs({
  options: { seconds: { type: 'string', default: '30' } },
  allowPositionals: true,
});
const seconds = Number(values.seconds);
if (!(seconds >= 8 && seconds <= 3600)) throw new Error('--seconds: must be a number from 8 to 3600');

interface Sample {
  readonly body: Uint8Array;
  readonly digest: string;
}

interface Failure {
  readonly client: number;
  readonly startedAt: number;
  /** Whether the connection was gone, and not an answer wrong. */
  readonly gone: boolean;
  readonly what: string;
}

interface Tally {
  ok: number;
  retried: number;
  /** How often an instance or the balancer answered 503, by the code of the problem. */
  readonly refusals: Map<string, number>;
  readonly failures: Failure[];
}

interface Answer {
  readonly status: number;
  readonly retryAfter: number;
  readonly body: Buffer;
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Kernels that fit into a balancer's buffer, that do not, and that take several reads. */
const IMAGES = [50, 8000, 60_000].map((symbols) => kernel({ symbols }).bytes);

function post(port: number, body: Uint8Array, agent: Agent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/octet-stream', 'content-length': body.length };
    const outgoing = sendRequest({ host: '127.0.0.1', port, method: 'POST', path: '/bsdsyms', agent, headers });
    outgoing.setTimeout(REQUEST_TIMEOUT_MS, () => outgoing.destroy(new Error('no answer in time')));
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.once('error', reject);
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          retryAfter: Number(response.headers['retry-after'] ?? Number.NaN),
          body: Buffer.concat(pieces),
        }),
      );
    });
    outgoing.end(body);
  });
}

/** Sends images until the time is over; every answer has to be the blob, or a 503 that says when to come again. */
async function runClient(port: number, samples: readonly Sample[], first: number, until: number, tally: Tally) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    for (let turn = first; performance.now() < until; turn++) {
      const sample = samples[turn % samples.length];
      if (sample !== undefined) await upload(port, sample, agent, first, tally);
    }
  } finally {
    agent.destroy();
  }
}

async function upload(port: number, sample: Sample, agent: Agent, client: number, tally: Tally): Promise<void> {
  const fail = (startedAt: number, gone: boolean, what: string): void => {
    tally.failures.push({ client, startedAt, gone, what });
  };
  for (let attempt = 0; attempt <= MAX_RETRIES; attempt++) {
    const startedAt = performance.now();
    try {
      const { status, retryAfter, body } = await post(port, sample.body, agent);
      if (status === 200 && digest(body) === sample.digest) {
        tally.ok += 1;
        if (attempt > 0) tally.retried += 1;
        return;
      }
      if (status !== 503 || !(retryAfter > 0)) {
        const text = body.subarray(0, 200).toString();
        fail(startedAt, false, status === 200 ? 'another blob' : `${status} ${text}`);
        return;
      }
      const code = /"code":"([a-z-]+)"/.exec(body.toString())?.[1] ?? 'no code';
      tally.refusals.set(code, (tally.refusals.get(code) ?? 0) + 1);
      await sleep(Math.min(retryAfter * 1000, MAX_WAIT_MS));
    } catch (error) {
      fail(startedAt, true, error instanceof Error ? error.message : String(error));
      return;
    }
  }
  fail(performance.now(), false, `503 for ${MAX_RETRIES} times`);
}

/** Runs all clients, with something happening midway. */
async function load(port: number, midway: (startedAt: number) => Promise<void>): Promise<Tally> {
  const agent = new Agent();
  const samples = await Promise.all(
    IMAGES.map(async (body): Promise<Sample> => {
      const answer = await post(port, body, agent);
      if (answer.status !== 200) throw new Error(`the first upload got ${answer.status}: ${answer.body.toString()}`);
      return { body, digest: digest(answer.body) };
    }),
  );
  const tally: Tally = { ok: 0, retried: 0, refusals: new Map(), failures: [] };
  const startedAt = performance.now();
  const until = startedAt + seconds * 1000;
  const clients = Array.from({ length: CLIENTS }, (_, first) => runClient(port, samples, first, until, tally));
  await Promise.all([...clients, midway(startedAt)]);
  return tally;
}

function report(name: string, { ok, retried, refusals, failures }: Tally, notes: readonly string[]): void {
  const codes = [...refusals].map(([code, count]) => `${count} ${code}`).join(', ');
  process.stdout.write(
    `${name}: ${ok} uploads in ${seconds} s by ${CLIENTS} clients, ${retried} of them after a 503 (${codes || 'none'}), ` +
      `${failures.length} failed\n`,
  );
  for (const note of notes) process.stdout.write(`  ${note}\n`);
  for (const { what } of failures.slice(0, 5)) process.stdout.write(`  failed: ${what}\n`);
}

const startInstance = async (port: number): Promise<ServiceProcess> => {
  const instance = new ServiceProcess({
    PORT: String(port),
    LOG_LEVEL: 'info',
    BSDSYMS_SHUTDOWN_DELAY_MS: String(SHUTDOWN_DELAY_MS),
  });
  await inTime(instance.listening(), 'the service');
  return instance;
};

async function inTime<T>(promise: Promise<T>, what: string): Promise<T> {
  const timer = new AbortController();
  const late = sleep(START_TIMEOUT_MS, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what} did not start in time`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

/** One of two instances is told to stop, and started again. @returns whether it was as it should be */
async function restartBehind(balancer: Balancer): Promise<boolean> {
  const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-failover-'));
  const ports = await Promise.all(COMMITTED_PORTS.map(() => freePort()));
  const [front = 0, one = 0, two = 0] = ports;
  const instances = new Set<ServiceProcess>();
  let child: ChildProcess | undefined;
  try {
    const stopped = await startInstance(one);
    instances.add(stopped).add(await startInstance(two));
    child = await startBalancer(balancer, ports, directory);
    const notes: string[] = [];
    let exitedWell = false;
    const tally = await load(front, async (startedAt) => {
      await sleep(seconds * 250);
      stopped.kill('SIGTERM');
      const { code, signal } = await stopped.exited;
      exitedWell = code === 0;
      const again = await startInstance(one);
      instances.add(again);
      const backAt = (performance.now() - startedAt) / 1000;
      notes.push(
        `stopped at ${seconds / 4} s with ${signal ?? `status ${code}`}, back at ${backAt.toFixed(1)} s; ` +
          `it had answered ${countUploads(stopped)} uploads`,
      );
    });
    const [, , again] = [...instances];
    if (again !== undefined) notes.push(`started again it answered ${countUploads(again)}`);
    report(balancer.name, tally, notes);
    return tally.failures.length === 0 && tally.ok > 0 && exitedWell;
  } finally {
    if (child !== undefined && child.exitCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await Promise.all([...instances].map((instance) => instance.end()));
    rmSync(directory, { recursive: true, force: true });
  }
}

const countUploads = (instance: ServiceProcess): number =>
  instance.logs({ msg: 'request', route: '/bsdsyms', status: 200 }).length;

/** One of two workers is killed. Only what it had under way may fail, and what was sent over a connection that died with it. */
async function killWorker(): Promise<boolean> {
  const service = new ServiceProcess({ BSDSYMS_WORKERS: '2' });
  try {
    const { port, pids } = await inTime(service.listening(2), 'the service');
    /** When the supervisor has seen that the worker is gone; until then it may hand connections to it. */
    let seenAt = Number.POSITIVE_INFINITY;
    const notes: string[] = [];
    const tally = await load(port, async () => {
      await sleep(seconds * 250);
      const [victim] = pids;
      if (victim === undefined) throw new Error('there is no worker');
      const killedAt = performance.now();
      process.kill(victim, 'SIGKILL');
      await inTime(service.message('a worker died; it is replaced'), 'the pause before another worker');
      seenAt = performance.now();
      await inTime(service.listening(3), 'another worker');
      notes.push(`worker killed at ${seconds / 4} s, replaced after ${Math.round(performance.now() - killedAt)} ms`);
    });
    const seen = new Set<number>();
    const excused = tally.failures.filter(({ client, startedAt, gone }) => {
      const isFirst = !seen.has(client);
      seen.add(client);
      return gone && (startedAt <= seenAt || isFirst);
    });
    const others = tally.failures.filter((failure) => !excused.includes(failure));
    notes.push(`${excused.length} requests failed with it (${new Set(excused.map(({ what }) => what)).size} kinds)`);
    report('workers', { ...tally, failures: others }, notes);
    // A client has one request at a time, so more than that cannot have been under way.
    return others.length === 0 && excused.length <= CLIENTS && tally.ok > 0;
  } finally {
    await service.end();
  }
}

const SCENARIOS: Readonly<Record<string, () => Promise<boolean>>> = {
  ...Object.fromEntries(BALANCERS.map((balancer) => [balancer.name, () => restartBehind(balancer)])),
  workers: killWorker,
};

for (const name of positionals.length > 0 ? positionals : Object.keys(SCENARIOS)) {
  const scenario = SCENARIOS[name];
  if (scenario === undefined)
    throw new Error(`there is no scenario ${name}; there are ${Object.keys(SCENARIOS).join(', ')}`);
  if (!(await scenario())) {
    process.stdout.write(`${name}: FAILED\n`);
    process.exitCode = 1;
  }
}
