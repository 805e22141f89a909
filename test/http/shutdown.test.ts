/** The end of the real process: what was accepted is answered, what comes later is told to go elsewhere. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import { goodFor, UPLOAD_PATHS } from '../support/document.ts';
import { kernel } from '../support/elf-builder.ts';
import { json, post, send } from '../support/http.ts';
import { named, TestOrigin } from '../support/origin.ts';
import { LONG_MS, PATIENCE_MS, SOON } from '../support/patience.ts';
import { Processes, unusedPort } from '../support/process.ts';
import { scrape } from '../support/prometheus.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { finishAll, SlowUpload } from '../support/slow-upload.ts';

const image = kernel().bytes;
/** Enough for what is finished at once; when something keeps the process, it ends with this and a status of its own. */
const GRACE_MS = String(PATIENCE_MS);

const processes = new Processes();
afterAll(() => processes.endAll());

/** Each with a process of its own. */
describe.concurrent('after SIGTERM', () => {
  test('and before the listener is closed, uploads under way are answered, new ones refused, and readiness is gone', async () => {
    const child = processes.start({ BSDSYMS_SHUTDOWN_DELAY_MS: LONG_MS, BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS });
    const { port } = await child.listening();
    expect((await send({ port }, '/readyz')).status).toBe(200);
    const uploads = [await SlowUpload.begin({ port }), await SlowUpload.begin({ port })];
    child.kill('SIGTERM');
    await child.message('shutting down');

    // New connections are taken all through the delay.
    const readiness = await send({ port }, '/readyz', { headers: { connection: 'close' } });
    expect([readiness.status, json(readiness)['code']]).toEqual([503, 'shutting-down']);
    for (const path of UPLOAD_PATHS) {
      const refused = await post({ port }, path, goodFor(path), { connection: 'close' });
      expect([path, refused.status, json(refused)['code']]).toEqual([path, 503, 'shutting-down']);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    }
    expect((await send({ port }, '/healthz')).text).toBe('ok\n');
    expect((await scrape({ port })).counts('bsdsyms_uploads_refused_total')).toEqual({
      'shutting-down': UPLOAD_PATHS.length,
    });

    expect(await finishAll(uploads)).toEqual([200, 200]);
    await child.logged(({ msg, route, status }) => msg === 'request' && route === '/bsdsyms' && status === 200, 2);
    expect(child.stderr).toBe('');
  });

  test('a refused sender is not cut off: only a request that is there whole has its connection closed', async () => {
    const child = processes.start({ BSDSYMS_SHUTDOWN_DELAY_MS: LONG_MS, BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS });
    const { port } = await child.listening();
    const connection = await RawConnection.open(port);
    child.kill('SIGTERM');
    await child.message('shutting down');
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }));
    const { status, headers } = await connection.answer();
    expect([status, headers['connection']]).toEqual([503, 'keep-alive']);
    await connection.send(image, head('GET', '/readyz'));
    const whole = await connection.answer();
    expect([whole.status, whole.headers['connection']]).toEqual([503, 'close']);
    expect(await connection.ended()).toBe('');
  });

  test('the status is 0 when the delay is over and all is answered', async () => {
    const child = processes.start({ BSDSYMS_SHUTDOWN_DELAY_MS: '300', BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS });
    const { port } = await child.listening();
    const uploads = [await SlowUpload.begin({ port }), await SlowUpload.begin({ port })];
    child.kill('SIGTERM');
    await child.message('shutting down');
    expect(await finishAll(uploads)).toEqual([200, 200]);
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(child.logs({ msg: 'request', route: '/bsdsyms', status: 200 })).toHaveLength(2);
    expect(child.logs().at(-1)).toMatchObject({ msg: 'stopped' });
    expect(child.stderr).toBe('');
  });

  test('an image by reference is answered when its origin answers late, and a new one is refused', async () => {
    const origin = await TestOrigin.start();
    const asked = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    origin.misbehaviour = async () => {
      asked.resolve();
      await released.promise;
      return false;
    };
    try {
      const path = named('/layout', origin.serve('/image', image));
      const child = processes.start({
        BSDSYMS_SHUTDOWN_DELAY_MS: LONG_MS,
        BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS,
        BSDSYMS_IMAGE_SOURCES: `${origin.url}/`,
      });
      const { port } = await child.listening();
      const running = send({ port }, path);
      await asked.promise;
      child.kill('SIGTERM');
      await child.message('shutting down');
      const refused = await send({ port }, path, { headers: { connection: 'close' } });
      expect([refused.status, json(refused)['code']]).toEqual([503, 'shutting-down']);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
      released.resolve();
      expect((await running).status).toBe(200);
      // The refused one has not asked the origin.
      expect(origin.requests).toHaveLength(1);
      expect(child.stderr).toBe('');
    } finally {
      origin.close();
    }
  });

  test('an upload is answered when it ends after the listener was closed', async ({ expect: own }) => {
    const child = processes.start({ BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS });
    const { port } = await child.listening();
    const upload = await SlowUpload.begin({ port });
    child.kill('SIGTERM');
    await child.message('shutting down');
    await own
      .poll(
        () =>
          send({ port }, '/healthz', { headers: { connection: 'close' } }).then(
            () => 'listening',
            (error: NodeJS.ErrnoException) => error.code,
          ),
        SOON,
      )
      .toBe('ECONNREFUSED');
    expect(await upload.finish()).toBe(200);
    expect(await child.exited).toEqual({ code: 0, signal: null });
  });

  test('a second upload on a kept connection is refused', async () => {
    const child = processes.start({ BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS });
    const { port } = await child.listening();
    const connection = await RawConnection.open(port);
    const announced = head('POST', '/bsdsyms', { 'Content-Length': image.length, Expect: '100-continue' });
    await connection.send(announced);
    expect((await connection.answer()).status).toBe(100);
    child.kill('SIGTERM');
    await child.message('shutting down');
    const second = head('POST', '/bsdsyms', { 'Content-Length': image.length });
    await connection.send(Buffer.concat([image, Buffer.from(second), image]));
    expect((await connection.answer()).status).toBe(200);
    const rest = await connection.ended();
    // Either nothing or a refusal, but no symbols.
    expect(rest.slice(0, 13)).toMatch(/^(?:HTTP\/1\.1 503 )?$/);
    expect(await child.exited).toEqual({ code: 0, signal: null });
  });

  test('connections without a request do not keep the process', async () => {
    const child = processes.start({ BSDSYMS_SHUTDOWN_GRACE_MS: GRACE_MS, BSDSYMS_KEEP_ALIVE_TIMEOUT_MS: LONG_MS });
    const { port } = await child.listening();
    const kept = await RawConnection.open(port);
    await kept.send(head('GET', '/healthz'));
    expect((await kept.answer()).status).toBe(200);
    const upload = await SlowUpload.begin({ port });
    child.kill('SIGTERM');
    await child.message('shutting down');
    expect(await upload.finish()).toBe(200);
    expect(await kept.ended()).toBe('');
    expect(await child.exited).toEqual({ code: 0, signal: null });
  });

  test('an upload that does not end within the grace ends the process with a status of its own', async () => {
    const child = processes.start({ BSDSYMS_SHUTDOWN_GRACE_MS: '200' });
    const { port } = await child.listening();
    const upload = await SlowUpload.begin({ port });
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(await upload.outcome).toBe('cut off');
    expect(child.logs({ msg: 'stopped' })).toEqual([]);
    expect(child.logs({ level: 50 })).toHaveLength(1);
  });

  test.each<NodeJS.Signals>(['SIGTERM', 'SIGINT'])('%s ends it at once', async (signal) => {
    // Neither the delay nor the grace would end within the time of a test.
    const child = processes.start({ BSDSYMS_SHUTDOWN_DELAY_MS: LONG_MS, BSDSYMS_SHUTDOWN_GRACE_MS: LONG_MS });
    const { port } = await child.listening();
    const upload = await SlowUpload.begin({ port });
    child.kill('SIGTERM');
    await child.message('shutting down');
    child.kill(signal);
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(await upload.outcome).toBe('cut off');
  });
});

/** The longest time that a setting takes. */
const LONGEST_MS = '1000000000';
/** A module that, loaded first, says on standard error that the service is being loaded, and gives a signal time to arrive. */
const LOADING = 'the service is loaded';
const sayLoading =
  'data:text/javascript,import { registerHooks } from "node:module"; registerHooks({ load(url, context, next) { ' +
  `if (url.endsWith("/http/app.ts")) { process._rawDebug("${LOADING}"); ` +
  'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300); } return next(url, context); } })';

describe.concurrent.each(['1', '3'])('SIGTERM ends %s workers in order', (workers) => {
  const env = { BSDSYMS_WORKERS: workers };

  test('while they start', async () => {
    const child = processes.start({ ...env, BSDSYMS_SHUTDOWN_GRACE_MS: LONG_MS }, ['--import', sayLoading]);
    await child.complained(LOADING);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
  });

  test('as soon as one of them listens', async () => {
    const child = processes.start({ ...env, BSDSYMS_SHUTDOWN_GRACE_MS: LONG_MS });
    await child.listening();
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(child.logs({ level: 50 })).toEqual([]);
  });

  test.each(['0', '1', '100'])('with a grace of %s ms, when there is nothing to finish', async (grace) => {
    const child = processes.start({ ...env, BSDSYMS_SHUTDOWN_GRACE_MS: grace });
    const { port } = await child.listening(Number(workers));
    // An idle connection is nothing to be finished.
    const kept = await RawConnection.open(port);
    await kept.send(head('GET', '/healthz'));
    expect((await kept.answer()).status).toBe(200);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(await kept.ended()).toBe('');
  });

  test('with a collector of traces that cannot be reached, or does not answer', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const ports = [(silent.address() as AddressInfo).port, unusedPort()];
    try {
      for (const collector of ports) {
        const url = `http://127.0.0.1:${collector}`;
        const child = processes.start({ ...env, BSDSYMS_SHUTDOWN_GRACE_MS: '0', OTEL_EXPORTER_OTLP_ENDPOINT: url });
        const { port } = await child.listening(Number(workers));
        expect((await send({ port }, '/readyz', { headers: { connection: 'close' } })).status).toBe(200);
        await child.logged(({ msg, route }) => msg === 'request' && route === '/readyz');
        child.kill('SIGTERM');
        expect(await child.exited).toEqual({ code: 0, signal: null });
        expect(child.logs({ level: 40 }).map(({ msg }) => msg)).toEqual([
          expect.stringMatching(/^the last traces could not be sent/),
        ]);
      }
    } finally {
      silent.closeAllConnections();
      silent.close();
    }
  });

  test('within the longest times that can be set, which no timer is too short for', async () => {
    const child = processes.start({
      ...env,
      BSDSYMS_SHUTDOWN_DELAY_MS: LONGEST_MS,
      BSDSYMS_SHUTDOWN_GRACE_MS: LONGEST_MS,
      BSDSYMS_UPLOAD_TIMEOUT_MS: LONGEST_MS,
      BSDSYMS_STALL_TIMEOUT_MS: LONGEST_MS,
      BSDSYMS_KEEP_ALIVE_TIMEOUT_MS: LONGEST_MS,
      BSDSYMS_QUEUE_TIMEOUT_MS: String(Number(LONGEST_MS) - 1),
    });
    const { port } = await child.listening(Number(workers));
    const upload = await SlowUpload.begin({ port });
    child.kill('SIGTERM');
    await child.message('shutting down');
    // It serves on all through the delay.
    expect((await send({ port }, '/readyz', { headers: { connection: 'close' } })).status).toBe(503);
    expect(await upload.finish()).toBe(200);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(child.stderr).toBe('');
  });
});

describe.concurrent('a start that fails', () => {
  test('ends several workers as it ends one', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    const child = processes.start({ BSDSYMS_WORKERS: '2', PORT: String(port) });
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(child.logs().map(({ level, msg }) => [level, msg])).toEqual([[60, 'cannot listen']]);
    holder.close();
  });

  const restrictsNetwork = process.allowedNodeEnvironmentFlags.has('--allow-net');
  test.each([
    ['--allow-net', '1', restrictsNetwork, []],
    ['--allow-worker', '1', true, restrictsNetwork ? ['--allow-net'] : []],
    [
      '--allow-child-process',
      '2',
      true,
      ['--allow-worker', '--disable-warning=PERM0006', ...(restrictsNetwork ? ['--allow-net'] : [])],
    ],
  ] as const)('for want of %s says so', async (flag, workers, applies, given) => {
    if (!applies) return;
    const options = ['--permission', '--allow-fs-read=*', '--disable-warning=ExperimentalWarning', ...given];
    const child = processes.start({ BSDSYMS_WORKERS: workers, NODE_COMPILE_CACHE: '' }, options);
    expect(await child.exited).toEqual({ code: 2, signal: null });
    expect([child.stdout, child.stderr]).toEqual(['', expect.stringMatching(/^bsdsyms: \w+: [^\n]+\n$/)]);
    expect(child.stderr).toContain(flag);
  });
});
