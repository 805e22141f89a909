import { describe, expect, test } from 'vitest';
import { machineName } from '../../../src/elf/format.ts';
import { Admission } from '../../../src/http/admission.ts';
import { Metrics } from '../../../src/http/metrics.ts';
import type { UploadOptions } from '../../../src/http/upload.ts';
import { Budget } from '../../../src/image/budget.ts';
import { Spool } from '../../../src/image/spool.ts';
import type { ImageFacts } from '../../../src/inspect/load.ts';
import { BROKEN_KINDS, type BrokenCode } from '../../../src/xen/broken.ts';
import { Exposition } from '../../support/prometheus.ts';
import { TemporaryDirectory } from '../../support/temporary.ts';

const directory = new TemporaryDirectory();
const upload: Pick<UploadOptions, 'admission' | 'store'> = {
  store: { maxImageBytes: 1000, memory: new Budget(500), spool: await Spool.open(directory.path, 700) },
  admission: new Admission({ maxUploads: 1, maxQueuedUploads: 2, maxUploadsPerClient: 0, queueTimeoutMs: 60_000 }),
};
directory.remove();

const read = async (metrics: Metrics): Promise<Exposition> => new Exposition(await metrics.registry.metrics());

const facts = (machine: string | null, size = 1): ImageFacts => ({
  size,
  identity: machine === null ? null : { class: 'ELF64', byteOrder: 'little-endian', type: 'EXEC', machine, entry: 0n },
  buildId: null,
  container: null,
});

test('requests are counted by route, method and status, and timed by route', async () => {
  const metrics = new Metrics(upload);
  metrics.request('/bsdsyms', 'POST', 200, 0.02);
  metrics.request('/bsdsyms', 'POST', 200, 3);
  metrics.request('/bsdsyms', 'POST', 422, 1000);
  metrics.request(null, 'GET', 404, 0.001);
  const text = await read(metrics);
  expect(text.counts('bsdsyms_http_requests_total')).toEqual({
    '/bsdsyms POST 200': 2,
    '/bsdsyms POST 422': 1,
    'none GET 404': 1,
  });
  const name = 'bsdsyms_http_request_duration_seconds';
  const bucket = (le: string): number => text.sum(`${name}_bucket`, { route: '/bsdsyms', le });
  expect([bucket('0.005'), bucket('0.025'), bucket('5'), bucket('300'), bucket('+Inf')]).toEqual([0, 1, 2, 2, 3]);
  expect(text.sum(`${name}_sum`, { route: '/bsdsyms' })).toBeCloseTo(1003.02);
  expect(text.sum(`${name}_count`, { route: 'none' })).toBe(1);
});

test('images are counted by what they are, and measured', async () => {
  const metrics = new Metrics(upload);
  metrics.image(facts('x86-64', 4096), null);
  metrics.image(facts('x86-64', 4097), 'gzip');
  metrics.image(facts('x86-64', 2 ** 31), 'zstd');
  metrics.image(facts(null, 3), null);
  metrics.blob(100);
  const text = await read(metrics);
  expect(text.counts('bsdsyms_images_total')).toEqual({
    'ELF64 x86-64 none': 1,
    'ELF64 x86-64 gzip': 1,
    'ELF64 x86-64 zstd': 1,
    'none none none': 1,
  });
  const upTo = (le: string): number => text.sum('bsdsyms_image_bytes_bucket', { le });
  expect([upTo('4096'), upTo('65536'), upTo('1073741824'), upTo('+Inf')]).toEqual([2, 3, 3, 4]);
  expect(text.sum('bsdsyms_image_bytes_sum')).toBe(4096 + 4097 + 2 ** 31 + 3);
  expect([text.sum('bsdsyms_blob_bytes_sum'), text.sum('bsdsyms_blob_bytes_count')]).toEqual([100, 1]);
});

test('of all 65,536 machines only those with a name are labels', async () => {
  const metrics = new Metrics(upload);
  const all = Array.from({ length: 0x1_0000 }, (_, machine) => machineName(machine));
  for (const machine of all) metrics.image(facts(machine), null);
  const text = await read(metrics);
  const names = all.filter((name) => !name.startsWith('0x'));
  expect(text.labelValues('machine')).toEqual(new Set([...names, 'other']));
  expect(text.sum('bsdsyms_images_total', { machine: 'other' })).toBe(all.length - names.length);
  expect(text.sum('bsdsyms_images_total')).toBe(all.length);
});

test('every code of a broken image is counted with its stage', async () => {
  const metrics = new Metrics(upload);
  const codes = Object.keys(BROKEN_KINDS) as BrokenCode[];
  const finding = { what: 'it', detail: 'It is.', offset: 2n ** 63n, length: null, reason: null };
  for (const code of codes) metrics.broken({ ...finding, code, stage: 'parse' });
  metrics.broken({ ...finding, code: 'out-of-range-access', stage: 'load' });
  const text = await read(metrics);
  expect(text.counts('bsdsyms_broken_images_total')).toEqual({
    ...Object.fromEntries(codes.map((code) => [`${code} parse`, 1])),
    'out-of-range-access load': 1,
  });
  // Neither the place nor the words are labels.
  expect(Object.keys(text.samples('bsdsyms_broken_images_total')[0]?.labels ?? {})).toEqual(['code', 'stage']);
});

test('refusals are counted by code', async () => {
  const metrics = new Metrics(upload);
  metrics.refused('too-busy');
  metrics.refused('too-busy');
  metrics.refused('client-gone');
  const text = await read(metrics);
  expect(text.counts('bsdsyms_uploads_refused_total')).toEqual({ 'too-busy': 2, 'client-gone': 1 });
});

describe('gauges', () => {
  const NAMES = [
    'bsdsyms_uploads_in_flight',
    'bsdsyms_uploads_queued',
    'bsdsyms_memory_budget_used_bytes',
    'bsdsyms_spool_budget_used_bytes',
  ];
  const gauges = async (metrics: Metrics): Promise<number[]> => {
    const text = await read(metrics);
    return NAMES.map((name) => text.sum(name));
  };

  test('are read when they are asked for', async () => {
    const metrics = new Metrics(upload);
    const { admission, store } = upload;
    expect(await gauges(metrics)).toEqual([0, 0, 0, 0]);
    const places = [admission.enter('client'), admission.enter('client'), admission.enter('client')];
    store.memory.take(400);
    store.spool.budget.take(650);
    expect(await gauges(metrics)).toEqual([1, 2, 400, 650]);
    for (const place of places.toReversed()) place.leave();
    store.memory.give(400);
    store.spool.budget.give(650);
    expect(await gauges(metrics)).toEqual([0, 0, 0, 0]);
  });

  test('have their limits next to them', async () => {
    const text = await read(new Metrics(upload));
    expect(text.sum('bsdsyms_memory_budget_limit_bytes')).toBe(500);
    expect(text.sum('bsdsyms_spool_budget_limit_bytes')).toBe(700);
  });
});

test('two services in one process count apart', async () => {
  const [one, other] = [new Metrics(upload), new Metrics(upload)];
  one.refused('no-image');
  expect((await read(one)).sum('bsdsyms_uploads_refused_total')).toBe(1);
  expect((await read(other)).sum('bsdsyms_uploads_refused_total')).toBe(0);
});
