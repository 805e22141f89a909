/** Answers that are read too slowly end with their connection; those that are read fast enough never do. */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ReaderWatch, type ReadingLimits } from '../../src/http/slow-readers.ts';
import { kernel } from '../support/elf-builder.ts';
import { head } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { KIB, MIB } from '../support/uploads.ts';

/** So fast that what the kernel takes unseen counts for next to nothing. */
const FAST = String(1024 * MIB);
const SLOW = String(MIB);
const SHORT_MS = '200';

interface Upload {
  readonly path: string;
  readonly bytes: Uint8Array;
}
const flat = (mebibytes: number): Upload => ({ path: '/image', bytes: kernel({ memsz: mebibytes * MIB }).bytes });
const symbols: Upload = { path: '/symbols?limit=1000000', bytes: kernel({ symbols: 200_000 }).bytes };

/** Sends an upload over a connection of its own. Nothing is read yet. */
function upload(port: number, { path, bytes }: Upload): Socket {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  socket.write(head('POST', path, { 'Content-Length': bytes.length, Connection: 'close' }));
  socket.write(bytes);
  return socket;
}

/** Reads this many bytes, then pauses, and so on. @returns how many there were */
async function readSlowly(socket: Socket, bytes: number, pauseMs: number): Promise<number> {
  let received = 0;
  let due = bytes;
  try {
    for await (const data of socket) {
      received += (data as Buffer).length;
      if (received < due) continue;
      due += bytes;
      await sleep(pauseMs);
    }
  } catch {
    // Cut off; what counts is how much came.
  }
  return received;
}

describe('the service', () => {
  let service: Service;
  afterEach(() => service.close());

  test.each<[string, Upload, Record<string, string>]>([
    ['the flat image of a small file', flat(1024), { BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND: FAST }],
    ['a list of symbols', symbols, { BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND: FAST }],
    ['the flat image, without a least rate', flat(1024), { BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND: '0' }],
  ])('takes back the slot of a client that reads nothing: %s', async (_what, one, env) => {
    service = await startService({ BSDSYMS_STALL_TIMEOUT_MS: SHORT_MS, ...env });
    const socket = upload(service.port, one);
    await service.logged({ msg: 'request', route: one.path.split('?')[0], status: 499 });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    socket.destroy();
  });

  test('takes back the slot of a client that reads steadily, but slower than the least rate', async () => {
    service = await startService({ BSDSYMS_STALL_TIMEOUT_MS: '1500', BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND: FAST });
    const socket = upload(service.port, flat(1024));
    const reading = readSlowly(socket, 2 * MIB, 100);
    await service.logged({ msg: 'request', route: '/image', status: 499 });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect(await reading).toBeLessThan(1024 * MIB);
  });

  test('never cuts off a client that reads faster, however rarely the kernel asks for more', async () => {
    service = await startService({ BSDSYMS_STALL_TIMEOUT_MS: '100', BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND: SLOW });
    // Pauses of six times what a client may stall, with a rate of some 5 MiB a second.
    const received = await readSlowly(upload(service.port, flat(32)), 3 * MIB, 600);
    expect(received).toBeGreaterThan(32 * MIB);
    await service.logged({ msg: 'request', route: '/image', status: 200 });
  });

  test('without a least rate goes on as long as anything is read', async () => {
    service = await startService({ BSDSYMS_STALL_TIMEOUT_MS: '1000', BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND: '0' });
    const received = await readSlowly(upload(service.port, flat(96)), 2 * MIB, 50);
    expect(received).toBeGreaterThan(96 * MIB);
    await service.logged({ msg: 'request', route: '/image', status: 200 });
  });
});

describe('a reader', () => {
  let server: Server;
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  async function start(limits: ReadingLimits, handler: RequestListener): Promise<Socket> {
    const readers = new ReaderWatch(limits);
    server = createServer((request, response) => {
      readers.watch(response);
      handler(request, response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.write(head('GET', '/', { Connection: 'close' }));
    return socket;
  }

  test('is not to blame while the service works', async () => {
    const limits = { stallTimeoutMs: 100, minAnswerBytesPerSecond: 2 ** 40 };
    const socket = await start(limits, (_request, response) => {
      response.write('begun');
      setTimeout(() => response.end('ended'), 500);
    });
    let text = '';
    for await (const data of socket) text += (data as Buffer).toString();
    expect(text).toContain('ended');
  });

  test('has the time that its rate needs for an answer that is one large piece', async () => {
    const piece = Buffer.alloc(32 * MIB);
    const limits = { stallTimeoutMs: 100, minAnswerBytesPerSecond: 2 * MIB };
    const socket = await start(limits, (_request, response) => response.end(piece));
    // The kernel has taken a part of the piece, but Node does not say so before it has taken all of it.
    expect(await readSlowly(socket, 6 * MIB, 400)).toBeGreaterThan(piece.length);
  });

  test('that was fast for long may not stall for long', async () => {
    const limits = { stallTimeoutMs: 100, minAnswerBytesPerSecond: 4 * MIB };
    const endless = Buffer.alloc(64 * KIB);
    const closed = Promise.withResolvers<void>();
    const socket = await start(limits, (_request, response) => {
      const write = (): void => {
        while (!response.destroyed && response.write(endless));
      };
      response.on('close', closed.resolve);
      response.on('drain', write);
      write();
    });
    let received = 0;
    socket.on('data', (data: Buffer) => {
      received += data.length;
      // At the least rate this would have taken longer than a test may take.
      if (received > 512 * MIB) socket.pause();
    });
    await closed.promise;
    expect(received).toBeGreaterThan(512 * MIB);
    socket.destroy();
  });

  test('costs no timer of its own', async () => {
    const timers = vi.spyOn(globalThis, 'setInterval');
    try {
      const limits = { stallTimeoutMs: 600_000, minAnswerBytesPerSecond: 1 };
      const answers: (() => void)[] = [];
      const socket = await start(limits, (_request, response) => {
        answers.push(() => response.end('answered'));
        if (answers.length === 20) for (const answer of answers) answer();
      });
      const { port } = server.address() as AddressInfo;
      const others = Array.from({ length: 19 }, () => connect({ port, host: '127.0.0.1' }));
      for (const other of others) other.write(head('GET', '/', { Connection: 'close' }));
      // They are answered when all of them are under way.
      for (const one of [socket, ...others]) for await (const _ of one);
      const own = timers.mock.calls.filter(([, ms]) => ms === 1000);
      expect([answers.length, own.length]).toEqual([20, 1]);
    } finally {
      timers.mockRestore();
    }
  });
});
