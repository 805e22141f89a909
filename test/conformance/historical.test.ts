/** The loaders before 4.8 against their measured answers. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { load } from '../support/load.ts';
import { describeVector, hex, imageOf, loadAddressOf, readHistoricalVectors } from '../support/vectors.ts';

const vectors = readHistoricalVectors();
const measure = (blob: Uint8Array, sizeWord: number) => ({
  length: blob.length,
  sizeWord,
  sha256: createHash('sha256').update(blob).digest('hex'),
});

describe('the vectors', () => {
  test('are all there', () => {
    const counts = Object.entries(Object.groupBy(vectors, ({ loader }) => loader));
    expect(vectors).toHaveLength(1812);
    expect(Object.fromEntries(counts.map(([loader, cases]) => [loader, cases.length]))).toEqual({
      'xen-4.7': 362,
      'xen-4.6': 718,
      'libxc-4.6': 732,
    });
  });

  test.each(['xen-4.7', 'xen-4.6', 'libxc-4.6'] as const)('%s: the core answers as the reference', async (loader) => {
    const mismatches = [];
    for (const vector of vectors.filter((candidate) => candidate.loader === loader)) {
      const result = await load(imageOf(vector), { loader, loadAddress: loadAddressOf(vector) });
      const actual =
        result.outcome === 'loaded'
          ? {
              region: { pstart: hex(result.plan.pstart), pend: hex(result.plan.xenReservedEnd) },
              blob: measure(result.blob, result.plan.sizeWord),
            }
          : result;
      const { region, blob } = vector.expect;
      const expected = {
        region: { pstart: region.pstart, pend: region.pend },
        blob: { length: blob.length, sizeWord: blob.sizeWord, sha256: blob.sha256 },
      };
      if (JSON.stringify(actual, showBigints) !== JSON.stringify(expected)) {
        mismatches.push({ case: describeVector(vector), actual, expected });
      }
    }
    expect(mismatches).toEqual([]);
  });

  test('where the region would wrap at 2^64 the image is refused', async () => {
    const top = 2n ** 64n - 64n;
    const codes = [];
    for (const vector of vectors.filter(({ name }) => name === vectors[0]?.name)) {
      const refused = await load(imageOf(vector), { loader: vector.loader, loadAddress: top });
      codes.push(refused.outcome === 'refused' ? refused.broken.code : refused.outcome);
    }
    expect(codes.length).toBeGreaterThan(0);
    expect(new Set(codes)).toEqual(new Set(['load-address-unusable']));
  });
});

const showBigints = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? hex(value) : value);
