/** What /verify says of a blob besides what guests make of it. */
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { verifyBlob } from '../../src/inspect/verify.ts';
import { findBlobEnd } from '../../src/xen/guests/blob.ts';
import { GUESTS } from '../../src/xen/guests/verdict.ts';
import { type Loaded, load } from '../support/load.ts';
import {
  type BsdsymsVector,
  describeVector,
  type HistoricalVector,
  imageOf,
  loadAddressOf,
  readBsdsymsVectors,
  readHistoricalVectors,
} from '../support/vectors.ts';

type Vector = Pick<BsdsymsVector, 'name' | 'loadAddress' | 'image'> & Partial<Pick<HistoricalVector, 'loader'>>;

async function* blobsOf(vectors: readonly Vector[]): AsyncGenerator<{ vector: Vector; loaded: Loaded }> {
  for (const vector of vectors) {
    const loader = vector.loader ?? 'xen-4.8';
    const loaded = await load(imageOf(vector), { loader, loadAddress: loadAddressOf(vector) });
    if (loaded.outcome === 'loaded') yield { vector, loaded };
  }
}

const sources: readonly (readonly [string, readonly Vector[]])[] = [
  ['of Xen 4.8', readBsdsymsVectors()],
  ['of the loaders before it', readHistoricalVectors()],
];

describe.each(sources)('the blobs %s', (_name, vectors) => {
  test('end where their size word says', async () => {
    const wrong: unknown[] = [];
    for await (const { vector, loaded } of blobsOf(vectors)) {
      const { header, sizeWord } = await verifyBlob(new MemorySource([loaded.blob, new Uint8Array(99)]), null);
      if (header === null || sizeWord === null || loaded.recorded !== null) continue;
      const end = findBlobEnd(header, sizeWord);
      // Empty tables of ELF32 may lie behind the blob.
      const expected = Math.max(loaded.blob.length, ...loaded.plan.tables.map(({ offset, size }) => offset + size));
      if (end !== expected) wrong.push([describeVector(vector), vector.loader, end, expected]);
    }
    expect(wrong).toEqual([]);
  });

  test('show which loader made them, if the header differs', async () => {
    const guesses = new Map<string, number>();
    for await (const { loaded } of blobsOf(vectors)) {
      const { header } = await verifyBlob(new MemorySource([loaded.blob]), null);
      if (header === null || !header.littleEndian) continue;
      const right = header.loader === loaded.plan.loader ? 'right' : `${loaded.plan.loader} taken for ${header.loader}`;
      guesses.set(right, (guesses.get(right) ?? 0) + 1);
    }
    const total = [...guesses.values()].reduce((sum, one) => sum + one, 0);
    expect((guesses.get('right') ?? 0) / total).toBeGreaterThan(0.9);
  });
});

test('no guest is left out', async () => {
  const { guests } = await verifyBlob(new MemorySource([new Uint8Array(3)]), null);
  expect(Object.keys(guests)).toEqual([...GUESTS]);
});
