/** /metrics: that Prometheus can read it, that it agrees with what was sent, and that nobody can make it grow. */
import { spawnSync } from 'node:child_process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { PROBLEM_KINDS } from '../../src/http/problem.ts';
import { document } from '../support/document.ts';
import { kernel } from '../support/elf-builder.ts';
import { imageForm, multipart } from '../support/forms.ts';
import { post, postForm, send } from '../support/http.ts';
import { SOON } from '../support/patience.ts';
import { scrape } from '../support/prometheus.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { type Service, settled, startService, uploading } from '../support/service.ts';
import { hasProgram } from '../support/temporary.ts';

const image = kernel({ symbols: 12 }).bytes;
const stripped = kernel({ symtab: { type: 1 } }).bytes;
/** Its symbol table claims more than the image has; onBroken=load skips it. */
const overlong = kernel({ symtab: { header: { sh_size: 0x10_0000 } } }).bytes;
const cutShort = image.subarray(0, -100);

let service: Service;
const start = async (env: Readonly<Record<string, string>> = {}): Promise<Service> => {
  service = await startService(env);
  return service;
};
afterEach(() => service.close());

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

/** The requests counted, but for those for the metrics themselves. */
async function requests(): Promise<Record<string, number>> {
  const counts = Object.entries((await scrape(service)).counts('bsdsyms_http_requests_total'));
  return Object.fromEntries(counts.filter(([labels]) => !labels.startsWith('/metrics ')));
}

async function occupied(): Promise<Record<string, number>> {
  const text = await scrape(service);
  return {
    inFlight: text.sum('bsdsyms_uploads_in_flight'),
    queued: text.sum('bsdsyms_uploads_queued'),
    memory: text.sum('bsdsyms_memory_budget_used_bytes'),
    spool: text.sum('bsdsyms_spool_budget_used_bytes'),
  };
}

describe('the page', () => {
  test('is in the text format of Prometheus', async () => {
    await start();
    expect((await post(service, '/bsdsyms', image)).status).toBe(200);
    const answer = await send(service, '/metrics');
    expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    const { families } = await scrape(service);
    for (const { name, type, help } of families.values()) {
      expect([name, help.length > 5]).toEqual([name, true]);
      expect([name, type]).not.toEqual([name, 'untyped']);
    }
    const own = [...families.values()].filter(({ name }) => name.startsWith('bsdsyms_'));
    for (const { name, type } of own) expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter']);
    for (const name of ['process_resident_memory_bytes', 'nodejs_eventloop_lag_seconds', 'process_open_fds']) {
      expect([...families.keys()]).toContain(name);
    }
  });

  test('has histograms that add up', async () => {
    await start();
    for (const path of ['/bsdsyms', '/layout']) expect((await post(service, path, image)).status).toBe(200);
    await expect.poll(requests, SOON).toEqual({ '/bsdsyms POST 200': 1, '/layout POST 200': 1 });
    // So short a run may do without one.
    collectGarbage();
    await expect
      .poll(async () => (await scrape(service)).samples('nodejs_gc_duration_seconds_count').length, SOON)
      .toBeGreaterThan(0);
    const text = await scrape(service);
    const histograms = [...text.families.values()].filter(({ type }) => type === 'histogram');
    expect(histograms.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['bsdsyms_http_request_duration_seconds', 'bsdsyms_image_bytes', 'bsdsyms_blob_bytes']),
    );
    for (const { name } of histograms) {
      const counts = text.samples(`${name}_count`);
      expect([name, counts.length > 0]).toEqual([name, true]);
      for (const { labels, value } of counts) {
        const buckets = text
          .samples(`${name}_bucket`)
          .filter((bucket) => Object.entries(labels).every(([label, own]) => bucket.labels[label] === own));
        const inOrder = buckets.map((bucket) => bucket.value);
        expect([name, inOrder]).toEqual([name, inOrder.toSorted((a, b) => a - b)]);
        expect(buckets.at(-1)).toMatchObject({ name: `${name}_bucket`, labels: { le: '+Inf' }, value });
      }
    }
  });

  test('is never cached, takes no body and no other method', async () => {
    await start();
    expect((await send(service, '/metrics', { method: 'POST' })).status).toBe(405);
    expect((await send(service, '/metrics', { method: 'HEAD' })).text).toBe('');
  });

  test.skipIf(!hasProgram('promtool', '--version'))('passes promtool check metrics', async () => {
    await start();
    await post(service, '/bsdsyms', image);
    await post(service, '/bsdsyms', stripped);
    await post(service, '/bsdsyms', '');
    const { text } = await send(service, '/metrics');
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    expect(checked.stdout + checked.stderr).toBe('');
    expect(checked.status).toBe(0);
  });
});

describe('counts', () => {
  test('agree with what was sent', async () => {
    await start();
    for (let round = 0; round < 3; round++) {
      expect((await post(service, '/bsdsyms', image)).status).toBe(200);
      expect((await postForm(service, '/bsdsyms', imageForm(image))).status).toBe(200);
      expect((await post(service, '/layout', gzipSync(image))).status).toBe(200);
    }
    expect((await post(service, '/kernel', image)).status).toBe(200);
    expect((await post(service, '/image', image)).status).toBe(200);
    for (const broken of [stripped, stripped, overlong]) {
      expect((await post(service, '/bsdsyms', broken)).status).toBe(422);
    }
    expect((await post(service, '/bsdsyms?onBroken=load', overlong)).status).toBe(200);
    expect((await post(service, '/layout', '')).status).toBe(400);
    expect((await post(service, '/layout', image, { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await postForm(service, '/layout', multipart([]))).status).toBe(400);
    expect((await send(service, '/nowhere')).status).toBe(404);
    expect((await send(service, '/bsdsyms', { method: 'DELETE' })).status).toBe(405);
    expect((await send(service, '/problems/no-image')).status).toBe(200);

    await expect.poll(requests, SOON).toEqual({
      '/bsdsyms POST 200': 7,
      '/bsdsyms POST 422': 3,
      '/layout POST 200': 3,
      '/layout POST 400': 2,
      '/layout POST 415': 1,
      '/kernel POST 200': 1,
      '/image POST 200': 1,
      'none GET 404': 1,
      '/bsdsyms DELETE 405': 1,
      '/problems/:code GET 200': 1,
    });
    const text = await scrape(service);
    expect(text.sum('bsdsyms_http_request_duration_seconds_count', { route: '/bsdsyms' })).toBe(11);
    expect(text.counts('bsdsyms_images_total')).toEqual({ 'ELF64 x86-64 none': 12, 'ELF64 x86-64 gzip': 3 });
    expect(text.sum('bsdsyms_image_bytes_count')).toBe(15);
    expect(text.sum('bsdsyms_image_bytes_sum')).toBe(11 * image.length + 2 * stripped.length + 2 * overlong.length);
    expect(text.counts('bsdsyms_uploads_refused_total')).toEqual({ 'no-image': 2, 'media-type-unsupported': 1 });
    // 6 times /bsdsyms, 3 times /layout, and once with what is broken.
    expect(text.sum('bsdsyms_blob_bytes_count')).toBe(10);
  });

  test('have uploads that broke off as 499', async () => {
    await start();
    for (let aborted = 0; aborted < 2; aborted++) {
      const connection = await RawConnection.open(service.port);
      await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), image.subarray(0, 50));
      await uploading(service);
      connection.destroy();
      await settled(service);
    }
    await expect.poll(requests, SOON).toEqual({ '/bsdsyms POST 499': 2 });
    const text = await scrape(service);
    expect(text.counts('bsdsyms_uploads_refused_total')).toEqual({ 'client-gone': 2 });
    expect([text.sum('bsdsyms_images_total'), text.sum('bsdsyms_image_bytes_count')]).toEqual([0, 0]);
  });

  test('have what there was no room for', async () => {
    await start({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }));
    await uploading(service);
    expect((await post(service, '/bsdsyms', image)).status).toBe(503);
    await connection.send(image);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
    await expect.poll(requests, SOON).toEqual({ '/bsdsyms POST 200': 1, '/bsdsyms POST 503': 1 });
    expect((await scrape(service)).counts('bsdsyms_uploads_refused_total')).toEqual({ 'too-busy': 1 });
  });

  test('have broken images by code and stage', async () => {
    await start();
    const unsupported = kernel({ class: 'ELF32' }).bytes;
    for (const broken of ['no ELF', stripped, overlong, cutShort, cutShort]) {
      expect((await post(service, '/bsdsyms', broken)).status).toBe(422);
    }
    expect((await post(service, '/layout?onBroken=load', overlong)).status).toBe(200);
    expect((await post(service, '/bsdsyms', unsupported)).status).toBe(200);
    const text = await scrape(service);
    expect(text.counts('bsdsyms_broken_images_total')).toEqual({
      'not-elf init': 1,
      'no-symbol-table parse': 1,
      'out-of-range-access load': 2,
      'shdr-overflow init': 2,
    });
    expect(text.counts('bsdsyms_images_total')).toMatchObject({ 'none none none': 1, 'ELF32 i386 none': 1 });
  });
});

describe('labels', () => {
  test('are of a closed list, whatever is sent', async () => {
    const MARKER = 'made-up';
    await start();
    for (let odd = 0; odd < 20; odd++) {
      expect((await post(service, '/kernel', kernel({ machine: 0x7000 + odd }).bytes)).status).toBeLessThan(500);
      expect((await send(service, `/${MARKER}-${odd}?${MARKER}=${odd}`)).status).toBe(404);
      expect((await send(service, `/problems/${MARKER}-${odd}`)).status).toBe(404);
      expect((await post(service, `/bsdsyms?${MARKER}${odd}=1`, image)).status).toBe(400);
      expect((await post(service, '/bsdsyms', image, { 'content-encoding': `${MARKER}-${odd}` })).status).toBe(415);
    }
    const wild = await RawConnection.open(service.port);
    await wild.send(head('MADEUP', '/bsdsyms'));
    expect((await wild.answer()).status).toBe(400);
    wild.destroy();

    await expect
      .poll(async () => (await scrape(service)).sum('bsdsyms_http_requests_total', { route: 'none' }), SOON)
      .toBe(20);
    const text = await scrape(service);
    expect(text.counts('bsdsyms_images_total')).toEqual({ 'ELF64 other none': 20 });
    const routes = Object.keys(document.paths).map((path) => path.replace('{code}', ':code'));
    // Parts of the page are not for callers, and not in the document.
    expect([...text.labelValues('route')].sort()).toEqual([...routes, '/page/:file', 'none'].sort());
    expect([...text.labelValues('method')].sort()).toEqual(['GET', 'POST', 'PUT']);
    for (const code of text.labelValues('code')) expect(Object.keys(PROBLEM_KINDS)).toContain(code);
    expect((await send(service, '/metrics')).text).not.toMatch(/made-?up/i);
  });

  test('of paths that cannot be decoded are those of unknown routes', async () => {
    await start();
    expect((await send(service, '/%zz')).status).toBe(404);
    await expect.poll(requests, SOON).toEqual({ 'none GET 404': 1 });
  });
});

describe('gauges', () => {
  const NOTHING = { inFlight: 0, queued: 0, memory: 0, spool: 0 };
  const some = expect.toSatisfy((value: number) => value > 0, 'more than 0') as number;
  /** Enough to be no header any more. */
  const large = kernel({ symbols: 12, after: [{ name: '.pad', data: new Uint8Array(3 << 20) }] }).bytes;

  test.each([
    ['memory', {}, { inFlight: 1, queued: 0, memory: some, spool: 0 }],
    ['spool', { BSDSYMS_MEMORY_BUDGET_BYTES: '0' }, { inFlight: 1, queued: 0, memory: 0, spool: some }],
  ])('go up while an upload is under way, and back: %s', async (_name, env, during) => {
    await start(env);
    expect(await occupied()).toEqual(NOTHING);
    for (const rest of [large.subarray(-10), new Uint8Array()]) {
      const connection = await RawConnection.open(service.port);
      await connection.send(head('POST', '/bsdsyms', { 'Content-Length': large.length }), large.subarray(0, -10));
      await expect.poll(occupied, SOON).toEqual(during);
      // Once to its end, once broken off.
      await connection.send(rest);
      const status = rest.length > 0 ? (await connection.answer()).status : 'none';
      expect(status).toBe(rest.length > 0 ? 200 : 'none');
      connection.destroy();
      await expect.poll(occupied, SOON).toEqual(NOTHING);
    }
  });

  test('tell who waits', async () => {
    await start({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_QUEUE_TIMEOUT_MS: '60000' });
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }));
    await uploading(service);
    const waiting = [post(service, '/bsdsyms', image), post(service, '/layout', image)];
    await expect.poll(occupied, SOON).toMatchObject({ inFlight: 1, queued: 2 });
    await connection.send(image);
    expect((await connection.answer()).status).toBe(200);
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([200, 200]);
    connection.destroy();
    await expect.poll(occupied, SOON).toEqual(NOTHING);
  });

  test('have the limits that were set', async () => {
    await start({ BSDSYMS_MEMORY_BUDGET_BYTES: '12345', BSDSYMS_SPOOL_BUDGET_BYTES: '67890' });
    const text = await scrape(service);
    expect(text.sum('bsdsyms_memory_budget_limit_bytes')).toBe(12_345);
    expect(text.sum('bsdsyms_spool_budget_limit_bytes')).toBe(67_890);
  });
});
