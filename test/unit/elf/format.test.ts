import { describe, expect, test } from 'vitest';
import {
  ELF32,
  ELF64,
  hasElfMagic,
  machineName,
  objectTypeName,
  type Struct,
  sectionTypeName,
} from '../../../src/elf/format.ts';

/** Field offsets by name, in the order of the offsets. */
const offsetsOf = ({ fields }: Struct): [string, number][] =>
  Object.values(fields)
    .map(({ name, offset }): [string, number] => [name, offset])
    .toSorted(([, a], [, b]) => a - b);

/** What `offsetsOf` gives for these fields at these offsets. */
const fieldsAt = (names: string, offsets: readonly number[]): [string, number | undefined][] =>
  names.split(' ').map((name, index) => [name, offsets[index]]);

// Figures 4-3, 4-8, 4-15 and 5-1 of the System V gABI.
describe('the structures are those of the gABI', () => {
  test('ELF header', () => {
    const names =
      'e_ident e_type e_machine e_version e_entry e_phoff e_shoff e_flags e_ehsize e_phentsize e_phnum e_shentsize e_shnum e_shstrndx';
    const at32 = [0, 16, 18, 20, 24, 28, 32, 36, 40, 42, 44, 46, 48, 50];
    const at64 = [0, 16, 18, 20, 24, 32, 40, 48, 52, 54, 56, 58, 60, 62];
    expect(offsetsOf(ELF32.elfHeader)).toEqual(fieldsAt(names, at32));
    expect(offsetsOf(ELF64.elfHeader)).toEqual(fieldsAt(names, at64));
    expect([ELF32.elfHeader.size, ELF64.elfHeader.size]).toEqual([52, 64]);
  });

  test('program header: p_flags is second in ELF64 and second to last in ELF32', () => {
    expect(offsetsOf(ELF32.programHeader)).toEqual(
      fieldsAt('p_type p_offset p_vaddr p_paddr p_filesz p_memsz p_flags p_align', [0, 4, 8, 12, 16, 20, 24, 28]),
    );
    expect(offsetsOf(ELF64.programHeader)).toEqual(
      fieldsAt('p_type p_flags p_offset p_vaddr p_paddr p_filesz p_memsz p_align', [0, 4, 8, 16, 24, 32, 40, 48]),
    );
    expect([ELF32.programHeader.size, ELF64.programHeader.size]).toEqual([32, 56]);
  });

  test('section header', () => {
    const names = 'sh_name sh_type sh_flags sh_addr sh_offset sh_size sh_link sh_info sh_addralign sh_entsize';
    expect(offsetsOf(ELF32.sectionHeader)).toEqual(fieldsAt(names, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]));
    expect(offsetsOf(ELF64.sectionHeader)).toEqual(fieldsAt(names, [0, 4, 8, 16, 24, 32, 40, 44, 48, 56]));
    expect([ELF32.sectionHeader.size, ELF64.sectionHeader.size]).toEqual([40, 64]);
  });

  test('symbol: st_value comes early in ELF32 and late in ELF64', () => {
    expect(offsetsOf(ELF32.symbol)).toEqual(
      fieldsAt('st_name st_value st_size st_info st_other st_shndx', [0, 4, 8, 12, 13, 14]),
    );
    expect(offsetsOf(ELF64.symbol)).toEqual(
      fieldsAt('st_name st_info st_other st_shndx st_value st_size', [0, 4, 5, 6, 8, 16]),
    );
    expect([ELF32.symbol.size, ELF64.symbol.size]).toEqual([16, 24]);
  });
});

describe('names', () => {
  test('are the gABI names without their prefix', () => {
    expect(objectTypeName(2)).toBe('EXEC');
    expect(sectionTypeName(3)).toBe('STRTAB');
    expect(machineName(62)).toBe('x86-64');
  });

  test('are the number in hex for what has no name', () => {
    expect(objectTypeName(0xfe00)).toBe('0xfe00');
    expect(sectionTypeName(0x6fff_fff6)).toBe('0x6ffffff6');
    expect(machineName(0xffff)).toBe('0xffff');
  });
});

describe('the magic', () => {
  test.each([
    ['whole', [0x7f, 0x45, 0x4c, 0x46], true],
    ['with more behind it', [0x7f, 0x45, 0x4c, 0x46, 9], true],
    ['cut', [0x7f, 0x45, 0x4c], false],
    ['wrong in its last byte', [0x7f, 0x45, 0x4c, 0x47], false],
    ['of nothing', [], false],
  ])('%s', (_what, bytes, expected) => {
    expect(hasElfMagic(Uint8Array.from(bytes))).toBe(expected);
  });
});
