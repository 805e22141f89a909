/**
 * The parts of the ELF format that the loader reads: constants and the structures of both classes.
 * Names are those of the System V gABI, chapters 4 and 5.
 */

import { hex } from './hex.ts';

export type ElfClass = 'ELF32' | 'ELF64';

/** A field inside a structure: byte offset and width. Integers are 1, 2, 4 or 8 bytes wide. */
export interface Field {
  readonly name: string;
  readonly offset: number;
  readonly width: number;
}

/** A structure: its size in bytes and its fields. */
export interface Struct<Name extends string = string> {
  readonly size: number;
  readonly fields: Readonly<Record<Name, Field>>;
}

/** Lays fields out one after another: ELF structures have no padding. */
function struct<const Name extends string>(widths: Readonly<Record<Name, number>>): Struct<Name> {
  const fields = {} as Record<Name, Field>;
  let offset = 0;
  for (const [name, width] of Object.entries(widths) as [Name, number][]) {
    fields[name] = { name, offset, width };
    offset += width;
  }
  return { size: offset, fields };
}

const elfHeader = (wordWidth: 4 | 8) =>
  struct({
    e_ident: 16,
    e_type: 2,
    e_machine: 2,
    e_version: 4,
    e_entry: wordWidth,
    e_phoff: wordWidth,
    e_shoff: wordWidth,
    e_flags: 4,
    e_ehsize: 2,
    e_phentsize: 2,
    e_phnum: 2,
    e_shentsize: 2,
    e_shnum: 2,
    e_shstrndx: 2,
  });

const sectionHeader = (wordWidth: 4 | 8) =>
  struct({
    sh_name: 4,
    sh_type: 4,
    sh_flags: wordWidth,
    sh_addr: wordWidth,
    sh_offset: wordWidth,
    sh_size: wordWidth,
    sh_link: 4,
    sh_info: 4,
    sh_addralign: wordWidth,
    sh_entsize: wordWidth,
  });

export type ElfHeaderField = keyof ReturnType<typeof elfHeader>['fields'];
export type SectionHeaderField = keyof ReturnType<typeof sectionHeader>['fields'];
export type ProgramHeaderField =
  | 'p_type'
  | 'p_flags'
  | 'p_offset'
  | 'p_vaddr'
  | 'p_paddr'
  | 'p_filesz'
  | 'p_memsz'
  | 'p_align';
type SymbolField = 'st_name' | 'st_value' | 'st_size' | 'st_info' | 'st_other' | 'st_shndx';

/** The structures of one class. */
export interface ElfFormat {
  readonly class: ElfClass;
  readonly elfHeader: Struct<ElfHeaderField>;
  readonly programHeader: Struct<ProgramHeaderField>;
  readonly sectionHeader: Struct<SectionHeaderField>;
  readonly symbol: Struct<SymbolField>;
}

export const ELF32: ElfFormat = {
  class: 'ELF32',
  elfHeader: elfHeader(4),
  programHeader: struct({
    p_type: 4,
    p_offset: 4,
    p_vaddr: 4,
    p_paddr: 4,
    p_filesz: 4,
    p_memsz: 4,
    p_flags: 4,
    p_align: 4,
  }),
  sectionHeader: sectionHeader(4),
  symbol: struct({ st_name: 4, st_value: 4, st_size: 4, st_info: 1, st_other: 1, st_shndx: 2 }),
};

export const ELF64: ElfFormat = {
  class: 'ELF64',
  elfHeader: elfHeader(8),
  programHeader: struct({
    p_type: 4,
    p_flags: 4,
    p_offset: 8,
    p_vaddr: 8,
    p_paddr: 8,
    p_filesz: 8,
    p_memsz: 8,
    p_align: 8,
  }),
  sectionHeader: sectionHeader(8),
  symbol: struct({ st_name: 4, st_info: 1, st_other: 1, st_shndx: 2, st_value: 8, st_size: 8 }),
};

export const ELF_MAGIC: readonly number[] = [0x7f, 0x45, 0x4c, 0x46];

/** Offsets into `e_ident` and their values. */
export const EI_CLASS = 4;
export const EI_DATA = 5;
export const ELFCLASS64 = 2;
export const ELFDATA2LSB = 1;

export const ET_REL = 1;
export const EV_CURRENT = 1;
export const PT_LOAD = 1;
export const PT_INTERP = 3;
export const PT_NOTE = 4;
/** Any of PF_X, PF_W, PF_R. */
export const PF_ANY = 7;
export const SHT_PROGBITS = 1;
export const SHT_SYMTAB = 2;
export const SHT_STRTAB = 3;
export const SHT_NOTE = 7;
export const SHT_NOBITS = 8;
export const SHT_DYNSYM = 11;
/** The section occupies memory. */
export const SHF_ALLOC = 2n;
/** The section holds machine instructions. */
export const SHF_EXECINSTR = 4n;
export const EM_386 = 3;
export const EM_ARM = 40;
export const EM_X86_64 = 62;
export const EM_AARCH64 = 183;
export const EM_RISCV = 243;

const SECTION_TYPES: Readonly<Record<number, string>> = {
  0: 'NULL',
  1: 'PROGBITS',
  2: 'SYMTAB',
  3: 'STRTAB',
  4: 'RELA',
  5: 'HASH',
  6: 'DYNAMIC',
  7: 'NOTE',
  8: 'NOBITS',
  9: 'REL',
  10: 'SHLIB',
  11: 'DYNSYM',
  14: 'INIT_ARRAY',
  15: 'FINI_ARRAY',
  16: 'PREINIT_ARRAY',
  17: 'GROUP',
  18: 'SYMTAB_SHNDX',
};

const OBJECT_TYPES: Readonly<Record<number, string>> = { 0: 'NONE', 1: 'REL', 2: 'EXEC', 3: 'DYN', 4: 'CORE' };

const MACHINES: Readonly<Record<number, string>> = {
  0: 'none',
  2: 'sparc',
  3: 'i386',
  4: 'm68k',
  6: 'i486',
  8: 'mips',
  15: 'hppa',
  18: 'sparc32plus',
  20: 'powerpc',
  21: 'powerpc64',
  22: 's390',
  40: 'arm',
  42: 'superh',
  43: 'sparcv9',
  50: 'ia-64',
  62: 'x86-64',
  75: 'vax',
  183: 'aarch64',
  243: 'riscv',
  258: 'loongarch',
};

/** The name of a value, or the value in hex. */
export const named = (names: Readonly<Record<number, string>>, value: number): string => names[value] ?? hex(value);

/** The name of an `e_type` without its `ET_`, or the number in hex. */
export const objectTypeName = (eType: number): string => named(OBJECT_TYPES, eType);

/** The usual name of an `e_machine`, or the number in hex. */
export const machineName = (eMachine: number): string => named(MACHINES, eMachine);

/** The name of an `sh_type` without its `SHT_`, or the number in hex. */
export const sectionTypeName = (shType: number): string => named(SECTION_TYPES, shType);

/** True when the bytes start with `\x7fELF`. */
export function hasElfMagic(bytes: Uint8Array): boolean {
  return ELF_MAGIC.every((byte, index) => bytes[index] === byte);
}
