/** In which pieces an image arrives must not matter. */
import { tmpdir } from 'node:os';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Budget } from '../../src/image/budget.ts';
import { SLAB_BYTES } from '../../src/image/slabs.ts';
import { Spool } from '../../src/image/spool.ts';
import { StoredSink } from '../../src/image/store.ts';
import type { ImageSource } from '../../src/inspect/image-source.ts';
import { anyKernel } from '../support/arbitraries.ts';
import { collect, load } from '../support/load.ts';

/** Single bytes, what the network delivers, and sizes around a slab. */
const chunkSize = fc.oneof(
  fc.integer({ min: 0, max: 3 }),
  fc.integer({ min: 1, max: 300 }),
  fc.constant(64 * 1024),
  fc.integer({ min: SLAB_BYTES - 2, max: SLAB_BYTES + 2 }),
);
const chunkSizes = fc.array(chunkSize, { minLength: 1, maxLength: 20 });

/** More than any image here takes. */
const PLENTY_BYTES = 8 * 1024 ** 2;

/** Sends the bytes in chunks of these sizes, and what is left as the last chunk. Beyond the budget they are spooled. */
async function arrive(bytes: Uint8Array, sizes: readonly number[], memoryBudget = PLENTY_BYTES): Promise<ImageSource> {
  const spool = await Spool.open(tmpdir(), PLENTY_BYTES);
  const sink = new StoredSink({ memory: new Budget(memoryBudget), spool, maxImageBytes: PLENTY_BYTES });
  let at = 0;
  for (const size of [...sizes, bytes.length]) {
    await sink.append(bytes.slice(at, at + size));
    at = Math.min(at + size, bytes.length);
  }
  return sink.finish();
}

/** No two runs of 251 bytes are followed by the same, so a piece out of place shows. */
const PATTERN = new Uint8Array(PLENTY_BYTES);
for (let index = 0; index < PATTERN.length; index++) PATTERN[index] = (index * 7 + (index >> 8)) % 251;

describe('an image that arrives in chunks', () => {
  test('is loaded as in one piece', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, chunkSizes, async ({ bytes }, sizes) => {
        expect(await load(await arrive(bytes, sizes))).toEqual(await load(bytes));
      }),
      { numRuns: 300 },
    );
  });

  test('is loaded as in one piece when memory runs out on the way', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, chunkSizes, fc.nat(2000), async ({ bytes }, sizes, memoryBudget) => {
        const source = await arrive(bytes, sizes, memoryBudget);
        const result = await load(source);
        await source.close();
        expect(result).toEqual(await load(bytes));
      }),
      { numRuns: 150 },
    );
  });

  test('is loaded as in one piece when each chunk is one byte', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, async ({ bytes }) => {
        expect(
          await load(
            await arrive(
              bytes,
              Array.from(bytes, () => 1),
            ),
          ),
        ).toEqual(await load(bytes));
      }),
      { numRuns: 30 },
    );
  });

  test('reads back any range', async () => {
    await fc.assert(
      fc.asyncProperty(chunkSizes, fc.nat(), fc.nat(), fc.boolean(), async (sizes, from, length, spooled) => {
        const total = sizes.reduce((sum, size) => sum + size, 0);
        const bytes = PATTERN.subarray(0, total + 1);
        const source = await arrive(bytes, sizes, spooled ? 0 : PLENTY_BYTES);
        const offset = from % bytes.length;
        const count = length % (bytes.length - offset + 1);
        const expected = Buffer.from(bytes.subarray(offset, offset + count));
        expect(source.size).toBe(bytes.length);
        expect(expected.equals(await source.read(offset, count))).toBe(true);
        expect(expected.equals(await collect(source.stream(offset, count)))).toBe(true);
        await source.close();
      }),
      { numRuns: 200 },
    );
  });
});
