/** Several workers behind one port: that they serve as one, survive each other, and stop together. */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { post, problem, send, verdict } from '../support/http.ts';
import { LONG_MS, PATIENCE_MS, SOON } from '../support/patience.ts';
import { isAlive, isListening, Processes, type ServiceProcess } from '../support/process.ts';
import { Exposition, scrape } from '../support/prometheus.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import type { LogLine } from '../support/service.ts';
import { finishAll, SlowUpload } from '../support/slow-upload.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const image = kernel().bytes;
/** Enough for what is finished at once; when something keeps a worker, it ends with this and a status of its own. */
const GRACE_MS = String(PATIENCE_MS);
/** So that every request is handed to the next worker. */
const ONCE = { connection: 'close' };
/** What a message to another process may take. */
const UNDER_WAY_MS = 200;
const DIED = 'a worker died; it is replaced';

const directory = new TemporaryDirectory();
afterAll(() => directory.remove());

interface Cluster {
  readonly child: ServiceProcess;
  readonly port: number;
  readonly pids: readonly number[];
}

async function start(processes: Processes, env: Readonly<Record<string, string>> = {}): Promise<Cluster> {
  const child = processes.start({ BSDSYMS_WORKERS: '2', ...env });
  return { child, ...(await child.listening(2)) };
}

/** One for each of two workers: they are handed connections in turn. */
const beginTwo = async (cluster: Cluster): Promise<SlowUpload[]> => [
  await SlowUpload.begin(cluster),
  await SlowUpload.begin(cluster),
];

/** How two workers and their uploads end. */
async function endOf(child: ServiceProcess, uploads: readonly SlowUpload[]): Promise<unknown> {
  await child.logged(isShuttingDown, 2);
  const answered = await finishAll(uploads);
  const exit = await child.exited;
  return { answered, exit, stopped: child.logs({ msg: 'stopped' }).length, errors: child.logs({ level: 50 }) };
}
const ORDERLY = { answered: [200, 200], exit: { code: 0, signal: null }, stopped: 2, errors: [] };

/** So many uploads at once, and so many that wait for as long as a test may take. */
const queueing = (uploads: number, queued: number): Record<string, string> => ({
  BSDSYMS_MAX_UPLOADS: String(uploads),
  BSDSYMS_MAX_QUEUED_UPLOADS: String(queued),
  BSDSYMS_QUEUE_TIMEOUT_MS: '200000',
});

const queuedIn = (cluster: Cluster) => async (): Promise<number> =>
  (await scrape(cluster)).sum('bsdsyms_uploads_queued');

const workersOf = (lines: readonly LogLine[]): Set<unknown> => new Set(lines.map(({ pid }) => pid));
const isShuttingDown = ({ msg }: LogLine): boolean => msg === 'shutting down';

/** In this order: each test goes on with the processes of the one before. */
describe('the life of two workers', () => {
  const processes = new Processes();
  let cluster: Cluster;
  /** Those that serve at the time. */
  let [first, second] = [0, 0];
  beforeAll(async () => {
    cluster = await start(processes, {
      BSDSYMS_MAX_IMAGE_BYTES: '50000',
      BSDSYMS_MEMORY_BUDGET_BYTES: '10001',
      BSDSYMS_SPOOL_BUDGET_BYTES: '100001',
      BSDSYMS_MAX_UPLOADS: '2',
      BSDSYMS_MAX_QUEUED_UPLOADS: '0',
      BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS,
    });
    [first = 0, second = 0] = cluster.pids;
  });
  afterAll(() => processes.endAll());

  test('both serve on one port, and their metrics are one', async () => {
    const { child } = cluster;
    expect(new Set([first, second, child.pid]).size).toBe(3);
    for (let round = 0; round < 6; round++) {
      expect((await post(cluster, '/bsdsyms', image, ONCE)).status).toBe(200);
      expect((await post(cluster, '/bsdsyms', 'no ELF', ONCE)).status).toBe(422);
      expect((await send(cluster, '/nowhere', { headers: ONCE })).status).toBe(404);
    }
    const lines = await child.logged(({ msg, route }) => msg === 'request' && route === '/bsdsyms', 12);
    expect(workersOf(lines)).toEqual(new Set([first, second]));

    await expect
      .poll(async () => (await scrape(cluster)).counts('bsdsyms_http_requests_total'), SOON)
      .toMatchObject({ '/bsdsyms POST 200': 6, '/bsdsyms POST 422': 6, 'none GET 404': 6 });
    const text = await scrape(cluster);
    expect(text.counts('bsdsyms_broken_images_total')).toEqual({ 'not-elf init': 6 });
    expect(text.sum('bsdsyms_image_bytes_count')).toBe(12);
    expect(text.sum('bsdsyms_image_bytes_sum')).toBe(6 * (image.length + 'no ELF'.length));
    // The limits are those of the whole, but for what does not divide.
    expect(text.sum('bsdsyms_memory_budget_limit_bytes')).toBe(10_000);
    expect(text.sum('bsdsyms_spool_budget_limit_bytes')).toBe(100_000);
  });

  test('the slots for uploads are shared, and counted together', async () => {
    const uploads = await beginTwo(cluster);
    const inFlight = async (): Promise<number> => (await scrape(cluster)).sum('bsdsyms_uploads_in_flight');
    await expect.poll(inFlight, SOON).toBe(2);
    for (let worker = 0; worker < 2; worker++) {
      expect((await post(cluster, '/bsdsyms', image, ONCE)).status).toBe(503);
    }
    expect(await finishAll(uploads)).toEqual([200, 200]);
    await expect.poll(inFlight, SOON).toBe(0);
  });

  test('one that is killed takes only its own upload with it, and is replaced', async () => {
    const { child } = cluster;
    const uploads = await beginTwo(cluster);
    const before = (await scrape(cluster)).counts('bsdsyms_http_requests_total');
    process.kill(first, 'SIGKILL');
    const [died] = await child.message(DIED);
    expect(died).toMatchObject({ level: 50, pid: child.pid, worker: first, signal: 'SIGKILL', code: null });
    expect((await finishAll(uploads)).map(String).sort()).toEqual(['200', 'cut off']);
    // The other one serves on meanwhile.
    for (let sent = 0; sent < 5; sent++) expect((await send(cluster, '/readyz', { headers: ONCE })).status).toBe(200);

    first = (await child.listening(3)).pids.at(-1) ?? 0;
    for (let sent = 0; sent < 6; sent++) expect((await post(cluster, '/layout', image, ONCE)).status).toBe(200);
    const lines = await child.logged(({ msg, route }) => msg === 'request' && route === '/layout', 6);
    expect(workersOf(lines)).toEqual(new Set([first, second]));
    // What the dead one had counted stays: a sum that goes back would look like new requests.
    await expect
      .poll(async () => (await scrape(cluster)).counts('bsdsyms_http_requests_total'), SOON)
      .toMatchObject({ '/layout POST 200': 6, 'none GET 404': before['none GET 404'] });
  });

  test('the next one that dies is replaced, too, after a pause', async () => {
    const { child } = cluster;
    process.kill(second, 'SIGKILL');
    second = (await child.listening(4)).pids.at(-1) ?? 0;
    const delays = child.logs({ msg: DIED }).map(({ delayMs }) => Number(delayMs));
    expect(delays).toHaveLength(2);
    expect(Math.min(...delays)).toBeGreaterThan(0);
  });

  test('both stop with SIGTERM, once they have answered what they accepted', async () => {
    const { child } = cluster;
    const uploads = await beginTwo(cluster);
    child.kill('SIGTERM');
    await child.logged(isShuttingDown, 2);
    expect(await finishAll(uploads)).toEqual([200, 200]);
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(workersOf(child.logs({ msg: 'stopped' }))).toEqual(new Set([first, second]));
    expect(child.logs({ level: 50 }).map(({ msg }) => msg)).toEqual([DIED, DIED]);
    expect([first, second].map(isAlive)).toEqual([false, false]);
  });
});

/** What several workers share counts for all of them. */
describe.concurrent('two workers share', () => {
  const processes = new Processes();
  afterAll(() => processes.endAll());

  test('one slot for an upload', async ({ expect: own }) => {
    const cluster = await start(processes, { BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    const upload = await SlowUpload.begin(cluster);
    for (let worker = 0; worker < 2; worker++) {
      expect((await post(cluster, '/bsdsyms', image, ONCE)).status).toBe(503);
    }
    expect(await upload.finish()).toBe(200);
    await own.poll(async () => (await post(cluster, '/bsdsyms', image, ONCE)).status, SOON).toBe(200);
  });

  test('the share of a client', async ({ expect: own }) => {
    const cluster = await start(processes, { BSDSYMS_MAX_UPLOADS_PER_CLIENT: '1' });
    const upload = await SlowUpload.begin(cluster);
    for (let worker = 0; worker < 2; worker++) {
      const refused = await post(cluster, '/bsdsyms', image, ONCE);
      expect([refused.status, refused.headers['retry-after']]).toEqual([429, '1']);
      expect(verdict(refused, 'BSDSYMS_MAX_UPLOADS_PER_CLIENT')).toEqual(problem(429, 'rate-limited'));
    }
    expect(await upload.finish()).toBe(200);
    await own.poll(async () => (await post(cluster, '/bsdsyms', image, ONCE)).status, SOON).toBe(200);
  });

  test('slots that may all be in one worker', async () => {
    const cluster = await start(processes, { BSDSYMS_MAX_UPLOADS: '2', BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    const uploads = [await SlowUpload.begin(cluster)];
    // So that the next connection is handed to the same worker.
    expect((await send(cluster, '/healthz', { headers: ONCE })).status).toBe(200);
    uploads.push(await SlowUpload.begin(cluster));
    expect(await finishAll(uploads)).toEqual([200, 200]);
  });

  test('one queue', async ({ expect: own }) => {
    const cluster = await start(processes, queueing(1, 1));
    const queued = queuedIn(cluster);
    const upload = await SlowUpload.begin(cluster);
    const waiting = post(cluster, '/bsdsyms', image, ONCE);
    await own.poll(queued, SOON).toBe(1);
    for (let worker = 0; worker < 2; worker++) {
      expect((await post(cluster, '/bsdsyms', image, ONCE)).status).toBe(503);
    }
    expect(await upload.finish()).toBe(200);
    expect((await waiting).status).toBe(200);
    await own.poll(queued, SOON).toBe(0);
  });

  test('the slots of a worker that dies', async ({ expect: own }) => {
    const cluster = await start(processes, queueing(2, 4));
    const uploads = await beginTwo(cluster);
    // Some in each of them.
    const waiting = Array.from({ length: 4 }, () => post(cluster, '/bsdsyms', image, ONCE));
    const answered = Promise.any(waiting);
    await own.poll(queuedIn(cluster), SOON).toBe(4);
    process.kill(cluster.pids[0] ?? 0, 'SIGKILL');
    await Promise.race(uploads.map(({ outcome }) => outcome));
    // The other upload still has its place; that of the dead worker is there for those who wait in the other one.
    expect((await answered).status).toBe(200);
    expect((await finishAll(uploads)).map(String).sort()).toEqual(['200', 'cut off']);
  });

  test('no slot with a client that has left the queue', async ({ expect: own }) => {
    const cluster = await start(processes, queueing(1, 1));
    const queued = queuedIn(cluster);
    const upload = await SlowUpload.begin(cluster);
    const leaving = await RawConnection.open(cluster.port);
    await leaving.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), image);
    await own.poll(queued, SOON).toBe(1);
    leaving.destroy();
    await own.poll(queued, SOON).toBe(0);
    const next = post(cluster, '/bsdsyms', image, ONCE);
    await own.poll(queued, SOON).toBe(1);
    expect(await upload.finish()).toBe(200);
    expect((await next).status).toBe(200);
  });

  test('the rate limit, whichever of them a client reaches', async () => {
    const cluster = await start(processes, { BSDSYMS_RATE_LIMIT_PER_MINUTE: '5' });
    const connection = await RawConnection.open(cluster.port);
    const statuses: number[] = [];
    for (let sent = 0; sent < 4; sent++) {
      await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), image);
      statuses.push((await connection.answer()).status);
    }
    connection.destroy();
    for (let sent = 0; sent < 3; sent++) statuses.push((await post(cluster, '/bsdsyms', image, ONCE)).status);
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429, 429]);
    const refused = await post(cluster, '/bsdsyms', image, ONCE);
    expect(refused.headers).toMatchObject({ 'ratelimit-limit': '5', 'ratelimit-remaining': '0' });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
  });
});

describe.concurrent('the metrics of two workers', () => {
  const processes = new Processes();
  afterAll(() => processes.endAll());

  test('are asked for by many at once without a warning', async () => {
    const cluster = await start(processes);
    const scrapes = await Promise.all(Array.from({ length: 40 }, () => scrape(cluster)));
    for (const text of scrapes) expect(text.sum('bsdsyms_workers')).toBe(2);
    cluster.child.kill('SIGTERM');
    expect(await cluster.child.exited).toEqual({ code: 0, signal: null });
    expect(cluster.child.stderr).toBe('');
  });

  test('have what one of them gave last while it does not answer', async ({ expect: own }) => {
    const cluster = await start(processes);
    const { pids } = cluster;
    const ready = { '/readyz GET 200': 4 };
    for (let sent = 0; sent < 4; sent++) expect((await send(cluster, '/readyz', { headers: ONCE })).status).toBe(200);
    const counts = async (): Promise<Record<string, number>> =>
      (await scrape(cluster)).counts('bsdsyms_http_requests_total');
    await own.poll(counts, SOON).toMatchObject(ready);

    // One connection to each of them.
    const connections = [await RawConnection.open(cluster.port), await RawConnection.open(cluster.port)];
    for (const stopped of [0, 1]) {
      process.kill(pids[stopped] ?? 0, 'SIGSTOP');
      for (const connection of connections) await connection.send(head('GET', '/metrics'));
      const answers = connections.map((connection) => connection.answer());
      const { text } = await Promise.race(answers);
      const metrics = new Exposition(text);
      expect([metrics.sum('bsdsyms_workers'), metrics.sum('bsdsyms_workers_unanswered')]).toEqual([2, 1]);
      expect(metrics.counts('bsdsyms_http_requests_total')).toMatchObject(ready);
      process.kill(pids[stopped] ?? 0, 'SIGCONT');
      await Promise.all(answers);
    }
    for (const connection of connections) connection.destroy();
    await own.poll(async () => (await scrape(cluster)).sum('bsdsyms_workers_unanswered'), SOON).toBe(0);
  });
});

/** Each with processes of its own. */
describe.concurrent('two workers', () => {
  const processes = new Processes();
  afterAll(() => processes.endAll());

  test('are not brought down by the death of one while the tokens file cannot be used', async ({ expect: own }) => {
    const tokens = directory.write('right\n');
    const cluster = await start(processes, { BSDSYMS_TOKENS_FILE: tokens });
    const { child, pids } = cluster;
    writeFileSync(tokens, 'no token at all\n');
    // Both go on with the tokens that they have.
    await child.logged(({ msg }) => String(msg).startsWith('tokens could not be read again'), 2);
    process.kill(pids[0] ?? 0, 'SIGKILL');
    await child.message(DIED);
    // The replacement takes over what is in force, or fails until the file is repaired.
    await own
      .poll(() => child.stderr.includes('BSDSYMS_TOKENS_FILE') || child.logs().filter(isListening).length === 3, SOON)
      .toBe(true);
    writeFileSync(tokens, 'right\n');
    await child.listening(3);
    expect((await post(cluster, '/bsdsyms', image, { ...ONCE, authorization: 'Bearer right' })).status).toBe(200);
  });

  test('finish when they and their supervisor get the signal, as with Ctrl-C', async () => {
    const cluster = await start(processes, { BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS });
    const { child } = cluster;
    const uploads = await beginTwo(cluster);
    child.killGroup('SIGINT');
    expect(await endOf(child, uploads)).toEqual(ORDERLY);
  });

  test('finish when the signal and the word of their supervisor reach them at once', async () => {
    const cluster = await start(processes, { BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS });
    const { child, pids } = cluster;
    const uploads = await beginTwo(cluster);
    // As if they were busy just then.
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    child.killGroup('SIGTERM');
    await child.message('stopping the workers');
    await sleep(UNDER_WAY_MS);
    for (const pid of pids) process.kill(pid, 'SIGCONT');
    expect(await endOf(child, uploads)).toEqual(ORDERLY);
  });

  test('refuse every upload before the port is closed', async () => {
    const cluster = await start(processes, { BSDSYMS_SHUTDOWN_DELAY_MS: LONG_MS });
    cluster.child.kill('SIGTERM');
    await cluster.child.logged(isShuttingDown, 2);
    for (let worker = 0; worker < 2; worker++) {
      expect((await send(cluster, '/readyz', { headers: ONCE })).status).toBe(503);
      const refused = await post(cluster, '/bsdsyms', image, ONCE);
      expect(refused.status).toBe(503);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    }
  });

  test('end at once with a second signal', async ({ expect: own }) => {
    const cluster = await start(processes, { BSDSYMS_SHUTDOWN_DELAY_MS: LONG_MS, BSDSYMS_SHUTDOWN_GRACE_MS: LONG_MS });
    const { child, pids } = cluster;
    const upload = await SlowUpload.begin(cluster);
    child.kill('SIGTERM');
    await child.logged(isShuttingDown, 2);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(await upload.outcome).toBe('cut off');
    await own.poll(() => pids.map(isAlive), SOON).toEqual([false, false]);
  });

  test('end with a status of their own when an upload does not end within the grace', async ({ expect: own }) => {
    const cluster = await start(processes, { BSDSYMS_SHUTDOWN_GRACE_MS: '200' });
    const upload = await SlowUpload.begin(cluster);
    cluster.child.kill('SIGTERM');
    expect(await upload.outcome).toBe('cut off');
    expect(await cluster.child.exited).toEqual({ code: 1, signal: null });
    await own.poll(() => cluster.pids.map(isAlive), SOON).toEqual([false, false]);
  });

  test.each([
    ['before there are workers', 'BSDSYMS_MAX_UPLOADS', '0'],
    ['by the workers', 'BSDSYMS_TOKENS_FILE', '/nowhere/at/all'],
  ])('do not start with a setting that is found unusable %s', async (_when, name, value) => {
    const child = processes.start({ BSDSYMS_WORKERS: '2', [name]: value });
    expect(await child.exited).toEqual({ code: 2, signal: null });
    expect(child.stdout).toBe('');
    expect(child.stderr).toMatch(new RegExp(`^bsdsyms: ${name}: [^\\n]+\\n$`));
  });
});
