/** Origins that misbehave: each costs its own request, with a code that says what it did, and nothing stays behind. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { problem, send, verdict } from '../support/http.ts';
import { type Misbehaviour, named, TestOrigin } from '../support/origin.ts';
import { LONG_MS, SOON, until } from '../support/patience.ts';
import { changeAtRandom, changeFileAtRandom } from '../support/references.ts';
import { mustSettle, NOTHING_OCCUPIED, occupied, type Service, settled, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

/** Its tables are not in the first page, and more than is sent in one piece. */
const image = kernel({ symbols: 20_000, text: { data: new Uint8Array(300_000) }, memsz: 0x100000 }).bytes;
const PAGE = 65_536;

let origin: TestOrigin;
let service: Service;
beforeAll(async () => {
  origin = await TestOrigin.start();
  service = await startService({ BSDSYMS_IMAGE_SOURCES: `${origin.url}/` });
});
afterEach(async () => {
  await mustSettle(service);
  origin.reset();
  service.clearLogs();
});
afterAll(async () => {
  await service.close();
  origin.close();
});

const ask = (one: Service = service, route = '/bsdsyms') => send(one, named(route, origin.serve('/k', image)));

/** Writes a 206 for the first page with header fields of the test's. */
const range =
  (headers: Readonly<Record<string, string | number>>, body: Uint8Array = image.subarray(0, PAGE)): Misbehaviour =>
  (_request, response) => {
    response.writeHead(206, { 'Content-Range': `bytes 0-${PAGE - 1}/${image.length}`, ...headers }).end(body);
    return true;
  };

const status =
  (code: number): Misbehaviour =>
  (_request, response) => {
    response.writeHead(code).end('<html>secret of the origin</html>');
    return true;
  };

describe('the first answer', () => {
  test.each([400, 401, 403, 404, 410, 416, 429, 451])('%s is refused, and its status told', async (code) => {
    origin.misbehaviour = status(code);
    const answer = await ask();
    expect(verdict(answer, String(code))).toEqual(problem(424, 'source-refused'));
    expect(answer.text).not.toContain('secret');
  });

  test.each([500, 502, 503, 504])('%s: the origin is unavailable', async (code) => {
    origin.misbehaviour = status(code);
    expect(verdict(await ask(), String(code))).toEqual(problem(502, 'source-unavailable'));
  });

  test.each([204, 203, 300, 304])('%s is unusable', async (code) => {
    origin.misbehaviour = status(code);
    expect(verdict(await ask(), String(code))).toEqual(problem(502, 'source-unusable'));
  });

  test.each<[string, Misbehaviour]>([
    ['another range', range({ 'Content-Range': `bytes 1-${PAGE}/${image.length}` })],
    ['a shorter range', range({ 'Content-Range': `bytes 0-99/${image.length}` }, image.subarray(0, 100))],
    ['a longer range', range({ 'Content-Range': `bytes 0-${PAGE}/${image.length}` }, image.subarray(0, PAGE + 1))],
    ['a range beyond the end', range({ 'Content-Range': `bytes 0-${PAGE - 1}/100` })],
    ['no size', range({ 'Content-Range': `bytes 0-${PAGE - 1}/*` })],
    ['a size beyond all numbers', range({ 'Content-Range': `bytes 0-${PAGE - 1}/99999999999999999999` })],
    ['a range in another unit', range({ 'Content-Range': `pages 0-${PAGE - 1}/${image.length}` })],
    ['two ranges', range({ 'Content-Range': `bytes 0-1/9, bytes 0-${PAGE - 1}/${image.length}` })],
    ['multipart/byteranges', range({ 'Content-Type': 'multipart/byteranges; boundary=x', 'Content-Range': '' })],
    ['an encoded 206', range({ 'Content-Encoding': 'gzip' })],
    ['another length than that of the range', range({ 'Content-Length': 100 }, image.subarray(0, 100))],
    ['more than the range', range({ 'Transfer-Encoding': 'chunked' }, image.subarray(0, PAGE + 1))],
    [
      'an encoded 200',
      (_request, response) => {
        response.writeHead(200, { 'Content-Encoding': 'br' }).end(image);
        return true;
      },
    ],
    [
      'no HTTP',
      (request) => {
        request.socket.end('SSH-2.0-OpenSSH_9.2\r\n');
        return true;
      },
    ],
  ])('%s is unusable', async (_name, misbehaviour) => {
    // Only the first one: the others would not save it.
    origin.misbehaviour = (request, response) => origin.requests.length === 1 && misbehaviour(request, response);
    expect(verdict(await ask())).toEqual(problem(502, 'source-unusable'));
  });

  test.each<[string, Misbehaviour]>([
    [
      'a reset before the answer',
      (request) => {
        request.socket.resetAndDestroy();
        return true;
      },
    ],
    ['a body that is broken off', range({ 'Transfer-Encoding': 'chunked' }, image.subarray(0, 100))],
    [
      'a reset in the body',
      (request, response) => {
        response.writeHead(206, { 'Content-Range': `bytes 0-${PAGE - 1}/${image.length}` });
        response.write(image.subarray(0, 100), () => request.socket.resetAndDestroy());
        return true;
      },
    ],
    [
      'a whole file that is broken off',
      (request, response) => {
        response.writeHead(200, { 'Content-Length': image.length });
        response.write(image.subarray(0, 100), () => request.socket.destroy());
        return true;
      },
    ],
  ])('%s: the origin is unavailable', async (_name, misbehaviour) => {
    origin.misbehaviour = misbehaviour;
    expect(verdict(await ask())).toEqual(problem(502, 'source-unavailable'));
    // On a new connection it is not asked again.
    expect(origin.requests).toHaveLength(1);
  });

  test('no server listens', async () => {
    const gone = await TestOrigin.start();
    const url = `${gone.url}/k`;
    const own = await startService({ BSDSYMS_IMAGE_SOURCES: `${gone.url}/` });
    gone.close();
    try {
      const answer = await send(own, named('/layout', url));
      expect(verdict(answer, 'ECONNREFUSED')).toEqual(problem(502, 'source-unavailable'));
    } finally {
      await own.close();
    }
  });

  test('a kept connection that the origin closes is opened again', async () => {
    let answers = 0;
    origin.misbehaviour = (request, response) => {
      answers += 1;
      if (answers !== 2) return false;
      void response;
      request.socket.resetAndDestroy();
      return true;
    };
    expect((await ask()).status).toBe(200);
  });
});

/** Misbehaves from the second request on. */
const later = (misbehaviour: Misbehaviour): void => {
  origin.misbehaviour = (request, response) => (origin.requests.length === 1 ? false : misbehaviour(request, response));
};

describe('a later answer', () => {
  /** A range whose ends lie elsewhere than those that were asked for. */
  const moved = (startBy: number, endBy: number): Misbehaviour => {
    return (request, response) => {
      const [first = 0, last = 0] = (request.headers.range ?? '').replace('bytes=', '').split('-').map(Number);
      const [start, end] = [first + startBy, last + 1 + endBy];
      const headers = { ETag: '"1"', 'Content-Range': `bytes ${start}-${end - 1}/${image.length}` };
      response.writeHead(206, headers).end(image.subarray(start, end));
      return true;
    };
  };

  const served = (etag: string, bytes: Uint8Array = image): Misbehaviour => {
    return (request, response) => {
      delete request.headers['if-range'];
      origin.sendFile(request, response, { bytes, etag });
      return true;
    };
  };

  test.each<[string, Misbehaviour]>([
    ['200', status(200)],
    ['412', status(412)],
    ['416', status(416)],
    ['another ETag', served('"2"')],
    ['a weak ETag', served('W/"1"')],
    ['another size', served('"1"', Buffer.concat([image, image]))],
    [
      'no ETag',
      (request, response) => {
        delete request.headers['if-range'];
        origin.sendFile(request, response, { bytes: image });
        return true;
      },
    ],
  ])('%s: the image changed', async (_name, misbehaviour) => {
    later(misbehaviour);
    expect(verdict(await ask())).toEqual(problem(409, 'source-changed'));
  });

  test('another Last-Modified: the image changed', async () => {
    const [before, after] = ['Mon, 01 Jan 2024 00:00:00 GMT', 'Mon, 01 Jan 2024 00:00:01 GMT'];
    origin.misbehaviour = (request, response) => {
      origin.sendFile(request, response, { bytes: image, lastModified: origin.requests.length === 1 ? before : after });
      return true;
    };
    expect(verdict(await ask())).toEqual(problem(409, 'source-changed'));
  });

  test.each<[string, Misbehaviour, number, string]>([
    ['404', status(404), 424, 'source-refused'],
    ['500', status(500), 502, 'source-unavailable'],
    ['the first range again', range({ ETag: '"1"' }), 502, 'source-unusable'],
    ['the range before the one that was asked for', moved(-PAGE, -PAGE), 502, 'source-unusable'],
    ['a shorter range', moved(0, -1), 502, 'source-unusable'],
  ])('%s', async (_name, misbehaviour, code, name) => {
    later(misbehaviour);
    expect(verdict(await ask())).toEqual(problem(code, name));
  });

  test('what changes while the answer is sent cuts it off, and is the fault of the origin in log and metrics', async () => {
    const flat = kernel({ symbols: 9, text: { data: new Uint8Array(20_000_000).fill(7) }, memsz: 0x2000000 }).bytes;
    const url = origin.serve('/flat', flat);
    origin.misbehaviour = (request, response) => {
      const [, first, last] = /(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      if (Number(last) - Number(first) < 10_000_000) return false;
      response.writeHead(206, { ETag: '"1"', 'Content-Range': `bytes ${first}-${last}/${flat.length}` });
      response.write(flat.subarray(Number(first), Number(first) + 1_000_000), () => request.socket.resetAndDestroy());
      return true;
    };
    await expect(send(service, named('/image', url))).rejects.toThrow('aborted');
    expect(await service.logged({ msg: 'request' })).toMatchObject({ status: 502, route: '/image' });
  });
});

const hang: Misbehaviour = () => true;

const never = (response: ServerResponse): void => {
  response.writeHead(206, { 'Content-Range': `bytes 0-${PAGE - 1}/${image.length}` });
  response.write(image.subarray(0, 10));
};

describe('time', () => {
  test.each<[string, string, string, Misbehaviour]>([
    ['no answer', 'BSDSYMS_SOURCE_STALL_TIMEOUT_MS', '100', hang],
    [
      'a body that pauses',
      'BSDSYMS_SOURCE_STALL_TIMEOUT_MS',
      '100',
      (_request, response) => {
        never(response);
        return true;
      },
    ],
    [
      'a body that drips',
      'BSDSYMS_SOURCE_TIMEOUT_MS',
      // No single pause is as long.
      '2000',
      (_request, response) => {
        never(response);
        const drip = setInterval(() => response.write('x'), 5);
        response.on('close', () => clearInterval(drip));
        return true;
      },
    ],
  ])('%s ends with %s', async (_name, setting, limitMs, misbehaviour) => {
    const own = await startService({ BSDSYMS_IMAGE_SOURCES: `${origin.url}/`, [setting]: limitMs });
    try {
      origin.misbehaviour = misbehaviour;
      expect(verdict(await ask(own), setting)).toEqual(problem(504, 'source-timeout'));
      expect(await settled(own)).toEqual(NOTHING_OCCUPIED);
    } finally {
      await own.close();
    }
  });

  test('a name that is not resolved ends with BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS', async () => {
    const own = await startService(
      { BSDSYMS_IMAGE_SOURCES: 'http://slow.example/', BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS: '100' },
      { resolve: () => new Promise(() => {}) },
    );
    try {
      const answer = await send(own, named('/layout', 'http://slow.example/k'));
      expect(verdict(answer, 'BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS')).toEqual(problem(504, 'source-timeout'));
    } finally {
      await own.close();
    }
  });

  test('an origin that accepts connections and never speaks TLS ends with BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket.on('error', () => {}).resume())).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const url = `https://127.0.0.1:${(silent.address() as AddressInfo).port}/k`;
    const own = await startService({
      BSDSYMS_IMAGE_SOURCES: new URL('/', url).href,
      BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS: '100',
    });
    try {
      const answer = await send(own, named('/layout', url));
      expect(verdict(answer, 'BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS')).toEqual(problem(504, 'source-timeout'));
      expect(await settled(own)).toEqual(NOTHING_OCCUPIED);
      expect(await until(() => sockets.length > 0 && sockets.every(({ destroyed }) => destroyed))).toBe(true);
    } finally {
      await own.close();
      for (const socket of sockets) socket.destroy();
      silent.close();
    }
  });

  test('an origin that answers slowly costs only its own request', async () => {
    const waiting: (() => void)[] = [];
    origin.misbehaviour = (request) =>
      request.url === '/slow' ? new Promise((resolve) => waiting.push(() => resolve(false))) : false;
    origin.serve('/slow', image);
    let answered = 0;
    const ended = (): void => {
      answered += 1;
    };
    const slow = send(service, named('/bsdsyms', `${origin.url}/slow`)).finally(ended);
    for (let request = 1; request <= 3; request++) {
      // All the others go on while it waits for this answer of the origin.
      expect(await until(() => waiting.length > 0)).toBe(true);
      expect((await ask()).status).toBe(200);
      expect((await send(service, '/healthz')).status).toBe(200);
      expect(answered).toBe(0);
      if (request < 3) waiting.shift()?.();
      else origin.misbehaviour = () => false;
    }
    waiting.shift()?.();
    expect((await slow).status).toBe(200);
  });

  test('a client that leaves takes its request to the origin along', async () => {
    let closed = false;
    origin.misbehaviour = (request) => {
      request.socket.on('close', () => {
        closed = true;
      });
      return true;
    };
    const giveUp = new AbortController();
    const url = origin.serve('/k', image);
    const asked = fetch(`${service.url}${named('/layout', url)}`, { signal: giveUp.signal }).catch(() => null);
    expect(await until(() => origin.requests.length > 0)).toBe(true);
    giveUp.abort();
    await asked;
    expect(await until(() => closed)).toBe(true);
    expect((await service.logged({ msg: 'request' }))['status']).toBe(499);
  });

  test('origins that hang occupy their own slots, and health keeps answering', async () => {
    const own = await startService({
      BSDSYMS_IMAGE_SOURCES: `${origin.url}/`,
      BSDSYMS_MAX_UPLOADS: '3',
      BSDSYMS_MAX_QUEUED_UPLOADS: '0',
      BSDSYMS_SOURCE_STALL_TIMEOUT_MS: LONG_MS,
    });
    try {
      origin.misbehaviour = hang;
      const giveUp = new AbortController();
      const url = `${own.url}${named('/layout', origin.serve('/k', image))}`;
      const hanging = [1, 2, 3].map(() => fetch(url, { signal: giveUp.signal }).catch(() => null));
      await expect.poll(() => origin.requests.length, SOON).toBe(3);
      expect(occupied(own).uploads).toBe(3);
      expect((await send(own, '/healthz')).status).toBe(200);
      expect(verdict(await ask(own))).toEqual(problem(503, 'too-busy'));
      giveUp.abort();
      await Promise.all(hanging);
      expect(await settled(own)).toEqual(NOTHING_OCCUPIED);
    } finally {
      await own.close();
    }
  });
});

describe('an image that changes at random moments is never answered as a mixture', () => {
  test.each([
    ['with room for all that is read', String(1024 ** 3)],
    ['with little memory, so that more is read while the answer is sent', '65536'],
  ])('%s', async (_name, memory) => {
    const own = await startService({
      BSDSYMS_IMAGE_SOURCES: `${origin.url}/`,
      BSDSYMS_MEMORY_BUDGET_BYTES: memory,
    });
    try {
      const { mixed, whole, refused, cut } = await changeAtRandom(own, origin, 100);
      expect(mixed).toEqual([]);
      expect([whole > 0, refused > 0, whole + refused + cut]).toEqual([true, true, 100]);
      expect(await settled(own)).toEqual(NOTHING_OCCUPIED);
    } finally {
      await own.close();
    }
  });

  test('nor is a file', async () => {
    const directory = new TemporaryDirectory();
    const own = await startService({ BSDSYMS_IMAGE_SOURCES: `file://${directory.path}/` });
    try {
      const { mixed, whole, refused, cut } = await changeFileAtRandom(own, directory.file('changing'), 20);
      expect([mixed, whole + refused + cut]).toEqual([[], 20]);
      expect(await settled(own)).toEqual(NOTHING_OCCUPIED);
    } finally {
      await own.close();
      directory.remove();
    }
  });
});
