/** The limit of an image: told as early as can be known, in an answer that arrives, and before a body is asked for. */
import { execFile } from 'node:child_process';
import { openAsBlob } from 'node:fs';
import { type OutgoingHttpHeaders, request as sendRequest } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { imageForm, imagePart, multipart } from '../support/forms.ts';
import { json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { hasProgram, TemporaryDirectory } from '../support/temporary.ts';
import { eventually, KIB, kernelOfSize, MIB, noise, pieces, SlowSender } from '../support/uploads.ts';

const LIMIT = MIB;
/** What a form may have beside the image. */
const FORM_OVERHEAD = 64 * KIB;
const fitting = kernelOfSize(LIMIT);
const tooLarge = Buffer.concat([fitting, Buffer.from('x')]);
/** Far more than the buffers between a client and the service hold. */
const huge = noise(24 * MIB);

let service: Service;
beforeAll(async () => {
  service = await startService({ BSDSYMS_MAX_IMAGE_BYTES: String(LIMIT) });
});
afterAll(() => service.close());

const chunked = { 'transfer-encoding': 'chunked' };
const refused = problem(413, 'image-too-large');

const raw = (body: Uint8Array, headers: OutgoingHttpHeaders = {}) => post(service, '/layout', body, headers);
const form = (body: Uint8Array, headers: OutgoingHttpHeaders = {}) =>
  postForm(service, '/layout', imageForm(body, { onBroken: 'load', loader: 'xen-4.8' }), headers);

describe('an image', () => {
  test.each([
    ['raw', raw, {}],
    ['raw and chunked', raw, chunked],
    ['in a form', form, {}],
    ['in a chunked form', form, chunked],
  ] as const)('of just the limit is taken, one byte more is not: %s', async (_name, ask, headers) => {
    const layout = json(await ask(fitting, headers));
    expect(layout['image']).toMatchObject({ size: LIMIT });
    const answer = await ask(tooLarge, headers);
    expect(verdict(answer, String(LIMIT), 'BSDSYMS_MAX_IMAGE_BYTES', 'objcopy --strip-debug')).toEqual(refused);
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('counts without what a form adds to it, but that is counted, too', async () => {
    const padding = { name: 'onBroken', value: 'load' };
    const preamble = (length: number) => {
      const { body, contentType } = multipart([padding, imagePart(fitting)]);
      return { contentType, body: Buffer.concat([Buffer.alloc(length, '\r\n'), body]) };
    };
    const answers = [
      await postForm(service, '/layout', preamble(FORM_OVERHEAD / 2), chunked),
      await postForm(service, '/layout', preamble(FORM_OVERHEAD), chunked),
      await postForm(service, '/layout', preamble(FORM_OVERHEAD)),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 413, 413]);
  });
});

describe('too large by Content-Length', () => {
  test.each([
    ['an image', LIMIT + 1, 'application/octet-stream'],
    ['a form', LIMIT + FORM_OVERHEAD + 1, 'multipart/form-data; boundary=x'],
    ['an absurd length', Number.MAX_SAFE_INTEGER, 'application/octet-stream'],
  ])('is refused before a byte of the body is sent: %s', async (_name, length, type) => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': length, 'Content-Type': type }));
    expect(verdict(await connection.answer(), `${length} bytes`, String(LIMIT))).toEqual(refused);
    connection.destroy();
  });

  test('leaves the connection in use once the body has run dry', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': huge.length }));
    const answer = await connection.answer();
    expect([verdict(answer), answer.headers['connection']]).toEqual([refused, 'keep-alive']);
    await connection.send(...pieces(huge, MIB), head('POST', '/layout', { 'Content-Length': fitting.length }), fitting);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
  });
});

describe('too large without Content-Length', () => {
  test('is refused when the limit is passed, not at the end', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Transfer-Encoding': 'chunked' }), chunk(tooLarge));
    // The body has no end yet.
    expect(verdict(await connection.answer(), String(LIMIT))).toEqual(refused);
    await connection.send(chunk(huge), chunk(Buffer.alloc(0)), head('GET', '/healthz'));
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
  });

  test('is refused when the limit is passed inside a form', async () => {
    const { body, contentType } = imageForm(tooLarge);
    const connection = await RawConnection.open(service.port);
    const headers = { 'Transfer-Encoding': 'chunked', 'Content-Type': contentType };
    await connection.send(head('POST', '/bsdsyms', headers), chunk(body.subarray(0, -100)), chunk(huge));
    expect(verdict(await connection.answer(), String(LIMIT))).toEqual(refused);
    connection.destroy();
  });
});

function curl(...args: readonly string[]): Promise<{ readonly exit: unknown; readonly stdout: string }> {
  const all = ['-sS', '--max-time', '20', '-w', '\n%{http_code}', ...args, `${service.url}/bsdsyms`];
  return new Promise((resolve) => {
    execFile('curl', all, (error, stdout) => resolve({ exit: error?.code ?? 0, stdout }));
  });
}

/** Every way in which a client may send what is too large, all of it, whatever it is answered meanwhile. */
describe('the 413 reaches', () => {
  let directory: TemporaryDirectory;
  let file: string;
  beforeAll(() => {
    directory = new TemporaryDirectory();
    file = directory.write(huge);
  });
  afterAll(() => {
    directory.remove();
  });

  interface Seen {
    readonly status: number;
    readonly text: string;
  }

  const ways = ['raw', 'raw and chunked', 'in a form', 'in a chunked form'] as const;
  type Way = (typeof ways)[number];
  const isForm = (way: Way): boolean => way.includes('form');
  const isChunked = (way: Way): boolean => way.includes('chunked');

  test.each(ways)('node:http: %s', async (way) => {
    const whole = imageForm(huge);
    const body = isForm(way) ? whole.body : huge;
    const length = isChunked(way) ? chunked : { 'content-length': body.length };
    const type = isForm(way) ? { 'content-type': whole.contentType } : {};
    const seen = await new Promise<Seen>((resolve, reject) => {
      const outgoing = sendRequest(
        { port: service.port, host: '127.0.0.1', path: '/bsdsyms', method: 'POST', headers: { ...length, ...type } },
        (response) => {
          let text = '';
          response.on('data', (data: Buffer) => {
            text += data.toString();
          });
          response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      outgoing.on('error', reject);
      pipeline(Readable.from(pieces(body, 64 * KIB)), outgoing).catch(reject);
    });
    expect(verdict(seen)).toEqual(refused);
  });

  test.each(ways)('fetch: %s', async (way) => {
    const { body, contentType } = imageForm(huge);
    const bytes = isForm(way) ? body : huge;
    const streamed = isChunked(way) ? { body: Readable.from(pieces(bytes, 64 * KIB)), duplex: 'half' as const } : null;
    const response = await fetch(`${service.url}/bsdsyms`, {
      method: 'POST',
      headers: { 'content-type': isForm(way) ? contentType : 'application/octet-stream' },
      ...(streamed ?? { body: bytes }),
    });
    expect(verdict({ status: response.status, text: await response.text() })).toEqual(refused);
  });

  test('fetch with FormData', async () => {
    const data = new FormData();
    data.set('image', await openAsBlob(file), 'kernel');
    const response = await fetch(`${service.url}/bsdsyms`, { method: 'POST', body: data });
    expect(verdict({ status: response.status, text: await response.text() })).toEqual(refused);
  });

  test.each([
    ['gzip', gzipSync(huge, { level: 0 }), {}],
    ['zstd', zstdCompressSync(huge), {}],
    ['coded with gzip', gzipSync(huge, { level: 0 }), { 'Content-Encoding': 'gzip' }],
  ])(
    'a client that sends everything before it reads, and the connection continues: %s',
    async (_name, packed, headers) => {
      const connection = await RawConnection.open(service.port);
      await connection.send(head('POST', '/layout', { 'Transfer-Encoding': 'chunked', ...headers }));
      for (const piece of pieces(packed, 64 * KIB)) await connection.send(chunk(piece));
      await connection.send(chunk(Buffer.alloc(0)));
      expect(verdict(await connection.answer())).toEqual(refused);
      await connection.send(head('GET', '/healthz'));
      expect((await connection.answer()).status).toBe(200);
      connection.destroy();
    },
  );

  describe.skipIf(!hasProgram('curl', '--version'))('curl', () => {
    test.each<[string, (path: string) => string[]]>([
      ['-X POST -T', (path) => ['-X', 'POST', '-T', path]],
      ['-X POST -T, chunked', (path) => ['-X', 'POST', '-T', path, '-H', 'Transfer-Encoding: chunked']],
      ['--data-binary', (path) => ['--data-binary', `@${path}`]],
      ['--data-binary without Expect', (path) => ['--data-binary', `@${path}`, '-H', 'Expect:']],
      ['-F', (path) => ['-F', `image=@${path}`]],
      ['-F without Expect', (path) => ['-F', `image=@${path}`, '-H', 'Expect:']],
      ['-F, chunked', (path) => ['-F', `image=@${path}`, '-H', 'Transfer-Encoding: chunked']],
      ['-T over HTTP/1.0', (path) => ['--http1.0', '-X', 'POST', '-T', path]],
    ])('%s', async (_name, args) => {
      const { exit, stdout } = await curl(...args(file));
      const [text = '', status] = stdout.split('\n');
      expect([exit, verdict({ status: Number(status), text })]).toEqual([0, refused]);
    });
  });
});

const expecting = (headers: Readonly<Record<string, string | number>>): Record<string, string | number> => ({
  Expect: '100-continue',
  ...headers,
});

test('the end of the service does not close the connection under the sender', async () => {
  const ending = await startService();
  ending.app.lifecycle.drain();
  const connection = await RawConnection.open(ending.port);
  await connection.send(head('POST', '/bsdsyms', { 'Content-Length': fitting.length }));
  const early = await connection.answer();
  expect([verdict(early), early.headers['connection']]).toEqual([problem(503, 'shutting-down'), 'keep-alive']);
  await connection.send(fitting, head('GET', '/healthz'));
  const late = await connection.answer();
  expect([late.status, late.headers['connection']]).toEqual([200, 'close']);
  expect(await connection.ended()).toBe('');
  await ending.close();
});

describe('Expect: 100-continue', () => {
  const json1 = { 'Content-Length': 100, 'Content-Type': 'application/json' };

  test.each<[string, string, Record<string, string | number>, number, string]>([
    ['an image that is too large', '/bsdsyms', { 'Content-Length': LIMIT + 1 }, 413, 'image-too-large'],
    ['a content type that is not taken', '/bsdsyms', json1, 415, 'media-type-unsupported'],
    ['an unknown coding', '/layout', { 'Content-Length': 9, 'Content-Encoding': 'xz' }, 415, 'coding-unsupported'],
    ['a bad parameter', '/bsdsyms?loadAddress=x', { 'Content-Length': 100 }, 400, 'parameter-invalid'],
    ['an answer that there is not', '/bsdsyms', { 'Content-Length': 9, Accept: 'image/png' }, 406, 'not-acceptable'],
    ['no route', '/nowhere', { 'Content-Length': 100 }, 404, 'not-found'],
    ['no such method', '/healthz', { 'Content-Length': 100 }, 405, 'method-not-allowed'],
  ])('%s is refused without an invitation', async (_name, path, headers, status, code) => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', path, expecting(headers)));
    const answer = await connection.answer();
    expect([verdict(answer), answer.headers['connection']]).toEqual([problem(status, code), 'close']);
    expect(await connection.ended()).toBe('');
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('a full service refuses without an invitation', async () => {
    const small = await startService({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    const sender = await SlowSender.start(small.port, fitting);
    await eventually('all slots are taken', () => small.app.upload.admission.running === 1);
    const connection = await RawConnection.open(small.port);
    await connection.send(head('POST', '/bsdsyms', expecting({ 'Content-Length': 100 })));
    const answer = await connection.answer();
    expect(verdict(answer)).toEqual(problem(503, 'too-busy'));
    expect(answer.headers).toMatchObject({ connection: 'close', 'retry-after': '1' });
    expect(await connection.ended()).toBe('');
    sender.stop();
    await small.close();
  });

  test('a service that ends refuses without an invitation', async () => {
    const ending = await startService();
    ending.app.lifecycle.drain();
    const connection = await RawConnection.open(ending.port);
    await connection.send(head('POST', '/bsdsyms', expecting({ 'Content-Length': 100 })));
    const answer = await connection.answer();
    expect([verdict(answer), answer.headers['connection']]).toEqual([problem(503, 'shutting-down'), 'close']);
    expect(await connection.ended()).toBe('');
    await ending.close();
  });

  const whole = imageForm(fitting);
  test.each<[string, Uint8Array, Record<string, string>]>([
    ['raw', fitting, {}],
    ['a form', whole.body, { 'Content-Type': whole.contentType }],
  ])('what may come is invited once, and answered: %s', async (_name, body, headers) => {
    const connection = await RawConnection.open(service.port);
    for (const expectation of ['100-continue', '100-Continue']) {
      const fields = { ...headers, 'Content-Length': body.length, Expect: expectation };
      await connection.send(head('POST', '/layout', fields));
      expect((await connection.answer()).status).toBe(100);
      await connection.send(body);
      expect((await connection.answer()).status).toBe(200);
    }
    await connection.send(head('GET', '/healthz', { Connection: 'close' }));
    expect((await connection.answer()).status).toBe(200);
    expect(await connection.ended()).toBe('');
  });

  test('a broken image is answered after the invitation, and the connection stays', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/layout', expecting({ 'Content-Length': 5 })));
    expect((await connection.answer()).status).toBe(100);
    await connection.send('no ELF'.slice(0, 5));
    const answer = await connection.answer();
    expect([verdict(answer), answer.headers['connection']]).toEqual([problem(422, 'not-elf'), 'keep-alive']);
    connection.destroy();
  });

  test('a chunked body that grows too large after the invitation is refused', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/layout', expecting({ 'Transfer-Encoding': 'chunked' })));
    expect((await connection.answer()).status).toBe(100);
    await connection.send(chunk(tooLarge));
    expect(verdict(await connection.answer())).toEqual(refused);
    connection.destroy();
  });

  test.each(['100-continue, x=y', 'x=y, 100-continue', 'x="a, b",100-CONTINUE', '100-continue;q=1'])(
    'among others is seen: %s',
    async (expect100) => {
      const connection = await RawConnection.open(service.port);
      const request = head('POST', '/layout', { 'Content-Length': fitting.length, Expect: expect100 });
      expect(await connection.sendInvited(request, fitting)).toEqual([100, 200]);
      connection.destroy();
    },
  );

  test('is seen in the second of two fields', async () => {
    const connection = await RawConnection.open(service.port);
    const fields = `Expect: x\r\nExpect: 100-continue\r\nContent-Length: ${fitting.length}\r\n`;
    await connection.send(`POST /layout HTTP/1.1\r\nHost: x\r\n${fields}\r\n`);
    expect((await connection.answer()).status).toBe(100);
    connection.destroy();
  });

  test('is ignored in HTTP/1.0, which has no interim answers', async () => {
    const connection = await RawConnection.open(service.port);
    const fields = `Expect: 100-continue\r\nContent-Length: ${fitting.length}\r\n`;
    await connection.send(`POST /layout HTTP/1.0\r\n${fields}\r\n`, fitting);
    expect((await connection.answer()).status).toBe(200);
    expect(await connection.ended()).toBe('');
  });

  test('another expectation is ignored', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/layout', { 'Content-Length': fitting.length, Expect: 'a-miracle' }), fitting);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
  });

  test('on a request without a body changes nothing', async () => {
    const answer = await send(service, '/healthz', { headers: { expect: '100-continue' } });
    expect(answer.text).toBe('ok\n');
  });
});
