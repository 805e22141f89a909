import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SymbolEntry } from '../../../src/elf/symbols.ts';
import { EndStringSearch, type EndSymbol, EndSymbolSearch } from '../../../src/xen/end-symbol.ts';

const BOTH: readonly EndSymbol[] = ['end', '_end'];

/** All places that are found, looked for one by one. */
function places(search: EndStringSearch, length: number): (readonly [number, EndSymbol])[] {
  return Array.from({ length }, (_, place) => place).flatMap((place) => {
    const name = search.at(place);
    return name === undefined ? [] : [[place, name] as const];
  });
}

/** In the plainest way. */
function expected(table: Uint8Array, names: readonly EndSymbol[]): (readonly [number, EndSymbol])[] {
  const text = Buffer.from(table).toString('latin1');
  return Array.from(text, (_, place) => place).flatMap((place) =>
    names.filter((name) => text.startsWith(`${name}\0`, place)).map((name) => [place, name] as const),
  );
}

describe('the names of end symbols', () => {
  test('are found in tables of all kinds, in pieces of any size and alignment', () => {
    const string = fc.constantFrom(
      'end',
      '_end',
      'append',
      '__end',
      'en',
      'nd',
      'd',
      '',
      '_',
      'ende',
      'endend',
      '\xffend',
    );
    fc.assert(
      fc.property(
        fc.array(string, { maxLength: 30 }),
        fc.integer({ min: 1, max: 40 }),
        fc.nat(7),
        fc.constantFrom<readonly EndSymbol[]>(BOTH, ['end'], ['_end'], []),
        (strings, pieceBytes, alignment, names) => {
          const table = Buffer.from(strings.map((one) => `${one}\0`).join(''), 'latin1');
          const search = new EndStringSearch(names);
          for (let start = 0; start < table.length; start += pieceBytes) {
            const piece = table.subarray(start, start + pieceBytes);
            const aligned = new Uint8Array(alignment + piece.length);
            aligned.set(piece, alignment);
            search.scan(aligned.subarray(alignment));
          }
          expect(places(search, table.length)).toEqual(expected(table, names));
          expect(search.isEmpty).toBe(expected(table, names).length === 0);
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('that are without a NUL are none', () => {
    const search = new EndStringSearch(BOTH);
    search.scan(Buffer.from('\0_end'));
    expect(search.isEmpty).toBe(true);
  });

  test('are kept up to a limit', () => {
    const table = Buffer.from('end\0'.repeat(70_000));
    const search = new EndStringSearch(BOTH);
    search.scan(table);
    expect(search.at(0)).toBe('end');
    expect(search.at(65_535 * 4)).toBe('end');
    expect(search.at(65_536 * 4)).toBeUndefined();
  });
});

const picked = (...symbols: readonly SymbolEntry[]): bigint | undefined => {
  const search = new EndSymbolSearch();
  for (const one of symbols) search.offer('end', one);
  return search.values.get('end');
};

describe('the symbol of the linker', () => {
  const [LOCAL, GLOBAL, WEAK] = [0, 1, 2];
  const [DEFAULT, INTERNAL, HIDDEN, PROTECTED] = [0, 1, 2, 3];
  const symbol = (value: bigint, more: Partial<SymbolEntry> = {}): SymbolEntry => ({
    nameOffset: 1,
    value,
    size: 0n,
    type: 0,
    bind: GLOBAL,
    visibility: DEFAULT,
    section: 1,
    ...more,
  });
  test.each<readonly [string, Partial<SymbolEntry>, boolean]>([
    ['global', {}, true],
    ['weak', { bind: WEAK }, true],
    ['unique', { bind: 10 }, true],
    ['absolute', { section: 0xfff1 }, true],
    ['an object', { type: 1 }, true],
    ['hidden and local', { bind: LOCAL, visibility: HIDDEN }, true],
    ['internal and local', { bind: LOCAL, visibility: INTERNAL }, true],
    ['local', { bind: LOCAL }, false],
    ['protected and local', { bind: LOCAL, visibility: PROTECTED }, false],
    ['undefined', { section: 0 }, false],
    ['common', { section: 0xfff2 }, false],
    ['a section', { type: 3 }, false],
    ['a file', { type: 4 }, false],
    ['in thread-local storage', { type: 6 }, false],
  ])('is one that is %s: %o, %s', (_, more, counts) => {
    expect(picked(symbol(7n, more))).toBe(counts ? 7n : undefined);
  });

  test('is the first one, and a global one before a hidden one', () => {
    expect(picked(symbol(1n), symbol(2n))).toBe(1n);
    expect(picked(symbol(3n, { bind: LOCAL, visibility: HIDDEN }), symbol(1n), symbol(2n))).toBe(1n);
  });
});
