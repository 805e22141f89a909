import { describe, expect, test } from 'vitest';
import { runToEnd } from '../../../src/elf/steps.ts';
import { bytesExtent, copyExtent, type Extent, fillExtent, fillGaps, type Placed } from '../../../src/xen/plan.ts';

const bytes = bytesExtent(Uint8Array.of(1, 2, 3));
const copy = copyExtent({ offset: 100, length: 10 });

describe('an extent', () => {
  test('knows its length', () => {
    expect(bytes).toEqual({ kind: 'bytes', length: 3, bytes: Uint8Array.of(1, 2, 3) });
    expect(copy).toEqual({ kind: 'copy', length: 10, offset: 100 });
  });

  test('is filled with zeros by default', () => {
    expect(fillExtent(5)).toEqual({ kind: 'fill', length: 5 });
  });
});

describe('gaps', () => {
  const cases: [string, Placed[], number, Extent[]][] = [
    ['of nothing are zeros from end to end', [], 8, [fillExtent(8)]],
    ['of no bytes at all are none', [], 0, []],
    [
      'in front, between and behind are zeros',
      [
        { at: 2, extent: bytes },
        { at: 9, extent: copy },
      ],
      20,
      [fillExtent(2), bytes, fillExtent(4), copy, fillExtent(1)],
    ],
    [
      'of neighbours are none',
      [
        { at: 0, extent: bytes },
        { at: 3, extent: copy },
      ],
      13,
      [bytes, copy],
    ],
    ['are not split by something empty', [{ at: 4, extent: fillExtent(0) }], 8, [fillExtent(8)]],
  ];
  test.each(cases)('%s', (_what, placed, length, expected) => {
    expect(runToEnd(fillGaps(placed, length))).toEqual(expected);
  });
});
