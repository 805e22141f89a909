/** Uploads and answers that are broken off anywhere, hundreds of times: nothing that they occupied is lost. */
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kernel, makeSymbols } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { post, send } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { LONG_MS } from '../support/patience.ts';
import { head } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import { eventually, KIB, kernelOfSize, MIB, memoryInUse, noise, openFiles } from '../support/uploads.ts';

const ROUNDS = 20;
const AT_ONCE = 10;
const SIZE = 2 * MIB;
/** Far less than the uploads were together, more than what libraries keep. */
const MEMORY_TOLERANCE = 32 * MIB;

const image = kernelOfSize(SIZE, 20_000);

interface Request {
  readonly name: string;
  readonly bytes: Buffer;
}

const request = (name: string, body: Uint8Array, headers: Readonly<Record<string, string>> = {}): Request => ({
  name,
  bytes: Buffer.concat([Buffer.from(head('POST', '/bsdsyms', { 'Content-Length': body.length, ...headers })), body]),
});

const form = imageForm(image);
const requests = [
  request('raw', image),
  request('form', form.body, { 'Content-Type': form.contentType }),
  request('gzip', gzipSync(image, { level: 1 })),
  request('coded', zstdCompressSync(image), { 'Content-Encoding': 'zstd' }),
];

const CUTS = Array.from({ length: 10 }, (_, index) => index / 10);
const ENDS = ['destroy', 'reset', 'end'] as const;
type End = (typeof ENDS)[number];

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(socket));
    socket.once('error', reject);
  });
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    // A reset from the other side is an end like any other.
    socket.on('error', () => {});
    socket.once('close', () => resolve());
    // Whatever is answered must be read for the end to be seen.
    socket.resume();
  });

/** Reads an answer of known length, and closes the connection. @returns its body */
async function readAnswer(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) {
    chunks.push(chunk as Buffer);
    const answer = Buffer.concat(chunks);
    const bodyAt = answer.indexOf('\r\n\r\n') + 4;
    const length = Number(/content-length: (\d+)/i.exec(answer.toString('latin1', 0, bodyAt))?.[1]);
    if (answer.length - bodyAt === length) return answer.subarray(bodyAt);
  }
  throw new Error('the answer was cut off');
}

/** Sends the bytes and breaks the connection in this way. */
async function breakOff(port: number, bytes: Uint8Array, end: End): Promise<void> {
  const socket = await open(port);
  const gone = closed(socket);
  await new Promise<void>((resolve) => {
    socket.write(bytes, () => resolve());
  });
  if (end === 'destroy') socket.destroy();
  else if (end === 'reset') socket.resetAndDestroy();
  else socket.end();
  await gone;
}

describe.each([
  ['in memory', 256 * MIB],
  ['spooled', 64 * KIB],
])('uploads %s', (_where, memoryBudget) => {
  let directory: TemporaryDirectory;
  let service: Service;

  beforeAll(async () => {
    directory = new TemporaryDirectory();
    service = await startService({
      BSDSYMS_MEMORY_BUDGET_BYTES: String(memoryBudget),
      BSDSYMS_SPOOL_DIR: directory.path,
      BSDSYMS_MAX_UPLOADS: String(AT_ONCE),
      // Those that wait are refused on no machine, however slow.
      BSDSYMS_QUEUE_TIMEOUT_MS: LONG_MS,
      LOG_LEVEL: 'error',
    });
    // What is made once and kept is made now.
    for (const { bytes } of requests) await breakOff(service.port, bytes, 'end');
    await settled(service);
  });
  afterAll(async () => {
    await service.close();
    directory.remove();
  });

  /** Does the work, several at a time, and tells what it left behind. */
  async function leftBy(work: readonly (() => Promise<void>)[]): Promise<unknown> {
    const files = await quiet();
    const memory = await memoryInUse();
    const rest = work.values();
    const worker = async (): Promise<void> => {
      for (const one of rest) await one();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    const left = await settled(service);
    await eventually('all files and connections are closed', () => (openFiles() ?? 0) <= (files ?? 0));
    const grown = (await memoryInUse()) - memory;
    return {
      ...left,
      queued: service.app.upload.admission.queued,
      files: readdirSync(directory.path),
      memory: grown < MEMORY_TOLERANCE ? 'given back' : grown,
    };
  }

  /** Waits for connections of what came before. @returns how many files are open then */
  async function quiet(): Promise<number | null> {
    const { server } = service.app.server;
    await eventually('no connection is left', () => {
      server.closeIdleConnections();
      return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length === 0;
    });
    return openFiles();
  }

  const NOTHING = { ...NOTHING_OCCUPIED, queued: 0, files: [], memory: 'given back' };

  test('broken off at every tenth, 200 times', async () => {
    const work = Array.from({ length: ROUNDS }, (_, round) =>
      CUTS.map((share, index) => async () => {
        const { bytes } = requests[round % requests.length] ?? request('raw', image);
        const cut = bytes.subarray(0, Math.floor(bytes.length * share) + 1);
        await breakOff(service.port, cut, ENDS[(round + index) % ENDS.length] ?? 'destroy');
      }),
    ).flat();
    expect(work).toHaveLength(200);
    expect(await leftBy(work)).toEqual(NOTHING);
    expect((await post(service, '/bsdsyms', image)).status).toBe(200);
  });

  test('broken off when they are complete, and while they are answered', async () => {
    const work = Array.from({ length: 60 }, (_, round) => async () => {
      const { bytes } = requests[round % requests.length] ?? request('raw', image);
      const socket = await open(service.port);
      const gone = closed(socket);
      socket.pause();
      socket.write(bytes);
      // Some are not even answered yet, some are when there was a first byte.
      if (round % 3 > 0) await new Promise((resolve) => socket.once('readable', resolve));
      socket.resetAndDestroy();
      await gone;
    });
    expect(await leftBy(work)).toEqual(NOTHING);
  });

  test('broken off while they wait for a slot', async () => {
    const holders = await Promise.all(Array.from({ length: AT_ONCE }, () => open(service.port)));
    for (const holder of holders) holder.write(request('raw', image).bytes.subarray(0, 1000));
    await eventually('all slots are taken', () => service.app.upload.admission.running === AT_ONCE);
    const waiting = Array.from({ length: 30 }, (_, round) =>
      breakOff(service.port, request('raw', image).bytes.subarray(0, 500), ENDS[round % ENDS.length] ?? 'destroy'),
    );
    await Promise.all(waiting);
    for (const holder of holders) holder.destroy();
    expect(await leftBy([])).toEqual(NOTHING);
    expect((await post(service, '/bsdsyms', image)).status).toBe(200);
  });

  test('refused in every way, with all that they send', async () => {
    const bad = [
      request('a bad parameter', image),
      request('corrupt', Buffer.concat([gzipSync(image, { level: 1 }).subarray(0, 100_000), image])),
      request('not coded', image, { 'Content-Encoding': 'gzip' }),
      request('no form', image, { 'Content-Type': 'multipart/form-data; boundary=x' }),
      request('no ELF', image.subarray(1)),
    ];
    const work = Array.from({ length: 60 }, (_, round) => async () => {
      const { bytes } = bad[round % bad.length] ?? request('raw', image);
      await breakOff(service.port, bytes, 'end');
    });
    expect(await leftBy(work)).toEqual(NOTHING);
    expect((await send(service, '/healthz')).status).toBe(200);
  });

  test('that are accepted leave nothing occupied either', async () => {
    const work = Array.from({ length: 60 }, (_, round) => async () => {
      const { bytes } = requests[round % requests.length] ?? request('raw', image);
      await breakOff(
        service.port,
        Buffer.concat([bytes, Buffer.from(head('GET', '/healthz', { Connection: 'close' }))]),
        'end',
      );
    });
    expect(await leftBy(work)).toEqual(NOTHING);
  });

  test('broken off while others are answered, which get their own answers', async () => {
    const images = Array.from({ length: AT_ONCE }, (_, index) => {
      const { bytes } = kernel({ symbols: makeSymbols(20_000).slice(index) });
      return Buffer.concat([bytes, noise(SIZE - bytes.length)]);
    });
    const expected = await Promise.all(images.map(async (bytes) => (await mustLoad(bytes)).blob));
    const wrong: number[] = [];
    const work = Array.from({ length: 100 }, (_, round) => async () => {
      const { bytes } = request('raw', images[round % AT_ONCE] ?? image);
      if (round % 3 === 0) return breakOff(service.port, bytes, ENDS[round % ENDS.length] ?? 'destroy');
      const socket = await open(service.port);
      socket.write(bytes);
      // Nobody reads for a while, so that the answer lies in buffers.
      await sleep(round % 50);
      const answer = await readAnswer(socket);
      if (!answer.equals(expected[round % AT_ONCE] ?? Buffer.alloc(0))) wrong.push(round);
    });
    expect(await leftBy(work)).toEqual(NOTHING);
    expect(wrong).toEqual([]);
  });

  test('are not errors of the service', () => {
    const errors = service.logs().map(({ msg, err }) => `${String(msg)}: ${(err as Error | undefined)?.message}`);
    expect([...new Set(errors)]).toEqual([]);
  });
});
