/** `/`: a page for browsers, an index for everything else. What the page does in a browser: test/page. */
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { document } from '../support/document.ts';
import { json, send } from '../support/http.ts';
import { type Service, startService } from '../support/service.ts';

/** What browsers send for a document. */
const BROWSER = { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' };
const MAX_COMPRESSED_BYTES = 120 * 1024;

let service: Service;
let html: string;
let assets: string[];

beforeAll(async () => {
  service = await startService();
  html = (await send(service, '/', { headers: BROWSER })).text;
  assets = Array.from(html.matchAll(/"(page\/[^"]+)"/g), ([, path = '']) => `/${path}`);
});
afterAll(() => service.close());

describe('the index', () => {
  test.each([{}, { accept: '*/*' }, { accept: 'application/json' }, { accept: 'image/png' }])(
    'is for everything that does not prefer HTML: %o',
    async (headers) => {
      const answer = await send(service, '/', { headers });
      expect(answer.status).toBe(200);
      expect(answer.headers).toMatchObject({
        'content-type': 'application/json; charset=utf-8',
        vary: 'Accept, Accept-Encoding',
      });
    },
  );

  test('lists every path of the document but its own', async () => {
    const { routes } = json(await send(service, '/'));
    expect(Object.keys(routes as object).toSorted()).toEqual(
      Object.keys(document.paths)
        .filter((path) => path !== '/')
        .toSorted(),
    );
  });
});

describe('the page', () => {
  test('is for browsers, and says that nothing is uploaded', async () => {
    const answer = await send(service, '/', { headers: BROWSER });
    expect(answer.headers['content-type']).toBe('text/html; charset=utf-8');
    expect(answer.text).toContain('Nothing is uploaded.');
    expect(answer.text).not.toMatch(/%[\w.]+%/);
  });

  test('has a policy that lets it open no connection', async () => {
    const { headers } = await send(service, '/', { headers: BROWSER });
    const policy = String(headers['content-security-policy']).split('; ');
    expect(policy).toEqual(
      expect.arrayContaining([
        "default-src 'none'",
        "connect-src 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
      ]),
    );
    expect(String(headers['content-security-policy'])).not.toMatch(/unsafe|https?:|\*/);
    expect(headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' });
  });

  test('has no inline script and no inline style', () => {
    expect(html).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/i);
  });

  test('is asked for again only when it has changed', async () => {
    const first = await send(service, '/', { headers: BROWSER });
    const etag = String(first.headers.etag);
    expect(first.headers['cache-control']).toBe('no-cache');
    const second = await send(service, '/', { headers: { ...BROWSER, 'if-none-match': `"other", W/${etag}` } });
    expect([second.status, second.body.length, second.headers.etag]).toEqual([304, 0, etag]);
    const third = await send(service, '/', { headers: { ...BROWSER, 'if-none-match': '"other"' } });
    expect(third.status).toBe(200);
  });

  test('has files that may be kept for ever', async () => {
    expect(assets.length).toBeGreaterThanOrEqual(4);
    for (const path of assets) {
      const { status, headers } = await send(service, path);
      expect([path, status]).toEqual([path, 200]);
      expect(headers['cache-control']).toBe('public, max-age=31536000, immutable');
      expect(headers['content-security-policy']).toContain("connect-src 'none'");
      expect(headers['content-type']).toMatch(/^(text\/javascript|text\/css|image\/svg)/);
    }
  });

  test('weighs less than 120 KB compressed, and is the same in every coding', async () => {
    let bytes = 0;
    for (const path of ['/', ...assets]) {
      const plain = await send(service, path, { headers: BROWSER });
      const gzip = await send(service, path, { headers: { ...BROWSER, 'accept-encoding': 'gzip' } });
      const br = await send(service, path, { headers: { ...BROWSER, 'accept-encoding': 'gzip, br' } });
      expect([gzip.headers['content-encoding'], br.headers['content-encoding']]).toEqual(['gzip', 'br']);
      expect(gunzipSync(gzip.body).equals(plain.body)).toBe(true);
      expect(brotliDecompressSync(br.body).equals(plain.body)).toBe(true);
      expect(new Set([plain.headers.etag, gzip.headers.etag, br.headers.etag]).size).toBe(3);
      bytes += gzip.body.length;
    }
    expect(bytes).toBeLessThan(MAX_COMPRESSED_BYTES);
  });

  test.each(['/page/none.js', '/page/index.html', '/page/..%2f..%2fpackage.json'])('has no file %s', async (path) => {
    const answer = await send(service, path);
    expect([answer.status, json(answer)['code']]).toEqual([404, 'not-found']);
  });
});

test('BSDSYMS_PAGE=off leaves the index', async () => {
  const off = await startService({ BSDSYMS_PAGE: 'off' });
  try {
    const answer = await send(off, '/', { headers: BROWSER });
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
    for (const path of assets) expect((await send(off, path)).status).toBe(404);
  } finally {
    await off.close();
  }
});
