/** What an upload occupies comes back, whatever becomes of its connection: slot, memory, spool, files, and the request itself. */
import { randomInt } from 'node:crypto';
import { type IncomingMessage, OutgoingMessage, type ServerResponse } from 'node:http';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { processSlabs } from '../../src/image/slabs.ts';
import { StoredSink } from '../../src/image/store.ts';
import { abortedUploads, abortUploads } from '../support/aborted-uploads.ts';
import { kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { post, send } from '../support/http.ts';
import { scrape } from '../support/prometheus.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService, uploading } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import { eventually, holdWrites, KIB, kernelOfSize, MIB, memoryInUse, openFiles } from '../support/uploads.ts';

let service: Service;
let directory: TemporaryDirectory;
let filesAtStart: number | null;

const start = async (env: Readonly<Record<string, string>> = {}): Promise<void> => {
  directory = new TemporaryDirectory();
  service = await startService({ BSDSYMS_SPOOL_DIR: directory.path, ...env });
  // The connection that these tests keep.
  await send(service, '/healthz');
  filesAtStart = openFiles();
};
afterEach(async () => {
  vi.restoreAllMocks();
  await service.close();
  directory.remove();
});

/** Everything has come back, the files and what keeps the process from stopping included. */
async function expectNothingLeft(): Promise<void> {
  expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  const { admission } = service.app.upload;
  expect([admission.running, admission.queued]).toEqual([0, 0]);
  await eventually('no request is under way', () => service.app.lifecycle.idle);
  await eventually('all files are closed', () => (openFiles() ?? 0) <= (filesAtStart ?? 0));
}

/** Smaller than what is read of a request before anybody asks for its body, so that its end is seen at once. */
const image = kernelOfSize(32 * KIB);
const upload = (bytes: Uint8Array, path = '/layout', headers: Readonly<Record<string, string>> = {}): Buffer =>
  Buffer.concat([Buffer.from(head('POST', path, { ...headers, 'Content-Length': bytes.length })), bytes]);
/** A kernel of a few bytes, whose image in memory is far larger than what a socket holds. */
const spread = kernel({ memsz: 96 * MIB }).bytes;

/** Without what is mapped for images, of which more or less may be waiting for the next one. */
const memoryTaken = async (): Promise<number> => (await memoryInUse()) - processSlabs.mappedBytes;

/** Lets whatever is under way go as far as it comes. */
async function letRun(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await send(service, '/healthz');
}

/** As Node does it before version 24: a response that has no connection yet is never closed. */
function destroyAsNode22(): void {
  vi.spyOn(OutgoingMessage.prototype, 'destroy').mockImplementation(function (this: OutgoingMessage, error?: Error) {
    if (this.destroyed) return this;
    this.destroyed = true;
    if (this.socket !== null) this.socket.destroy(error);
    return this;
  });
}

describe('requests that wait for an answer that is not read', () => {
  test.each([
    ['as Node does it', () => {}],
    ['as Node did it before version 24', destroyAsNode22],
  ])('are over when the connection is cut, %s', async (_name, prepare) => {
    await start({ BSDSYMS_MAX_UPLOADS: '4' });
    prepare();
    for (let round = 0; round < 3; round++) {
      const connection = await RawConnection.open(service.port);
      connection.pause();
      await connection.send(
        Buffer.concat([upload(spread, '/image'), ...Array.from({ length: 8 }, () => upload(image))]),
      );
      await uploading(service);
      await letRun();
      connection.destroy();
      await expectNothingLeft();
    }
    expect((await post(service, '/layout', image)).status).toBe(200);
  });
});

describe('a connection that is gone before the request is routed', () => {
  test('leaves nothing, and its request is not begun', async () => {
    await start();
    const { server } = service.app.server;
    const [route] = server.listeners('request') as ((request: IncomingMessage, response: ServerResponse) => void)[];
    let routed = 0;
    server.removeAllListeners('request').on('request', (request: IncomingMessage, response: ServerResponse) => {
      request.socket.destroy();
      request.socket.once('close', () => {
        setImmediate(() => {
          route?.(request, response);
          routed += 1;
        });
      });
    });
    for (const bytes of [image, gzipSync(image)]) {
      const before = routed;
      const connection = await RawConnection.open(service.port);
      await connection.send(upload(bytes));
      await eventually('it is routed', () => routed > before);
      connection.destroy();
    }
    await expectNothingLeft();
    expect(service.logs('request').filter(({ method }) => method === 'POST')).toEqual([]);
  });
});

describe('a client that goes away', () => {
  const codings: [string, Buffer][] = [
    ['an image', upload(image)],
    ['a compressed image', upload(zstdCompressSync(image))],
    ['a coded image', upload(gzipSync(image), '/layout', { 'Content-Encoding': 'gzip' })],
    ['a form', upload(imageForm(image).body, '/layout', { 'Content-Type': imageForm(image).contentType })],
  ];

  test.each(codings)('while it waits for a slot is counted, and waits no more: %s', async (_name, request) => {
    await start({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '600000' });
    const { admission } = service.app.upload;
    const first = await RawConnection.open(service.port);
    await first.send(upload(image).subarray(0, -1));
    await uploading(service);
    for (const cut of [request.length, request.length - 100]) {
      const waiting = await RawConnection.open(service.port);
      await waiting.send(request.subarray(0, cut));
      await eventually('it waits', () => admission.queued === 1);
      waiting.destroy();
      await eventually('it waits no more', () => admission.queued === 0);
    }
    await first.send(image.subarray(-1));
    expect((await first.answer()).status).toBe(200);
    first.destroy();
    await expectNothingLeft();
    const refused = (await scrape(service)).counts('bsdsyms_uploads_refused_total');
    expect(refused).toEqual({ 'client-gone': 2 });
    expect(service.logs().filter(({ level }) => Number(level) > 30)).toEqual([]);
  });

  test.each(codings)('in the middle of a write to the disk leaves nothing: %s', async (_name, request) => {
    await start({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
    // Of all of them the last write comes when the image is finished.
    for (const cut of [request.length - 100, request.length]) {
      const gate = await holdWrites();
      const connection = await RawConnection.open(service.port);
      await connection.send(request.subarray(0, cut));
      await uploading(service);
      await letRun();
      connection.destroy();
      await letRun();
      gate.open();
      await expectNothingLeft();
      vi.restoreAllMocks();
    }
    expect((await post(service, '/layout', image)).status).toBe(200);
  });

  test('while its answer is sent leaves nothing', async () => {
    await start();
    const connection = await RawConnection.open(service.port);
    connection.pause();
    await connection.send(upload(spread, '/image'));
    await uploading(service);
    await letRun();
    expect(service.app.upload.admission.running).toBe(1);
    connection.destroy();
    await expectNothingLeft();
  });
});

/** Lets something be done, and fail all the same. */
const failing = <Name extends 'close' | 'discard'>(prototype: Record<Name, () => Promise<void>>, name: Name): void => {
  const original = prototype[name];
  vi.spyOn(prototype, name as never).mockImplementation(async function (this: object) {
    await original.call(this as never);
    throw new Error(`${name} fails`);
  } as never);
};

test('a failure to give something back does not keep the rest', async () => {
  await start();
  failing(MemorySource.prototype, 'close');
  expect((await post(service, '/layout', image)).status).toBe(200);
  await expectNothingLeft();
  failing(StoredSink.prototype, 'discard');
  expect((await post(service, '/layout', gzipSync(image).subarray(0, -9))).status).toBe(400);
  await expectNothingLeft();
  expect(service.logs('an upload could not be released')).toMatchObject([
    { level: 50, err: { message: 'close fails' } },
    { level: 50, err: { message: 'discard fails' } },
  ]);
});

test('hundreds of uploads that are broken off anywhere leave nothing occupied', async () => {
  await start({
    BSDSYMS_MAX_UPLOADS: '8',
    BSDSYMS_MAX_QUEUED_UPLOADS: '4',
    // Some are held in memory, some are spooled.
    BSDSYMS_MEMORY_BUDGET_BYTES: String(MIB),
    LOG_LEVEL: 'warn',
  });
  const uploads = abortedUploads(kernelOfSize(512 * KIB)).toSorted(() => randomInt(3) - 1);
  await abortUploads(service.port, uploads, 50, 6);
  await expectNothingLeft();
  // What leaks grows in every round; what the runtime keeps for itself does not.
  let grownBytes = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 4 && grownBytes >= 8 * MIB; round++) {
    const before = await memoryTaken();
    await abortUploads(service.port, uploads, 75, 6);
    await expectNothingLeft();
    grownBytes = (await memoryTaken()) - before;
  }
  expect(grownBytes).toBeLessThan(8 * MIB);
  expect((await post(service, '/layout', image)).status).toBe(200);
  const broken = service.logs().filter(({ msg }) => msg !== 'broken ELF');
  expect(broken).toEqual([]);
}, 120_000);
