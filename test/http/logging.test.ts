/** What the log tells of requests and images, and what it never tells. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { imageForm, imagePart, multipart } from '../support/forms.ts';
import { json, post, postForm, send } from '../support/http.ts';
import { scrape } from '../support/prometheus.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { type LogLine, type Service, startService, uploading } from '../support/service.ts';

const MARKER = 'marker_that_no_log_may_have';
const image = kernel({ symbols: [{ name: MARKER }], before: [{ name: '.data', data: Buffer.from(MARKER) }] }).bytes;
/** Loaded all the same with onBroken=load. */
const brokenImage = kernel({
  class: 'ELF32',
  byteOrder: 'big',
  symbols: [{ name: MARKER }],
  symtab: { header: { sh_size: 0x10_0000 } },
}).bytes;
const stripped = kernel({ symtab: { type: 1 }, symbols: [{ name: MARKER }] }).bytes;

let service: Service;
beforeAll(async () => {
  service = await startService();
});
beforeEach(() => service.clearLogs());
afterAll(() => service.close());

/** The lines of one kind, once the request that makes them has come to its end. */
async function linesAfterRequest(msg: string): Promise<LogLine[]> {
  await service.logged({ msg: 'request' });
  return service.logs(msg);
}

/** What every line has, whoever writes it. */
const ENVELOPE = {
  time: expect.any(Number) as number,
  pid: process.pid,
  hostname: expect.any(String) as string,
};

describe('the line of a request', () => {
  test.each([
    ['GET', '/healthz', '/healthz', 200, null],
    ['HEAD', '/healthz', '/healthz', 200, null],
    ['GET', '/problems/not-elf?x=1', '/problems/:code', 200, null],
    ['GET', '/problems/none', '/problems/:code', 404, 'not-found'],
    ['GET', `/${MARKER}`, null, 404, 'not-found'],
    ['GET', '/%zz', null, 404, 'not-found'],
    ['DELETE', '/bsdsyms', '/bsdsyms', 405, 'method-not-allowed'],
    ['POST', '/bsdsyms?x=1', '/bsdsyms', 400, 'parameter-unknown'],
    ['POST', '/layout', '/layout', 400, 'no-image'],
  ])('%s %s', async (method, path, route, status, code) => {
    const answer = await send(service, path, { method });
    const lines = await linesAfterRequest('request');
    expect(lines).toEqual([
      {
        ...ENVELOPE,
        level: 30,
        msg: 'request',
        reqId: answer.headers['x-request-id'],
        method,
        route,
        status,
        ...(code === null ? {} : { code }),
        bytesIn: expect.any(Number) as number,
        bytesOut: expect.any(Number) as number,
        durationMs: expect.any(Number) as number,
      },
    ]);
    expect(service.logText()).not.toContain(MARKER);
  });

  test('has the code of a client that went away', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': 100 }), 'x');
    await uploading(service);
    connection.destroy();
    expect(await service.logged({ msg: 'request' })).toMatchObject({ status: 499, code: 'client-gone' });
  });

  test('has the duration that the metrics have, in milliseconds', async () => {
    const one = await startService();
    try {
      await send(one, '/version');
      const { durationMs } = (await one.logged({ msg: 'request', route: '/version' })) as {
        readonly durationMs: number;
      };
      const sum = (await scrape(one)).sum('bsdsyms_http_request_duration_seconds_sum', { route: '/version' });
      expect(durationMs).toBeCloseTo(sum * 1000, 2);
    } finally {
      await one.close();
    }
  });

  test('of a path that is badly encoded', async () => {
    await send(service, '/%zz');
    // Behind the line of a second request there is none of the first any more.
    await send(service, '/healthz');
    await service.logged({ msg: 'request', route: '/healthz' });
    expect(service.logs('request').map(({ status }) => status)).toEqual([404, 200]);
  });

  test('counts the bytes of its own request on a kept connection', async () => {
    const connection = await RawConnection.open(service.port);
    const requests = [
      head('POST', '/bsdsyms', { 'Content-Length': image.length }),
      head('GET', '/healthz'),
      head('POST', '/layout', { 'Content-Length': image.length }),
    ];
    const sent: number[] = [];
    const received: number[] = [];
    for (const [index, text] of requests.entries()) {
      const body = index === 1 ? new Uint8Array() : image;
      await connection.send(Buffer.concat([Buffer.from(text), body]));
      const answer = await connection.answer();
      sent.push(text.length + body.length);
      received.push(Number(answer.headers['content-length']));
      await service.logged({ msg: 'request', reqId: answer.headers['x-request-id'] });
    }
    connection.destroy();
    const lines = service.logs('request');
    expect(lines.map(({ bytesIn }) => bytesIn)).toEqual(sent);
    for (const [index, bodyBytes] of received.entries()) {
      expect(Number(lines[index]?.['bytesOut'])).toBeGreaterThan(bodyBytes);
      expect(Number(lines[index]?.['bytesOut'])).toBeLessThan(bodyBytes + 600);
    }
  });
});

describe('the line of a broken image', () => {
  const uploads = [
    ['raw', (path: string, bytes: Uint8Array) => post(service, path, bytes)],
    ['form', (path: string, bytes: Uint8Array) => postForm(service, path, imageForm(bytes))],
    ['packed', (path: string, bytes: Uint8Array) => post(service, path, gzipSync(bytes))],
  ] as const;
  const cases: [string, string, Uint8Array, number, LogLine][] = [
    [
      'refused at load',
      '/bsdsyms',
      brokenImage,
      422,
      {
        broken: {
          code: 'out-of-range-access',
          reason: 'out of range access',
          stage: 'load',
          what: expect.any(String) as string,
          offset: expect.any(Number) as number,
          length: 0x10_0000,
        },
        loadAddress: '0x102000',
      },
    ],
    [
      'loaded all the same',
      '/bsdsyms?onBroken=load&loadAddress=4660',
      brokenImage,
      200,
      {
        broken: expect.objectContaining({ code: 'out-of-range-access', stage: 'load' }) as object,
        loadAddress: '0x1234',
      },
    ],
    [
      'loaded all the same, as a layout',
      '/layout?onBroken=load',
      brokenImage,
      200,
      {
        broken: expect.objectContaining({ code: 'out-of-range-access', stage: 'load' }) as object,
        loadAddress: '0x102000',
      },
    ],
    [
      'without symbols',
      '/layout',
      stripped,
      422,
      {
        image: {
          size: stripped.length,
          class: 'ELF64',
          byteOrder: 'little-endian',
          type: 'EXEC',
          machine: 'x86-64',
          buildId: null,
        },
        broken: expect.objectContaining({
          code: 'no-symbol-table',
          reason: 'invalid ELF handle for symtab section',
          stage: 'parse',
        }) as object,
        loadAddress: '0x102000',
      },
    ],
    [
      'cut short',
      '/bsdsyms?loadAddress=0x10',
      image.subarray(0, -100),
      422,
      {
        image: expect.objectContaining({ size: image.length - 100, class: 'ELF64' }) as object,
        broken: expect.objectContaining({ code: 'shdr-overflow', stage: 'init' }) as object,
        loadAddress: '0x10',
      },
    ],
    [
      'no ELF at all',
      '/bsdsyms',
      Buffer.from(MARKER),
      422,
      {
        image: { size: MARKER.length, class: null, byteOrder: null, type: null, machine: null, buildId: null },
        broken: {
          code: 'not-elf',
          reason: 'not an ELF binary',
          stage: 'init',
          what: expect.any(String) as string,
          offset: 0,
          length: MARKER.length,
        },
        loadAddress: null,
      },
    ],
  ];
  /** The big-endian one. */
  const brokenFacts = {
    size: brokenImage.length,
    class: 'ELF32',
    byteOrder: 'big-endian',
    type: 'EXEC',
    machine: expect.any(String) as string,
    buildId: null,
  };

  test.each(cases.flatMap((one) => uploads.map(([mode, upload]) => [...one, mode, upload] as const)))(
    '%s',
    async (_name, path, bytes, status, expected, _mode, upload) => {
      const answer = await upload(path, bytes);
      expect(answer.status).toBe(status);
      expect(await linesAfterRequest('broken ELF')).toEqual([
        {
          ...ENVELOPE,
          level: 40,
          msg: 'broken ELF',
          reqId: answer.headers['x-request-id'],
          loader: 'xen-4.8',
          image: brokenFacts,
          ...expected,
        },
      ]);
      expect(service.logs('request')).toHaveLength(1);
      expect(service.logText()).not.toContain(MARKER);
    },
  );

  test('has an offset beyond 2^53 in hex', async () => {
    const hostile = kernel({ symtab: { header: { sh_offset: 2n ** 63n } } }).bytes;
    const answer = await post(service, '/bsdsyms', hostile);
    expect(json(answer)['code']).toBe('out-of-range-access');
    const [line] = await linesAfterRequest('broken ELF');
    expect(line?.['broken']).toMatchObject({ offset: '0x8000000000000000' });
  });

  test('is not written for clean images, be there warnings or not', async () => {
    for (const clean of [image, kernel({ class: 'ELF32', byteOrder: 'big', memsz: 0x2001 }).bytes]) {
      for (const [, upload] of uploads) {
        service.clearLogs();
        expect((await upload('/bsdsyms', clean)).status).toBe(200);
        expect(await linesAfterRequest('broken ELF')).toEqual([]);
        expect(service.logs()).toHaveLength(1);
      }
    }
  });

  test('is not written for a request that uploads no image', async () => {
    expect((await post(service, '/bsdsyms', '')).status).toBe(400);
    expect((await postForm(service, '/bsdsyms', multipart([]))).status).toBe(400);
    expect((await post(service, '/bsdsyms', image, { accept: 'text/html' })).status).toBe(406);
    expect(await linesAfterRequest('broken ELF')).toEqual([]);
  });
});

describe('the log', () => {
  test('has nothing of images, file names, fields, queries or tokens', async () => {
    const secret = {
      authorization: `Bearer ${MARKER}`,
      cookie: MARKER,
      'user-agent': MARKER,
      accept: `text/${MARKER}`,
    };
    const form = multipart([{ name: 'image', data: brokenImage, filename: `${MARKER}.elf`, type: `x/${MARKER}` }]);
    const answers = [
      await post(service, '/bsdsyms', image, { authorization: `Bearer ${MARKER}` }),
      await post(service, '/bsdsyms', image, secret),
      await postForm(service, '/bsdsyms', form, { cookie: MARKER }),
      await postForm(service, '/bsdsyms', multipart([imagePart(image), { name: MARKER, value: MARKER }])),
      await postForm(service, '/bsdsyms', imageForm(image, { loadAddress: MARKER })),
      await post(service, `/bsdsyms?loadAddress=${MARKER}`, image),
      await post(service, `/bsdsyms?${MARKER}=1`, image),
      await post(service, '/layout', gzipSync(Buffer.from(MARKER.repeat(9))).subarray(0, 30)),
      await post(service, '/layout', image, { 'content-type': `text/${MARKER}` }),
      await post(service, '/layout', image, { 'content-encoding': MARKER }),
      await send(service, `/${MARKER}`),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 406, 422, 400, 400, 400, 400, 400, 415, 415, 404]);
    await service.logged({ msg: 'request', reqId: answers.at(-1)?.headers['x-request-id'] ?? '' });
    expect(service.logs('request')).toHaveLength(answers.length);
    expect(service.logText()).not.toContain(MARKER);
  });

  test('has the cause of a failure of the service, and the answer does not', async () => {
    const failing = await startService();
    try {
      failing.app.upload.store.memory.take = () => {
        throw new Error(MARKER);
      };
      const answer = await post(failing, '/bsdsyms', image);
      expect([answer.status, json(answer)['code']]).toEqual([500, 'internal-error']);
      expect(answer.text).not.toContain(MARKER);
      expect(answer.text).not.toContain('.ts');
      const line = failing.logs().find(({ level }) => level === 50);
      expect(line).toMatchObject({ reqId: answer.headers['x-request-id'], err: { message: MARKER } });
    } finally {
      await failing.close();
    }
  });
});

describe('X-Request-Id', () => {
  const MADE = /^[0-9a-f-]{36}$/;

  test.each(['req-1', 'a', 'A.b:c_d-9', 'x'.repeat(64)])('%s is taken over', async (id) => {
    const answer = await post(service, '/bsdsyms', stripped, { 'x-request-id': id });
    expect([answer.headers['x-request-id'], json(answer)['instance']]).toEqual([id, id]);
    await service.logged({ msg: 'request' });
    expect(service.logs().map(({ reqId }) => reqId)).toEqual([id, id]);
  });

  test.each(['', 'x'.repeat(65), 'a b', 'a"b', '{}', 'ä', 'a,b', '../x', "'; drop", '<b>'])(
    '%s is not taken over',
    async (id) => {
      const answer = await send(service, '/nowhere', { headers: { 'x-request-id': id } });
      expect(answer.headers['x-request-id']).toMatch(MADE);
      expect(json(answer)['instance']).toBe(answer.headers['x-request-id']);
      await service.logged({ msg: 'request', reqId: answer.headers['x-request-id'] });
    },
  );

  test('is another one each time', async () => {
    const ids = [await send(service, '/healthz'), await send(service, '/healthz')].map(
      ({ headers }) => headers['x-request-id'],
    );
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(MADE);
  });

  test.each<[string, string, number]>([
    ['GET', '/healthz', 200],
    ['GET', '/metrics', 200],
    ['GET', '/openapi.json', 200],
    ['GET', '/nowhere', 404],
    ['GET', '/problems/nothing', 404],
    ['GET', '/bsdsyms', 400],
    ['PROPFIND', '/healthz', 405],
    ['POST', '/bsdsyms', 400],
    ['GET', '/%zz', 404],
    ['GET', `/problems/${'x'.repeat(500)}`, 404],
  ])('is in every answer and log line: %s %s', async (method, path, status) => {
    const answer = await send(service, path, { method, headers: { 'x-request-id': 'mine' } });
    expect([answer.status, answer.headers['x-request-id']]).toEqual([status, 'mine']);
    await send(service, '/healthz', { headers: { 'x-request-id': 'next' } });
    await service.logged({ msg: 'request', reqId: 'next' });
    expect(service.logs().map(({ reqId }) => reqId)).toEqual(['mine', 'next']);
  });

  test.each([
    ['400', 'nonsense\r\n\r\n'],
    ['431', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`],
  ])('is in answers to bytes that are not HTTP: %s', async (status, text) => {
    const connection = await RawConnection.open(service.port);
    await connection.send(text);
    const answer = await connection.answer();
    expect(String(answer.status)).toBe(status);
    expect(answer.headers['x-request-id']).toMatch(MADE);
    expect(json(answer)['instance']).toBe(answer.headers['x-request-id']);
    connection.destroy();
  });

  test('of a request that is cut off is in the answer to that, too', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': 100, 'X-Request-Id': 'cut-off' }), 'x');
    await uploading(service);
    connection.halfClose();
    const answer = await connection.answer();
    expect([answer.status, answer.headers['x-request-id']]).toEqual([400, 'cut-off']);
    expect(json(answer)['instance']).toBe('cut-off');
    await service.logged({ msg: 'request', reqId: 'cut-off', status: 499, code: 'client-gone' });
    connection.destroy();
  });
});

describe('traceparent', () => {
  const good = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

  test('is in every line of its request when it is valid', async () => {
    await post(service, '/layout', stripped, { traceparent: good });
    await service.logged({ msg: 'request' });
    expect(service.logs().map(({ msg, traceparent }) => [msg, traceparent])).toEqual([
      ['broken ELF', good],
      ['request', good],
    ]);
  });

  test.each(['', 'x', good.toUpperCase(), `${good}-extra`, good.slice(1), `${good}\t`, 'ff'.repeat(30)])(
    '%s is dropped',
    async (traceparent) => {
      // What surrounds a value is no part of it.
      const isGood = traceparent.trim() === good;
      await send(service, '/healthz', { headers: { traceparent } });
      const line = await service.logged({ msg: 'request' });
      expect(line['traceparent']).toBe(isGood ? good : undefined);
    },
  );
});
