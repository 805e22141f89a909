import { describe, expect, test } from 'vitest';
import { PT_NOTE } from '../../../src/elf/format.ts';
import { groupSegments, type SegmentMap } from '../../../src/xen/segment-groups.ts';
import { buildImage, type SegmentSpec } from '../../support/elf-builder.ts';
import { mustInit } from '../../support/load.ts';

const mapOf = async (segments: readonly SegmentSpec[], maxGroups = 8): Promise<SegmentMap> =>
  groupSegments(await mustInit(buildImage({ segments }).bytes), maxGroups);
const ranges = ({ groups }: SegmentMap) => groups.map(({ start, end, count }) => [start, end, count]);

describe('segments', () => {
  test('come in the order of their addresses, and keep their index', async () => {
    const map = await mapOf([
      { paddr: 0x3000, memsz: 0x10, flags: 6 },
      { type: PT_NOTE, paddr: 0x100, memsz: 0x10 },
      { paddr: 0x1000, memsz: 0x2000, flags: 5 },
    ]);
    expect(map.groups).toMatchObject([
      { start: 0x1000n, end: 0x3000n, count: 1, first: { index: 2 }, lastIndex: 2, flags: 5, overlaps: false },
      { start: 0x3000n, end: 0x3010n, count: 1, first: { index: 0 }, lastIndex: 0, flags: 6, hasGaps: false },
    ]);
    expect([map.count, map.empty]).toEqual([2, 0]);
  });

  test('that overlap are one group, whatever their order', async () => {
    const overlapping = [
      { paddr: 0x1000, memsz: 0x1000, flags: 4 },
      { paddr: 0x3000, memsz: 0x1000, flags: 2 },
      { paddr: 0x1800, memsz: 0x1900, flags: 1 },
    ];
    for (const segments of [overlapping, overlapping.toReversed()]) {
      const { groups } = await mapOf(segments);
      expect(groups).toMatchObject([
        { start: 0x1000n, end: 0x4000n, count: 3, lastIndex: 2, flags: 7, overlaps: true, hasGaps: false },
      ]);
    }
  });

  test('that only touch stay apart', async () => {
    const map = await mapOf([
      { paddr: 0x1000, memsz: 0x1000 },
      { paddr: 0x2000, memsz: 0x1000 },
    ]);
    expect(ranges(map)).toEqual([
      [0x1000n, 0x2000n, 1],
      [0x2000n, 0x3000n, 1],
    ]);
  });

  test('without memory are counted, and are in no group', async () => {
    const map = await mapOf([
      { paddr: 0x9000, memsz: 0 },
      { paddr: 0x1000, memsz: 1 },
    ]);
    expect([ranges(map), map.count, map.empty]).toEqual([[[0x1000n, 0x1001n, 1]], 2, 1]);
  });

  test('that wrap end where memory ends', async () => {
    const map = await mapOf([{ paddr: 2n ** 64n - 16n, memsz: 32 }]);
    expect(ranges(map)).toEqual([[2n ** 64n - 16n, 2n ** 64n, 1]]);
  });

  test('are joined with their closest neighbours when they are too many', async () => {
    const at = [0, 1, 5, 6, 20, 40].map((page) => ({ paddr: page * 0x1000, memsz: 0x800 }));
    const map = await mapOf(at, 4);
    expect(ranges(map)).toEqual([
      [0n, 0x1800n, 2],
      [0x5000n, 0x6800n, 2],
      [0x1_4000n, 0x1_4800n, 1],
      [0x2_8000n, 0x2_8800n, 1],
    ]);
    expect(map.groups.map(({ hasGaps, overlaps }) => [hasGaps, overlaps])).toEqual([
      [true, false],
      [true, false],
      [false, false],
      [false, false],
    ]);
  });

  test('that fall between joined ones belong to them', async () => {
    const pages = [0, 1, 2, 9].map((page) => ({ paddr: page * 0x2000, memsz: 0x800 }));
    const map = await mapOf([...pages, { paddr: 0x1000, memsz: 0x100 }], 2);
    expect(ranges(map)).toEqual([
      [0n, 0x4800n, 4],
      [0x1_2000n, 0x1_2800n, 1],
    ]);
    expect(map.groups[0]).toMatchObject({ hasGaps: true, overlaps: false });
  });
});
