import { describe, expect, test } from 'vitest';
import type { TableSymbol } from '../../../src/inspect/symbol-table.ts';
import { describeSymbol, findConflict } from '../../../src/report/symbols.ts';
import { kernel, type SymbolSpec } from '../../support/elf-builder.ts';
import { EVERYTHING, report, reportLines } from '../../support/symbols.ts';

const symbol = (fields: Partial<TableSymbol> = {}): TableSymbol => ({
  index: 3,
  name: { bytes: Buffer.from('main'), cut: false },
  nameOffset: 1,
  value: 0xffff_ffff_8100_0000n,
  size: 16n,
  type: 2,
  bind: 1,
  visibility: 0,
  section: 1,
  ...fields,
});

describe('describeSymbol', () => {
  test('has every field', () => {
    expect(describeSymbol(symbol())).toEqual({
      index: 3,
      name: 'main',
      value: '0xffffffff81000000',
      size: 16,
      type: 'FUNC',
      bind: 'GLOBAL',
      visibility: 'DEFAULT',
      section: 1,
    });
  });

  test.each([
    [0n, 0],
    [2n ** 53n - 1n, Number.MAX_SAFE_INTEGER],
    [2n ** 53n, '0x20000000000000'],
    [2n ** 64n - 1n, '0xffffffffffffffff'],
  ])('a size of %i as %j', (size, told) => {
    expect(describeSymbol(symbol({ size })).size).toBe(told);
  });

  test('a name that is UTF-8 as it is, and any other by its bytes besides', () => {
    const named = (hexBytes: string, cut = false) =>
      describeSymbol(symbol({ name: { bytes: Buffer.from(hexBytes, 'hex'), cut } }));
    expect(named('c3bcf09f9880')).toMatchObject({ name: 'ü😀' });
    expect(named('c3bcf09f9880')).not.toHaveProperty('nameBytes');
    expect(named('61ff62')).toMatchObject({ name: 'a\ufffdb', nameBytes: '61ff62' });
    expect(named('6d', true)).toMatchObject({ name: 'm', nameCut: true });
    expect(named('6d')).not.toHaveProperty('nameCut');
    expect(describeSymbol(symbol({ name: null })).name).toBeNull();
  });
});

describe('findConflict', () => {
  test.each([
    [['name'], null],
    [['address'], null],
    [['type', 'bind', 'prefix', 'limit', 'after'], null],
    [[], null],
    [
      ['name', 'address'],
      ['name', 'address'],
    ],
    [
      ['after', 'address'],
      ['address', 'after'],
    ],
    [
      ['name', 'prefix', 'limit'],
      ['name', 'prefix'],
    ],
    [
      ['name', 'address', 'type'],
      ['name', 'address'],
    ],
  ])('among %j is %j', (given: string[], conflict) => {
    expect(findConflict((name) => given.includes(name))).toEqual(conflict);
  });
});

describe('the document', () => {
  const names = Array.from({ length: 700 }, (_, index) => `name_${index}`);
  const image = kernel({ symbols: names.map((name) => ({ name })) }).bytes;

  test('holds all batches, whatever their number', async () => {
    const { symbols, next } = await report(image, { page: EVERYTHING });
    expect(symbols?.map(({ name }) => name)).toEqual(names);
    expect(next).toBeNull();
  });

  test('has the same symbols as the lines', async () => {
    const { symbols } = await report(image, { page: EVERYTHING });
    const lines = await reportLines(image, { page: EVERYTHING });
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(symbols);
  });

  test('of nothing is one, too', async () => {
    const empty = kernel({ symbols: 0 }).bytes;
    expect(await report(empty, { page: EVERYTHING })).toMatchObject({
      symbols: [],
      next: null,
      symtab: { entries: 1 },
    });
    expect(await report(empty, { names: ['a'] })).toMatchObject({ symbols: [], notFound: ['a'] });
    expect(await report(empty, { addresses: [] })).toMatchObject({ addresses: [] });
    expect(await reportLines(empty, { page: EVERYTHING })).toEqual([]);
    expect(await reportLines(empty, { addresses: [1n] })).toEqual(['{"address":"0x1","symbol":null,"offset":null}']);
  });

  test('has the tables, and a reason recorded elsewhere', async () => {
    const odd = kernel({ symbols: 2, symtab: { info: 2 }, header: { e_phoff: 2n ** 64n - 56n } });
    const [symtab, strtab] = [odd.section('.symtab'), odd.section('.strtab')];
    expect(await report(odd.bytes, { names: ['x'] })).toMatchObject({
      image: { size: odd.bytes.length, class: 'ELF64', compression: null },
      symtab: {
        index: symtab.index,
        fileOffset: symtab.offset,
        size: symtab.data.length,
        entries: 3,
        firstGlobal: 2,
        strtab: { index: strtab.index, fileOffset: strtab.offset, size: strtab.data.length },
      },
      broken: { code: 'out-of-range-access', stage: 'segments' },
    });
  });

  test('is JSON whatever bytes the names have', async () => {
    const strings = Uint8Array.from({ length: 512 }, (_, index) => (index === 511 ? 0 : index % 256));
    const symbols: SymbolSpec[] = Array.from({ length: 512 }, (_, nameOffset) => ({ name: '', nameOffset }));
    const told = await report(kernel({ symbols, strtab: { data: strings } }).bytes, { page: EVERYTHING });
    const byBytes = told.symbols?.map(({ name, nameBytes }) => nameBytes ?? Buffer.from(name ?? '').toString('hex'));
    expect(byBytes).toEqual(
      symbols.map(({ nameOffset = 0 }) =>
        Buffer.from(strings.subarray(nameOffset, strings.indexOf(0, nameOffset))).toString('hex'),
      ),
    );
  });
});
