/** The flat image against the reference's measured answers. */
import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { readXenNotes } from '../../src/inspect/read-notes.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import { planFlatImage } from '../../src/xen/flat-image.ts';
import { DEFAULT_LOADER, loadSymbols } from '../../src/xen/loaders/bsdsyms.ts';
import { collect, MIB, mustLocate } from '../support/load.ts';
import { type FlatImageVector, hex, imageOf, readFlatImageVectors } from '../support/vectors.ts';

const vectors = readFlatImageVectors();

describe('the vectors', () => {
  test('are all there', () => {
    expect(vectors).toHaveLength(282);
    expect(vectors.filter((vector) => vector.expect.bsdSymtab)).toHaveLength(189);
  });

  test('the core answers as the reference', async () => {
    const mismatches = [];
    for (const vector of vectors) {
      const actual = await flatten(vector);
      const { pstart, length, sha256, bsdSymtab } = vector.expect;
      const expected = { pstart, length, sha256, bsdSymtab };
      if (JSON.stringify(actual) !== JSON.stringify(expected)) mismatches.push({ case: vector.name, actual, expected });
    }
    expect(mismatches).toEqual([]);
  });
});

/** As a PV guest is loaded: with symbols when the notes ask for them and the image has usable ones. */
async function flatten(vector: FlatImageVector) {
  const source = new MemorySource([imageOf(vector)]);
  const { image, kernel } = await mustLocate(source);
  const { bsdSymtab } = (await readXenNotes(source, image, kernel)).pv;
  const wanted = { loader: DEFAULT_LOADER, loadAddress: kernel.pend, maxBlobBytes: MIB };
  const loaded = bsdSymtab ? loadSymbols(image, wanted) : null;
  const symbols = loaded?.ok === true ? loaded : null;
  const flat = planFlatImage(image, { kernel, symbols, maxFlatBytes: 16 * MIB });
  if (!flat.ok) return { code: flat.broken.code };
  const bytes = await collect(streamExtents(source, flat.plan.extents));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { pstart: hex(flat.plan.pstart), length: bytes.length, sha256, bsdSymtab };
}
