import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KeptSource } from '../../../src/image/kept.ts';
import { MemorySource } from '../../../src/image/memory.ts';
import { collect } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';
import { KIB, MIB, noise } from '../../support/uploads.ts';

const content = noise(256 * KIB);
/** Not a whole number of blocks, and the limit is in the middle of it. */
const LARGE = 20 * MIB + 1;

function setUp(size = content.length): { readonly behind: CountingSource; readonly source: KeptSource } {
  const behind = new CountingSource(content, size);
  return { behind, source: new KeptSource(behind) };
}

describe('what was read', () => {
  test('is not read again', async () => {
    const { behind, source } = setUp();
    await source.read(1000, 50 * KIB);
    await source.read(1000 + 50 * KIB, 50 * KIB);
    const streamed = await collect(source.stream(1000, 100 * KIB));
    expect(Buffer.compare(streamed, content.subarray(1000, 1000 + 100 * KIB))).toBe(0);
    expect(Buffer.compare(await source.read(2000, 10 * KIB), content.subarray(2000, 2000 + 10 * KIB))).toBe(0);
    expect(behind.bytesRead).toBe(100 * KIB);
  });

  test('is held if its source holds it', async () => {
    expect(await setUp().source.hold(0, 10)).toBeNull();
    const inMemory = new KeptSource(new MemorySource([content]));
    expect(await inMemory.hold(5, 10)).toEqual([content.subarray(5, 15)]);
  });

  test('is left out of what is streamed around it', async () => {
    const { behind, source } = setUp();
    await source.read(100 * KIB, 10 * KIB);
    await source.read(50 * KIB, 10 * KIB);
    const streamed = await collect(source.stream(0, content.length));
    expect(Buffer.compare(streamed, content)).toBe(0);
    expect(behind.bytesRead).toBe(content.length);
  });

  test('is kept up to a limit, and read again beyond', async () => {
    const { behind, source } = setUp(LARGE);
    for (let at = 0; at < LARGE; at += MIB) await source.read(at, Math.min(MIB, LARGE - at));
    expect(behind.bytesRead).toBe(LARGE);
    const streamed = await collect(source.stream(0, LARGE));
    expect(Buffer.compare(streamed.subarray(0, content.length), content)).toBe(0);
    // The last byte is too little to be kept.
    expect(behind.bytesRead).toBe(2 * LARGE - 16 * MIB);
  });

  test('is forgotten when the image is closed', async () => {
    const { behind, source } = setUp();
    await source.read(0, 10 * KIB);
    await source.close();
    await source.read(0, 10 * KIB);
    expect(behind.bytesRead).toBe(20 * KIB);
  });
});

test('every range is that of the image, whatever was read before', async () => {
  const range = fc
    .tuple(fc.nat(content.length), fc.nat(40 * KIB))
    .map(([offset, length]) => ({ offset, length: Math.min(length, content.length - offset) }));
  const step = fc.record({ range, streams: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      const { behind, source } = setUp();
      for (const { range: wanted, streams } of steps) {
        const { offset, length } = wanted;
        const got = streams ? await collect(source.stream(offset, length)) : await source.read(offset, length);
        expect(Buffer.compare(got, content.subarray(offset, offset + length))).toBe(0);
      }
      expect(behind.bytesRead).toBeLessThanOrEqual(steps.reduce((sum, one) => sum + one.range.length, 0));
    }),
    { numRuns: 50 },
  );
});

test('nothing is read outside', async () => {
  const { source } = setUp();
  await source.read(0, content.length);
  await expect(source.read(content.length, 1)).rejects.toThrow(RangeError);
  await expect(collect(source.stream(1, content.length))).rejects.toThrow(RangeError);
});
