import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runToEnd } from '../../../src/elf/steps.ts';
import { bytesExtent, copyExtent, type Extent, fillExtent, overlay, type Placed } from '../../../src/xen/plan.ts';

const bytes = bytesExtent(Uint8Array.of(1, 2, 3, 4));
const copy = copyExtent({ offset: 100, length: 10 });

describe('extents written over each other', () => {
  const cases: [string, Placed[], Placed[]][] = [
    ['are none when nothing was written', [], []],
    ['are dropped when they are empty', [{ at: 3, extent: fillExtent(0) }], []],
    [
      'come out in ascending order, whole when nothing touches them',
      [
        { at: 20, extent: bytes },
        { at: 0, extent: copy },
      ],
      [
        { at: 0, extent: copy },
        { at: 20, extent: bytes },
      ],
    ],
    [
      'are cut at the end, at the start and in two',
      [
        { at: 10, extent: copy },
        { at: 14, extent: fillExtent(2) },
        { at: 8, extent: bytes },
        { at: 19, extent: bytes },
      ],
      [
        { at: 8, extent: bytes },
        { at: 12, extent: copyExtent({ offset: 102, length: 2 }) },
        { at: 14, extent: fillExtent(2) },
        { at: 16, extent: copyExtent({ offset: 106, length: 3 }) },
        { at: 19, extent: bytes },
      ],
    ],
    [
      'vanish when a later one covers them',
      [
        { at: 2, extent: bytes },
        { at: 0, extent: copy },
      ],
      [{ at: 0, extent: copy }],
    ],
    [
      'of an image go on in it where they are cut',
      [
        { at: 0, extent: bytes },
        { at: 1, extent: fillExtent(1) },
      ],
      [
        { at: 0, extent: bytesExtent(Uint8Array.of(1)) },
        { at: 1, extent: fillExtent(1) },
        { at: 2, extent: bytesExtent(Uint8Array.of(3, 4)) },
      ],
    ],
    [
      'may be as large as memory',
      [
        { at: 0, extent: fillExtent(2 ** 52) },
        { at: 2 ** 51, extent: bytes },
      ],
      [
        { at: 0, extent: fillExtent(2 ** 51) },
        { at: 2 ** 51, extent: bytes },
        { at: 2 ** 51 + 4, extent: fillExtent(2 ** 51 - 4) },
      ],
    ],
  ];
  test.each(cases)('%s', (_what, written, seen) => {
    expect(runToEnd(overlay(written))).toEqual(seen);
  });

  test('look like memory that was written byte by byte', () => {
    const written = fc.array(
      fc.record({ at: fc.nat(40), length: fc.nat(20), offset: fc.nat(1000), isCopy: fc.boolean() }).map(
        ({ at, length, offset, isCopy }): Placed => ({
          at,
          extent: isCopy ? copyExtent({ offset, length }) : fillExtent(length),
        }),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(written, (extents) => {
        const seen = runToEnd(overlay(extents));
        expect(paint(seen)).toEqual(paint(extents));
        let end = 0;
        for (const { at, extent } of seen) {
          expect(at).toBeGreaterThanOrEqual(end);
          expect(extent.length).toBeGreaterThan(0);
          end = at + extent.length;
        }
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ['each inside the one before', (index: number) => [index, 2 * (65_535 - index) + 1], 2 * 65_535 - 1],
    ['each around the one before', (index: number) => [65_535 - index, 2 * index + 1], 1],
    ['each over half of the one before', (index: number) => [index * 2, 4], 65_535],
  ] as const)('are as many as an image has segments, %s', (_what, range, count) => {
    const written = Array.from({ length: 65_535 }, (_, index): Placed => {
      const [at = 0, length = 0] = range(index);
      return { at, extent: copyExtent({ offset: index, length }) };
    });
    expect(runToEnd(overlay(written))).toHaveLength(count);
  });
});

/** What every byte of memory shows. */
function paint(written: readonly Placed[]): (string | undefined)[] {
  const memory: (string | undefined)[] = Array.from({ length: 60 });
  for (const { at, extent } of written) {
    for (let index = 0; index < extent.length; index++) memory[at + index] = look(extent, index);
  }
  return memory;
}

function look(extent: Extent, index: number): string {
  switch (extent.kind) {
    case 'copy':
      return `image ${extent.offset + index}`;
    case 'fill':
      return 'byte 0';
    case 'bytes':
      return `byte ${extent.bytes[index]}`;
  }
}
