import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { findSymbols, listSymbols, type Page, resolveAddresses } from '../../../src/inspect/symbol-table.ts';
import { buildImage, kernel, makeSymbols, type SymbolSpec } from '../../support/elf-builder.ts';
import { turnsOf } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';
import { collectSymbols, EVERYTHING, mustOpenTable, nameOf } from '../../support/symbols.ts';

const KIB = 1024;
const BLOCK_BYTES = 256 * KIB;
const SYMBOL_BYTES = 24;
const PER_BLOCK = Math.floor(BLOCK_BYTES / SYMBOL_BYTES);

/** A page as the indices listed and what is told of the next. */
async function page(image: Uint8Array, part: Partial<Page> = {}): Promise<[number[], number | null]> {
  const { symbols, result } = await collectSymbols(listSymbols(await mustOpenTable(image), { ...EVERYTHING, ...part }));
  return [symbols.map(({ index }) => index), result];
}

async function find(image: Uint8Array, ...names: string[]): Promise<[number[], readonly string[]]> {
  const { symbols, result } = await collectSymbols(findSymbols(await mustOpenTable(image), names));
  return [symbols.map(({ index }) => index), result];
}

const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, offset) => first + offset);

describe('a listing', () => {
  const specs = makeSymbols(2 * PER_BLOCK + 5);
  const large = kernel({ symbols: specs });

  test('is every symbol but the null symbol, in table order, over any number of blocks', async () => {
    const { symbols, result, batches } = await collectSymbols(
      listSymbols(await mustOpenTable(large.bytes), EVERYTHING),
    );
    expect(result).toBeNull();
    expect(symbols.map(({ index }) => index)).toEqual(range(1, specs.length));
    expect(symbols.map(nameOf)).toEqual(specs.map(({ name }) => name));
    expect(symbols.map(({ value }) => value)).toEqual(specs.map(({ value }) => value));
    expect(Math.max(...batches)).toBeLessThanOrEqual(256);
  });

  test('is the same in whatever pieces the image is', async () => {
    const { bytes } = kernel({ symbols: 60 });
    const whole = await collectSymbols(listSymbols(await mustOpenTable(bytes), EVERYTHING));
    for (const length of [1, 5, 23, 24, 25, 100, 1000]) {
      const pieces = Array.from({ length: Math.ceil(bytes.length / length) }, (_, index) =>
        bytes.subarray(index * length, (index + 1) * length),
      );
      const table = await mustOpenTable(new MemorySource(pieces));
      expect((await collectSymbols(listSymbols(table, EVERYTHING))).symbols).toEqual(whole.symbols);
      expect((await collectSymbols(findSymbols(table, ['sym_1x', 'sym_f']))).symbols).toEqual(
        whole.symbols.filter((symbol) => ['sym_1x', 'sym_f'].includes(nameOf(symbol) ?? '')),
      );
    }
  });

  test('reads the tables in pieces, and little more than once', async () => {
    const source = new CountingSource(large.bytes);
    const table = await mustOpenTable(source);
    const before = source.bytesRead;
    await collectSymbols(listSymbols(table, EVERYTHING));
    const tables = large.section('.symtab').data.length + large.section('.strtab').data.length;
    expect(source.bytesRead - before).toBeLessThan(1.5 * tables);
    expect(Math.max(...source.reads.map(({ length }) => length))).toBeLessThanOrEqual(BLOCK_BYTES);
  });

  test('and every other pass let others have their turn between blocks', async () => {
    const table = await mustOpenTable(large.bytes);
    const strings = Math.ceil(table.tables.strtab.length / BLOCK_BYTES);
    const unfound = { ...EVERYTHING, prefix: 'none' };
    expect(await turnsOf(() => resolveAddresses(table, [0n]))).toBeGreaterThanOrEqual(2);
    expect(await turnsOf(() => collectSymbols(findSymbols(table, ['sym_0'])))).toBeGreaterThanOrEqual(2 + strings - 1);
    expect(await turnsOf(() => collectSymbols(listSymbols(table, unfound)))).toBeGreaterThanOrEqual(2);
    expect(await turnsOf(() => collectSymbols(listSymbols(table, EVERYTHING)))).toBeGreaterThan(specs.length / 256);
  });

  test('hands fewer over when their names are long', async () => {
    const long = kernel({ symbols: range(1, 100).map((number) => ({ name: `${number}${'n'.repeat(4000)}` })) });
    const { symbols, batches } = await collectSymbols(listSymbols(await mustOpenTable(long.bytes), EVERYTHING));
    expect(symbols).toHaveLength(100);
    expect(Math.max(...batches)).toBeLessThanOrEqual(17);
  });

  test('of nothing is empty', async () => {
    expect(await page(kernel({ symbols: 0 }).bytes)).toEqual([[], null]);
    expect(await page(kernel({ symtab: { data: new Uint8Array() } }).bytes)).toEqual([[], null]);
    expect(await page(kernel({ symtab: { data: new Uint8Array(23) } }).bytes)).toEqual([[], null]);
  });

  test('has no names where there is no string table to speak of', async () => {
    const { bytes } = kernel({ symbols: 2, strtab: { data: new Uint8Array() } });
    const { symbols } = await collectSymbols(listSymbols(await mustOpenTable(bytes), EVERYTHING));
    expect(symbols.map(nameOf)).toEqual([null, null]);
  });
});

const lengthsOf = (symbols: readonly { readonly name: { readonly bytes: Uint8Array } | null }[]): number[] =>
  symbols.map(({ name }) => name?.bytes.length ?? 0);

describe('names that are shared by a great many symbols', () => {
  const MIB = 1024 * KIB;
  const LONG = 4096;
  const SHORT = 64;
  const count = 3000;
  const shared = kernel({
    symbols: range(1, count).map((index) => ({ name: '', nameOffset: index % 2 === 0 ? 1 : LONG + 2 })),
    strtab: { data: Buffer.from(`\0${'n'.repeat(LONG)}\0${'s'.repeat(SHORT)}\0`) },
  }).bytes;
  /** What the names of an answer may have before they are cut. */
  const free = MIB + 2 * shared.length;

  test('are cut short when they are much more than the image, and no symbol is left out', async () => {
    const { symbols, result } = await collectSymbols(listSymbols(await mustOpenTable(shared), EVERYTHING));
    expect([symbols.length, result]).toEqual([count, null]);
    const lengths = lengthsOf(symbols);
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(free + count * SHORT);
    const whole = lengths.filter((length) => length === LONG).length;
    expect(whole).toBe(Math.floor(free / (LONG + SHORT)));
    // The long ones are cut to the length of the others, and say so.
    expect(new Set(lengths)).toEqual(new Set([LONG, SHORT]));
    expect(symbols.filter(({ name }) => name?.cut).length).toBe(count / 2 - whole);
    expect(symbols.every(({ name }) => name?.cut !== true || name.bytes.length === SHORT)).toBe(true);
  });

  test('are cut in the same way where they were asked for', async () => {
    const { symbols } = await collectSymbols(findSymbols(await mustOpenTable(shared), ['n'.repeat(LONG)]));
    expect(symbols).toHaveLength(count / 2);
    const whole = lengthsOf(symbols).filter((length) => length === LONG).length;
    expect(whole).toBe(Math.floor(free / LONG));
    expect(symbols.filter(({ name }) => name?.cut)).toHaveLength(count / 2 - whole);
  });

  test('are whole where each is that of a symbol or two', async () => {
    const names = range(1, 600).map((index) => ({ name: `${index}${'n'.repeat(4000)}` }));
    const twice = names.concat(names);
    const { symbols } = await collectSymbols(
      listSymbols(await mustOpenTable(kernel({ symbols: twice }).bytes), EVERYTHING),
    );
    expect(symbols.some(({ name }) => name?.cut)).toBe(false);
  });
});

describe('a page', () => {
  const image = kernel({ symbols: 7 }).bytes;

  test.each([
    [{ limit: 3 }, [1, 2, 3], 3],
    [{ limit: 3, after: 3 }, [4, 5, 6], 6],
    [{ limit: 3, after: 6 }, [7], null],
    [{ limit: 1, after: 6 }, [7], null],
    [{ limit: 7 }, range(1, 7), null],
    [{ limit: 6 }, range(1, 6), 6],
    [{ after: 7 }, [], null],
    [{ after: 8 }, [], null],
    [{ after: Number.MAX_SAFE_INTEGER, limit: 1 }, [], null],
  ])('%j is %j, and then %j', async (part, indices, next) => {
    expect(await page(image, part)).toEqual([indices, next]);
  });

  const mixed = kernel({
    symbols: [
      { name: 'xen_a', info: 0x02 },
      { name: 'xen_b', info: 0x11 },
      { name: 'xenon', info: 0x12 },
      { name: 'a_xen_a', info: 0x22 },
      { name: 'xen_', info: 0xaa },
      { name: 'xen', info: 0xef },
    ],
  }).bytes;

  test.each([
    [{ types: [2] }, [1, 3, 4]],
    [{ types: [1, 10] }, [2, 5]],
    [{ binds: [0] }, [1]],
    [{ binds: [1, 2] }, [2, 3, 4]],
    [{ types: [2], binds: [1] }, [3]],
    [{ prefix: 'xen_' }, [1, 2, 5]],
    [{ prefix: 'xen_', types: [2] }, [1]],
    [{ prefix: 'XEN' }, []],
    [{ prefix: 'xen', after: 4 }, [5, 6]],
  ])('of %j is %j', async (part, indices) => {
    expect(await page(mixed, part)).toEqual([indices, null]);
  });

  test('goes on only when one more fits the filter', async () => {
    expect(await page(mixed, { types: [2], limit: 2 })).toEqual([[1, 3], 3]);
    expect(await page(mixed, { types: [2], limit: 3 })).toEqual([[1, 3, 4], null]);
    expect(await page(mixed, { types: [2], limit: 2, after: 3 })).toEqual([[4], null]);
  });
});

const at = (nameOffset: number): SymbolSpec => ({ name: '', nameOffset });

describe('a name', () => {
  const image = kernel({
    symbols: [
      { name: 'domain' },
      { name: 'main', nameOffset: 3 },
      { name: 'other' },
      { name: 'main' },
      { name: 'mainly' },
      { name: 'ünï' },
      { name: 'again', nameOffset: 1 },
    ],
  }).bytes;

  test.each([
    [['other'], [3], []],
    [['domain'], [1, 7], []],
    [['main'], [2, 4], []],
    [['in'], [], ['in']],
    [['ünï'], [6], []],
    [['un\u0308ï'], [], ['un\u0308ï']],
    [['main', 'none', 'other', 'main', 'none'], [2, 3, 4], ['none']],
    [[], [], []],
  ])('of %j: %j, missing %j', async (names, indices, missing) => {
    expect(await find(image, ...names)).toEqual([indices, missing]);
  });

  test('is that of all its symbols, in batches', async () => {
    const many = kernel({ symbols: range(1, 1000).map(() => ({ name: 'local', info: 0x02 })) }).bytes;
    const { symbols, batches } = await collectSymbols(findSymbols(await mustOpenTable(many), ['local']));
    expect(symbols.map(({ index }) => index)).toEqual(range(1, 1000));
    expect(symbols.every((symbol) => nameOf(symbol) === 'local')).toBe(true);
    expect(Math.max(...batches)).toBeLessThanOrEqual(256);
  });

  test.each([-11, -10, -5, -1, 0, 1])('is found %i bytes from the border of a block', async (distance) => {
    const fill = 'f'.repeat(BLOCK_BYTES + distance - 2);
    const symbols: SymbolSpec[] = [{ name: fill }, { name: 'borderline' }];
    expect(await find(kernel({ symbols }).bytes, 'borderline', 'border')).toEqual([[2], ['border']]);
  });

  test('is found in a table that repeats it more often than places are kept', async () => {
    const repeats = 70_000;
    const strings = Buffer.from(`\0${'a\0'.repeat(repeats)}ba\0`);
    const symbols = [at(1), at(2), at(1 + 2 * (repeats - 1)), at(1 + 2 * repeats), at(2 + 2 * repeats), at(2 ** 31)];
    const { bytes } = kernel({ symbols, strtab: { data: strings } });
    expect(await find(bytes, 'a', 'ba', 'c')).toEqual([[1, 3, 4, 5], ['c']]);
  });

  test('is not looked for in a symbol table when no string is it', async () => {
    const { bytes } = kernel({ symbols: 3 * PER_BLOCK });
    const source = new CountingSource(bytes);
    const table = await mustOpenTable(source);
    const before = source.bytesRead;
    await collectSymbols(findSymbols(table, ['no_such_name']));
    const { symtab, strtab } = table.tables;
    expect(source.bytesRead - before).toBeLessThan(strtab.length + 4 * KIB);
    expect(
      source.reads.filter(({ offset }) => offset >= symtab.offset && offset < symtab.offset + symtab.length),
    ).toEqual([]);
  });
});

const names = async (image: Uint8Array, ...addresses: bigint[]): Promise<(string | null)[]> =>
  (await resolveAddresses(await mustOpenTable(image), addresses)).map(({ symbol }) => symbol && nameOf(symbol));

describe('an address', () => {
  const loaded = { name: '.code', flags: 2, addr: 0x1000, data: new Uint8Array(0x100) };
  const sections = (symbols: readonly SymbolSpec[], machine: number) =>
    kernel({ machine, before: [loaded], symbols: symbols.map((symbol) => ({ shndx: 2, size: 0, ...symbol })) }).bytes;
  const mapped: SymbolSpec[] = [
    { name: 'function', value: 0x1000, info: 0x10 },
    { name: '$x', value: 0x1000, info: 0x00 },
    { name: '$d.5', value: 0x1010, info: 0x00 },
    { name: '$data', value: 0x1020, info: 0x00 },
    { name: '$d', value: 0x1030, info: 0x10 },
  ];

  test('is not that of a mark between code and data, where there are such marks', async () => {
    const asked = [0x1004n, 0x1014n, 0x1024n, 0x1034n];
    expect(await names(sections(mapped, 183), ...asked)).toEqual(['function', 'function', '$data', '$d']);
    expect(await names(sections(mapped, 62), ...asked)).toEqual(['function', '$d.5', '$data', '$d']);
  });

  test('is answered in the order asked, each as often', async () => {
    const image = sections(mapped, 62);
    const resolved = await resolveAddresses(await mustOpenTable(image), [0x1034n, 0xfffn, 0x1000n, 0x1034n]);
    expect(resolved.map(({ address, symbol }) => [address, symbol?.index])).toEqual([
      [0x1034n, 5],
      [0xfffn, undefined],
      [0x1000n, 1],
      [0x1034n, 5],
    ]);
  });

  test('in an image of sections without symbols has none', async () => {
    const object = buildImage({
      type: 1,
      sections: [
        { name: '.symtab', type: 2, link: '.strtab', data: new Uint8Array(SYMBOL_BYTES) },
        { name: '.strtab', type: 3, data: new Uint8Array(1) },
      ],
    }).bytes;
    expect(await names(object, 0n, 2n ** 64n - 1n)).toEqual([null, null]);
  });
});
