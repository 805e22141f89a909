/** Requests that do not come to their end are ended: 408, whoever is to blame, and everything is given back. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { problem, send, verdict } from '../support/http.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import { interceptWrites, kernelOfSize, MIB } from '../support/uploads.ts';

const image = kernel({ symbols: 20 }).bytes;
const form = imageForm(image);
const tooSlow = problem(408, 'request-timeout');
const SHORT_MS = '200';
const LONG_MS = '600000';
/** More than fit into the time that a request may take. */
const MAX_DRIPS = 100;

let service: Service;
afterEach(async () => {
  vi.restoreAllMocks();
  await service.close();
});

/** Sends one byte after the other, to whoever still reads them. */
async function drip(connection: RawConnection, bytes: Uint8Array): Promise<void> {
  for (const byte of bytes.subarray(0, MAX_DRIPS)) {
    await connection.send(Buffer.of(byte));
    await sleep(20);
  }
}

/** A service with short time limits, and a connection to it. */
async function connectTo(env: Readonly<Record<string, string>>): Promise<RawConnection> {
  service = await startService({ BSDSYMS_UPLOAD_TIMEOUT_MS: LONG_MS, BSDSYMS_STALL_TIMEOUT_MS: LONG_MS, ...env });
  return RawConnection.open(service.port);
}

/** The answer, what follows it, and what is left of the upload. */
async function endOf(connection: RawConnection): Promise<unknown[]> {
  const answer = await connection.answer();
  const { connection: after, 'content-type': type } = answer.headers;
  const rest = await connection.ended();
  const { status } = await send(service, '/healthz');
  return [verdict(answer, 'BSDSYMS_UPLOAD_TIMEOUT_MS'), after, type, rest, status, await settled(service)];
}

const half = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, bytes.length >> 1);
const gzipHead = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);

describe('a whole request', () => {
  const brief = { BSDSYMS_UPLOAD_TIMEOUT_MS: SHORT_MS };
  const timedOut = [tooSlow, 'close', 'application/problem+json', '', 200, NOTHING_OCCUPIED];

  test('whose head never ends is timed out', async () => {
    const connection = await connectTo(brief);
    await connection.send('POST /bsdsyms HTTP/1.1\r\nHost: x\r\n');
    expect(await endOf(connection)).toEqual(timedOut);
  });

  test('whose head comes byte by byte is timed out', async () => {
    const connection = await connectTo(brief);
    void drip(connection, Buffer.from(head('POST', '/bsdsyms', { 'X-Padding': 'x'.repeat(4000) })));
    expect(await endOf(connection)).toEqual(timedOut);
  });

  test.each<[string, string, Uint8Array]>([
    ['raw', head('POST', '/bsdsyms', { 'Content-Length': image.length }), image],
    [
      'in a form',
      head('POST', '/bsdsyms', { 'Content-Length': form.body.length, 'Content-Type': form.contentType }),
      form.body,
    ],
    ['coded', head('POST', '/bsdsyms', { 'Content-Length': image.length, 'Content-Encoding': 'gzip' }), gzipHead],
  ])('whose body comes byte by byte is timed out: %s', async (_name, requestHead, body) => {
    const connection = await connectTo(brief);
    await connection.send(requestHead);
    void drip(connection, body);
    expect(await endOf(connection)).toEqual(timedOut);
  });

  test('that was refused while it still comes has had its answer', async () => {
    const connection = await connectTo(brief);
    await connection.send(head('POST', '/bsdsyms?x=1', { 'Content-Length': image.length }));
    expect(verdict(await connection.answer())).toEqual(problem(400, 'parameter-unknown'));
    // The rest is read for as long as a request may take, and then no more.
    void drip(connection, image);
    expect(await connection.ended()).toBe('');
  });
});

describe('a body that stops', () => {
  const brief = { BSDSYMS_STALL_TIMEOUT_MS: SHORT_MS };

  test.each<[string, Record<string, string | number>, Uint8Array[]]>([
    ['before its first byte', { 'Content-Length': image.length }, []],
    ['in the middle', { 'Content-Length': image.length }, [half(image)]],
    ['between chunks', { 'Transfer-Encoding': 'chunked' }, [chunk(half(image))]],
    ['before the chunk that ends it', { 'Transfer-Encoding': 'chunked' }, [chunk(image)]],
    [
      'in the middle of a form',
      { 'Content-Length': form.body.length, 'Content-Type': form.contentType },
      [half(form.body)],
    ],
    [
      'in the headers of a part',
      { 'Content-Length': form.body.length, 'Content-Type': form.contentType },
      [form.body.subarray(0, 40)],
    ],
    ['in the middle of a coding', { 'Content-Length': 1000, 'Content-Encoding': 'gzip' }, [gzipHead]],
    ['in the middle of a compressed image', { 'Content-Length': 1000 }, [gzipHead]],
  ])('%s gets 408', async (_where, headers, pieces) => {
    const connection = await connectTo(brief);
    await connection.send(head('POST', '/bsdsyms', headers), ...pieces);
    const answer = await connection.answer();
    expect(verdict(answer, 'BSDSYMS_STALL_TIMEOUT_MS', SHORT_MS)).toEqual(tooSlow);
    expect(answer.headers['connection']).toBe('close');
    expect(await connection.ended()).toBe('');
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect((await send(service, '/healthz')).status).toBe(200);
  });

  test('after it was invited gets 408', async () => {
    const connection = await connectTo(brief);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length, Expect: '100-continue' }));
    expect((await connection.answer()).status).toBe(100);
    expect(verdict(await connection.answer(), 'BSDSYMS_STALL_TIMEOUT_MS')).toEqual(tooSlow);
    expect(await connection.ended()).toBe('');
  });

  test('while it is spooled gets 408', async () => {
    const directory = new TemporaryDirectory();
    const connection = await connectTo({
      ...brief,
      BSDSYMS_MEMORY_BUDGET_BYTES: '0',
      BSDSYMS_SPOOL_DIR: directory.path,
    });
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), half(image));
    expect(verdict(await connection.answer(), 'BSDSYMS_STALL_TIMEOUT_MS')).toEqual(tooSlow);
    expect(await connection.ended()).toBe('');
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    directory.remove();
  });

  test('again and again, but never for too long, is accepted', { retry: 3 }, async () => {
    // Together the pauses are longer than one may be, which leaves a busy machine much time after each of them.
    const connection = await connectTo({ BSDSYMS_STALL_TIMEOUT_MS: '5000' });
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }));
    for (let at = 0; at < 12; at++) {
      await connection.send(image.subarray(at, at + 1));
      await sleep(500);
    }
    await connection.send(image.subarray(12));
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
  });

  test.each([
    ['raw', {}],
    ['in a form', { 'Content-Type': imageForm(image).contentType }],
  ])('because the disk is slow is not the fault of its sender: %s', { retry: 3 }, async (name, headers) => {
    const directory = new TemporaryDirectory();
    const connection = await connectTo({
      BSDSYMS_STALL_TIMEOUT_MS: '3000',
      BSDSYMS_MEMORY_BUDGET_BYTES: '0',
      BSDSYMS_SPOOL_DIR: directory.path,
    });
    let writes = 0;
    await interceptWrites(async (write, chunks, position) => {
      writes += 1;
      // Twice the time after which a sender would be given up.
      if (writes === 1) await sleep(6000);
      return write(chunks, position);
    });
    const large = kernelOfSize(24 * MIB);
    const body = name === 'raw' ? large : imageForm(large).body;
    await connection.send(head('POST', '/bsdsyms', { ...headers, 'Content-Length': body.length }), body);
    expect((await connection.answer()).status).toBe(200);
    expect(writes).toBeGreaterThan(1);
    connection.destroy();
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    directory.remove();
  });
});

describe('a connection', () => {
  test('over which no whole head comes is ended long before the time for a request is over', async () => {
    service = await startService({ BSDSYMS_UPLOAD_TIMEOUT_MS: LONG_MS });
    const { server } = service.app.server;
    expect([server.headersTimeout, server.requestTimeout]).toEqual([60_000, Number(LONG_MS)]);
  });

  test('over which nothing is sent is ended', async () => {
    service = await startService({ BSDSYMS_UPLOAD_TIMEOUT_MS: SHORT_MS });
    const connection = await RawConnection.open(service.port);
    expect(await connection.ended()).toMatch(/^(HTTP\/1\.1 408 .*|)$/s);
  });

  test('that was used is ended when it is idle for too long', async () => {
    service = await startService({ BSDSYMS_KEEP_ALIVE_TIMEOUT_MS: SHORT_MS });
    const connection = await RawConnection.open(service.port);
    await connection.send(head('GET', '/healthz'));
    expect((await connection.answer()).status).toBe(200);
    expect(await connection.ended()).toBe('');
  });

  test('is kept by default for longer than balancers keep theirs', async () => {
    service = await startService();
    const connection = await RawConnection.open(service.port);
    await connection.send(head('GET', '/healthz'));
    expect((await connection.answer()).headers['keep-alive']).toBe('timeout=72');
    connection.destroy();
  });
});
