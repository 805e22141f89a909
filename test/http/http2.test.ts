/** HTTP/2 with prior knowledge: the service does not speak it, and says so in a way that such a client can read. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { json } from '../support/http.ts';
import { SOON } from '../support/patience.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { mustSettle, type Service, startService } from '../support/service.ts';
import { hasProgram } from '../support/temporary.ts';
import { MIB } from '../support/uploads.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
/** No flags, stream 0, no payload. */
const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
/** GET, http, / of the static table of HPACK, on stream 13: END_STREAM and END_HEADERS. */
const HEADERS = Buffer.from([0, 0, 3, 1, 5, 0, 0, 0, 13, 0x82, 0x86, 0x84]);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => mustSettle(service));
afterAll(() => service.close());

interface Http2Answer {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
}

async function ask(session: ClientHttp2Session, method: string, path: string, body?: Uint8Array): Promise<Http2Answer> {
  const stream = session.request({ ':method': method, ':path': path });
  // The rest of a body that was refused is not taken.
  stream.on('error', () => {});
  const answered = once(stream, 'response');
  stream.end(body);
  const [headers] = (await answered) as [Readonly<Record<string, unknown>>];
  let text = '';
  for await (const piece of stream) text += String(piece);
  return { headers, text };
}

test.each([
  ['GET', '/healthz', undefined],
  ['GET', '/nowhere', undefined],
  ['POST', '/bsdsyms', kernel().bytes],
  ['PUT', '/bsdsyms', Buffer.alloc(4 * MIB)],
])('%s %s is a 505 with a problem', async (method, path, body) => {
  const session = connect(service.url);
  // The service closes the connection with it.
  session.on('error', () => {});
  let goaway: readonly unknown[] = [];
  session.on('goaway', (...given) => {
    goaway = given;
  });
  try {
    const { headers, text } = await ask(session, method, path, body);
    expect(headers).toMatchObject({
      ':status': 505,
      'content-type': 'application/problem+json',
      'content-length': String(Buffer.byteLength(text)),
      'x-content-type-options': 'nosniff',
      'x-request-id': json({ text })['instance'],
    });
    expect(json({ text })).toMatchObject({ status: 505, code: 'http-version-unsupported' });
    expect(json({ text })['detail']).toContain('curl --http1.1');
    await expect.poll(() => session.closed, SOON).toBe(true);
    // NO_ERROR, and the last stream.
    expect(goaway.slice(0, 2)).toEqual([0, 1]);
  } finally {
    session.destroy();
  }
});

test.skipIf(!hasProgram('curl', '--version'))('curl shows the problem', async () => {
  const run = promisify(execFile);
  const url = `${service.url}/healthz`;
  const { stdout } = await run('curl', ['-sS', '--http2-prior-knowledge', '-w', ' %{http_code}', url]);
  expect(stdout).toMatch(/"code":"http-version-unsupported".* 505$/);
});

/** Types and streams of the frames in what was received. */
function framesOf(received: Buffer): [type: number, stream: number][] {
  const frames: [number, number][] = [];
  for (let at = 0; at < received.length; at += 9 + received.readUIntBE(at, 3)) {
    frames.push([received.readUInt8(at + 3), received.readUInt32BE(at + 5)]);
  }
  return frames;
}

const ANSWER = [
  // SETTINGS, and the acknowledgement of the client's; HEADERS and DATA; GOAWAY.
  [4, 0],
  [4, 0],
  [1, 13],
  [0, 13],
  [7, 0],
];

test('frames may come in any pieces, and others before the request', async () => {
  const priority = Buffer.from([0, 0, 5, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 200]);
  const all = Buffer.concat([Buffer.from(PREFACE), SETTINGS, priority, SETTINGS, HEADERS, HEADERS]);
  for (const size of [1, 7, 24, 40, all.length]) {
    const connection = await RawConnection.open(service.port);
    for (let at = 0; at < all.length; at += size) await connection.send(all.subarray(at, at + size));
    connection.halfClose();
    await connection.ended();
    expect(framesOf(connection.received)).toEqual(ANSWER);
  }
});

test('after a request in HTTP/1.1 the answer is in HTTP/1.1', async () => {
  const connection = await RawConnection.open(service.port);
  await connection.send(head('GET', '/healthz'));
  expect((await connection.answer()).status).toBe(200);
  await connection.send(PREFACE, SETTINGS, HEADERS);
  expect((await connection.answer()).status).toBe(505);
  expect(await connection.ended()).toBe('');
});

test('a client that leaves after the preface, or sends frames without end, leaves nothing behind', async () => {
  const silent = await RawConnection.open(service.port);
  await silent.send(PREFACE);
  silent.destroy();
  const busy = await RawConnection.open(service.port);
  await busy.send(PREFACE, ...Array.from({ length: 1000 }, () => SETTINGS), HEADERS);
  busy.halfClose();
  await busy.ended();
  // Only the first SETTINGS are acknowledged.
  expect(framesOf(busy.received)).toEqual(ANSWER);
});
