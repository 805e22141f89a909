/** `POST /check` says what the single routes say, of every vector: `/layout`, `/kernel`, and `/verify` of the blob itself. */

import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import { gatherStream } from '../../src/image/gather.ts';
import { MemorySource } from '../../src/image/memory.ts';
import { type CheckRequest, checkImage, REQUIREMENTS, type RequirementName } from '../../src/inspect/check.ts';
import type { ImageSource } from '../../src/inspect/image-source.ts';
import { inspectKernel, loadImage } from '../../src/inspect/load.ts';
import { toCheckReport } from '../../src/report/check.ts';
import { toKernelReport } from '../../src/report/kernel.ts';
import { toLayout } from '../../src/report/layout.ts';
import type { KernelReport, Layout } from '../../src/report/schemas.ts';
import { LOADER_PROBE_BYTES } from '../../src/xen/builder.ts';
import { ASKING_NOTES, kernel } from '../support/elf-builder.ts';
import {
  describeVector,
  imageOf,
  loadAddressOf,
  readBsdsymsVectors,
  readContainerVectors,
  readFlatImageVectors,
  readHistoricalVectors,
  readNotesVectors,
} from '../support/vectors.ts';

/** Warnings with which a guest looks elsewhere, or reads outside of its tables. */
const HARMLESS = new Set(['byte-order-ignored', 'header-size-ignored', 'table-size-odd', 'symbols-cut-off']);

interface Singles {
  /** Null when `/layout` refuses the image. */
  readonly layout: Layout | null;
  readonly refusal: string | null;
  readonly report: KernelReport;
}

/** Whether a requirement is met, by what the single routes answered. */
function isMet(name: RequirementName, { layout, report }: Singles): boolean {
  const finds = (guest: 'freebsd' | 'netbsd' | 'netbsdKdtrace' | 'xtf'): boolean => {
    const verdict = layout?.guests?.[guest];
    return verdict?.outcome === 'found' && verdict.warnings.every((code) => HARMLESS.has(code));
  };
  switch (name) {
    case 'symbols':
      return layout !== null && layout.broken === null;
    case 'symbols-requested':
      return report.warnings.every(({ code }) => code !== 'no-xen-notes' && code !== 'symbols-not-requested');
    case 'pv':
      return report.builder.pv.ok;
    case 'pvh':
      return report.builder.hvm.ok;
    case 'freebsd':
    case 'xtf':
      return finds(name);
    case 'netbsd':
      return finds('netbsd') && finds('netbsdKdtrace');
    case 'no-warnings':
      return (layout ?? report).warnings.length === 0;
  }
}

/** What `/check` says differently from the single routes. */
async function disagreements(
  source: ImageSource,
  request: CheckRequest,
  seen: Map<string, number>,
): Promise<unknown[]> {
  const checked = await checkImage(source, { ...request, require: REQUIREMENTS });
  const inspected = await inspectKernel(source);
  const loaded = await loadImage(source, { ...request, askGuests: true });
  if (!checked.ok || !inspected.ok) {
    const codes = [checked, inspected, loaded].map((one) => (one.ok ? 'loaded' : one.broken.code));
    seen.set('refused', (seen.get('refused') ?? 0) + 1);
    return new Set(codes).size === 1 ? [] : codes;
  }
  const layout = loaded.ok ? toLayout(loaded, null) : null;
  const single = toKernelReport(inspected, null);
  const singles = { layout, report: single, refusal: loaded.ok ? null : loaded.broken.code };
  const report = toCheckReport(checked, null);
  const found: unknown[] = [];
  const compare = (what: string, actual: unknown, expected: unknown): void => {
    if (JSON.stringify(actual) !== JSON.stringify(expected)) found.push([what, actual, expected]);
  };
  for (const { name, met, code } of report.requirements) {
    compare(name, met, isMet(name, singles));
    compare(`${name} has a code`, code === null, met);
    seen.set(`${name} ${met}`, (seen.get(`${name} ${met}`) ?? 0) + 1);
  }
  compare(
    'names',
    report.requirements.map(({ name }) => name),
    REQUIREMENTS,
  );
  compare('image', report.image, single.image);
  compare('kernel', report.kernel, single.kernel);
  compare('bsdsyms', report.bsdsyms, layout?.bsdsyms ?? null);
  compare('warnings', report.warnings, (layout ?? single).warnings);
  compare('broken', report.broken?.code ?? null, layout === null ? singles.refusal : (layout.broken?.code ?? null));
  compare(
    'all of them',
    checked.met,
    report.requirements.every(({ met }) => met),
  );

  const names = (await checkImage(source, request)) as typeof checked;
  const os = inspected.xen.pv.guestOs || inspected.xen.hvm.guestOs;
  const guest = ['FreeBSD', 'NetBSD', 'XTF'].includes(os) ? [os.toLowerCase()] : [];
  compare(
    'the default',
    names.requirements.map(({ name }) => name),
    ['symbols', 'symbols-requested', ...guest],
  );
  return found;
}

const bsdsyms = readBsdsymsVectors().map((one) => ({
  name: describeVector(one),
  image: imageOf(one),
  request: { loadAddress: loadAddressOf(one) },
}));
const plain = (one: { readonly name: string; readonly image: string }) => ({
  name: one.name,
  image: imageOf(one),
  request: {},
});
const SETS: readonly (readonly [string, readonly { name: string; image: Uint8Array; request: CheckRequest }[]])[] = [
  ['of the loader', bsdsyms],
  [
    'of the loader, with onBroken=load',
    bsdsyms.map(({ name, image, request: { loadAddress } }) => ({
      name,
      image,
      request: { loadAddress, onBroken: 'load' as const },
    })),
  ],
  [
    'of the loaders before it',
    readHistoricalVectors().map((one) => ({
      name: one.name,
      image: imageOf(one),
      request: { loader: one.loader, loadAddress: loadAddressOf(one) },
    })),
  ],
  ['of notes', readNotesVectors().map(plain)],
  ['of flat images', readFlatImageVectors().map(plain)],
];

/** Every third vector takes seconds; BSDSYMS_ALL_VECTORS=1 takes all. */
const share = process.env['BSDSYMS_ALL_VECTORS'] === undefined ? 3 : 1;

describe('the vectors', () => {
  const seen = new Map<string, number>();

  test.each(SETS)('%s', async (_, vectors) => {
    expect(vectors).not.toEqual([]);
    const wrong: unknown[] = [];
    for (const { name, image, request } of vectors.filter((_one, index) => index % share === 0)) {
      const found = await disagreements(new MemorySource([image]), request, seen);
      if (found.length > 0) wrong.push([name, found]);
    }
    expect(wrong).toEqual([]);
  });

  test('of containers, and others with gzip', async () => {
    const files = readContainerVectors().map(({ name, file }) => ({ name, bytes: Buffer.from(file, 'base64') }));
    const packed = SETS[3]?.[1].slice(0, 200).map(({ name, image }) => ({ name, bytes: gzipSync(image) })) ?? [];
    const wrong: unknown[] = [];
    for (const { name, bytes } of [...files, ...packed]) {
      const gathered = await gatherStream(Readable.from([bytes]), DEFAULTS).catch(() => null);
      if (gathered === null) continue;
      const found = await disagreements(gathered.source, {}, seen);
      await gathered.source.close();
      if (found.length > 0) wrong.push([name, found]);
    }
    expect(wrong).toEqual([]);
  });

  test('meet each requirement, and do not', () => {
    for (const name of REQUIREMENTS) {
      expect([name, (seen.get(`${name} true`) ?? 0) > 0, (seen.get(`${name} false`) ?? 0) > 0]).toEqual([
        name,
        true,
        true,
      ]);
    }
  });
});

test('nothing is read twice: no more than for /layout, but for the start of the file that the builder looks at', async () => {
  const image = kernel({ symbols: 5000, notes: ASKING_NOTES }).bytes;
  const layout = new CountingSource(image);
  await loadImage(layout, { askGuests: true });
  const check = new CountingSource(image);
  const checked = await checkImage(check, { require: REQUIREMENTS });
  expect(checked.ok && checked.plan !== null).toBe(true);
  expect(check.bytes).toBe(layout.bytes + Math.min(image.length, LOADER_PROBE_BYTES));
  expect(check.reads).toBe(layout.reads + 1);

  // Guests read the whole blob, so they are asked only when that is wanted.
  const unasked = new CountingSource(image);
  await loadImage(unasked);
  const symbols = new CountingSource(image);
  await checkImage(symbols);
  expect(symbols.bytes).toBe(unasked.bytes + Math.min(image.length, LOADER_PROBE_BYTES));
});

/** Counts what is read of an image. */
class CountingSource extends MemorySource {
  reads = 0;
  bytes = 0;

  constructor(image: Uint8Array) {
    super([image]);
  }

  override read(offset: number, length: number): Promise<Uint8Array> {
    this.reads += 1;
    this.bytes += length;
    return super.read(offset, length);
  }

  override async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    this.reads += 1;
    this.bytes += length;
    yield* super.stream(offset, length);
  }
}
