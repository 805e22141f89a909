/** Compressed images and coded bodies: the same answer as for the plain image, and an end to what unpacks without end. */
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Budget } from '../../src/image/budget.ts';
import { imageForm, imagePart, multipart } from '../support/forms.ts';
import { type Answer, json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import { gzipBomb, KIB, kernelOfSize, MIB } from '../support/uploads.ts';

const LIMIT = 64 * MIB;
const MEMORY_BUDGET = 16 * MIB;

const image = kernelOfSize(500_000, 3000);
/** As `zstd` writes it, with a checksum: without one an altered byte may be as good as any other. */
const zstd = (bytes: Uint8Array): Buffer => zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
const br = (bytes: Uint8Array): Buffer =>
  brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } });

const directory = new TemporaryDirectory();
let service: Service;
let blob: Uint8Array;

beforeAll(async () => {
  service = await startService({
    BSDSYMS_MAX_IMAGE_BYTES: String(LIMIT),
    BSDSYMS_MEMORY_BUDGET_BYTES: String(MEMORY_BUDGET),
    BSDSYMS_SPOOL_DIR: directory.path,
  });
  ({ blob } = await mustLoad(image));
});
afterAll(async () => {
  await service.close();
  directory.remove();
});

interface Answered {
  readonly status: number;
  readonly sameBlob: boolean;
  readonly compression: unknown;
  readonly size: unknown;
}

/** Asks for the blob, then for the layout. */
async function ask(request: (path: string) => Promise<Answer>): Promise<Answered> {
  const answer = await request('/bsdsyms');
  const layout = json(await request('/layout'));
  const facts = layout['image'] as Readonly<Record<string, unknown>> | undefined;
  return {
    status: answer.status,
    sameBlob: Buffer.compare(answer.body, blob) === 0,
    compression: facts?.['compression'],
    size: facts?.['size'],
  };
}

const plain: Answered = { status: 200, sameBlob: true, compression: null, size: image.length };

describe('a compressed image', () => {
  const half = image.length / 2;
  const parts = [image.subarray(0, half), image.subarray(half)];

  test.each<[string, string | null, Uint8Array]>([
    ['that is none', null, image],
    ['gzip', 'gzip', gzipSync(image)],
    ['gzip -1', 'gzip', gzipSync(image, { level: 1 })],
    ['gzip of several members', 'gzip', Buffer.concat(parts.map((part) => gzipSync(part)))],
    ['zstd', 'zstd', zstd(image)],
    ['zstd of several frames', 'zstd', Buffer.concat(parts.map((part) => zstd(part)))],
  ])('%s: raw and in a form the answer is that for the plain image', async (_name, compression, packed) => {
    const expected = { ...plain, compression };
    expect(await ask((path) => post(service, path, packed))).toEqual(expected);
    expect(await ask((path) => postForm(service, path, imageForm(packed)))).toEqual(expected);
    const type = { 'content-type': 'application/gzip' };
    expect(await ask((path) => post(service, path, packed, type))).toEqual(expected);
  });

  test('inside a Content-Encoding is unpacked, too', async () => {
    const coded = zstd(gzipSync(image));
    const answered = await ask((path) => post(service, path, coded, { 'content-encoding': 'zstd' }));
    expect(answered).toEqual({ ...plain, compression: 'gzip' });
  });

  test('inside a compressed image is not', async () => {
    expect(verdict(await post(service, '/layout', gzipSync(gzipSync(image))))).toEqual(problem(422, 'not-elf'));
  });
});

const CODED: [string, (bytes: Uint8Array) => Uint8Array][] = [
  ['identity', (bytes) => bytes],
  ['gzip', gzipSync],
  ['x-gzip', gzipSync],
  ['GZIP', gzipSync],
  ['deflate', deflateSync],
  ['br', br],
  ['zstd', zstd],
  ['gzip, zstd', (bytes) => zstd(gzipSync(bytes))],
  ['br,deflate', (bytes) => deflateSync(br(bytes))],
];

describe('Content-Encoding', () => {
  test.each(CODED)('%s is undone', async (coding, encode) => {
    const headers = { 'content-encoding': coding };
    const coded = encode(image);
    expect(await ask((path) => post(service, path, coded, headers))).toEqual(plain);
    const chunked = { ...headers, 'transfer-encoding': 'chunked' };
    expect(await ask((path) => post(service, path, coded, chunked))).toEqual(plain);
  });

  test.each(CODED)('%s around a form is undone', async (coding, encode) => {
    const form = multipart([
      { name: 'onBroken', value: 'load' },
      imagePart(image),
      { name: 'loader', value: 'xen-4.8' },
    ]);
    const coded = { ...form, body: Buffer.from(encode(form.body)) };
    expect(await ask((path) => postForm(service, path, coded, { 'content-encoding': coding }))).toEqual(plain);
  });

  test.each(['compress', 'xz', 'gzip, lz4', 'bzip2', 'gzip, gzip, gzip', 'gzip;q=1.0', 'none'])(
    '%s is refused with those that are known',
    async (coding) => {
      const headers = { 'content-encoding': coding };
      for (const answer of [
        await post(service, '/bsdsyms', image, headers),
        await postForm(service, '/layout', imageForm(image), headers),
      ]) {
        expect(verdict(answer, 'gzip, deflate, br, zstd')).toEqual(problem(415, 'coding-unsupported'));
        expect(answer.headers['accept-encoding']).toBe('gzip, deflate, br, zstd');
      }
    },
  );
});

const cut = (packed: Uint8Array): Uint8Array => packed.subarray(0, packed.length / 2);

/** Not all bytes are as they were. */
function turned(packed: Uint8Array): Uint8Array {
  const copy = Buffer.from(packed);
  const middle = copy.length >> 1;
  return copy.fill(0xaa, middle, middle + 100);
}

describe('damaged', () => {
  const packers: [string, (bytes: Uint8Array) => Uint8Array][] = [
    ['gzip', gzipSync],
    ['zstd', zstd],
  ];
  const damages: [string, (packed: Uint8Array) => Uint8Array][] = [
    ['cut short', cut],
    ['without its end', (packed) => packed.subarray(0, -1)],
    ['altered', turned],
    ['followed by something else', (packed) => Buffer.concat([packed, Buffer.alloc(1000, 'x')])],
  ];
  const images = packers.flatMap(([name, pack]) =>
    damages.map(([what, damage]) => [`${name} ${what}`, damage(pack(image))] as const),
  );

  test.each(images)('image: %s', async (_name, packed) => {
    const corrupt = problem(400, 'compressed-data-corrupt');
    expect(verdict(await post(service, '/bsdsyms', packed))).toEqual(corrupt);
    expect(verdict(await postForm(service, '/layout', imageForm(packed)))).toEqual(corrupt);
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test.each<[string, string, Uint8Array]>([
    ['gzip cut short', 'gzip', cut(gzipSync(image))],
    ['deflate cut short', 'deflate', cut(deflateSync(image))],
    ['br cut short', 'br', cut(br(image))],
    ['zstd cut short', 'zstd', cut(zstd(image))],
    ['gzip altered', 'gzip', turned(gzipSync(image))],
    ['zstd altered', 'zstd', turned(zstd(image))],
    ['deflate without its header', 'deflate', deflateRawSync(image)],
    ['not coded at all', 'gzip', image],
    ['not coded at all', 'deflate', image],
    ['not coded at all', 'br', image],
    ['not coded at all', 'zstd', image],
    ['codings in another order', 'zstd, gzip', zstd(gzipSync(image))],
  ])('body: %s (%s)', async (_name, coding, body) => {
    const headers = { 'content-encoding': coding };
    const corrupt = problem(400, 'compressed-data-corrupt');
    expect(verdict(await post(service, '/bsdsyms', body, headers), 'Content-Encoding')).toEqual(corrupt);
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test.each<[string, (bytes: Uint8Array) => Uint8Array]>([
    ['gzip', gzipSync],
    ['deflate', deflateSync],
    ['br', br],
    ['zstd', zstd],
  ])('form: %s cut short', async (coding, encode) => {
    const form = imageForm(image);
    const coded = { ...form, body: Buffer.from(cut(encode(form.body))) };
    const answer = await postForm(service, '/bsdsyms', coded, { 'content-encoding': coding });
    expect(verdict(answer)).toEqual(problem(400, 'compressed-data-corrupt'));
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });
});

const coded = (coding: string) => ({ 'content-encoding': coding });

/** Notes the most that was taken of a budget at any time. */
function watchBudget(budget: Budget): { most: number } {
  const seen = { most: 0 };
  const take = budget.take.bind(budget);
  vi.spyOn(budget, 'take').mockImplementation((bytes) => {
    const taken = take(bytes);
    seen.most = Math.max(seen.most, budget.used);
    return taken;
  });
  return seen;
}

describe('what unpacks to more than the limit', () => {
  const gzip10GiB = gzipBomb(10 * KIB);
  const members = Buffer.concat(Array.from({ length: 20 }, () => gzipSync(Buffer.alloc(LIMIT / 4))));
  const zstdBomb = zstd(Buffer.alloc(2 * LIMIT));

  test('is small to send', () => {
    expect(gzip10GiB.length).toBeLessThan(11 * MIB);
    expect(zstdBomb.length).toBeLessThan(MIB);
  });

  test.each<[string, () => Promise<Answer>]>([
    ['10 GiB in one gzip member', () => post(service, '/bsdsyms', gzip10GiB)],
    ['10 GiB in a form', () => postForm(service, '/bsdsyms', imageForm(gzip10GiB))],
    ['many gzip members', () => post(service, '/bsdsyms', members)],
    ['zstd', () => post(service, '/bsdsyms', zstdBomb)],
    ['10 GiB by Content-Encoding', () => post(service, '/bsdsyms', gzip10GiB, coded('gzip'))],
    ['a form of 10 GiB by Content-Encoding', () => postForm(service, '/bsdsyms', codedForm(), coded('gzip'))],
    ['a bomb in a coding', () => post(service, '/bsdsyms', gzipSync(gzip10GiB), coded('gzip'))],
    ['two codings', () => post(service, '/bsdsyms', gzipSync(zstdBomb), coded('zstd, gzip'))],
  ])('%s', async (_name, request) => {
    const { memory, spool } = service.app.upload.store;
    const inMemory = watchBudget(memory);
    const onDisk = watchBudget(spool.budget);
    const answer = await request();
    vi.restoreAllMocks();
    expect(verdict(answer, String(LIMIT), 'BSDSYMS_MAX_IMAGE_BYTES')).toEqual(problem(413, 'image-too-large'));
    expect(inMemory.most).toBeLessThanOrEqual(MEMORY_BUDGET);
    expect(onDisk.most).toBeLessThanOrEqual(LIMIT);
    expect(inMemory.most + onDisk.most).toBeGreaterThan(0);
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect((await send(service, '/healthz')).status).toBe(200);
  });

  /** The head of a form, and then zeros without end. */
  function codedForm(): { body: Buffer; contentType: string } {
    const { body, contentType } = imageForm(Buffer.from([0x7f]));
    const start = gzipSync(body.subarray(0, body.indexOf(0x7f)));
    return { body: Buffer.concat([start, gzip10GiB]), contentType };
  }
});
