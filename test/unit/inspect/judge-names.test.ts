/** Names that jump about in the string table: what they cost is counted in bytes read and in reads. */
import { describe, expect, test } from 'vitest';
import { findSymbols, listSymbols, resolveAddresses } from '../../../src/inspect/symbol-table.ts';
import { type KernelSpec, kernel } from '../../support/elf-builder.ts';
import { turnsOf } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';
import { collectSymbols, EVERYTHING, mustOpenTable, nameOf } from '../../support/symbols.ts';

const KIB = 1024;
const SYMBOL_BYTES = 24;
/** More than are judged together. */
const COUNT = 140_000;
/** Many more windows than are kept of a string table. */
const STRTAB_BYTES = 4096 * KIB;
const CHUNKS = 2;
const WINDOWS = STRTAB_BYTES / (64 * KIB);
/** What windows overlap by: the longest name. */
const OVERLAP_BYTES = 4 * KIB;

/** A table of `COUNT` symbols; the name of each begins 65,520 bytes after that of the one before. */
function jumping(strtab: Uint8Array, spec: KernelSpec = {}): Uint8Array {
  const symtab = new Uint8Array(SYMBOL_BYTES * (COUNT + 1));
  const data = new DataView(symtab.buffer);
  for (let index = 1; index <= COUNT; index++) {
    const at = index * SYMBOL_BYTES;
    data.setUint32(at, ((index * 4095 * 16) % STRTAB_BYTES) + 1, true);
    // NOTYPE LOCAL, in the section that `resolveAddresses` is asked about.
    data.setUint16(at + 6, 2, true);
    data.setBigUint64(at + 8, BigInt(index), true);
  }
  const loaded = { name: '.code', flags: 2, addr: 0, data: new Uint8Array(16), header: { sh_size: COUNT + 100 } };
  return kernel({ before: [loaded], ...spec, symtab: { data: symtab }, strtab: { data: strtab } }).bytes;
}

const repeat = (text: string): Buffer => Buffer.concat([Buffer.alloc(STRTAB_BYTES, text), Buffer.from('\0')]);

async function readsOf(
  image: Uint8Array,
  work: (table: Awaited<ReturnType<typeof mustOpenTable>>) => Promise<unknown>,
) {
  const source = new CountingSource(image);
  const table = await mustOpenTable(source);
  const { symtab, strtab } = table.tables;
  const before = source.reads.length;
  await work(table);
  const reads = source.reads.slice(before);
  return {
    ofStrings: reads.filter(({ offset }) => offset >= strtab.offset && offset < strtab.offset + strtab.length),
    ofSymbols: reads.filter(({ offset }) => offset >= symtab.offset && offset < symtab.offset + symtab.length),
  };
}

const sum = (reads: readonly { readonly length: number }[]): number =>
  reads.reduce((total, { length }) => total + length, 0);

describe('the string table is read once for a great many symbols', () => {
  const mostBytes = CHUNKS * (STRTAB_BYTES + (WINDOWS + 1) * OVERLAP_BYTES + 1);
  const mostReads = CHUNKS * (WINDOWS + 1);

  test('whose names are to begin in some way', async () => {
    const image = jumping(repeat('abcdefghijklmn\0\0'));
    const page = { ...EVERYTHING, prefix: 'zz' };
    const { ofStrings, ofSymbols } = await readsOf(image, (table) => collectSymbols(listSymbols(table, page)));
    expect(ofStrings.length).toBeLessThanOrEqual(mostReads);
    expect(sum(ofStrings)).toBeLessThanOrEqual(mostBytes);
    expect(sum(ofSymbols)).toBe(COUNT * SYMBOL_BYTES);
  });

  test('whose names may be those of more places than are kept', async () => {
    const image = jumping(repeat('n\0mmmmmmmmmmmm\0\0'));
    let found = 0;
    const { ofStrings } = await readsOf(image, async (table) => {
      found = (await collectSymbols(findSymbols(table, ['n', 'nowhere']))).symbols.length;
    });
    expect(found).toBe(0);
    // And once to look for the names in it.
    expect(ofStrings.length).toBeLessThanOrEqual(mostReads + Math.ceil(STRTAB_BYTES / (256 * KIB)) + 1);
    expect(sum(ofStrings)).toBeLessThanOrEqual(mostBytes + STRTAB_BYTES + 1);
  });

  test('whose names may be those of marks between code and data', async () => {
    const image = jumping(repeat('abcdefghijklmn\0\0'), { machine: 183 });
    let symbols: readonly (string | null)[] = [];
    const { ofStrings } = await readsOf(image, async (table) => {
      symbols = (await resolveAddresses(table, [5n, BigInt(COUNT)])).map(({ symbol }) => symbol && nameOf(symbol));
    });
    expect(symbols).toEqual(['bcdefghijklmn', 'bcdefghijklmn']);
    // And the names of the two.
    expect(ofStrings.length).toBeLessThanOrEqual(mostReads + 2);
  });

  test('and others have their turn meanwhile', async () => {
    const table = await mustOpenTable(jumping(repeat('abcdefghijklmn\0\0')));
    const turns = await turnsOf(() => collectSymbols(listSymbols(table, { ...EVERYTHING, prefix: 'zz' })));
    expect(turns).toBeGreaterThanOrEqual(Math.floor((COUNT * SYMBOL_BYTES) / (256 * KIB)));
  });
});

/** Symbols for these places of a string table. */
const at = (strtab: Uint8Array, ...places: readonly number[]): Uint8Array =>
  kernel({ symbols: places.map((nameOffset) => ({ name: '', nameOffset })), strtab: { data: strtab } }).bytes;

const listed = async (image: Uint8Array, prefix: string): Promise<number[]> => {
  const { symbols } = await collectSymbols(listSymbols(await mustOpenTable(image), { ...EVERYTHING, prefix }));
  return symbols.map(({ index }) => index);
};

describe('a name is judged as it is', () => {
  test.each([64 * KIB - 5, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB - 3])(
    'across the border of what is read at once: from %i on',
    async (place) => {
      const strtab = Buffer.alloc(200 * KIB, 'x');
      strtab.write('\0border_line\0', place - 1);
      const image = at(strtab, place, 1, place + 1, place, 0);
      expect(await listed(image, 'border')).toEqual([1, 4]);
      expect(await listed(image, 'xx')).toEqual([2, 5]);
    },
  );

  test('at the end of the table, and outside of it', async () => {
    const strtab = Buffer.from('\0one\0on');
    const image = at(strtab, 1, 5, 6, 7, 8, 2 ** 32 - 1);
    expect(await listed(image, 'on')).toEqual([1, 2]);
    expect(await listed(image, 'one')).toEqual([1]);
    expect(await listed(image, 'n')).toEqual([3]);
  });

  test('however long the name looked for is, when it is in more places than are kept', async () => {
    const longest = 'm'.repeat(4096);
    const strtab = Buffer.from(`\0${'a\0'.repeat(70_000)}${longest}\0${longest}m\0`);
    const place = 1 + 140_000;
    const image = at(strtab, 1, place, place + 1, place + 4097, place + 4098, 3);
    const { symbols, result } = await collectSymbols(findSymbols(await mustOpenTable(image), ['a', longest]));
    expect(symbols.map(({ index, name }) => [index, name?.bytes.length])).toEqual([
      [1, 1],
      [2, 4096],
      [5, 4096],
      [6, 1],
    ]);
    expect(result).toEqual([]);
  });
});
