import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AddressSearch, locateSections } from '../../../src/elf/address-search.ts';
import { runToEnd } from '../../../src/elf/steps.ts';
import { SymbolBlock } from '../../../src/elf/symbols.ts';
import { kernel, type SectionSpec, type SymbolSpec } from '../../support/elf-builder.ts';
import { mustInit } from '../../support/load.ts';

const SHF_ALLOC = 2;
const [NOTYPE, OBJECT, FUNC, SECTION, FILE, COMMON, TLS, IFUNC] = [0, 1, 2, 3, 4, 5, 6, 10] as const;
const [LOCAL, GLOBAL, WEAK, UNIQUE] = [0, 1, 2, 10] as const;
const info = (bind: number, type: number): number => (bind << 4) | type;
const U64 = 2n ** 64n;

/** Sections 2 to 4: code, data right behind it, and notes that are not loaded. The builder's `.text` is not either. */
const SECTIONS: SectionSpec[] = [
  { name: '.code', flags: SHF_ALLOC, addr: 0x1000, data: new Uint8Array(0x100) },
  { name: '.data', flags: SHF_ALLOC, addr: 0x1100, data: new Uint8Array(0x100) },
  { name: '.debug', addr: 0x1000, data: new Uint8Array(0x100) },
];

/** For each address the name of its symbol, and the bytes to it. */
async function resolve(
  symbols: readonly SymbolSpec[],
  addresses: readonly bigint[],
  before: readonly SectionSpec[] = SECTIONS,
): Promise<(readonly [string, bigint] | null)[]> {
  const image = kernel({ before, symbols: symbols.map((symbol) => ({ shndx: 2, ...symbol })) });
  const { headers, sectionCount } = await mustInit(image.bytes);
  const search = new AddressSearch(addresses, runToEnd(locateSections(headers, sectionCount)));
  const block = new SymbolBlock(image.section('.symtab').data, 0, image.format, true);
  for (let at = 1; at < block.count; at++) if (search.considers(block, at)) search.offer(block, at);
  return addresses.map((address) => {
    const symbol = search.find(address);
    return symbol === null ? null : [symbols[symbol.index - 1]?.name ?? '', address - symbol.value];
  });
}

const func = (name: string, value: number | bigint, size: number | bigint, bind: number = GLOBAL): SymbolSpec => ({
  name,
  value,
  size,
  info: info(bind, FUNC),
});

const ranking = (name: string, bind: number, type: number): SymbolSpec => ({
  ...func(name, 0x1000, 8),
  info: info(bind, type),
});

describe('the symbol of an address', () => {
  test('holds it, and the nearest start wins', async () => {
    const symbols = [func('outer', 0x1000, 0x80), func('inner', 0x1010, 0x10)];
    expect(await resolve(symbols, [0x1000n, 0x100fn, 0x1010n, 0x101fn, 0x1020n, 0x107fn])).toEqual([
      ['outer', 0n],
      ['outer', 0xfn],
      ['inner', 0n],
      ['inner', 0xfn],
      ['outer', 0x20n],
      ['outer', 0x7fn],
    ]);
  });

  test('may be one that ends before it, up to the end of its section', async () => {
    const symbols = [func('a', 0x1000, 0x10), { name: 'label', value: 0x1040, size: 0, info: info(LOCAL, NOTYPE) }];
    expect(await resolve(symbols, [0xfffn, 0x1010n, 0x103fn, 0x1040n, 0x10ffn, 0x1100n])).toEqual([
      null,
      ['a', 0x10n],
      ['a', 0x3fn],
      ['label', 0n],
      ['label', 0xbfn],
      null,
    ]);
  });

  test('is rather one that holds it than a nearer label', async () => {
    const label = { name: 'label', value: 0x1008, size: 0, info: info(GLOBAL, FUNC) };
    expect(await resolve([label, func('f', 0x1000, 0x10, LOCAL)], [0x1008n, 0x1010n])).toEqual([
      ['f', 8n],
      ['label', 8n],
    ]);
  });

  test('at the same start is typed, then global, then weak, then the first', async () => {
    const ranked = [
      ranking('function', GLOBAL, FUNC),
      ranking('object', GLOBAL, OBJECT),
      ranking('unique', UNIQUE, OBJECT),
      ranking('weak', WEAK, IFUNC),
      ranking('local', LOCAL, FUNC),
      ranking('untyped', GLOBAL, NOTYPE),
      ranking('untyped-weak', WEAK, NOTYPE),
      ranking('untyped-local', LOCAL, NOTYPE),
    ];
    expect(await resolve(ranked, [0x1004n])).toEqual([['function', 4n]]);
    for (let drop = 1; drop < ranked.length; drop++) {
      const left = ranked.slice(drop);
      // Of the first three any order is the table's; of the others only the rank counts.
      const tables = drop < 3 ? [left] : [left, left.toReversed()];
      for (const table of tables) expect(await resolve(table, [0x1004n])).toEqual([[left[0]?.name, 4n]]);
    }
  });

  test('may begin at the highest address that is asked for', async () => {
    const symbols = [func('before', 0x1000, 0x10), func('it', 0x1010, 0x10)];
    expect(await resolve(symbols, [0x1010n])).toEqual([['it', 0n]]);
    expect(await resolve(symbols, [0x1000n, 0x1010n])).toEqual([
      ['before', 0n],
      ['it', 0n],
    ]);
  });

  test('of two that begin at one start with one rank is the first in the table, whatever their sizes', async () => {
    const asked = [0x1000n, 0x1004n, 0x1008n, 0x1010n, 0x1020n, 0x1040n];
    const byName = (name: string) => asked.map((address) => [name, address - 0x1000n]);
    const [large, small] = [func('large', 0x1000, 0x80), func('small', 0x1000, 0x10)];
    expect(await resolve([large, small], asked)).toEqual(byName('large'));
    const both = await resolve([small, large], asked);
    expect(both.map((found) => found?.[0])).toEqual(['small', 'small', 'small', 'large', 'large', 'large']);
  });

  test('is none that is undefined, even where header 0 claims to be loaded', async () => {
    const image = kernel({ before: SECTIONS, symbols: [{ ...func('it', 0x10, 0x10), shndx: 0 }] });
    const bytes = Uint8Array.from(image.bytes);
    const data = new DataView(bytes.buffer);
    const header0 = Number(data.getBigUint64(40, true));
    data.setBigUint64(header0 + 8, BigInt(SHF_ALLOC), true);
    data.setBigUint64(header0 + 32, 0x100n, true);
    const { headers, sectionCount } = await mustInit(bytes);
    const search = new AddressSearch([0x10n], runToEnd(locateSections(headers, sectionCount)));
    const block = new SymbolBlock(image.section('.symtab').data, 0, image.format, true);
    expect(search.considers(block, 1)).toBe(false);
  });

  test.each([
    ['undefined', { shndx: 0 }],
    ['absolute', { shndx: 0xfff1 }],
    ['common', { shndx: 0xfff2 }],
    ['of the processor', { shndx: 0xff00 }],
    ['in a section that is not loaded', { shndx: 4 }],
    ['a section', { info: info(LOCAL, SECTION) }],
    ['a file', { info: info(LOCAL, FILE) }],
    ['a thread’s variable', { info: info(GLOBAL, TLS) }],
    ['a common', { info: info(GLOBAL, COMMON) }],
    ['without a name', { nameOffset: 0 }],
  ])('is none that is %s', async (_what, spec) => {
    expect(await resolve([{ ...func('it', 0x1000, 0x10), ...spec }], [0x1000n])).toEqual([null]);
  });

  test.each([
    ['whose index is elsewhere', 0xffff],
    ['that there is not', 0x1234],
  ])('in a section %s must hold it', async (_what, shndx) => {
    const symbols = [{ ...func('it', 0x1000, 0x10), shndx }];
    expect(await resolve(symbols, [0x100fn, 0x1010n])).toEqual([['it', 0xfn], null]);
  });

  test('whose value is outside of its section must hold it', async () => {
    const symbols = [func('early', 0x10, 0x10), func('late', 0x1100, 0x10)];
    expect(await resolve(symbols, [0x18n, 0x20n, 0x1000n, 0x1108n, 0x1110n])).toEqual([
      ['early', 8n],
      null,
      null,
      ['late', 8n],
      null,
    ]);
  });

  test('may reach to the last of 64 bits, and not around', async () => {
    const high = [{ name: '.high', flags: SHF_ALLOC, addr: U64 - 0x10n, header: { sh_size: 0x100n } }];
    const symbols = [func('f', U64 - 8n, U64 - 1n)];
    expect(await resolve(symbols, [U64 - 1n, 0n, U64 - 9n], high)).toEqual([['f', 7n], null, null]);
  });

  test('that was not asked for is none', async () => {
    const image = await mustInit(kernel().bytes);
    const sections = runToEnd(locateSections(image.headers, image.sectionCount));
    expect(new AddressSearch([1n], sections).find(2n)).toBeNull();
    expect(new AddressSearch([], sections).find(2n)).toBeNull();
  });
});

/** Of two symbols at one start. */
const rankOf = ({ info: bits }: { info: number }): number =>
  ((bits & 15) === NOTYPE ? 0 : 4) + ([0, 2, 1][bits >> 4] ?? 0);

test('many addresses are found as each by itself would be', async () => {
  const symbol = fc.record({
    value: fc.integer({ min: 0xff8, max: 0x1030 }),
    size: fc.constantFrom(0, 0, 1, 4, 16, 64, 0x1000),
    info: fc.constantFrom(info(LOCAL, NOTYPE), info(GLOBAL, NOTYPE), info(WEAK, FUNC), info(GLOBAL, FUNC)),
    shndx: fc.constantFrom(2, 3, 4, 0xffff),
  });
  const address = fc.integer({ min: 0xff0, max: 0x1210 }).map(BigInt);
  await fc.assert(
    fc.asyncProperty(
      fc.array(symbol, { maxLength: 12 }),
      fc.array(address, { minLength: 1, maxLength: 9 }),
      async (specs, addresses) => {
        const symbols = specs.map((spec, index) => ({ ...spec, name: `s${index}` }));
        const ranges: Record<number, readonly [number, number]> = { 2: [0x1000, 0x1100], 3: [0x1100, 0x1200] };
        const byHand = (asked: bigint): readonly [string, bigint] | null => {
          const at = Number(asked);
          const usable = symbols.filter(({ value, shndx }) => value <= at && shndx !== 4);
          const holding = usable.filter(({ value, size }) => at < value + size);
          const preceding = usable.filter(({ value, shndx }) => {
            const range = ranges[shndx];
            return range !== undefined && value >= range[0] && at < range[1];
          });
          const [best] = (holding.length > 0 ? holding : preceding).toSorted(
            (a, b) => b.value - a.value || rankOf(b) - rankOf(a) || symbols.indexOf(a) - symbols.indexOf(b),
          );
          return best === undefined ? null : [best.name, BigInt(at - best.value)];
        };
        expect(await resolve(symbols, addresses)).toEqual(addresses.map(byHand));
      },
    ),
    { numRuns: 1000 },
  );
});
