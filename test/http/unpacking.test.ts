/** What compressed uploads cost: memory within the budget, work within their size, and a sentence where that is too much. */
import { strict as assert } from 'node:assert';
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { imageForm } from '../support/forms.ts';
import { type Answer, json, post, postForm, problem, verdict } from '../support/http.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, occupied, type Service, settled, startService } from '../support/service.ts';
import { eventually, kernelOfSize, MIB, noise } from '../support/uploads.ts';
import { frameHead, rawBlock, repeated, skippableFrame, zerosFrame } from '../support/zstd.ts';

let service: Service;
afterEach(async () => {
  vi.restoreAllMocks();
  const left = await settled(service);
  await service.close();
  assert.deepEqual(left, NOTHING_OCCUPIED);
});
const start = async (env: Readonly<Record<string, string>> = {}): Promise<void> => {
  service = await startService(env);
};

const image = kernelOfSize(200_000);
const half = image.length / 2;
const halves = [image.subarray(0, half), image.subarray(half)];
const zstd = (bytes: Uint8Array | string): Buffer =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
/** As the build of Linux packs a kernel: read from a pipe, so that its size is not said. */
const longWindow = (bytes: Uint8Array, log: number): Buffer =>
  Buffer.concat([frameHead(log), ...blocks(bytes), rawBlock(Buffer.alloc(0), true)]);
function* blocks(bytes: Uint8Array): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 100_000) yield rawBlock(bytes.subarray(at, at + 100_000));
}

/** Sends the start of a chunked upload, which then waits. */
async function begin(body: Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<RawConnection> {
  const connection = await RawConnection.open(service.port);
  await connection.send(head('POST', '/layout', { 'Transfer-Encoding': 'chunked', ...headers }), chunk(body));
  return connection;
}

describe('the window of zstd', () => {
  test('of an image counts in the memory budget while the image is unpacked', async () => {
    await start({ BSDSYMS_MEMORY_BUDGET_BYTES: String(400 * MIB) });
    const packed = longWindow(image, 27);
    const connections: RawConnection[] = [];
    for (const count of [1, 2]) {
      connections.push(await begin(packed.subarray(0, 100_000)));
      await eventually(`${count} are counted`, () => occupied(service).memory > count * 128 * MIB);
    }
    expect(occupied(service).memory).toBeLessThan(260 * MIB);
    // Once to its end, once broken off.
    const [first, second] = connections;
    await first?.send(chunk(packed.subarray(100_000)), chunk(Buffer.alloc(0)));
    expect((await first?.answer())?.status).toBe(200);
    await eventually('one is given back', () => occupied(service).memory < 130 * MIB);
    second?.destroy();
    first?.destroy();
  });

  test('of an image that finds no room in the budget is 503', async () => {
    await start({ BSDSYMS_MEMORY_BUDGET_BYTES: String(200 * MIB) });
    const packed = longWindow(image, 27);
    const first = await begin(packed.subarray(0, 100_000));
    await eventually('it is counted', () => occupied(service).memory > 128 * MIB);
    for (const answer of [
      await post(service, '/layout', packed),
      await postForm(service, '/layout', imageForm(packed)),
    ]) {
      const words = ['zstd', 'BSDSYMS_MEMORY_BUDGET_BYTES', String(200 * MIB), '--long'];
      expect([verdict(answer, ...words), answer.headers['retry-after']]).toEqual([problem(503, 'memory-full'), '10']);
    }
    // Others are no worse off.
    for (const other of [image, gzipSync(image), zstd(image), longWindow(image, 23)]) {
      expect((await post(service, '/layout', other)).status).toBe(200);
    }
    first.destroy();
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect((await post(service, '/layout', packed)).status).toBe(200);
  });

  test.each([28, 31])('of an image may not be 2^%i bytes', async (log) => {
    await start();
    const words = [`window of ${2 ** log} bytes`, String(128 * MIB), '--long=27'];
    for (const answer of [
      await post(service, '/layout', longWindow(image, log)),
      await postForm(service, '/layout', imageForm(longWindow(image, log))),
    ]) {
      expect(verdict(answer, ...words)).toEqual(problem(415, 'compression-unsupported'));
    }
  });

  test('of a Content-Encoding may be 8 MiB (RFC 9659)', async () => {
    await start();
    const headers = { 'content-encoding': 'zstd' };
    expect((await post(service, '/layout', longWindow(image, 23), headers)).status).toBe(200);
    const answer = await post(service, '/layout', longWindow(image, 27), headers);
    expect([
      verdict(answer, String(128 * MIB), String(8 * MIB), 'RFC 9659'),
      answer.headers['accept-encoding'],
    ]).toEqual([problem(415, 'coding-unsupported'), 'gzip, deflate, br, zstd']);
    // Below another coding, and in a form.
    const twice = await post(service, '/layout', gzipSync(longWindow(image, 27)), { 'content-encoding': 'zstd, gzip' });
    expect(verdict(twice)).toEqual(problem(415, 'coding-unsupported'));
    const form = imageForm(image);
    const coded = { ...form, body: longWindow(form.body, 27) };
    expect(verdict(await postForm(service, '/layout', coded, headers))).toEqual(problem(415, 'coding-unsupported'));
  });
});

describe('two codings on top of each other', () => {
  test('give back all they took when the client goes away', async () => {
    await start();
    const noiseOf = noise(4 * MIB);
    const coded = brotliCompressSync(zstd(noiseOf), { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
    const connection = await begin(coded.subarray(0, coded.length / 2), { 'Content-Encoding': 'zstd, br' });
    await eventually('both are counted', () => occupied(service).memory > 17 * MIB);
    connection.destroy();
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('give back all they took when the upload is refused', async () => {
    await start({ BSDSYMS_MAX_IMAGE_BYTES: String(MIB) });
    const coded = gzipSync(zstd(noise(MIB + 1)));
    const answer = await post(service, '/layout', coded.subarray(0, MIB - 1), { 'content-encoding': 'zstd, gzip' });
    expect(answer.status).toBe(400);
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    const larger = gzipSync(zstd(Buffer.alloc(2 * MIB)));
    expect(verdict(await post(service, '/layout', larger, { 'content-encoding': 'zstd, gzip' }))).toEqual(
      problem(413, 'image-too-large'),
    );
  });
});

describe('streams of many parts', () => {
  test.each<[string, Uint8Array, string | null]>([
    ['zstd frames', Buffer.concat(halves.map(zstd)), null],
    ['zstd frames, coded', Buffer.concat(halves.map(zstd)), 'zstd'],
    ['gzip members', Buffer.concat(halves.map((part) => gzipSync(part))), null],
    ['gzip members, coded', Buffer.concat(halves.map((part) => gzipSync(part))), 'gzip'],
    ['100,000 empty frames and the image', Buffer.concat([repeated(zstd(''), 100_000), zstd(image)]), null],
    ['100,000 empty frames and the image, coded', Buffer.concat([repeated(zstd(''), 100_000), zstd(image)]), 'zstd'],
    ['100,000 empty members and the image', Buffer.concat([repeated(gzipSync(''), 100_000), gzipSync(image)]), null],
    [
      'frames to be passed over',
      Buffer.concat([zstd(''), repeated(skippableFrame(noise(20)), 10_000), zstd(image)]),
      null,
    ],
    ['a frame for each hundred bytes', Buffer.concat(pieceFrames(image, 100)), null],
  ])('are all unpacked: %s', async (_name, body, coding) => {
    await start();
    const answer = await post(service, '/layout', body, coding === null ? {} : { 'content-encoding': coding });
    expect(answer.status).toBe(200);
    expect(json(answer)['image']).toMatchObject({ size: image.length });
  });

  test.each([
    ['gzip', Buffer.concat([gzipSync(image), Buffer.from('junk')])],
    ['zstd', Buffer.concat([zstd(image), Buffer.from('junk')])],
    ['zstd', Buffer.concat([zstd(image), Buffer.alloc(512)])],
  ])('may not go on with anything else: %s', async (name, packed) => {
    await start();
    const corrupt = problem(400, 'compressed-data-corrupt');
    expect(verdict(await post(service, '/layout', packed), 'what follows the end', `not ${name}`)).toEqual(corrupt);
    const coded = await post(service, '/layout', packed, { 'content-encoding': name });
    expect(verdict(coded, 'after the end', `not ${name}`)).toEqual(corrupt);
  });

  test('are refused when there are very many that each are work', async () => {
    await start();
    const frames = repeated(zstdCompressSync(Buffer.alloc(100, 'ab')), 20_000);
    expect(verdict(await post(service, '/layout', frames), 'frames')).toEqual(problem(415, 'compression-unsupported'));
    const coded = await post(service, '/layout', frames, { 'content-encoding': 'zstd' });
    expect(verdict(coded, 'frames')).toEqual(problem(415, 'coding-unsupported'));
  });
});

function pieceFrames(bytes: Uint8Array, length: number): Buffer[] {
  const frames: Buffer[] = [];
  // Without a checksum, as compressors write it when they are not asked for one.
  for (let at = 0; at < bytes.length; at += length) frames.push(zstdCompressSync(bytes.subarray(at, at + length)));
  return frames;
}

describe('with no memory budget at all', () => {
  test.each<[string, () => Promise<Answer>]>([
    ['gzip', () => post(service, '/layout', gzipSync(image))],
    ['zstd', () => post(service, '/layout', zstd(image))],
    ['zstd with a window of 8 MiB', () => post(service, '/layout', longWindow(image, 23))],
    ['br', () => post(service, '/layout', brotliCompressSync(image), { 'content-encoding': 'br' })],
    ['two codings', () => post(service, '/layout', gzipSync(zstd(image)), { 'content-encoding': 'zstd, gzip' })],
  ])('what needs little memory is unpacked all the same: %s', async (_name, ask) => {
    await start({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
    expect((await ask()).status).toBe(200);
  });

  test('what needs much is not', async () => {
    await start({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
    const answer = await post(service, '/layout', zerosFrame(27, MIB));
    expect(verdict(answer, 'BSDSYMS_MEMORY_BUDGET_BYTES')).toEqual(problem(503, 'memory-full'));
  });
});
