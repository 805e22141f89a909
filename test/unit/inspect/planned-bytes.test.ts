import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { PlannedBytes } from '../../../src/inspect/planned-bytes.ts';
import { streamExtents } from '../../../src/inspect/stream-extents.ts';
import { bytesExtent, copyExtent, type Extent, fillExtent } from '../../../src/xen/plan.ts';
import { collect, turnsOf } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';

const IMAGE = Uint8Array.from({ length: 1000 }, (_, at) => at % 251);

const extent: fc.Arbitrary<Extent> = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => bytesExtent(bytes)),
  fc.record({ offset: fc.nat(900), length: fc.integer({ min: 1, max: 100 }) }).map(copyExtent),
  fc.integer({ min: 1, max: 50 }).map((length) => fillExtent(length)),
);

test('a range of a plan is read as it would be written', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(extent, { maxLength: 20 }), fc.nat(), fc.nat(), async (extents, from, length) => {
      const source = new MemorySource([IMAGE]);
      const planned = new PlannedBytes(source, { extents });
      const written = await collect(streamExtents(source, extents));
      expect(planned.size).toBe(written.length);
      const start = from % (written.length + 1);
      const end = start + (length % (written.length - start + 1));
      expect([...(await planned.read(start, end - start))]).toEqual([...written.subarray(start, end)]);
      await expect(planned.read(start, written.length - start + 1)).rejects.toThrow(RangeError);
    }),
    { numRuns: 1000 },
  );
});

test('only what is asked for is read of the image', async () => {
  const source = new CountingSource(IMAGE);
  const planned = new PlannedBytes(source, {
    extents: [bytesExtent(new Uint8Array(10)), copyExtent({ offset: 100, length: 500 }), fillExtent(10)],
  });
  await planned.read(0, 10);
  await planned.read(515, 5);
  expect(source.reads).toEqual([]);
  await planned.read(20, 5);
  await planned.read(505, 10);
  expect(source.reads).toEqual([
    { offset: 110, length: 5 },
    { offset: 595, length: 5 },
  ]);
});

test('a read of many small extents lets others have their turn', async () => {
  const extents = Array.from({ length: 10_000 }, () => copyExtent({ offset: 1, length: 1 }));
  const planned = new PlannedBytes(new MemorySource([IMAGE]), { extents });
  expect(await turnsOf(() => planned.read(0, 10_000))).toBeGreaterThan(50);
});
