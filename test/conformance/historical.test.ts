/** The loaders before 4.8 against their measured answers. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { load, mustLoad } from '../support/load.ts';
import {
  describeVector,
  type HistoricalVector,
  hex,
  imageOf,
  loadAddressOf,
  readHistoricalVectors,
} from '../support/vectors.ts';

const vectors = readHistoricalVectors();
const wraps = ({ expect: { region } }: HistoricalVector): boolean => BigInt(region.pend) < BigInt(region.pstart);
const measure = (blob: Uint8Array, sizeWord: number) => ({
  length: blob.length,
  sizeWord,
  sha256: createHash('sha256').update(blob).digest('hex'),
});

describe('the vectors', () => {
  test('are all there', () => {
    const counts = Object.entries(Object.groupBy(vectors, ({ loader }) => loader));
    expect(vectors).toHaveLength(1872);
    expect(Object.fromEntries(counts.map(([loader, cases]) => [loader, cases.length]))).toEqual({
      'xen-4.7': 374,
      'xen-4.6': 742,
      'libxc-4.6': 756,
    });
    expect(vectors.filter(wraps)).toHaveLength(60);
  });

  test.each(['xen-4.7', 'xen-4.6', 'libxc-4.6'] as const)('%s: the core answers as the reference', async (loader) => {
    const mismatches = [];
    for (const vector of vectors.filter((candidate) => candidate.loader === loader && !wraps(candidate))) {
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

  test('where the region wraps at 2^64 it is refused, while its bytes are those of the reference', async () => {
    const mismatches = [];
    for (const vector of vectors.filter(wraps)) {
      const { loader, expect: expected } = vector;
      const refused = await load(imageOf(vector), { loader, loadAddress: loadAddressOf(vector) });
      const code = refused.outcome === 'refused' ? refused.broken.code : refused.outcome;
      const elsewhere = await mustLoad(imageOf(vector), { loader, loadAddress: 0x10_0000n });
      const { sha256, sizeWord } = measure(elsewhere.blob, elsewhere.plan.sizeWord);
      const right =
        code === 'load-address-unusable' &&
        sha256 === expected.blob.sha256 &&
        sizeWord === expected.blob.sizeWord &&
        BigInt(elsewhere.blob.length) ===
          BigInt.asUintN(64, BigInt(expected.region.pend) - BigInt(expected.region.pstart));
      if (!right) mismatches.push({ case: describeVector(vector), code, sha256, sizeWord });
    }
    expect(mismatches).toEqual([]);
  });
});

const showBigints = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? hex(value) : value);
