import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { gatherExtents, MAX_GATHERED_EXTENTS, streamExtents } from '../../../src/inspect/stream-extents.ts';
import { bytesExtent, copyExtent, type Extent, fillExtent } from '../../../src/xen/plan.ts';
import { collect, turnsOf } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';
import { noise } from '../../support/uploads.ts';

const source = new MemorySource([Uint8Array.of(10, 11, 12), Uint8Array.of(13, 14)]);

const piecesOf = async (...extents: Extent[]): Promise<Uint8Array[]> => {
  const pieces = [];
  for await (const piece of streamExtents(source, extents)) pieces.push(piece);
  return pieces;
};

describe('extents', () => {
  test('come out in order as the bytes that they stand for', async () => {
    const extents = [
      bytesExtent(Uint8Array.of(1, 2)),
      fillExtent(3),
      copyExtent({ offset: 1, length: 3 }),
      fillExtent(2),
      copyExtent({ offset: 0, length: 1 }),
    ];
    expect([...(await collect(streamExtents(source, extents)))]).toEqual([1, 2, 0, 0, 0, 11, 12, 13, 0, 0, 10]);
  });

  test('are not gathered: what is copied comes as it lies in the source', async () => {
    const pieces = await piecesOf(copyExtent({ offset: 1, length: 4 }));
    expect(pieces).toEqual([Uint8Array.of(11, 12), Uint8Array.of(13, 14)]);
  });

  test.each([0, 1, 65_535, 65_536, 65_537, 200_000])('of %i zeros come in pieces of 64 KiB at most', async (length) => {
    const pieces = await piecesOf(fillExtent(length));
    expect(pieces.reduce((sum, piece) => sum + piece.length, 0)).toBe(length);
    expect(pieces.every((piece) => piece.length > 0 && piece.length <= 65_536)).toBe(true);
    expect(pieces.every((piece) => piece.every((byte) => byte === 0))).toBe(true);
  });

  test('of none are nothing', async () => {
    expect(await piecesOf()).toEqual([]);
  });
});

const MIB = 1024 * 1024;
const image = noise(40_000);

/** Copies of a few bytes, each from another place. */
const jumping = (count: number): Extent[] =>
  Array.from({ length: count }, (_, index) => copyExtent({ offset: (index * 7919) % 39_000, length: 1 + (index % 9) }));

describe('many short extents', () => {
  test('are the same bytes as one by one', async () => {
    const extent = fc.oneof(
      fc
        .nat(39_000)
        .chain((offset) => fc.integer({ min: 1, max: 900 }).map((length) => copyExtent({ offset, length }))),
      fc.integer({ min: 1, max: 6000 }).map((length) => fillExtent(length)),
      fc.uint8Array({ minLength: 1, maxLength: 50 }).map((bytes) => bytesExtent(bytes)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(extent, { maxLength: 60 }), async (extents) => {
        const expected = extents.map((one) => {
          if (one.kind === 'bytes') return one.bytes;
          return one.kind === 'fill' ? new Uint8Array(one.length) : image.subarray(one.offset, one.offset + one.length);
        });
        const streamed = await collect(streamExtents(new CountingSource(image), extents));
        expect(Buffer.compare(streamed, Buffer.concat(expected))).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  test('come in pieces that are not as many, none of them long', async () => {
    let [pieces, longest, bytes] = [0, 0, 0];
    for await (const piece of streamExtents(new CountingSource(image), jumping(100_000))) {
      pieces += 1;
      longest = Math.max(longest, piece.length);
      bytes += piece.length;
    }
    expect(bytes).toBeGreaterThan(400_000);
    expect(pieces).toBeLessThanOrEqual(Math.ceil(100_000 / 1024));
    expect(longest).toBeLessThanOrEqual(64 * 1024);
  });

  test('that jump about in a small image do not take a read each', async () => {
    const counting = new CountingSource(image);
    await collect(streamExtents(counting, jumping(100_000)));
    // The whole image for each piece at most.
    expect(counting.reads.length).toBeLessThanOrEqual(Math.ceil(100_000 / 1024));
    expect(counting.bytesRead).toBeLessThanOrEqual(Math.ceil(100_000 / 1024) * image.length);
  });

  test('that jump about in a large image are read one by one, without what lies between them', async () => {
    const counting = new CountingSource(image, 2 ** 40);
    const far = Array.from({ length: 2000 }, (_, index) =>
      copyExtent({ offset: ((index * 7919) % 2000) * 2 ** 20, length: 7 }),
    );
    await collect(streamExtents(counting, far));
    expect(counting.bytesRead).toBe(2000 * 7);
  });

  test('let others have their turn', async () => {
    expect(await turnsOf(() => collect(streamExtents(new CountingSource(image), jumping(50_000))))).toBeGreaterThan(40);
  });
});

test('a reader that takes the bytes at once lets other work run after every megabyte', async () => {
  const extents = [fillExtent(20 * MIB), copyExtent({ offset: 0, length: 20 * MIB })];
  let bytes = 0;
  const take = async (): Promise<void> => {
    for await (const piece of streamExtents(new CountingSource(image, 2 ** 30), extents)) bytes += piece.length;
  };
  expect(await turnsOf(take)).toBeGreaterThanOrEqual(39);
  expect(bytes).toBe(40 * MIB);
});

const KIB = 1024;
const large = noise(600 * KIB);
const copy = (offset: number, length: number): Extent => copyExtent({ offset, length });

const lengthsOf = async (...extents: readonly Extent[]): Promise<number[]> => {
  const lengths = [];
  for await (const piece of streamExtents(new CountingSource(large), extents)) lengths.push(piece.length);
  return lengths;
};

describe('what is gathered', () => {
  test.each([
    ['as many as fill 64 KiB', [32, 32].map((count) => count * KIB), [64 * KIB]],
    ['those that fit in 64 KiB', [32 * KIB, 32 * KIB, 1], [64 * KIB, 1]],
    ['and not one byte more', [32 * KIB, 32 * KIB - 1, 2], [64 * KIB - 1, 2]],
    ['none of more than 32 KiB', [10, 32 * KIB + 1, 10, 10], [10, 32 * KIB + 1, 20]],
    ['one of 32 KiB', [10, 32 * KIB, 10], [32 * KIB + 20]],
  ])('is %s', async (_, extents, pieces) => {
    expect(await lengthsOf(...extents.map((length) => copy(0, length)))).toEqual(pieces);
  });

  test('is as many extents as may be gathered', async () => {
    const one = Array.from({ length: MAX_GATHERED_EXTENTS + 2 }, () => copy(0, 1));
    expect(await lengthsOf(...one)).toEqual([MAX_GATHERED_EXTENTS, 2]);
  });
});

/** Gathers copies, and holds the bytes against the image. @returns what was read */
async function readsOf(...extents: readonly Extent[]): Promise<(readonly [offset: number, length: number])[]> {
  const counting = new CountingSource(large);
  const expected = extents.map((one) =>
    one.kind === 'copy' ? large.subarray(one.offset, one.offset + one.length) : Buffer.alloc(one.length),
  );
  expect(Buffer.compare(await gatherExtents(counting, extents), Buffer.concat(expected))).toBe(0);
  return counting.reads.map(({ offset, length }) => [offset, length]);
}

describe('copies that lie close to each other', () => {
  test('are read together up to a gap of 4 KiB', async () => {
    expect(await readsOf(copy(100, 10), copy(110 + 4 * KIB, 5))).toEqual([[100, 15 + 4 * KIB]]);
    expect(await readsOf(copy(100, 10), copy(111 + 4 * KIB, 5))).toEqual([
      [100, 10],
      [111 + 4 * KIB, 5],
    ]);
  });

  test('are read together up to 256 KiB', async () => {
    const half = 128 * KIB;
    expect(await readsOf(copy(7, half), copy(7 + half, half))).toEqual([[7, 2 * half]]);
    expect(await readsOf(copy(7, half), copy(7 + half, half + 1))).toEqual([
      [7, half],
      [7 + half, half + 1],
    ]);
    // One alone may be longer, and another inside of it needs no read of its own.
    expect(await readsOf(copy(7, 3 * half))).toEqual([[7, 3 * half]]);
  });

  test('are read together in any order, and when one is inside another', async () => {
    expect(await readsOf(copy(300, 10), fillExtent(3), copy(200, 10))).toEqual([[200, 110]]);
    expect(await readsOf(copy(200, 100), copy(210, 10), copy(300, 20))).toEqual([[200, 120]]);
  });

  test('are not read when there are none', async () => {
    expect(await readsOf(fillExtent(3), fillExtent(4))).toEqual([]);
  });
});
