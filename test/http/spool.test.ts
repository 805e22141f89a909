/** Images on the disk are answered as images in memory are; a disk in trouble is told as such; nothing stays behind. */
import { mkdirSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config.ts';
import { buildApp } from '../../src/http/app.ts';
import { imageForm } from '../support/forms.ts';
import { type Answer, json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, occupied, type Service, settled, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import {
  eventually,
  interceptWrites,
  KIB,
  kernelOfSize,
  MIB,
  noise,
  pieces,
  SlowSender,
  systemError,
} from '../support/uploads.ts';
import { type BsdsymsVector, describeVector, imageOf, readBsdsymsVectors } from '../support/vectors.ts';

const MEMORY_BUDGET = 64 * KIB;
const SPOOL_BUDGET = 8 * MIB;

let directory: TemporaryDirectory;
let service: Service;

const start = (env: Readonly<Record<string, string>> = {}): Promise<Service> =>
  startService({
    BSDSYMS_SPOOL_DIR: directory.path,
    BSDSYMS_MEMORY_BUDGET_BYTES: String(MEMORY_BUDGET),
    BSDSYMS_SPOOL_BUDGET_BYTES: String(SPOOL_BUDGET),
    ...env,
  });

beforeEach(async () => {
  directory = new TemporaryDirectory();
  service = await start();
});
afterEach(async () => {
  vi.restoreAllMocks();
  await service.close();
  directory.remove();
});

/** What an upload has left behind. */
async function remains(): Promise<unknown> {
  return { ...(await settled(service)), files: readdirSync(directory.path) };
}
const NOTHING = { ...NOTHING_OCCUPIED, files: [] };

/** What of an answer must not depend on where the image was. */
function essence({ status, headers, body }: Answer): unknown {
  const { date: _date, 'x-request-id': _id, ...fields } = headers;
  if (status === 200) return { status, fields, body: body.toString('base64') };
  return { status, fields, body: { ...json({ text: body.toString() }), instance: null } };
}

/** Now one way, now the other. */
async function askVector(asked: Service, vector: BsdsymsVector, index: number): Promise<unknown> {
  const { loadAddress } = vector;
  const parameters = {
    onBroken: index % 3 === 0 ? 'reject' : 'load',
    ...(loadAddress === null ? {} : { loadAddress }),
  };
  const accept = index % 2 === 0 ? '*/*' : 'application/json';
  const image = imageOf(vector);
  if (index % 4 < 2) return essence(await postForm(asked, '/bsdsyms', imageForm(image, parameters), { accept }));
  const query = new URLSearchParams(parameters).toString();
  return essence(await post(asked, `/bsdsyms?${query}`, image, { accept }));
}

describe('spooled images', () => {
  const VECTORS = 240;
  const all = readBsdsymsVectors().filter(({ image }) => image !== '');
  const step = Math.max(1, Math.floor(all.length / VECTORS));
  const chosen = all.filter((_vector, index) => index % step === 0);
  const inMemory = { BSDSYMS_MEMORY_BUDGET_BYTES: String(64 * MIB) };

  test('have the answers of images in memory', async () => {
    // Small as they are, all of them go to the disk.
    const spooling = await start({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
    const keeping = await start(inMemory);
    const created = vi.spyOn(spooling.app.upload.store.spool, 'createWriter');
    const keepingCreated = vi.spyOn(keeping.app.upload.store.spool, 'createWriter');
    const different: unknown[] = [];
    for (const [index, vector] of chosen.entries()) {
      const [spooled, kept] = await Promise.all([
        askVector(spooling, vector, index),
        askVector(keeping, vector, index),
      ]);
      if (JSON.stringify(spooled) !== JSON.stringify(kept)) {
        different.push({ case: describeVector(vector), spooled, kept });
      }
    }
    expect(different).toEqual([]);
    expect(chosen.length).toBeGreaterThanOrEqual(200);
    expect([created.mock.calls.length, keepingCreated.mock.calls.length]).toEqual([chosen.length, 0]);
    expect([await settled(spooling), readdirSync(directory.path)]).toEqual([NOTHING_OCCUPIED, []]);
    await Promise.all([spooling.close(), keeping.close()]);
  });

  test.each([
    ['just above the budget', MEMORY_BUDGET + 2, 100],
    ['of several write batches', 3 * MIB, 5000],
    ['with a blob larger than the budget', 2 * MIB, 40_000],
  ])('%s have the answers of images in memory, and their file is in no directory', async (_name, size, symbols) => {
    const image = kernelOfSize(size, symbols);
    const keeping = await start(inMemory);
    const created = vi.spyOn(service.app.upload.store.spool, 'createWriter');
    const asks = [
      (asked: Service) => post(asked, '/bsdsyms', image, { 'want-repr-digest': 'sha-256=1' }),
      (asked: Service) => postForm(asked, '/bsdsyms', imageForm(image, { loadAddress: '0x12345678' })),
      (asked: Service) => post(asked, '/layout', gzipSync(image)),
      (asked: Service) => post(asked, '/bsdsyms', gzipSync(image), { 'content-encoding': 'gzip' }),
      (asked: Service) => post(asked, '/layout', image.subarray(0, -1), { 'transfer-encoding': 'chunked' }),
      (asked: Service) => post(asked, '/kernel', image),
    ];
    for (const ask of asks) expect(essence(await ask(service))).toEqual(essence(await ask(keeping)));
    expect(created).toHaveBeenCalledTimes(asks.length);
    expect(await remains()).toEqual(NOTHING);
    await keeping.close();
  });

  const arrived = kernelOfSize(40 * KIB);
  const arrivedForm = imageForm(arrived);
  test.each<[string, Uint8Array, Record<string, string>]>([
    ['raw', arrived, {}],
    ['in a form', arrivedForm.body, { 'Content-Type': arrivedForm.contentType }],
    ['coded', gzipSync(arrived), { 'Content-Encoding': 'gzip' }],
    ['compressed', gzipSync(arrived), {}],
  ])('that had arrived whole before there was a slot for them are whole: %s', async (_name, body, headers) => {
    const narrow = await start({
      BSDSYMS_MEMORY_BUDGET_BYTES: '0',
      BSDSYMS_MAX_UPLOADS: '1',
      BSDSYMS_QUEUE_TIMEOUT_MS: '600000',
    });
    const { admission } = narrow.app.upload;
    const sender = await SlowSender.start(narrow.port, arrived);
    await eventually('the place is taken', () => admission.running === 1);
    const connection = await RawConnection.open(narrow.port);
    await connection.send(head('POST', '/layout', { 'Content-Length': body.length, ...headers }), body);
    await eventually('it waits', () => admission.queued === 1);
    // What was sent before this is with the service by now.
    expect((await send(narrow, '/healthz')).status).toBe(200);
    sender.stop();
    const answer = await connection.answer();
    connection.destroy();
    expect([answer.status, json(answer)['image']]).toEqual([200, expect.objectContaining({ size: arrived.length })]);
    expect([await settled(narrow), readdirSync(directory.path)]).toEqual([NOTHING_OCCUPIED, []]);
    await narrow.close();
  });

  test('share the memory: small images stay in it', async () => {
    const created = vi.spyOn(service.app.upload.store.spool, 'createWriter');
    expect((await post(service, '/bsdsyms', kernelOfSize(32 * KIB))).status).toBe(200);
    expect(created).not.toHaveBeenCalled();
  });
});

/** Sends most of an image, and waits until it is on the disk. */
async function spoolHalf(size: number): Promise<RawConnection> {
  const before = occupied(service).spool;
  const connection = await RawConnection.open(service.port);
  const part = kernelOfSize(size);
  await connection.send(head('POST', '/bsdsyms', { 'Transfer-Encoding': 'chunked' }));
  for (const piece of pieces(part, 64 * KIB)) await connection.send(chunk(piece));
  await eventually('it is spooled', () => occupied(service).spool === before + size);
  return connection;
}

describe('the spool budget', () => {
  const full = problem(503, 'spool-full');

  test('exceeded by one image', async () => {
    const image = noise(SPOOL_BUDGET + 1);
    for (const headers of [{}, { 'transfer-encoding': 'chunked' }]) {
      const answer = await post(service, '/bsdsyms', image, headers);
      expect([verdict(answer, 'BSDSYMS_SPOOL_BUDGET_BYTES'), answer.headers['retry-after']]).toEqual([full, '10']);
      expect(await remains()).toEqual(NOTHING);
    }
    expect(verdict(await postForm(service, '/bsdsyms', imageForm(image)))).toEqual(full);
    expect(verdict(await post(service, '/bsdsyms', gzipSync(new Uint8Array(2 * SPOOL_BUDGET))))).toEqual(full);
    expect(await remains()).toEqual(NOTHING);
  });

  test('exceeded by several images together: the first ones continue', async () => {
    const first = await spoolHalf(6 * MIB);
    const answer = await post(service, '/bsdsyms', kernelOfSize(3 * MIB));
    expect([verdict(answer), answer.headers['retry-after']]).toEqual([full, '10']);
    expect((await send(service, '/healthz')).status).toBe(200);
    await first.send(chunk(Buffer.alloc(0)));
    expect((await first.answer()).status).toBe(200);
    first.destroy();
    expect((await post(service, '/bsdsyms', kernelOfSize(3 * MIB))).status).toBe(200);
    expect(await remains()).toEqual(NOTHING);
  });
});

describe('a disk that is full', () => {
  test.each([
    ['from the start', 0],
    ['after a while', 2],
  ])('%s is 503, with its cause in the log, and nothing stays occupied', async (_when, after) => {
    let writes = 0;
    await interceptWrites((write, chunks, position) => {
      writes += 1;
      return writes > after ? Promise.reject(systemError('ENOSPC')) : write(chunks, position);
    });
    for (const ask of [
      () => post(service, '/bsdsyms', kernelOfSize(7 * MIB)),
      () => postForm(service, '/bsdsyms', imageForm(kernelOfSize(7 * MIB))),
      () => post(service, '/bsdsyms', gzipSync(kernelOfSize(7 * MIB), { level: 1 })),
    ]) {
      writes = 0;
      const answer = await ask();
      expect([verdict(answer), answer.headers['retry-after']]).toEqual([problem(503, 'spool-full'), '10']);
      expect(await remains()).toEqual(NOTHING);
    }
    expect(service.logs('spool-full')[0]).toMatchObject({ level: 50, err: { code: 'ENOSPC' } });
    // What fits into memory is taken all the same.
    expect((await post(service, '/bsdsyms', kernelOfSize(32 * KIB))).status).toBe(200);
  });

  test('at the last write is 503, too', async () => {
    await interceptWrites(() => Promise.reject(systemError('ENOSPC')));
    expect(verdict(await post(service, '/bsdsyms', kernelOfSize(100 * KIB)))).toEqual(problem(503, 'spool-full'));
    expect(await remains()).toEqual(NOTHING);
  });
});

describe('the spool directory', () => {
  test('removed while the service runs is 503 until it is there again', async () => {
    const unavailable = problem(503, 'spool-unavailable');
    directory.remove();
    const answer = await post(service, '/bsdsyms', kernelOfSize(100 * KIB));
    expect([verdict(answer), answer.headers['retry-after']]).toEqual([unavailable, '10']);
    expect(verdict(await postForm(service, '/bsdsyms', imageForm(kernelOfSize(100 * KIB))))).toEqual(unavailable);
    // Its name is nobody's business; the log has the cause.
    expect(answer.text).not.toContain(directory.path);
    expect(service.logs('spool-unavailable')[0]).toMatchObject({ level: 50, err: { code: 'ENOENT' } });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect((await send(service, '/healthz')).status).toBe(200);
    expect((await post(service, '/bsdsyms', kernelOfSize(32 * KIB))).status).toBe(200);

    mkdirSync(directory.path);
    expect((await post(service, '/bsdsyms', kernelOfSize(100 * KIB))).status).toBe(200);
    expect(await remains()).toEqual(NOTHING);
  });

  test('removed while an image is spooled does not concern it', async () => {
    const connection = await spoolHalf(2 * MIB);
    directory.remove();
    await connection.send(chunk(Buffer.alloc(0)));
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test.each([
    ['is not there', () => directory.file('nowhere')],
    ['is a file', () => directory.write('')],
    ['is no place for files', () => '/proc/self'],
  ])('that %s stops the start, with the name of the setting', async (_what, makePath) => {
    const path = makePath();
    const config = loadConfig({ BSDSYMS_SPOOL_DIR: path });
    const failure = await buildApp(config, pino({ level: 'silent' })).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ConfigError);
    expect(failure).toMatchObject({ message: expect.stringMatching(/^BSDSYMS_SPOOL_DIR: [^\n]+$/) });
    expect(failure).toMatchObject({ message: expect.stringContaining(path) });
  });
});
