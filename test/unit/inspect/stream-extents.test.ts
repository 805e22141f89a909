import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { streamExtents } from '../../../src/inspect/stream-extents.ts';
import { bytesExtent, copyExtent, type Extent, fillExtent } from '../../../src/xen/plan.ts';
import { collect } from '../../support/load.ts';

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
