/** What differs between two plans, said exactly. test/property/compare.test.ts holds the ranges against whole blobs. */
import { describe, expect, test } from 'vitest';
import {
  ELF64,
  type ElfHeaderField,
  type SectionHeaderField,
  SHT_STRTAB,
  SHT_SYMTAB,
} from '../../../src/elf/format.ts';
import { runToEnd } from '../../../src/elf/steps.ts';
import { comparePlans, type Difference } from '../../../src/xen/compare.ts';
import type { Loader, SymbolPlan } from '../../../src/xen/loaders/bsdsyms.ts';
import type { PlannedHeaders, PlannedTable } from '../../../src/xen/loaders/layout.ts';
import { bytesExtent, copyExtent, type Extent, fillExtent } from '../../../src/xen/plan.ts';
import { type Lies, writeField } from '../../support/elf-builder.ts';

/** A plan of these extents. */
function planOf(extents: readonly Extent[], more: Partial<SymbolPlan> = {}): SymbolPlan {
  const size = extents.reduce((sum, { length }) => sum + length, 0);
  return {
    loader: 'xen-4.6',
    loadAddress: 0n,
    pstart: 0n,
    pend: BigInt(size),
    size,
    sizeWord: 0,
    xenReservedEnd: BigInt(size),
    headers: null,
    tables: [],
    extents,
    ...more,
  };
}

function compare(plan: SymbolPlan, other: SymbolPlan): readonly Difference[] {
  const comparison = runToEnd(comparePlans('ELF64', plan, other.loader, { ok: true, plan: other, recorded: null }));
  if (comparison.plan === null) throw new Error('nothing was compared');
  expect(comparison.unlisted).toBe(0);
  return comparison.differences;
}

const table = (place: Partial<PlannedTable> & { readonly offset: number }): PlannedTable => ({
  index: 1,
  section: 1,
  type: 'STRTAB',
  size: 8,
  shOffset: place.offset - 4,
  fileOffset: 100,
  link: 0,
  info: 0,
  entrySize: 0n,
  ...place,
});

const bytes = (...values: readonly number[]): Extent => bytesExtent(Uint8Array.from(values));
const copy = (offset: number, length: number): Extent => copyExtent({ offset, length });

/** A plan that begins with a table. */
const afterTable = (...extents: readonly Extent[]): SymbolPlan => planOf(extents, { tables: [table({ offset: 0 })] });

describe('bytes that no part uses', () => {
  const UNUSED = { what: 'unused, before the end', fields: [] };
  const missing = (offset: number, size: number): Difference => ({
    ...UNUSED,
    kind: 'missing',
    range: { offset, size },
    otherRange: null,
    meaning: 'The other loader does not write it.',
  });
  const added = (offset: number, size: number): Difference => ({
    ...UNUSED,
    kind: 'added',
    range: null,
    otherRange: { offset, size },
    meaning: 'Only the other loader writes it.',
  });

  test.each<readonly [string, Extent, Extent]>([
    ['zeros, and fewer of them', fillExtent(8), fillExtent(7)],
    ['bytes, and other bytes', bytes(1, 2, 3), bytes(1, 2, 4)],
    ['bytes, and the same as one number', bytes(1, 2), bytes(12)],
    ['a range of the image, and another', copy(10, 8), copy(11, 8)],
    ['a range of the image, and a shorter one', copy(10, 8), copy(10, 7)],
    ['a range of the image, and zeros', copy(10, 8), fillExtent(8)],
  ])('differ: %s', (_, own, other) => {
    expect(compare(planOf([own]), planOf([own]))).toEqual([]);
    expect(compare(planOf([own]), planOf([other]))).toEqual([missing(0, own.length), added(0, other.length)]);
  });

  test('are looked at from where the part before them ends', () => {
    const own = afterTable(copy(100, 8), bytes(1, 2), fillExtent(2));
    expect(compare(own, afterTable(copy(100, 8), bytes(1, 2), fillExtent(2)))).toEqual([]);
    expect(compare(own, afterTable(copy(100, 8), bytes(1, 3), fillExtent(2)))).toEqual([missing(8, 4), added(8, 4)]);
    // An extent that is a part and what follows it.
    expect(compare(afterTable(copy(100, 12)), afterTable(copy(100, 8), copy(108, 4)))).toEqual([]);
    expect(compare(afterTable(bytes(...Array(10).keys())), afterTable(fillExtent(8), bytes(8, 9)))).toEqual([]);
    expect(compare(afterTable(bytes(...Array(10).keys())), afterTable(fillExtent(8), bytes(8, 8)))).toEqual([
      missing(8, 2),
      added(8, 2),
    ]);
  });

  test('are called after the part that follows them, and are equal to equal ones in order', () => {
    const around = (first: number, second: number): SymbolPlan =>
      planOf([fillExtent(first), copy(100, 8), fillExtent(second), copy(200, 8)], {
        tables: [
          table({ offset: first, section: 1 }),
          table({ offset: first + 8 + second, section: 2, type: 'SYMTAB', fileOffset: 200 }),
        ],
      });
    expect(compare(around(4, 4), around(4, 4))).toEqual([]);
    expect(compare(around(4, 4), around(4, 5))).toMatchObject([
      { kind: 'missing', what: 'unused, before symbol table', range: { offset: 12, size: 4 } },
      { kind: 'moved', what: 'symbol table', range: { offset: 16, size: 8 }, otherRange: { offset: 17, size: 8 } },
      { kind: 'added', what: 'unused, before symbol table', otherRange: { offset: 12, size: 5 } },
    ]);
    // The same bytes before the end, twice: the second are not found again.
    const twice = planOf([fillExtent(2), copy(100, 8), fillExtent(2), copy(100, 8)], {
      tables: [table({ offset: 2 }), table({ offset: 12, section: 2 })],
    });
    const once = planOf([fillExtent(2), copy(100, 8), copy(100, 8)], {
      tables: [table({ offset: 2 }), table({ offset: 10, section: 2 })],
    });
    expect(compare(twice, twice)).toEqual([]);
    expect(compare(twice, once).map(({ kind, what }) => [kind, what])).toEqual([
      ['missing', 'unused, before string table'],
      ['moved', 'string table'],
    ]);
  });
});

/** A header of one structure; what is not given is 0. */
function header<Name extends ElfHeaderField | SectionHeaderField>(
  struct: { readonly size: number; readonly fields: Readonly<Record<string, Parameters<typeof writeField>[2]>> },
  values: Lies<Name>,
): number[] {
  const written = new Uint8Array(struct.size);
  for (const [name, value] of Object.entries(values) as [Name, number][]) {
    const field = struct.fields[name];
    if (field !== undefined) writeField(written, 0, field, value, true);
  }
  return [...written];
}
const elfHeader = (values: Lies<ElfHeaderField> = {}): number[] => header(ELF64.elfHeader, values);
const sectionHeader = (values: Lies<SectionHeaderField> = {}): number[] => header(ELF64.sectionHeader, values);

const SIZE_WORD = [60, 0, 0, 0];

/** Headers as a loader places them: a size word, an ELF header, section headers. */
function headersOf(count: number, more: Partial<PlannedHeaders['sectionHeaders']> = {}, elfHeaderSize = 64) {
  return { elfHeaderSize, sectionHeaders: { offset: 4 + elfHeaderSize, size: 64, count, ...more } };
}

/** A plan of headers alone. */
const headersPlan = (
  { word = SIZE_WORD, elf = elfHeader(), sections = [sectionHeader()] } = {},
  headers: PlannedHeaders | null = headersOf(sections.length),
): SymbolPlan => planOf([bytes(...word, ...elf, ...sections.flat())], { headers });

/** An ELF header that is two bytes longer than its structure. */
const longHeaderPlan = (byte: number): SymbolPlan =>
  headersPlan({ elf: [...elfHeader(), 1, byte], sections: [sectionHeader()] }, headersOf(1, {}, 66));

describe('headers', () => {
  test('that are the same do not differ', () => {
    expect(compare(headersPlan(), headersPlan())).toEqual([]);
  });

  test('are compared field by field', () => {
    const own = headersPlan({
      elf: elfHeader({ e_shnum: 3 }),
      sections: [sectionHeader(), sectionHeader({ sh_type: 2 })],
    });
    const other = headersPlan({
      elf: elfHeader({ e_shnum: 5, e_shoff: 2n ** 40n }),
      sections: [sectionHeader(), sectionHeader({ sh_type: 3, sh_size: 24 })],
    });
    expect(compare(own, other)).toEqual([
      {
        kind: 'changed',
        what: 'ELF header',
        range: { offset: 4, size: 64 },
        otherRange: { offset: 4, size: 64 },
        fields: [
          { name: 'e_shoff', value: 0n, other: 2n ** 40n },
          { name: 'e_shnum', value: 3n, other: 5n },
        ],
        meaning: 'With the other loader it lies at the same place, differs in e_shoff, e_shnum.',
      },
      {
        kind: 'changed',
        what: 'section header 1 (SYMTAB)',
        range: { offset: 132, size: 64 },
        otherRange: { offset: 132, size: 64 },
        fields: [
          { name: 'sh_type', value: 2n, other: 3n },
          { name: 'sh_size', value: 0n, other: 24n },
        ],
        meaning: 'With the other loader it lies at the same place, differs in sh_type, sh_size.',
      },
    ]);
  });

  test('may differ in bytes that are no numbers', () => {
    const other = headersPlan({ word: [61, 0, 0, 0], elf: [1, ...elfHeader().slice(1)] });
    const meaning = 'With the other loader it lies at the same place, has different bytes.';
    expect(compare(headersPlan(), other)).toMatchObject([
      { kind: 'changed', what: 'size word', fields: [], meaning },
      { kind: 'changed', what: 'ELF header', fields: [], meaning },
    ]);
  });

  test('that only one of them writes are named by their type', () => {
    const [null_, text] = [sectionHeader(), sectionHeader({ sh_type: 1 })];
    const [one, two] = [headersPlan({ sections: [null_] }), headersPlan({ sections: [null_, text] })];
    const range = { offset: 132, size: 64 };
    const what = 'section header 1 (PROGBITS)';
    expect(compare(two, one)).toEqual([
      { kind: 'missing', what, range, otherRange: null, fields: [], meaning: 'The other loader does not write it.' },
    ]);
    expect(compare(one, two)).toEqual([
      { kind: 'added', what, range: null, otherRange: range, fields: [], meaning: 'Only the other loader writes it.' },
    ]);
  });

  test('are compared as far as both go', () => {
    const whole = headersPlan({ sections: [sectionHeader({ sh_name: 1, sh_type: 2, sh_flags: 4 })] });
    const cut = (size: number): SymbolPlan => {
      const section = sectionHeader({ sh_name: 2, sh_type: 3, sh_flags: 5 }).slice(0, size);
      return headersPlan({ sections: [section] }, headersOf(1, { size }));
    };
    const [seven, eight] = [compare(whole, cut(7)), compare(whole, cut(8))];
    expect(seven.map(({ what, fields }) => [what, fields.map(({ name }) => name)])).toEqual([
      ['section header 0 (SYMTAB)', ['sh_name']],
    ]);
    expect(eight.map(({ what, fields }) => [what, fields.map(({ name }) => name)])).toEqual([
      ['section header 0 (SYMTAB)', ['sh_name', 'sh_type']],
    ]);
    expect(seven[0]?.meaning).toBe(
      'With the other loader it lies at the same place, takes 7 bytes instead of 64, differs in sh_name.',
    );
    // A type that is cut is not told.
    expect(compare(cut(7), whole)[0]?.what).toBe('section header 0');
    expect(compare(cut(8), whole)[0]?.what).toBe('section header 0 (STRTAB)');
  });

  test('of no bytes are no parts', () => {
    const none = headersPlan({ elf: [], sections: [] }, headersOf(3, { size: 0 }, 0));
    expect(compare(none, none)).toEqual([]);
    expect(compare(none, headersPlan({ sections: [] })).map(({ kind, what }) => [kind, what])).toEqual([
      ['added', 'ELF header'],
    ]);
  });

  test('longer than their structure have bytes after it, which are unused', () => {
    expect(compare(longHeaderPlan(1), longHeaderPlan(1))).toEqual([]);
    expect(compare(longHeaderPlan(1), longHeaderPlan(2))).toMatchObject([
      { kind: 'missing', what: 'unused, before section header 0', range: { offset: 68, size: 2 } },
      { kind: 'added', what: 'unused, before section header 0', otherRange: { offset: 68, size: 2 } },
    ]);
  });
});

/** A plan of tables alone. */
const tablesPlan = (loader: Loader, ...placed: readonly PlannedTable[]): SymbolPlan => {
  const end = Math.max(...placed.map(({ offset, size }) => offset + size));
  return planOf([fillExtent(end)], { loader, tables: placed });
};

/** What differs, and where it is in both. */
const found = (plan: SymbolPlan, other: SymbolPlan): unknown[] =>
  compare(plan, other).map(({ kind, what, range, otherRange }) => [kind, what, range?.offset, otherRange?.offset]);

/** Headers, then two tables. */
const wholePlan = (loader: Loader, sections: readonly number[][], ...placed: readonly PlannedTable[]): SymbolPlan =>
  planOf([bytes(...SIZE_WORD, ...elfHeader(), ...sections.flat()), copy(100, 8), copy(200, 8)], {
    loader,
    headers: headersOf(sections.length),
    tables: placed,
  });

describe('tables', () => {
  test('of loaders that keep indices are the same when their sections are', () => {
    const own = tablesPlan('xen-4.6', table({ offset: 0, section: 4 }), table({ offset: 8, section: 5 }));
    // Wherever they lie in the image.
    const other = tablesPlan(
      'libxc-4.6',
      table({ offset: 0, section: 4, fileOffset: 1 }),
      table({ offset: 8, section: 5, fileOffset: 2 }),
    );
    expect(found(own, other)).toEqual([]);
    const swapped = tablesPlan('libxc-4.6', table({ offset: 0, section: 5 }), table({ offset: 8, section: 4 }));
    expect(found(own, swapped)).toEqual([
      ['moved', 'string table', 0, 8],
      ['moved', 'string table', 8, 0],
    ]);
  });

  const three = [
    table({ offset: 0, section: 4, fileOffset: 100 }),
    table({ offset: 8, section: 5, fileOffset: 200 }),
    table({ offset: 16, section: 6, fileOffset: 300, type: 'SYMTAB' }),
  ];
  const few = [
    table({ offset: 0, section: 1, fileOffset: 200 }),
    table({ offset: 8, section: 2, fileOffset: 300, type: 'SYMTAB' }),
  ];

  test('of others are the same when they have the same place in the image', () => {
    expect(found(tablesPlan('xen-4.6', ...three), tablesPlan('xen-4.8', ...few))).toEqual([
      ['missing', 'string table', 0, undefined],
      ['moved', 'string table', 8, 0],
      ['moved', 'symbol table', 16, 8],
    ]);
    expect(found(tablesPlan('xen-4.8', ...few), tablesPlan('xen-4.6', ...three))).toEqual([
      ['moved', 'string table', 0, 8],
      ['moved', 'symbol table', 8, 16],
      ['added', 'string table', undefined, 0],
    ]);
    expect(found(tablesPlan('xen-4.8', ...few), tablesPlan('xen-4.7', ...few))).toEqual([]);
  });

  test('are different ones when only their start, or only their size, is the same', () => {
    const own = tablesPlan('xen-4.8', table({ offset: 0, section: 1, fileOffset: 100, size: 8 }));
    const others = (size: number, fileOffset: number): SymbolPlan =>
      tablesPlan('xen-4.6', table({ offset: 0, section: 1, fileOffset, size }));
    expect(found(own, others(8, 100))).toEqual([]);
    for (const other of [others(9, 100), others(8, 101)]) {
      expect(found(own, other)).toEqual([
        ['missing', 'string table', 0, undefined],
        ['added', 'string table', undefined, 0],
      ]);
    }
  });

  test('of one place in the image are taken once each', () => {
    const twice = [table({ offset: 0, section: 4 }), table({ offset: 8, section: 5 })];
    expect(found(tablesPlan('xen-4.8', ...twice), tablesPlan('xen-4.6', ...twice))).toEqual([]);
    const one = table({ offset: 0, section: 1 });
    expect(found(tablesPlan('xen-4.6', ...twice), tablesPlan('xen-4.8', one))).toEqual([
      ['missing', 'string table', 8, undefined],
    ]);
  });

  test('that were not copied are unused bytes', () => {
    const skipped = tablesPlan('xen-4.6', table({ offset: 0, fileOffset: null }));
    expect(compare(skipped, tablesPlan('xen-4.6', table({ offset: 0 })))).toMatchObject([
      { kind: 'missing', what: 'unused, before the end', range: { offset: 0, size: 8 } },
      { kind: 'added', what: 'string table', otherRange: { offset: 0, size: 8 } },
    ]);
  });

  test('of another size at the same place have changed', () => {
    const own = tablesPlan('xen-4.6', table({ offset: 0 }));
    expect(compare(own, tablesPlan('xen-4.6', table({ offset: 0, size: 9 })))).toMatchObject([
      {
        kind: 'changed',
        what: 'string table',
        meaning: 'With the other loader it lies at the same place, takes 9 bytes instead of 8.',
      },
    ]);
    const moved = planOf([fillExtent(4), copy(100, 8)], { tables: [table({ offset: 4 })] });
    expect(compare(own, moved)[0]?.meaning).toBe('With the other loader it lies at 4 instead of 0.');
  });

  test('have headers, which are those of the same table whatever their index', () => {
    const strings = sectionHeader({ sh_type: SHT_STRTAB, sh_size: 8 });
    const symbols = sectionHeader({ sh_type: SHT_SYMTAB, sh_size: 8 });
    const own = wholePlan(
      'xen-4.8',
      [sectionHeader(), symbols, strings],
      table({ offset: 260, index: 1, section: 4, type: 'SYMTAB', fileOffset: 100 }),
      table({ offset: 268, index: 2, section: 5, fileOffset: 200 }),
    );
    const other = wholePlan(
      'xen-4.6',
      [sectionHeader(), sectionHeader({ sh_type: 1 }), symbols, strings],
      table({ offset: 324, index: 2, section: 2, type: 'SYMTAB', fileOffset: 100 }),
      table({ offset: 332, index: 3, section: 3, fileOffset: 200 }),
    );
    expect(found(own, other)).toEqual([
      ['moved', 'section header 1 (SYMTAB)', 132, 196],
      ['moved', 'section header 2 (STRTAB)', 196, 260],
      ['moved', 'symbol table', 260, 324],
      ['moved', 'string table', 268, 332],
      ['added', 'section header 1 (PROGBITS)', undefined, 132],
    ]);
  });
});
