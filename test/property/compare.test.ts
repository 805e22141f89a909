/** The differences between two loaders, held against their blobs byte by byte. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ELF64, SHT_STRTAB, SHT_SYMTAB } from '../../src/elf/format.ts';
import { runToEnd } from '../../src/elf/steps.ts';
import { type BlobRange, type Comparison, comparePlans } from '../../src/xen/compare.ts';
import { LOADERS, type Loader, loadSymbols } from '../../src/xen/loaders/bsdsyms.ts';
import { anyKernel, kernelSpec } from '../support/arbitraries.ts';
import { kernel, writeField } from '../support/elf-builder.ts';
import { load, MIB, mustInit } from '../support/load.ts';
import { imageOf, readHistoricalVectors } from '../support/vectors.ts';

interface Compared {
  readonly comparison: Comparison;
  readonly blob: Uint8Array;
  readonly other: Uint8Array | null;
}

/** @returns null when the first loader does not load the image */
async function compare(image: Uint8Array, loader: Loader, otherLoader: Loader): Promise<Compared | null> {
  const own = await load(image, { loader });
  if (own.outcome !== 'loaded') return null;
  const other = await load(image, { loader: otherLoader });
  const options = { loader: otherLoader, loadAddress: own.plan.loadAddress, maxBlobBytes: MIB };
  const { format } = own.image.headers;
  const steps = comparePlans(format.class, own.plan, otherLoader, loadSymbols(await mustInit(image), options));
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  return { comparison: step.value, blob: own.blob, other: other.outcome === 'loaded' ? other.blob : null };
}

const covers = (ranges: readonly (BlobRange | null)[], at: number): boolean =>
  ranges.some((range) => range !== null && at >= range.offset && at < range.offset + range.size);

/** What the comparison does not explain, or says without reason. */
function complaints({ comparison, blob, other }: Compared): string[] {
  if (comparison.broken !== null || other === null) {
    return (comparison.broken === null) === (other === null) ? ['one of the two is refused'] : [];
  }
  const { differences, unlisted } = comparison;
  const wrong: string[] = [];
  const own = differences.map(({ range }) => range);
  const others = differences.map(({ otherRange }) => otherRange);
  for (let at = 0; at < Math.max(blob.length, other.length); at++) {
    if (blob[at] !== other[at] && !covers(own, at) && !covers(others, at) && unlisted === 0) wrong.push(`byte ${at}`);
  }
  for (const { kind, what, range, otherRange } of differences) {
    for (const [one, { length }] of [[range, blob] as const, [otherRange, other] as const]) {
      if (one !== null && (one.size === 0 || one.offset + one.size > length)) wrong.push(`${what} is not there`);
    }
    if (kind !== 'changed' || range === null || otherRange === null) continue;
    const bytes = blob.subarray(range.offset, range.offset + range.size);
    const otherBytes = other.subarray(otherRange.offset, otherRange.offset + otherRange.size);
    if (Buffer.from(bytes).equals(otherBytes)) wrong.push(`${what} is the same`);
  }
  if ((differences.length === 0) !== Buffer.from(blob).equals(other)) wrong.push('identical or not?');
  return wrong;
}

const pairs = LOADERS.flatMap((loader) => LOADERS.map((other) => [loader, other] as const));

describe.each(pairs)('%s compared with %s', (loader, other) => {
  test('has every byte that differs in a range', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, async ({ bytes }) => {
        const compared = await compare(bytes, loader, other);
        expect(compared === null ? [] : complaints(compared)).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  test('whatever sizes the image gives its headers', async () => {
    const odd = fc.record({
      spec: kernelSpec,
      ehsize: fc.oneof(fc.nat(70), fc.constantFrom(0, 200, 0xffff)),
      shentsize: fc.oneof(fc.nat(70), fc.constantFrom(0, 200, 0xffff)),
      isTrue: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(odd, async ({ spec, ehsize, shentsize, isTrue }) => {
        const { bytes } = isTrue
          ? kernel({
              ...spec,
              header: { e_ehsize: ehsize },
              placement: { sectionHeaderStride: Math.max(64, shentsize) },
            })
          : kernel({ ...spec, header: { e_ehsize: ehsize, e_shentsize: shentsize } });
        const compared = await compare(bytes, loader, other);
        expect(compared === null ? [] : complaints(compared)).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  test('for the images of the vectors, too', async () => {
    const images = new Set(readHistoricalVectors().map(({ image }) => image));
    const wrong: unknown[] = [];
    let compared = 0;
    for (const image of images) {
      const one = await compare(imageOf({ image }), loader, other);
      if (one === null) continue;
      compared += 1;
      const found = complaints(one);
      if (found.length > 0) wrong.push(found.slice(0, 3));
    }
    expect(wrong).toEqual([]);
    expect(compared).toBeGreaterThan(100);
  });
});

test.each([0, 1, 4, 7, 8, 63])('headers that are %i bytes apart are compared as far as they go', async (stride) => {
  const { bytes } = kernel();
  const table = new Uint8Array(1024);
  // Wherever headers begin, one of them is a symbol table without bytes that links to section 0.
  new DataView(table.buffer).setUint32(stride + 4, SHT_SYMTAB, true);
  const image = Uint8Array.from([...bytes, ...table]);
  const set = (name: 'e_shoff' | 'e_shentsize' | 'e_shnum', value: number): void =>
    writeField(image, 0, ELF64.elfHeader.fields[name], value, true);
  set('e_shoff', bytes.length);
  set('e_shentsize', stride);
  set('e_shnum', 4);
  const found = await mustInit(image);
  const planOf = (loader: Loader) => loadSymbols(found, { loader, loadAddress: 0x10_0000n, maxBlobBytes: MIB });
  const [own, other] = [planOf('xen-4.6'), planOf('libxc-4.6')];
  if (!own.ok) throw new Error('the image was not loaded');
  expect(runToEnd(comparePlans('ELF64', own.plan, 'libxc-4.6', other))).toMatchObject({ broken: null });
});

test('an image of thousands of sections is compared in steps', async () => {
  const before = Array.from({ length: 20_000 }, () => ({ name: 'x', type: SHT_STRTAB, data: new Uint8Array(1) }));
  const image = await mustInit(kernel({ before }).bytes);
  const planOf = (loader: Loader) => loadSymbols(image, { loader, loadAddress: 0x10_0000n, maxBlobBytes: 16 * MIB });
  const [own, other] = [planOf('xen-4.6'), planOf('libxc-4.6')];
  if (!own.ok || !other.ok) throw new Error('the image was not loaded');
  const steps = comparePlans('ELF64', own.plan, 'libxc-4.6', other);
  let taken = 1;
  while (steps.next().done !== true) taken += 1;
  // Headers and tables of both blobs.
  expect(taken).toBeGreaterThan((2 * 20_000) / 1024);
});
