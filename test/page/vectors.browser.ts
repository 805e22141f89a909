/** The page's worker gives what the reference, and the library, give. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { COMPRESSIONS, type Compression } from '../../src/inspect/image-source.ts';
import { loadImage } from '../../src/inspect/load.ts';
import { findCompression } from '../../src/inspect/signatures.ts';
import { verifyBlob } from '../../src/inspect/verify.ts';
import type { Numbered, Order, Report } from '../../src/page/messages.ts';
import { toLayout } from '../../src/report/layout.ts';
import { toProblemDocument } from '../../src/report/problem.ts';
import { toVerifyReport } from '../../src/report/verify.ts';
import type { Loader } from '../../src/xen/loaders/bsdsyms.ts';
import { json, post, send } from '../support/http.ts';
import type { Service } from '../support/service.ts';
import {
  blobOf,
  imageOf,
  readBsdsymsVectors,
  readCompressedVectors,
  readContainerVectors,
  readGuestsVectors,
  readHistoricalVectors,
} from '../support/vectors.ts';
import { launch, startPageService } from './browser.ts';

let browser: Browser;
let service: Service;
let page: Page;

/** What the worker makes of a file. */
interface Outcome {
  readonly layout: unknown;
  readonly problem: { readonly code: string; readonly detail: string } | null;
  readonly kernel: unknown;
  readonly verified: unknown;
  readonly sha256: string | null;
  readonly length: number | null;
  readonly failure: string | null;
}

beforeAll(async () => {
  [browser, service] = [await launch(), await startPageService()];
  const html = (await send(service, '/', { headers: { accept: 'text/html' } })).text;
  const [worker = ''] = /page\/worker-\w+\.js/.exec(html) ?? [];
  page = await (await browser.newContext()).newPage();
  // A document of the same origin, without the page's own policy.
  await page.goto(`${service.url}/healthz`);
  await page.evaluate((url) => {
    const thread = new Worker(url, { type: 'module' });
    let id = 0;
    const ask = (order: Order): Promise<Report[]> =>
      new Promise((resolve) => {
        id += 1;
        const own = id;
        const reports: Report[] = [];
        const listen = ({ data }: MessageEvent<Report>): void => {
          if (data.id !== own) return;
          reports.push(data);
          if (!['done', 'failed', 'cancelled'].includes(data.kind)) return;
          thread.removeEventListener('message', listen);
          resolve(reports);
        };
        thread.addEventListener('message', listen);
        const numbered: Numbered<Order> = { id, order };
        thread.postMessage(numbered);
      });
    const inspect = async (base64: string, parameters: Record<string, string>, isBlob: boolean): Promise<Outcome> => {
      const file = new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))]);
      const reports = await ask(isBlob ? { kind: 'verify', file, address: '' } : { kind: 'open', file, parameters });
      const of = <Kind extends Report['kind']>(kind: Kind): Extract<Report, { kind: Kind }> | undefined =>
        reports.find((report): report is Extract<Report, { kind: Kind }> => report.kind === kind);
      const layout = of('layout')?.report ?? null;
      let bytes: ArrayBuffer | null = null;
      if (layout !== null) {
        for (const answer of await ask({ kind: 'blob' }))
          if (answer.kind === 'file') bytes = await answer.file.arrayBuffer();
      }
      const digest = bytes === null ? null : new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      return {
        layout,
        problem: of('refused')?.problem ?? null,
        kernel: of('kernel')?.report ?? null,
        verified: of('verified')?.report ?? null,
        sha256: digest === null ? null : Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join(''),
        length: bytes?.byteLength ?? null,
        failure: of('failed')?.message ?? null,
      };
    };
    Object.assign(globalThis, { inspect });
  }, `${service.url}/${worker}`);
});
afterAll(async () => {
  await browser.close();
  await service.close();
});

interface Job {
  readonly file: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly isBlob?: boolean;
}

const BATCH = 100;

async function inspectAll(jobs: readonly Job[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (let at = 0; at < jobs.length; at += BATCH) {
    const batch = jobs
      .slice(at, at + BATCH)
      .map(({ file, parameters, isBlob = false }) => ({ file, parameters, isBlob }));
    outcomes.push(
      ...(await page.evaluate(async (all) => {
        const { inspect } = globalThis as unknown as {
          inspect: (file: string, parameters: object, isBlob: boolean) => Promise<Outcome>;
        };
        const done: Outcome[] = [];
        for (const { file, parameters, isBlob } of all) done.push(await inspect(file, parameters, isBlob));
        return done;
      }, batch)),
    );
  }
  return outcomes;
}

/** Browsers unpack one member of gzip and nothing after it; the page says so. */
const ONE_MEMBER_ONLY: ReadonlySet<string> = new Set([
  'top/gzip-two-members-halves',
  'top/gzip-two-members-small-second',
  'top/gzip-two-members-larger-first',
  'bz/gzip/garbage-before-size-word',
  'bz/gzip/two-members',
]);

const CHOOSE_ELF = 'Choose the ELF kernel';

/** What the service says of a file: its kernel, or the code that it is refused with. */
async function askService(
  file: Uint8Array,
): Promise<{ readonly kernel: unknown; readonly code: string | null; readonly compression?: Compression | null }> {
  const answer = await post(service, '/kernel', file, { 'content-type': 'application/octet-stream' });
  const body = json(answer);
  if (answer.status !== 200) return { kernel: null, code: String(body['code']) };
  const { compression } = body['image'] as { readonly compression: Compression | null };
  return { kernel: body, code: null, compression };
}

/** As JSON, as it comes out of a worker or a service. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** Every so many of the vectors: all of them take minutes. */
const share = <T>(vectors: readonly T[], every: number): T[] => vectors.filter((_, index) => index % every === 0);

describe('the worker', () => {
  test('loads images as the reference does', async () => {
    const vectors = share(readBsdsymsVectors(), 2);
    const outcomes = await inspectAll(
      vectors.map(({ image, loadAddress }) => ({
        file: image,
        parameters: { onBroken: 'load', ...(loadAddress === null ? {} : { loadAddress }) },
      })),
    );
    let compared = 0;
    for (const [index, vector] of vectors.entries()) {
      const outcome = outcomes[index];
      const source = new MemorySource([imageOf(vector)]);
      const loadAddress = vector.loadAddress === null ? null : BigInt(vector.loadAddress);
      const loaded = await loadImage(source, { onBroken: 'load', loadAddress, askGuests: true });
      const { blob } = vector.expect;
      expect([vector.name, outcome?.failure]).toEqual([vector.name, null]);
      const { layout, problem } = outcome ?? {};
      const expected = loaded.ok
        ? { layout: plain(toLayout(loaded, null)), problem: null }
        : { layout: null, problem: plain(toProblemDocument(loaded)) };
      expect([vector.name, { layout, problem }]).toEqual([vector.name, expected]);
      if (blob === null || !loaded.ok) continue;
      compared += 1;
      expect([vector.name, outcome?.length, outcome?.sha256]).toEqual([vector.name, blob.length, blob.sha256]);
    }
    process.stdout.write(`${vectors.length} images, ${compared} blobs\n`);
    expect(compared).toBeGreaterThan(100);
  });

  test('loads them with the older loaders, too', async () => {
    const vectors = share(readHistoricalVectors(), 4);
    const outcomes = await inspectAll(
      vectors.map(({ image, loadAddress, loader }) => ({
        file: image,
        parameters: { loader: loader satisfies Loader, ...(loadAddress === null ? {} : { loadAddress }) },
      })),
    );
    for (const [index, { name, expect: wanted }] of vectors.entries()) {
      const { length, sha256 } = outcomes[index] ?? {};
      expect([name, length, sha256]).toEqual([name, wanted.blob.length, wanted.blob.sha256]);
    }
  });

  test('verifies blobs as the library does', async () => {
    const vectors = share(readGuestsVectors(), 3);
    const outcomes = await inspectAll(vectors.map(({ blob }) => ({ file: blob, parameters: {}, isBlob: true })));
    let verified = 0;
    for (const [index, vector] of vectors.entries()) {
      const outcome = outcomes[index];
      expect([vector.name, outcome?.failure]).toEqual([vector.name, null]);
      // Some are refused as ELF images.
      if (outcome?.problem !== null) continue;
      verified += 1;
      const report = toVerifyReport(await verifyBlob(new MemorySource([blobOf(vector)]), null));
      expect([vector.name, outcome.verified]).toEqual([vector.name, plain(report)]);
    }
    expect(verified).toBeGreaterThan(vectors.length / 2);
  });

  test('takes the compressed kernels and bzImages that the service takes, or says what to do', async () => {
    // A request without a body has a code of its own.
    const vectors = readContainerVectors().filter(({ file }) => file !== '');
    const takesZstd = await page.evaluate(() => {
      try {
        return 'readable' in new DecompressionStream('zstd' as 'gzip');
      } catch {
        return false;
      }
    });
    const outcomes = await inspectAll(vectors.map(({ file }) => ({ file, parameters: {} })));
    const taken = new Set<string>();
    for (const [index, { name, file }] of vectors.entries()) {
      const { kernel = null, problem = null, failure } = outcomes[index] ?? {};
      const expected = await askService(Buffer.from(file, 'base64'));
      const isBzImage = name.startsWith('bz/') || name.startsWith('head/');
      const lacksZstd =
        !takesZstd && (problem?.detail.includes('with zstd, which this browser does not unpack') ?? false);
      const refusal = ONE_MEMBER_ONLY.has(name)
        ? { code: 'compressed-data-corrupt', advice: isBzImage ? CHOOSE_ELF : 'has to be unpacked first' }
        : lacksZstd
          ? { code: 'compression-unsupported', advice: isBzImage ? CHOOSE_ELF : '(zstd -d)' }
          : null;
      expect([name, failure, kernel, problem?.code]).toEqual([
        name,
        null,
        refusal === null ? expected.kernel : null,
        refusal?.code ?? expected.code ?? problem?.code,
      ]);
      expect(problem?.detail ?? '').toContain(refusal?.advice ?? '');
      if (expected.compression !== undefined && kernel !== null) taken.add(expected.compression ?? 'none');
    }
    const promised = COMPRESSIONS.filter((compression) => takesZstd || compression !== 'zstd');
    expect([...taken]).toEqual(expect.arrayContaining(['none', ...promised]));
  });

  test('unpacks what xz, lzma, bzip2, lz4 and lzop made', async () => {
    // Some files of lzma have no mark; neither the service nor the page takes them for compressed.
    const vectors = readCompressedVectors().filter(({ file }) => findCompression(Buffer.from(file, 'base64')) !== null);
    expect(vectors.length).toBeGreaterThan(20);
    const outcomes = await inspectAll(vectors.map(({ file }) => ({ file, parameters: {} })));
    for (const [index, { name, expect: wanted }] of vectors.entries()) {
      // They hold no kernels: what came out shows in the size of what is refused.
      const problem = outcomes[index]?.problem as unknown as { code: string; image?: { size: number } } | null;
      expect([name, problem?.image?.size]).toEqual([name, wanted.length]);
    }
  });
});
