/** Many requests on one connection: each is answered in its turn, and those that wait cost next to nothing. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { json, problem, send, verdict } from '../support/http.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { eventually, KIB, MIB, memoryInUse, SlowSender } from '../support/uploads.ts';

const image = kernel({ symbols: 20 }).bytes;
/** What one read of a socket delivers at most. */
const READ_BYTES = 64 * KIB;
const OK = 'HTTP/1.1 200 OK\r\n';

let service: Service;
afterEach(() => service.close());

const get = (path: string, headers: Readonly<Record<string, string>> = {}): string => head('GET', path, headers);
const upload = (path: string, body: Uint8Array, headers: Readonly<Record<string, string>> = {}): Buffer =>
  Buffer.concat([Buffer.from(head('POST', path, { 'Content-Length': body.length, ...headers })), body]);
const chunked = (path: string, body: Uint8Array): Buffer =>
  Buffer.concat([
    Buffer.from(head('POST', path, { 'Transfer-Encoding': 'chunked' })),
    chunk(body),
    chunk(new Uint8Array()),
  ]);

/** As many requests as fit into this many bytes. */
function fill(request: string, bytes: number): { readonly count: number; readonly text: string } {
  const count = Math.floor(bytes / request.length);
  return { count, text: request.repeat(count) };
}

/** A connection over which nothing is read before it is asked for. */
async function openUnread(): Promise<Socket> {
  const socket = connect({ port: service.port, host: '127.0.0.1' });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Reads until there were this many good answers. @returns how many there were when the connection ended, if it did */
async function readAnswers(socket: Socket, count: number): Promise<number> {
  let answers = 0;
  let rest = '';
  for await (const data of socket) {
    const pieces = (rest + (data as Buffer).toString('latin1')).split(OK);
    answers += pieces.length - 1;
    rest = pieces.at(-1)?.slice(1 - OK.length) ?? '';
    if (answers >= count) break;
  }
  return answers;
}

/** Lets the service do whatever it is about to do. */
async function passTurns(): Promise<void> {
  for (let round = 0; round < 30; round++) expect((await send(service, '/healthz')).status).toBe(200);
}

describe('requests sent without waiting for answers', () => {
  test('are answered in their order, whatever they are', async () => {
    service = await startService({ BSDSYMS_MAX_IMAGE_BYTES: String(MIB) });
    const form = imageForm(image, { onBroken: 'load' });
    const tooLarge = new Uint8Array(2 * MIB);
    const requests: [number, string, string | Buffer][] = [
      [200, '', get('/healthz')],
      [200, '', upload('/layout', image)],
      [404, 'not-found', get('/nowhere')],
      [404, 'not-found', get('/%zz')],
      [400, 'parameter-unknown', upload('/layout?x=1', image)],
      [200, '', upload('/layout', form.body, { 'Content-Type': form.contentType })],
      [413, 'image-too-large', upload('/layout', tooLarge)],
      [200, '', upload('/layout', gzipSync(image))],
      [200, '', chunked('/layout', image)],
      [422, 'not-elf', upload('/layout', Buffer.from('no ELF'))],
      [405, 'method-not-allowed', upload('/healthz', image)],
      [200, '', get('/openapi.json')],
    ];
    const connection = await RawConnection.open(service.port);
    const rounds = [...requests, ...requests, ...requests];
    await connection.send(Buffer.concat(rounds.map(([, , bytes]) => Buffer.from(bytes))));
    for (const [status, code] of rounds) {
      const answer = await connection.answer();
      expect([answer.status, status === 200 ? '' : json(answer)['code']]).toEqual([status, code]);
    }
    connection.destroy();
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('are answered one at a time: the uploads of a connection need one slot', async () => {
    service = await startService({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    const connection = await RawConnection.open(service.port);
    await connection.send(Buffer.concat(Array.from({ length: 10 }, () => upload('/bsdsyms', image))));
    const statuses: number[] = [];
    for (let round = 0; round < 10; round++) statuses.push((await connection.answer()).status);
    expect(statuses).toEqual(Array.from({ length: 10 }, () => 200));
    connection.destroy();
  });

  test.each(['/metrics', '/openapi.json'])('take no memory for answers that nobody reads yet: %s', async (path) => {
    service = await startService();
    await send(service, path);
    const { text } = fill(get(path), READ_BYTES);
    const before = await memoryInUse();
    const sockets = [await openUnread(), await openUnread()];
    for (const socket of sockets) socket.write(text);
    await passTurns();
    expect((await memoryInUse()) - before).toBeLessThan(32 * MIB);
    for (const socket of sockets) socket.destroy();
  });

  test('keep no other client waiting', async () => {
    service = await startService();
    const { count, text } = fill(get('/problems'), READ_BYTES);
    const socket = await openUnread();
    socket.write(text);
    await once(socket, 'readable');
    await send(service, '/healthz', { headers: { 'x-request-id': 'other' } });
    expect(await readAnswers(socket, count)).toBe(count);
    await eventually('all are logged', () => service.logs('request').length > count);
    const place = service.logs('request').findIndex(({ reqId }) => reqId === 'other');
    expect(place).toBeLessThan(count / 2);
  });

  test.each<[string, string]>([
    ['requests', get('/healthz')],
    ['what is none', '\x01'],
  ])('stay with the sender while one of them waits: %s', async (_what, following) => {
    service = await startService({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' });
    const sender = await SlowSender.start(service.port, image);
    await eventually('the place is taken', () => service.app.upload.admission.running === 1);
    const connected = once(service.app.server.server, 'connection') as Promise<[Socket]>;
    const socket = await openUnread();
    const [ours] = await connected;
    socket.write(upload('/layout', image));
    await eventually('it waits for the place', () => service.app.upload.admission.queued === 1);
    const { count, text } = fill(following, 256 * KIB);
    socket.write(text);
    await passTurns();
    expect(ours.bytesRead).toBeLessThan(image.length + 2 * READ_BYTES);

    await sender.finish();
    const good = following.length > 1 ? count + 1 : 1;
    expect(await readAnswers(socket, good)).toBe(good);
    sender.stop();
  });

  test('stay with the sender while a long answer is read', async () => {
    service = await startService();
    const connected = once(service.app.server.server, 'connection') as Promise<[Socket]>;
    const socket = await openUnread();
    const [ours] = await connected;
    const { bytes } = kernel({ memsz: 64 * MIB });
    socket.write(upload('/image', bytes));
    socket.write(get('/healthz').repeat(100_000));
    let received = 0;
    for await (const data of socket) {
      received += (data as Buffer).length;
      if (received > 60 * MIB) break;
      // Node reads on whenever it could send something.
      expect(ours.bytesRead).toBeLessThan(bytes.length + 2 * READ_BYTES);
    }
    expect(received).toBeGreaterThan(60 * MIB);
  });

  test('are dropped with their connection', async () => {
    service = await startService({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' });
    const sender = await SlowSender.start(service.port, image);
    await eventually('the place is taken', () => service.app.upload.admission.running === 1);
    const socket = await openUnread();
    socket.write(Buffer.concat(Array.from({ length: 20 }, () => upload('/layout', image))));
    await eventually('one waits for the place', () => service.app.upload.admission.queued === 1);
    socket.resetAndDestroy();
    await passTurns();
    service.clearLogs();
    sender.stop();
    // The first one fails when it is answered; the others are never begun.
    await service.logged({ msg: 'request', route: '/layout', status: 499 });
    await service.logged({ msg: 'request', route: '/bsdsyms', status: 499 });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect([service.logs('request').length, service.app.lifecycle.idle]).toEqual([2, true]);
  });
});

describe('what follows a request and is none', () => {
  const bad = problem(400, 'bad-request');

  test.each<[string, string | Buffer]>([
    ['a request', get('/healthz')],
    ['an upload', upload('/layout', image)],
  ])('is refused after the answer to %s', async (_what, first) => {
    service = await startService();
    const connection = await RawConnection.open(service.port);
    await connection.send(Buffer.concat([Buffer.from(first), Buffer.from('\x01 nonsense\r\n\r\n')]));
    const answer = await connection.answer();
    expect([answer.status, answer.headers['connection']]).toEqual([200, 'keep-alive']);
    const refusal = await connection.answer();
    expect([verdict(refusal), refusal.headers['connection']]).toEqual([bad, 'close']);
    expect(refusal.headers['x-request-id']).not.toBe(answer.headers['x-request-id']);
    expect(await connection.ended()).toBe('');
  });

  test('is refused after the answers to all requests before it', async () => {
    service = await startService();
    const connection = await RawConnection.open(service.port);
    await connection.send(`${get('/openapi.json').repeat(50)}\x01 nonsense\r\n\r\n`);
    for (let round = 0; round < 50; round++) expect((await connection.answer()).status).toBe(200);
    expect(verdict(await connection.answer())).toEqual(bad);
    expect(await connection.ended()).toBe('');
  });

  test('is refused as cut off when the client ends in the middle of it', async () => {
    service = await startService();
    const connection = await RawConnection.open(service.port);
    await connection.send(Buffer.concat([upload('/layout', image), Buffer.from('GET /heal')]));
    connection.halfClose();
    expect((await connection.answer()).status).toBe(200);
    expect(verdict(await connection.answer())).toEqual(problem(400, 'body-truncated'));
    expect(await connection.ended()).toBe('');
  });

  test.each<[string, string | Buffer]>([
    ['a request', get('/healthz', { Connection: 'close' })],
    ['an upload', upload('/layout', image, { Connection: 'close' })],
  ])('is ignored when %s was the last one', async (_what, first) => {
    service = await startService();
    const connection = await RawConnection.open(service.port);
    await connection.send(Buffer.concat([Buffer.from(first), Buffer.from(get('/healthz'))]));
    const answer = await connection.answer();
    expect([answer.status, answer.headers['connection']]).toEqual([200, 'close']);
    expect(await connection.ended()).toBe('');
    expect(service.logs('request')).toHaveLength(1);
  });
});

describe('an Upgrade', () => {
  test.each<[string, (fields: Record<string, string>) => string | Buffer]>([
    ['a request', (fields) => get('/healthz', fields)],
    ['an upload', (fields) => upload('/layout', image, fields)],
  ])('is ignored, and nothing after it is lost without a word: %s', async (_what, request) => {
    service = await startService();
    const connection = await RawConnection.open(service.port);
    const first = request({ Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AA' });
    await connection.send(Buffer.concat([Buffer.from(first), Buffer.from(get('/healthz'))]), get('/healthz'));
    const answer = await connection.answer();
    expect([answer.status, answer.headers['connection']]).toEqual([200, 'close']);
    expect(await connection.ended()).toBe('');
    expect(service.logs('request')).toHaveLength(1);
  });
});
