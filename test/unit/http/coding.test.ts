import type { IncomingMessage } from 'node:http';
import { PassThrough, type Readable } from 'node:stream';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { contentDecoders, decodeBody } from '../../../src/http/coding.ts';
import { collect } from '../../support/load.ts';
import { noise } from '../../support/uploads.ts';

const data = noise(300_000);

/** What is left of a request once its head was read. */
const request = (): PassThrough & IncomingMessage => new PassThrough() as unknown as PassThrough & IncomingMessage;

function decode(contentEncoding: string, body: Uint8Array): Promise<Uint8Array> {
  const raw = request();
  const decoded = decodeBody(raw, contentDecoders(contentEncoding));
  raw.end(body);
  return collect(decoded);
}

const failureOf = (body: Readable): Promise<unknown> =>
  collect(body).then(
    () => 'none',
    (error: unknown) => error,
  );

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
  ])('%j is undone', async (coding, body) => {
    expect(Buffer.compare(await decode(coding, body), data)).toBe(0);
  });

  test('are none without the header field', () => {
    expect(contentDecoders(undefined)).toEqual([]);
    const raw = request();
    expect(decodeBody(raw, [])).toBe(raw);
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
  ])('%.30j is refused, and those that are known are told', (coding, named) => {
    expect(() => contentDecoders(coding)).toThrow(
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
    const raw = request();
    const decoded = decodeBody(raw, contentDecoders(coding));
    const failure = failureOf(decoded);
    raw.end(body);
    expect(await failure).toMatchObject({ code: expect.stringMatching(/^(Z_|ZSTD_|ERR_)/) });
    // The connection is needed for the answer.
    expect(raw.errored).toBeNull();
  });

  test('whose sender goes away fails as such', async () => {
    const raw = request();
    const decoded = decodeBody(raw, contentDecoders('zstd, gzip'));
    const failure = failureOf(decoded);
    raw.write(gzipSync(zstdCompressSync(data)).subarray(0, 1000));
    raw.destroy();
    expect(await failure).toMatchObject({ code: 'client-gone' });
  });

  test('whose connection fails takes over the failure', async () => {
    const raw = request();
    const failure = failureOf(decodeBody(raw, contentDecoders('br')));
    raw.destroy(new Error('a reset'));
    expect(await failure).toMatchObject({ message: 'a reset' });
  });
});
