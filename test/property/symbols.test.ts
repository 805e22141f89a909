/** Symbol tables of any content are read to their end, and tell the same however they are asked. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { type ImageSource } from '../../src/inspect/image-source.ts';
import { openSymbols } from '../../src/inspect/load.ts';
import type { SymbolReport } from '../../src/report/schemas.ts';
import { type SymbolQuery, writeSymbolLines, writeSymbols } from '../../src/report/symbols.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import { anyAddress, anyKernel, flipBits, lie } from '../support/arbitraries.ts';
import { kernel, writeField } from '../support/elf-builder.ts';
import { EVERYTHING, report, reportLines } from '../support/symbols.ts';

const anyName = fc.oneof(fc.constantFrom('sym_0', 'sym_1x', 'x', 'absent'), fc.string({ minLength: 1, maxLength: 6 }));

const anyQuery: fc.Arbitrary<SymbolQuery> = fc.oneof(
  fc.record({
    names: fc.array(
      anyName.filter((name) => !name.includes('\0')),
      { minLength: 1, maxLength: 4 },
    ),
  }),
  fc.record({ addresses: fc.array(anyAddress, { minLength: 1, maxLength: 4 }) }),
  fc.record({
    page: fc.record({
      after: fc.nat(12),
      limit: fc.oneof(fc.constant(null), fc.integer({ min: 1, max: 5 })),
      types: fc.uniqueArray(fc.nat(10), { maxLength: 2 }),
      binds: fc.uniqueArray(fc.nat(2), { maxLength: 2 }),
      prefix: fc.constantFrom('', 's', 'sym_'),
    }),
  }),
);

/** What a caller could not cope with; nothing for a good answer. */
async function problems(bytes: Uint8Array, query: SymbolQuery): Promise<string[]> {
  const source: ImageSource = new MemorySource([bytes]);
  const opened = await openSymbols(source);
  if (!opened.ok) return Object.hasOwn(BROKEN_KINDS, opened.broken.code) ? [] : [opened.broken.code];
  const pieces: string[] = [];
  for await (const piece of writeSymbols(opened, query, null)) pieces.push(piece);
  const { symbols, addresses } = JSON.parse(pieces.join('')) as Awaited<ReturnType<typeof report>>;
  const lines: string[] = [];
  for await (const piece of writeSymbolLines(opened, query)) lines.push(piece);
  const told = lines.join('').split('\n').slice(0, -1);
  const same = JSON.stringify(told.map((line) => JSON.parse(line) as unknown)) === JSON.stringify(symbols ?? addresses);
  return same ? [] : [`${told.length} lines differ from the document`];
}

describe('an image that', () => {
  test('has flipped bits gets an answer', async () => {
    const flips = fc.array(fc.nat(), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(anyKernel, flips, anyQuery, async (image, positions, query) => {
        expect(await problems(flipBits(image, positions), query)).toEqual([]);
      }),
      { numRuns: 1500 },
    );
  });

  test('is cut short gets an answer', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, fc.nat(), anyQuery, async ({ bytes }, cut, query) => {
        expect(await problems(bytes.subarray(0, cut % bytes.length), query)).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  test('lies about its symbols and sections gets an answer', async () => {
    const lies = anyKernel.chain((image) => {
      const { format, sections } = image;
      const headers = sections.flatMap(({ headerAt }) =>
        Object.values(format.sectionHeader.fields).map((field) => ({ at: headerAt, field })),
      );
      const { offset, data } = image.section('.symtab');
      const entries = Array.from({ length: Math.floor(data.length / format.symbol.size) }, (_, index) =>
        Object.values(format.symbol.fields).map((field) => ({ at: offset + index * format.symbol.size, field })),
      ).flat();
      const one = fc.record({
        where: fc.constantFrom(...headers, ...entries),
        value: lie(image.bytes.length),
      });
      return fc.tuple(fc.constant(image), fc.array(one, { minLength: 1, maxLength: 5 }));
    });
    await fc.assert(
      fc.asyncProperty(lies, anyQuery, async ([image, told], query) => {
        const bytes = image.bytes.slice();
        for (const { where, value } of told) writeField(bytes, where.at, where.field, value, image.littleEndian);
        expect(await problems(bytes, query)).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });
});

/** Tables with every byte at random, and names that overlap. */
const anyTables = fc
  .record({
    class: fc.constantFrom('ELF32' as const, 'ELF64' as const),
    byteOrder: fc.constantFrom('little' as const, 'big' as const),
    strings: fc.uint8Array({ maxLength: 40, max: 3 }),
    places: fc.array(fc.tuple(fc.nat(45), fc.nat(255)), { maxLength: 30 }),
  })
  .map(({ strings, places, ...spec }) =>
    kernel({
      ...spec,
      symbols: places.map(([nameOffset, info]) => ({ name: '', nameOffset, info })),
      strtab: { data: strings },
    }),
  );

describe('any table', () => {
  test('is the sum of its pages, under any filter', async () => {
    await fc.assert(
      fc.asyncProperty(anyTables, fc.integer({ min: 1, max: 7 }), fc.boolean(), async ({ bytes }, limit, filtered) => {
        const page = { ...EVERYTHING, types: filtered ? [0, 1, 2] : [] };
        const whole = await report(bytes, { page });
        const pages: SymbolReport[] = [];
        for (let after: number | null | undefined = 0; typeof after === 'number'; ) {
          const { symbols = [], next } = await report(bytes, { page: { ...page, limit, after } });
          expect(symbols.length).toBe(next === null ? symbols.length : limit);
          pages.push(...symbols);
          after = next;
        }
        expect(pages).toEqual(whole.symbols);
      }),
      { numRuns: 300 },
    );
  });

  test('has by each name the symbols that its listing has', async () => {
    await fc.assert(
      fc.asyncProperty(anyTables, async ({ bytes }) => {
        const listed = (await reportLines(bytes, { page: EVERYTHING })).map((line) => JSON.parse(line) as SymbolReport);
        const names = [...new Set(listed.flatMap(({ name }) => (name === null || name === '' ? [] : [name])))];
        for (const name of names) {
          const { symbols, notFound } = await report(bytes, { names: [name] });
          expect(symbols).toEqual(listed.filter((symbol) => symbol.name === name));
          expect(notFound).toEqual([]);
        }
        const all = await report(bytes, { names: [...names, 'absent'] });
        expect(all.symbols).toEqual(listed.filter(({ name }) => name !== null && name !== ''));
        expect(all.notFound).toEqual(['absent']);
      }),
      { numRuns: 500 },
    );
  });
});
