import type { IncomingMessage } from 'node:http';
import { PassThrough, type Readable } from 'node:stream';
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { contentCodings, decodeBody } from '../../../src/http/coding.ts';
import { Budget } from '../../../src/image/budget.ts';
import { collect } from '../../support/load.ts';
import { eventually, MIB, noise } from '../../support/uploads.ts';
import { frameHead, rawBlock, repeated, zerosFrame } from '../../support/zstd.ts';

const data = noise(300_000);
const half = data.length / 2;
const parts = [data.subarray(0, half), data.subarray(half)];

const memory = new Budget(64 * MIB);
/** Whatever became of a body: what it took is given back. */
afterEach(async () => {
  await eventually('all memory is given back', () => memory.used === 0);
});

/** What is left of a request once its head was read. */
const request = (): PassThrough & IncomingMessage => new PassThrough() as unknown as PassThrough & IncomingMessage;

const decoded = (raw: IncomingMessage, contentEncoding: string): Readable =>
  decodeBody(raw, contentCodings(contentEncoding), memory);

function decode(contentEncoding: string, body: Uint8Array): Promise<Uint8Array> {
  const raw = request();
  const plain = decoded(raw, contentEncoding);
  raw.end(body);
  return collect(plain);
}

const failureOf = (body: Readable): Promise<unknown> =>
  collect(body).then(
    () => 'none',
    (error: unknown) => error,
  );

async function failDecoding(coding: string, body: Uint8Array): Promise<{ raw: IncomingMessage; failure: unknown }> {
  const raw = request();
  const failure = failureOf(decoded(raw, coding));
  raw.end(body);
  return { raw, failure: await failure };
}

describe('content codings', () => {
  test.each<[string, Uint8Array]>([
    ['gzip', gzipSync(data)],
    ['x-gzip', gzipSync(data)],
    ['GZip', gzipSync(data)],
    [' gzip ', gzipSync(data)],
    ['deflate', deflateSync(data)],
    ['br', brotliCompressSync(data)],
    ['zstd', zstdCompressSync(data)],
    ['identity', data],
    ['', data],
    ['identity, gzip', gzipSync(data)],
    ['gzip,,', gzipSync(data)],
    // As they stand, the first was applied first.
    ['gzip, zstd', zstdCompressSync(gzipSync(data))],
    ['zstd , GZIP', gzipSync(zstdCompressSync(data))],
    ['gzip, gzip', gzipSync(gzipSync(data))],
    // A stream may be several, one after the other (RFC 1952, section 2.2; RFC 8878, section 3).
    ['gzip', Buffer.concat(parts.map((part) => gzipSync(part)))],
    ['zstd', Buffer.concat(parts.map((part) => zstdCompressSync(part)))],
    ['zstd, gzip', Buffer.concat(parts.map((part) => gzipSync(zstdCompressSync(part))))],
    ['zstd', Buffer.concat([repeated(zstdCompressSync(''), 10_000), zstdCompressSync(data)])],
    ['zstd', zstdCompressSync(data, { params: { [constants.ZSTD_c_windowLog]: 23 } })],
  ])('%j is undone', async (coding, body) => {
    expect(Buffer.compare(await decode(coding, body), data)).toBe(0);
  });

  test('are none without the header field', () => {
    expect(contentCodings(undefined)).toEqual([]);
    const raw = request();
    expect(decodeBody(raw, [], memory)).toBe(raw);
  });

  test.each([
    ['compress', '"compress"'],
    ['xz', '"xz"'],
    ['gzip, lz4', '"lz4"'],
    ['gzip;q=1', '"gzip;q=1"'],
    ['constructor', '"constructor"'],
    ['x'.repeat(1000), `"${'x'.repeat(40)}"`],
    ['gzip, gzip, gzip', '3 content codings'],
    [Array.from({ length: 500 }, () => 'br').join(), '500 content codings'],
  ])('%.30j is refused, and the answer lists the known ones', (coding, named) => {
    expect(() => contentCodings(coding)).toThrow(
      expect.objectContaining({
        code: 'coding-unsupported',
        status: 415,
        headers: { 'Accept-Encoding': 'gzip, deflate, br, zstd' },
        message: expect.stringContaining(named),
      }),
    );
  });
});

describe('a coded body', () => {
  test.each<[string, string, Uint8Array]>([
    ['is cut short', 'gzip', gzipSync(data).subarray(0, -100)],
    ['is cut short', 'deflate', deflateSync(data).subarray(0, -100)],
    ['is cut short', 'br', brotliCompressSync(data).subarray(0, -100)],
    ['is cut short', 'zstd', zstdCompressSync(data).subarray(0, -100)],
    ['is something else', 'gzip', data],
    ['is something else', 'deflate', data],
    ['is something else', 'br', data],
    ['is something else', 'zstd', data],
    ['has its codings in another order', 'zstd, gzip', zstdCompressSync(gzipSync(data))],
    ['is damaged below the outer coding', 'gzip, br', brotliCompressSync(gzipSync(data).subarray(0, -9))],
  ])('that %s fails: %s', async (_what, coding, body) => {
    const { raw, failure } = await failDecoding(coding, body);
    const message = 'The body is damaged or cut short inside its Content-Encoding.';
    expect(failure).toMatchObject({ code: 'compressed-data-corrupt', message });
    // The connection is needed for the answer.
    expect(raw.errored).toBeNull();
  });

  test.each<[string, string, Uint8Array]>([
    ['gzip', 'gzip', Buffer.concat([gzipSync(data), Buffer.from('junk')])],
    ['gzip', 'gzip', Buffer.concat([gzipSync(data), Buffer.alloc(512)])],
    ['deflate', 'deflate', Buffer.concat([deflateSync(data), Buffer.from('junk')])],
    ['br', 'br', Buffer.concat([brotliCompressSync(data), Buffer.from('junk')])],
    ['zstd', 'zstd', Buffer.concat([zstdCompressSync(data), Buffer.from('junk')])],
    ['zstd', 'zstd, gzip', gzipSync(Buffer.concat([zstdCompressSync(data), Buffer.from('junk')]))],
  ])('that goes on after its end fails: %s in %s', async (named, coding, body) => {
    const { failure } = await failDecoding(coding, body);
    const message: unknown = expect.stringContaining(`after the end of its Content-Encoding ${named},`);
    expect(failure).toMatchObject({ code: 'compressed-data-corrupt', message });
  });

  test.each<[string, Uint8Array, string]>([
    ['has a window larger than RFC 9659 allows', zerosFrame(24, MIB), '16777216 bytes; at most 8388608'],
    ['has the largest window of all', zerosFrame(41, MIB), '2199023255552 bytes; at most 8388608'],
    [
      'needs a dictionary',
      Buffer.concat([frameHead(20).subarray(0, 4), Buffer.from([1, 0x50, 7]), rawBlock(data.subarray(0, 9), true)]),
      'dictionary',
    ],
    ['has very many small frames', repeated(zstdCompressSync(Buffer.alloc(100, 'ab')), 5000), 'frames'],
  ])('that %s is not supported', async (_what, body, words) => {
    for (const [coding, coded] of [
      ['zstd', body],
      ['zstd, gzip', gzipSync(body)],
    ] as const) {
      const raw = request();
      const failure = failureOf(decoded(raw, coding));
      raw.end(coded);
      expect(await failure).toMatchObject({
        code: 'coding-unsupported',
        status: 415,
        headers: { 'Accept-Encoding': 'gzip, deflate, br, zstd' },
        message: expect.stringContaining(words),
      });
    }
  });

  test('whose sender goes away fails as such', async () => {
    const raw = request();
    const failure = failureOf(decoded(raw, 'zstd, gzip'));
    raw.write(gzipSync(zstdCompressSync(data)).subarray(0, 1000));
    raw.destroy();
    expect(await failure).toMatchObject({ code: 'client-gone' });
  });

  test('whose connection fails takes over the failure', async () => {
    const raw = request();
    const failure = failureOf(decoded(raw, 'br'));
    raw.destroy(new Error('a reset'));
    expect(await failure).toMatchObject({ message: 'a reset' });
  });

  test.each(['gzip', 'zstd', 'zstd, gzip', 'br, zstd'])(
    'that nobody reads on is held back, and let go: %s',
    async (coding) => {
      const encode = { gzip: gzipSync, zstd: zstdCompressSync, br: brotliCompressSync };
      const zeros = Buffer.alloc(32 * MIB);
      const body = coding
        .split(', ')
        .reduce((bytes: Uint8Array, name) => encode[name as keyof typeof encode](bytes), zeros);
      const raw = request();
      const plain = decoded(raw, coding);
      raw.end(body);
      await eventually('something is unpacked', () => plain.readableLength > 0);
      expect(memory.used).toBeGreaterThan(0);
      expect(plain.readableLength).toBeLessThan(MIB);
      plain.destroy();
      expect(memory.used).toBe(0);
      expect(raw.errored).toBeNull();
    },
  );
});
