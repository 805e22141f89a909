import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NameSearch } from '../../../src/elf/name-search.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');

/** Searches a table in pieces of this length; those with no whole name may be skipped. */
function search(
  table: Uint8Array,
  names: readonly string[],
  pieceBytes = table.length,
  maxFound = 1000,
  mayBeSkipped = false,
): NameSearch {
  const made = new NameSearch(names.map(bytes), maxFound);
  for (let start = 0; start < table.length; start += pieceBytes) {
    const piece = Buffer.from(table.slice(start, start + pieceBytes));
    if (mayBeSkipped && !names.some((name) => piece.includes(`${name}\0`, 0, 'latin1'))) made.skip(piece);
    else made.scan(piece);
  }
  made.end();
  return made;
}

const places = (made: NameSearch): [number, number][] => [...made.found].sort(([a], [b]) => a - b);

/** Where a string of the table is exactly this name, looked for in the plainest way. */
function expected(table: Uint8Array, names: readonly string[]): [number, number][] {
  const text = Buffer.from(table).toString('latin1');
  return Array.from(text, (_, place) => place).flatMap((place): [number, number][] => {
    const index = names.indexOf(text.slice(place).split('\0', 1)[0] ?? '');
    return index === -1 ? [] : [[place, index]];
  });
}

describe('a name is found', () => {
  test.each([
    ['as a whole string', '\0main\0', ['main'], [[1, 0]]],
    ['as the end of a longer one', '\0domain\0', ['main'], [[3, 0]]],
    [
      'in both at once',
      '\0domain\0',
      ['main', 'domain', 'n'],
      [
        [1, 1],
        [3, 0],
        [6, 2],
      ],
    ],
    [
      'wherever it stands',
      'a\0ba\0a\0',
      ['a'],
      [
        [0, 0],
        [3, 0],
        [5, 0],
      ],
    ],
    ['at the end of a table without a NUL', '\0main', ['main'], [[1, 0]]],
    ['as the whole table', 'main', ['main'], [[0, 0]]],
    ['not inside of a string', '\0mainly\0main2\0', ['main'], []],
    ['not across strings', '\0ma\0in\0', ['main', 'man'], []],
    ['not in another case', '\0Main\0', ['main'], []],
    ['not in an empty table', '', ['main'], []],
    [
      'by its bytes',
      '\0\xff\xfe\0',
      ['\xff\xfe', '\xfe'],
      [
        [1, 0],
        [2, 1],
      ],
    ],
  ] as const)('%s', (_how, table, names, found) => {
    expect(places(search(bytes(table), names))).toEqual(found);
  });

  test('across the borders of pieces, however long they are', () => {
    const table = bytes('\0domain\0main\0in\0');
    const names = ['main', 'in', 'domain'];
    for (let piece = 1; piece <= table.length; piece++) {
      expect(places(search(table, names, piece))).toEqual(expected(table, names));
    }
  });

  test('in any table, among any names', () => {
    const few = fc.constantFrom('a', 'b', '\0', '\xff');
    const name = fc.string({ unit: fc.constantFrom('a', 'b', '\xff'), minLength: 1, maxLength: 5 });
    const any = fc.tuple(
      fc.string({ unit: few, maxLength: 60 }),
      fc.uniqueArray(name, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 20 }),
    );
    fc.assert(
      fc.property(any, ([table, names, piece]) => {
        for (const mayBeSkipped of [false, true]) {
          const made = search(bytes(table), names, piece, 1000, mayBeSkipped);
          expect(places(made)).toEqual(expected(bytes(table), names));
          expect(Array.from(table, (_, place) => made.at(place))).toEqual(
            Array.from(table, (_, place) => made.found.get(place)),
          );
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the places that are kept', () => {
  const table = bytes('a\0'.repeat(10));

  test('are all of them up to the limit', () => {
    const made = search(table, ['a'], 4, 10);
    expect([made.found.size, made.overflowed]).toEqual([10, false]);
  });

  test('are no more than the limit, and an overflow is reported', () => {
    const made = search(table, ['a'], 4, 9);
    expect([made.found.size, made.overflowed]).toEqual([9, true]);
  });
});
