/** Requests whose frame is in doubt are refused, each with a problem, and no two readers of them can disagree. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { json, post, problem, send, verdict } from '../support/http.ts';
import { chunk, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService, uploading } from '../support/service.ts';
import { eventually, MIB, pieces, SlowSender } from '../support/uploads.ts';

const image = kernel({ symbols: 20 }).bytes;
const chunked = Buffer.concat([chunk(image), chunk(new Uint8Array())]);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.close());

/** Sends lines of a head, and a body. */
async function ask(lines: readonly string[], body: string | Uint8Array = ''): Promise<RawConnection> {
  const connection = await RawConnection.open(service.port);
  await connection.send(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), Buffer.from(body)]));
  return connection;
}

const GET = 'GET /healthz HTTP/1.1';
const POST = 'POST /layout HTTP/1.1';
const HOST = 'Host: x';
const CLOSE = 'Connection: close';
const CHUNKED = 'Transfer-Encoding: chunked';
const length = (bytes: number | string): string => `Content-Length: ${bytes}`;

describe('is refused:', () => {
  test.each<[string, number, string, string[], (string | Uint8Array)?]>([
    ['no Host', 400, 'bad-request', [GET]],
    ['two Host fields', 400, 'bad-request', [GET, HOST, 'Host: y']],
    ['two equal Host fields', 400, 'bad-request', [GET, HOST, HOST]],
    ['two Host fields in HTTP/1.0', 400, 'bad-request', ['GET /healthz HTTP/1.0', HOST, 'Host: y']],
    ['a Host with a path', 400, 'bad-request', [GET, 'Host: x/y']],
    ['a Host with a user', 400, 'bad-request', [GET, 'Host: me@x']],
    ['two hosts in one field', 400, 'bad-request', [GET, 'Host: x y']],
    [
      'gzip as a transfer coding',
      501,
      'transfer-coding-unsupported',
      [POST, HOST, CHUNKED.replace(':', ': gzip,')],
      chunked,
    ],
    [
      'gzip and chunked in two fields',
      501,
      'transfer-coding-unsupported',
      [POST, HOST, 'Transfer-Encoding: gzip', CHUNKED],
      chunked,
    ],
    ['gzip alone', 501, 'transfer-coding-unsupported', [POST, HOST, 'Transfer-Encoding: gzip'], chunked],
    [
      'an unknown transfer coding of a request without a body',
      501,
      'transfer-coding-unsupported',
      [GET, HOST, 'Transfer-Encoding: x, chunked'],
      '0\r\n\r\n',
    ],
    [
      'identity as a transfer coding',
      501,
      'transfer-coding-unsupported',
      [POST, HOST, 'Transfer-Encoding: identity'],
      chunked,
    ],
    ['chunked twice', 400, 'bad-request', [POST, HOST, CHUNKED, CHUNKED], chunked],
    ['chunked, but not last', 400, 'bad-request', [POST, HOST, `${CHUNKED}, gzip`], chunked],
    ['no transfer coding', 400, 'bad-request', [POST, HOST, 'Transfer-Encoding: '], chunked],
    ['a transfer coding in HTTP/1.0', 400, 'bad-request', ['POST /layout HTTP/1.0', HOST, CHUNKED], chunked],
    ['a length and chunks', 400, 'bad-request', [POST, HOST, length(3), CHUNKED], chunked],
    ['chunks and a length', 400, 'bad-request', [POST, HOST, CHUNKED, length(3)], chunked],
    ['two lengths', 400, 'bad-request', [POST, HOST, length(3), length(4)], 'abcd'],
    ['two equal lengths', 400, 'bad-request', [POST, HOST, length(3), length(3)], 'abc'],
    ['two lengths in one field', 400, 'bad-request', [POST, HOST, length('3, 3')], 'abc'],
    ['a length with a sign', 400, 'bad-request', [POST, HOST, length('+3')], 'abc'],
    ['a negative length', 400, 'bad-request', [POST, HOST, length(-3)], 'abc'],
    ['a length beyond all numbers', 400, 'bad-request', [POST, HOST, length('9'.repeat(30))], 'abc'],
    ['a folded field', 400, 'bad-request', [GET, HOST, 'X: a', ' b']],
    ['a blank before a colon', 400, 'bad-request', [GET, HOST, 'X : a']],
    ['a NUL', 400, 'bad-request', [GET, HOST, 'X: a\0b']],
    ['a bare carriage return', 400, 'bad-request', [GET, 'Host: x\rX: y']],
    ['bare line feeds', 400, 'bad-request', [`${GET}\nHost: x\nConnection: close\n\n`]],
    ['HTTP/0.9', 505, 'http-version-unsupported', ['GET /healthz']],
    ['HTTP/2.0', 505, 'http-version-unsupported', ['GET /healthz HTTP/2.0', HOST]],
    ['HTTP/1.2', 400, 'bad-request', ['GET /healthz HTTP/1.2', HOST]],
    ['a method that there is not', 400, 'bad-request', ['BREW /healthz HTTP/1.1', HOST]],
    ['a target that is no path', 400, 'bad-request', ['GET healthz HTTP/1.1', HOST]],
    ['CONNECT', 405, 'method-not-allowed', ['CONNECT x:443 HTTP/1.1', HOST]],
    ['a target that is too long', 431, 'header-fields-too-large', [`GET /${'x'.repeat(20_000)} HTTP/1.1`, HOST]],
    ['a target far too long', 431, 'header-fields-too-large', [`GET /${'x'.repeat(4 * MIB)} HTTP/1.1`, HOST]],
    ['too many fields', 431, 'header-fields-too-large', [GET, HOST, ...Array.from({ length: 5000 }, () => 'a:')]],
  ])('%s', async (_what, status, code, lines, body) => {
    const connection = await ask(lines, body);
    const answer = await connection.answer();
    expect([verdict(answer), answer.headers['connection']]).toEqual([problem(status, code), 'close']);
    expect(answer.headers).toMatchObject({
      'content-type': 'application/problem+json',
      'x-content-type-options': 'nosniff',
      'x-request-id': json(answer)['instance'],
    });
    expect(await connection.ended()).toBe('');
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });
});

describe('is accepted:', () => {
  test.each<[string, number, string[], (string | Uint8Array)?]>([
    ['an empty Host', 200, [GET, 'Host: ', CLOSE]],
    ['a Host with a port', 200, [GET, 'Host: bsdsyms.example:8080', CLOSE]],
    ['an IPv6 Host', 200, [GET, 'Host: [2001:db8::1]:80', CLOSE]],
    ['HTTP/1.0 without a Host', 200, ['GET /healthz HTTP/1.0']],
    ['chunked in capitals', 200, [POST, HOST, 'Transfer-Encoding: CHUNKED', CLOSE], chunked],
    ['chunked after blanks', 200, [POST, HOST, 'Transfer-Encoding:  \tchunked ', CLOSE], chunked],
    ['a target with scheme and host', 200, ['GET http://x/healthz HTTP/1.1', HOST, CLOSE]],
    ['a target of another host', 200, ['GET https://y:1/healthz?z HTTP/1.1', HOST, CLOSE]],
    ['a host for a target', 200, ['GET http://x HTTP/1.1', HOST, CLOSE]],
    ['OPTIONS of everything', 204, ['OPTIONS * HTTP/1.1', HOST, CLOSE]],
    ['TRACE', 405, ['TRACE /healthz HTTP/1.1', HOST, CLOSE]],
    ['a long target', 404, [`GET /${'x'.repeat(10_000)} HTTP/1.1`, HOST, CLOSE]],
  ])('%s', async (_what, status, lines, body) => {
    const connection = await ask(lines, body);
    expect((await connection.answer()).status).toBe(status);
    expect(await connection.ended()).toBe('');
  });
});

test('CONNECT while a request is answered ends the connection without a word', async () => {
  const full = await startService({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' });
  const sender = await SlowSender.start(full.port, image);
  await uploading(full);
  const connection = await RawConnection.open(full.port);
  await connection.send(Buffer.concat([Buffer.from(`${POST}\r\n${HOST}\r\n${length(image.length)}\r\n\r\n`), image]));
  await eventually('it waits for a place', () => full.app.upload.admission.queued === 1);
  await connection.send('CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(await connection.ended()).toBe('');
  sender.stop();
  expect(await settled(full)).toEqual(NOTHING_OCCUPIED);
  await full.close();
});

test('the flags of the process do not make the parser lenient', () => {
  expect(service.app.server.server).toMatchObject({ insecureHTTPParser: false });
});

test('a head that is far too long is read on after its refusal, and resets nothing', async () => {
  const connection = await ask([`GET /${'x'.repeat(20_000)}`]);
  expect((await connection.answer()).status).toBe(431);
  for (let round = 0; round < 4; round++) await connection.send('x'.repeat(MIB));
  expect(await connection.ended()).toBe('');
  expect(connection.wasReset).toBe(false);
});

describe('a refusal that closes the connection', () => {
  const body = new Uint8Array(8 * MIB);

  test.each<[string, string[]]>([
    ['the client wants it closed', ['POST /layout?x=1 HTTP/1.1', HOST, CLOSE, length(body.length)]],
    ['HTTP/1.0', ['POST /layout?x=1 HTTP/1.0', length(body.length)]],
    ['no route', ['POST /nowhere HTTP/1.1', HOST, CLOSE, length(body.length)]],
    ['its frame is in doubt', ['POST /layout HTTP/1.1', HOST, HOST, length(body.length)]],
    ['it could have waited', ['POST /layout?x=1 HTTP/1.1', HOST, 'Expect: 100-continue', length(body.length)]],
  ])('reaches a client that sends everything first, and resets nothing: %s', async (_why, lines) => {
    const connection = await ask(lines);
    const answer = await connection.answer();
    expect(answer.headers['connection']).toBe('close');
    await connection.send(...pieces(body, MIB));
    expect(await connection.ended()).toBe('');
    expect(connection.wasReset).toBe(false);
  });
});

test('every answer keeps browsers from guessing its type', async () => {
  const answers = [
    await send(service, '/healthz'),
    await send(service, '/nowhere'),
    await send(service, '/%zz'),
    await send(service, '/bsdsyms'),
    await send(service, '/bsdsyms', { method: 'DELETE' }),
    await post(service, '/bsdsyms', image),
    await post(service, '/layout', 'no ELF'),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 404, 404, 400, 405, 200, 422]);
  expect(answers.map(({ headers }) => headers['x-content-type-options'])).toEqual(answers.map(() => 'nosniff'));
});
