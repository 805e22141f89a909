/** Independent readers of symbol tables: the listing is that of `readelf`, and that of `nm` but for what it leaves out. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SymbolReport } from '../../src/report/schemas.ts';
import { kernel, makeSymbols, type SymbolSpec } from '../support/elf-builder.ts';
import { EVERYTHING, reportLines } from '../support/symbols.ts';

const has = (tool: string): boolean => spawnSync(tool, ['--version']).status === 0;

const EI_OSABI = 7;
/** With it `readelf` has names for what GNU added. */
const ELFOSABI_GNU = 3;

/** Every type, binding, visibility and kind of section that has a name. */
const SYMBOLS: readonly SymbolSpec[] = [
  { name: 'suffix_of', info: 0x10 },
  // The linker would let it share the end of the string at 1.
  { name: '', nameOffset: 1 + 'suffix_'.length, info: 0x10 },
  ...[0, 1, 2, 6, 10].flatMap((type) =>
    [0, 1, 2, 10].map((bind) => ({
      name: `type_${type}_bind_${bind}`,
      value: 0x10_0000 + type * 16 + bind,
      size: type * 7,
      info: (bind << 4) | type,
      other: (type + bind) & 3,
    })),
  ),
  { name: 'file.c', info: 0x04, shndx: 0xfff1 },
  { name: 'undefined', info: 0x10, shndx: 0 },
  { name: 'absolute', value: 0xfee1_dead, info: 0x10, shndx: 0xfff1 },
  { name: 'common', value: 8, size: 64, info: 0x11, shndx: 0xfff2 },
  ...makeSymbols(500),
];

const SECTION_NAMES: Readonly<Record<string, string>> = { UND: 'UNDEF', ABS: 'ABS', COM: 'COMMON' };

let directory = '';
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bsdsyms-nm-'));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** What a tool says of an image, line by line. */
async function run(tool: string, options: readonly string[], image: Uint8Array): Promise<string[]> {
  const file = join(directory, `image-for-${tool}`);
  await writeFile(file, image);
  const { stdout } = await promisify(execFile)(tool, [...options, file], { env: { ...process.env, LC_ALL: 'C' } });
  return stdout.split('\n');
}

async function listed(image: Uint8Array): Promise<SymbolReport[]> {
  return (await reportLines(image, { page: EVERYTHING })).map((line) => JSON.parse(line) as SymbolReport);
}

describe.skipIf(!has('readelf'))('readelf', () => {
  test.each([
    ['ELF32', 'little'],
    ['ELF32', 'big'],
    ['ELF64', 'little'],
    ['ELF64', 'big'],
  ] as const)('lists the same symbols of an %s image, %s-endian, with the same fields', async (elfClass, byteOrder) => {
    const { bytes } = kernel({ class: elfClass, byteOrder, ident: { [EI_OSABI]: ELFOSABI_GNU }, symbols: SYMBOLS });
    const rows = (await run('readelf', ['-sW'], bytes))
      .map((line) => line.trim().split(/\s+/))
      .filter(([first]) => /^\d+:$/.test(first ?? ''));
    // The first one is the null symbol.
    const symbols = rows.slice(1).map(([number = '', value, size, type, bind, visibility, section = '', name]) => ({
      index: Number.parseInt(number, 10),
      name,
      value: `0x${BigInt(`0x${value}`).toString(16)}`,
      size: Number(size),
      type,
      bind,
      visibility,
      section: SECTION_NAMES[section] ?? Number(section),
    }));
    expect(symbols).toHaveLength(SYMBOLS.length);
    expect(await listed(bytes)).toEqual(symbols);
  });
});

describe.skipIf(!has('nm'))('nm', () => {
  test.each(['ELF32', 'ELF64'] as const)(
    'lists the same names and values of an %s image, but for files',
    async (elfClass) => {
      const { bytes } = kernel({ class: elfClass, ident: { [EI_OSABI]: ELFOSABI_GNU }, symbols: SYMBOLS });
      const rows = (await run('nm', ['--no-sort'], bytes)).flatMap((line) => {
        const [, value, name] = /^([0-9a-f]*) +\S (.+)$/.exec(line) ?? [];
        return name === undefined ? [] : [[name, value === '' ? '0x0' : `0x${BigInt(`0x${value}`).toString(16)}`]];
      });
      expect(rows).toHaveLength(SYMBOLS.length - 1);
      const symbols = (await listed(bytes)).filter(({ type }) => type !== 'FILE');
      // Of a common symbol it shows the size in place of the value.
      expect(
        symbols.map(({ name, value, size, section }) => [
          name,
          section === 'COMMON' ? `0x${size.toString(16)}` : value,
        ]),
      ).toEqual(rows);
    },
  );
});
