/** The differences between two loaders, held against their blobs byte by byte. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LOADERS, type Loader, loadSymbols } from '../../src/xen/bsdsyms.ts';
import { type BlobRange, type Comparison, comparePlans } from '../../src/xen/compare.ts';
import { anyKernel } from '../support/arbitraries.ts';
import { load, MIB } from '../support/load.ts';
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
  const comparison = comparePlans(
    own.image.headers.format.class,
    own.plan,
    otherLoader,
    loadSymbols(own.image, options),
  );
  return { comparison, blob: own.blob, other: other.outcome === 'loaded' ? other.blob : null };
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
