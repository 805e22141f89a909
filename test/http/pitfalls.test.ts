/**
 * The traps that services of this kind fall into with Fastify, @fastify/multipart and Node, one test each.
 * Other suites go deeper into many of them; here stands that none was forgotten.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { processSlabs } from '../../src/image/slabs.ts';
import { BOUNDARY, imageForm, imagePart, multipart } from '../support/forms.ts';
import { json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, occupied, type Service, settled, startService, uploading } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import { eventually, KIB, kernelOfSize, MIB, memoryInUse, noise, pieces, SlowSender } from '../support/uploads.ts';

const LIMIT = 256 * KIB;
const image = kernelOfSize(64 * KIB);
const tooLarge = problem(413, 'image-too-large');
const form = imageForm(image);

/** Without what waits for the next image, which may come and go meanwhile. */
const memoryTaken = async (): Promise<number> => (await memoryInUse()) - processSlabs.mappedBytes;

let service: Service;
afterEach(async () => {
  vi.restoreAllMocks();
  await service.close();
});

const start = async (env: Readonly<Record<string, string>> = {}): Promise<void> => {
  service = await startService({ BSDSYMS_MAX_IMAGE_BYTES: String(LIMIT), ...env });
};

describe('the limit of a file in a form bounds memory, not time:', () => {
  test('by Content-Length the 413 comes before the body', async () => {
    await start();
    const connection = await RawConnection.open(service.port);
    const headers = { 'Content-Type': form.contentType, 'Content-Length': 100 * MIB };
    await connection.send(head('POST', '/bsdsyms', headers));
    expect(verdict(await connection.answer())).toEqual(tooLarge);
    connection.destroy();
  });

  test('of a chunked form the raw bytes are counted', async () => {
    await start();
    const connection = await RawConnection.open(service.port);
    const headers = { 'Content-Type': form.contentType, 'Transfer-Encoding': 'chunked' };
    const { body } = imageForm(noise(2 * LIMIT));
    await connection.send(head('POST', '/bsdsyms', headers), chunk(body));
    // It has no end: whoever waits for that never answers.
    expect(verdict(await connection.answer())).toEqual(tooLarge);
    connection.destroy();
  });
});

test('a file does not count as whole before its end has arrived', async () => {
  await start();
  const larger = Buffer.concat([image, noise(2 * LIMIT)]);
  for (const headers of [{}, { 'transfer-encoding': 'chunked' }]) {
    expect(verdict(await postForm(service, '/bsdsyms', imageForm(larger), headers))).toEqual(tooLarge);
  }
});

test('the limit holds for forms as a whole and for bodies that no parser gathers', async () => {
  await start();
  const fields = Array.from({ length: 20 }, () => ({ name: 'onBroken', value: 'x'.repeat(LIMIT / 10) }));
  const form20 = multipart([...fields, imagePart(image)]);
  const preamble = { ...form, body: Buffer.concat([Buffer.alloc(2 * LIMIT, '\r\n'), form.body]) };
  const chunked = { 'transfer-encoding': 'chunked' };
  expect(verdict(await postForm(service, '/layout', preamble, chunked))).toEqual(tooLarge);
  expect(verdict(await post(service, '/layout', noise(2 * LIMIT), chunked))).toEqual(tooLarge);
  expect(verdict(await postForm(service, '/layout', form20))).toEqual(tooLarge);
});

test('an early 413 does not close the connection under the sender', async () => {
  await start();
  const connection = await RawConnection.open(service.port);
  const body = noise(8 * MIB);
  await connection.send(head('POST', '/bsdsyms', { 'Content-Length': body.length }));
  const answer = await connection.answer();
  expect([verdict(answer), answer.headers['connection']]).toEqual([tooLarge, 'keep-alive']);
  await connection.send(...pieces(body, 256 * KIB), head('GET', '/healthz'));
  expect((await connection.answer()).status).toBe(200);
  connection.destroy();
});

describe('Expect: 100-continue', () => {
  const expecting = { Expect: '100-continue' };

  test('is refused with not a byte sent', async () => {
    await start();
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { ...expecting, 'Content-Length': LIMIT + 1 }));
    expect(verdict(await connection.answer())).toEqual(tooLarge);
    expect(await connection.ended()).toBe('');
  });

  test('is continued at once', async () => {
    await start();
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { ...expecting, 'Content-Length': image.length }));
    expect((await connection.answer()).status).toBe(100);
    await connection.send(image);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
  });
});

describe('time limits', () => {
  test('of requests are not the 0 that Fastify sets, nor checked only every 30 s', async () => {
    await start({ BSDSYMS_UPLOAD_TIMEOUT_MS: '3000' });
    const { server } = service.app.server;
    expect([server.requestTimeout, server.headersTimeout]).toEqual([3000, 3000]);
    const { connectionsCheckingInterval } = server as unknown as { connectionsCheckingInterval: number };
    expect(connectionsCheckingInterval).toBeLessThanOrEqual(1000);
  });

  test('of requests really fire', async () => {
    await start({ BSDSYMS_UPLOAD_TIMEOUT_MS: '200' });
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), image.subarray(0, 10));
    expect(verdict(await connection.answer())).toEqual(problem(408, 'request-timeout'));
    expect(await connection.ended()).toBe('');
  });

  test('of bodies end the reading of a form, not only the answer', async () => {
    await start({ BSDSYMS_STALL_TIMEOUT_MS: '200' });
    const connection = await RawConnection.open(service.port);
    const headers = { 'Content-Type': form.contentType, 'Content-Length': form.body.length };
    await connection.send(head('POST', '/bsdsyms', headers), form.body.subarray(0, 1000));
    expect(verdict(await connection.answer())).toEqual(problem(408, 'request-timeout'));
    expect(await connection.ended()).toBe('');
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });
});

test.each([
  ['raw', head('POST', '/bsdsyms', { 'Content-Length': image.length }), image],
  [
    'in a form',
    head('POST', '/bsdsyms', { 'Content-Length': form.body.length, 'Content-Type': form.contentType }),
    form.body,
  ],
])('a client that goes away is 499 at level info and gives everything back: %s', async (_name, start1, body) => {
  const directory = new TemporaryDirectory();
  await start({ BSDSYMS_MEMORY_BUDGET_BYTES: '1000', BSDSYMS_SPOOL_DIR: directory.path });
  const connection = await RawConnection.open(service.port);
  await connection.send(start1, body.subarray(0, body.length / 2));
  await uploading(service);
  await eventually('it is spooled', () => occupied(service).spool > 0);
  connection.destroy();
  const line = await service.logged({ msg: 'request' });
  expect(line).toMatchObject({ status: 499, level: 30 });
  expect([await settled(service), readdirSync(directory.path)]).toEqual([NOTHING_OCCUPIED, []]);
  expect(service.logs().filter(({ level }) => Number(level) > 30)).toEqual([]);
  directory.remove();
});

test.each([
  'multipart/form-data',
  'multipart/form-data; boundary=',
  'multipart/form-data; Boundary',
  'multipart/form-data;',
])('a missing boundary is 400 with a code: %s', async (type) => {
  await start();
  const answer = await post(service, '/bsdsyms', form.body, { 'content-type': type });
  expect(verdict(answer)).toEqual(problem(400, 'multipart-malformed'));
});

test('a field after the file is seen, as is one before it', async () => {
  await start();
  const field = { name: 'loadAddress', value: '0x7000000' };
  for (const parts of [
    [imagePart(image), field],
    [field, imagePart(image)],
  ]) {
    const layout = json(await postForm(service, '/layout', multipart(parts)));
    expect(layout['bsdsyms']).toMatchObject({ loadAddress: '0x7000000' });
  }
  const unknown = multipart([imagePart(image), { name: 'address', value: '1' }]);
  expect(verdict(await postForm(service, '/layout', unknown))).toEqual(problem(400, 'field-unknown'));
});

test('no image is ever gathered in one buffer', async () => {
  await start({ BSDSYMS_MAX_IMAGE_BYTES: String(128 * MIB), BSDSYMS_MEMORY_BUDGET_BYTES: String(MIB) });
  const concatenated = vi.spyOn(Buffer, 'concat');
  const allocated = vi.spyOn(Buffer, 'alloc');
  const large = kernelOfSize(48 * MIB);
  const connection = await RawConnection.open(service.port);
  // Not through a client that would gather it itself.
  await connection.send(head('POST', '/layout', { 'Content-Length': large.length }));
  concatenated.mockClear();
  const before = await memoryTaken();
  let most = 0;
  for (const [index, piece] of [...pieces(large, MIB)].entries()) {
    await connection.send(piece);
    if (index % 8 === 7) most = Math.max(most, (await memoryTaken()) - before);
  }
  expect((await connection.answer()).status).toBe(200);
  connection.destroy();
  expect(most).toBeLessThan(large.length / 3);
  const sizes = concatenated.mock.results.map(({ value }) => (value as Buffer).length);
  expect(Math.max(0, ...sizes, ...allocated.mock.calls.map(([size]) => size))).toBeLessThan(MIB);
});

test('memory comes back after large images', async () => {
  await start({ BSDSYMS_MAX_IMAGE_BYTES: String(128 * MIB) });
  const large = kernelOfSize(32 * MIB);
  expect((await post(service, '/layout', large)).status).toBe(200);
  const before = await memoryInUse();
  for (let round = 0; round < 4; round++) expect((await post(service, '/layout', large)).status).toBe(200);
  expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  expect((await memoryInUse()) - before).toBeLessThan(large.length);
});

test('no limit applies to health, readiness and metrics', async () => {
  const directory = new TemporaryDirectory();
  await start({
    BSDSYMS_MAX_UPLOADS: '1',
    BSDSYMS_MAX_QUEUED_UPLOADS: '0',
    BSDSYMS_RATE_LIMIT_PER_MINUTE: '2',
    BSDSYMS_TOKENS_FILE: directory.write('a-token-of-the-tests-0123456789\n'),
  });
  // What uploads of this address get by now.
  for (const status of [401, 401, 429]) expect((await post(service, '/bsdsyms', image)).status).toBe(status);
  for (let round = 0; round < 20; round++) {
    for (const path of ['/healthz', '/readyz', '/metrics']) {
      expect([path, (await send(service, path)).status]).toEqual([path, 200]);
    }
  }
  directory.remove();
});

test('health does not wait for uploads', async () => {
  await start({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
  const sender = await SlowSender.start(service.port, image);
  await uploading(service);
  expect((await post(service, '/bsdsyms', image)).status).toBe(503);
  for (const path of ['/healthz', '/readyz', '/metrics']) expect((await send(service, path)).status).toBe(200);
  sender.stop();
});

test('a cancelled upload leaves no temporary file, and those of a killed process are swept', async () => {
  const directory = new TemporaryDirectory();
  // No process has this number.
  writeFileSync(directory.file('bsdsyms-999999999-01234567-89ab-cdef-0123-456789abcdef.spool'), 'left over');
  await start({ BSDSYMS_MEMORY_BUDGET_BYTES: '0', BSDSYMS_SPOOL_DIR: directory.path });
  expect(readdirSync(directory.path)).toEqual([]);
  const connection = await RawConnection.open(service.port);
  await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), image.subarray(0, 20_000));
  await eventually('it is spooled', () => occupied(service).spool > 0);
  expect(readdirSync(directory.path)).toEqual([]);
  connection.destroy();
  expect([await settled(service), readdirSync(directory.path)]).toEqual([NOTHING_OCCUPIED, []]);
  directory.remove();
});

describe('connections are kept', () => {
  test('for 72 s, longer than balancers keep theirs', async () => {
    await start();
    expect(service.app.server.server.keepAliveTimeout).toBe(72_000);
    expect((await send(service, '/healthz')).headers['keep-alive']).toBe('timeout=72');
  });

  test('for as long as is set', async () => {
    await start({ BSDSYMS_KEEP_ALIVE_TIMEOUT_MS: '5000' });
    expect((await send(service, '/healthz')).headers['keep-alive']).toBe('timeout=5');
  });
});

describe('tricks with the content type:', () => {
  test('fastify is one in which they are mended', () => {
    const file = new URL('../../node_modules/fastify/package.json', import.meta.url);
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string };
    const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
    expect(major * 1_000_000 + minor * 1000 + patch).toBeGreaterThanOrEqual(5_008_001);
  });

  test.each([
    'application/json',
    'APPLICATION/JSON',
    ' application/json',
    'application/json\t',
    'application/json ; charset=utf-8',
    'application/json\t; charset=utf-8',
    'application/json;',
    'application/json\ta',
    'application/json a',
    'application/problem+json',
    'text/plain',
    'Text/HTML;charset=utf-8',
    '\ttext/plain',
  ])('%j is refused', async (type) => {
    await start();
    const answer = await post(service, '/bsdsyms', image, { 'content-type': type });
    expect(verdict(answer)).toEqual(problem(415, 'media-type-unsupported'));
  });

  test.each([
    'multipart/form-data',
    'Multipart/Form-Data',
    ' multipart/form-data',
    'multipart/form-data ',
    'multipart/form-data\t',
  ])('%j is a form', async (type) => {
    await start();
    const headers = { 'content-type': `${type}; boundary="${BOUNDARY}"` };
    expect((await post(service, '/bsdsyms', form.body, headers)).status).toBe(200);
    // It is parsed as one, too: the fields count.
    const { body } = imageForm(image, { loadAddress: 'x' });
    expect(verdict(await post(service, '/bsdsyms', body, headers))).toEqual(problem(400, 'parameter-invalid'));
  });

  test.each([
    'application/octet-stream',
    'APPLICATION/OCTET-STREAM',
    'application/octet-stream; charset=binary',
    ' application/octet-stream\t',
    'application/x-www-form-urlencoded',
    'application/gzip',
    'application/x-elf',
  ])('%j is an image', async (type) => {
    await start();
    expect((await post(service, '/bsdsyms', image, { 'content-type': type })).status).toBe(200);
  });

  test.each([
    'nonsense',
    '/',
    'a/',
    ';',
    'a/b/c',
    'multipart/form-data/x',
    'multipart',
    '*/*',
    'é/x',
    'x'.repeat(4000),
  ])('%.40j is an answer of the caller’s, not a failure of the service', async (type) => {
    await start();
    const header = Buffer.from(type, 'utf8').toString('latin1');
    const { status } = await post(service, '/bsdsyms', image, { 'content-type': header });
    expect([200, 400, 415]).toContain(status);
  });
});

describe('a form where it is not expected is recognised:', () => {
  const inBody = problem(400, 'multipart-in-body');

  test('sent as a raw body', async () => {
    await start();
    for (const type of [{}, { 'content-type': 'application/octet-stream' }, { 'content-type': 'multipart/mixed' }]) {
      expect(verdict(await post(service, '/bsdsyms', form.body, type), 'multipart/form-data')).toEqual(inBody);
    }
  });

  test('wrapped twice', async () => {
    await start();
    const wrapped = multipart([imagePart(form.body)], 'another-boundary');
    expect(verdict(await postForm(service, '/bsdsyms', wrapped), 'twice')).toEqual(inBody);
  });
});
