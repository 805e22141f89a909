/** The entries of a symbol table: fields of both classes, and the names of their values. */
import { dataOf } from './fields.ts';
import { type ElfFormat, EM_AARCH64, EM_ARM, EM_RISCV, named } from './format.ts';

/** One entry of a symbol table. */
export interface SymbolEntry {
  /** `st_name`: where its name begins in the string table. */
  readonly nameOffset: number;
  readonly value: bigint;
  readonly size: bigint;
  /** The low half of `st_info`. */
  readonly type: number;
  /** The high half of `st_info`. */
  readonly bind: number;
  /** The two low bits of `st_other`. */
  readonly visibility: number;
  /** `st_shndx`. */
  readonly section: number;
}

export const STT_NOTYPE = 0;
export const STT_OBJECT = 1;
export const STT_FUNC = 2;
export const STT_SECTION = 3;
export const STT_FILE = 4;
export const STT_TLS = 6;
export const STT_GNU_IFUNC = 10;

export const STB_LOCAL = 0;
export const STB_GLOBAL = 1;
export const STB_WEAK = 2;
export const STB_GNU_UNIQUE = 10;

export const SHN_UNDEF = 0;
/** From here on `st_shndx` is not a section index. */
export const SHN_LORESERVE = 0xff00;
/** Not placed yet; the value is an alignment. */
export const SHN_COMMON = 0xfff2;
/** The index is in a SYMTAB_SHNDX section, which the loader does not read. */
export const SHN_XINDEX = 0xffff;

/** gABI, chapter 4, and GNU's IFUNC. */
const TYPES: Readonly<Record<number, string>> = {
  [STT_NOTYPE]: 'NOTYPE',
  [STT_OBJECT]: 'OBJECT',
  [STT_FUNC]: 'FUNC',
  [STT_SECTION]: 'SECTION',
  [STT_FILE]: 'FILE',
  5: 'COMMON',
  [STT_TLS]: 'TLS',
  [STT_GNU_IFUNC]: 'IFUNC',
};

const BINDS: Readonly<Record<number, string>> = {
  [STB_LOCAL]: 'LOCAL',
  [STB_GLOBAL]: 'GLOBAL',
  [STB_WEAK]: 'WEAK',
  [STB_GNU_UNIQUE]: 'UNIQUE',
};

export const STV_INTERNAL = 1;
export const STV_HIDDEN = 2;

const VISIBILITIES = ['DEFAULT', 'INTERNAL', 'HIDDEN', 'PROTECTED'] as const;

const SPECIAL_SECTIONS: Readonly<Record<number, string>> = {
  [SHN_UNDEF]: 'UNDEF',
  0xfff1: 'ABS',
  [SHN_COMMON]: 'COMMON',
  [SHN_XINDEX]: 'XINDEX',
};

export const SYMBOL_TYPES: readonly string[] = Object.values(TYPES);
export const SYMBOL_BINDS: readonly string[] = Object.values(BINDS);
type SymbolVisibility = (typeof VISIBILITIES)[number];
export const SYMBOL_VISIBILITIES: readonly SymbolVisibility[] = VISIBILITIES;

/** The name of a symbol type without its `STT_`, or the number in hex. */
export const symbolTypeName = (type: number): string => named(TYPES, type);
/** The name of a binding without its `STB_`, or the number in hex. */
export const symbolBindName = (bind: number): string => named(BINDS, bind);
/** The numbers of types or bindings by name; unknown names are left out. */
export const symbolTypeNumbers = (names: readonly string[]): number[] => numbersOf(TYPES, names);
export const symbolBindNumbers = (names: readonly string[]): number[] => numbersOf(BINDS, names);
export const visibilityName = (visibility: number): SymbolVisibility => VISIBILITIES[visibility & 3] ?? 'DEFAULT';

const numbersOf = (known: Readonly<Record<number, string>>, names: readonly string[]): number[] =>
  Object.entries(known).flatMap(([number, name]) => (names.includes(name) ? [Number(number)] : []));

/** A section index; for a reserved one its name without `SHN_`, or the number in hex. */
export function symbolSection(section: number): number | string {
  return section === SHN_UNDEF || section >= SHN_LORESERVE ? named(SPECIAL_SECTIONS, section) : section;
}

/**
 * Consecutive whole symbols of a table. Its methods give the fields of the symbol at `at`, from 0 to `count` - 1, as
 * `SymbolEntry` describes them.
 */
export class SymbolBlock {
  readonly count: number;
  /** Index in the table of the symbol at 0. */
  readonly first: number;
  readonly #data: DataView;
  readonly #littleEndian: boolean;
  readonly #stride: number;
  readonly #wide: boolean;
  readonly #name: number;
  readonly #value: number;
  readonly #size: number;
  readonly #info: number;
  readonly #other: number;
  readonly #section: number;

  /** @param bytes symbols of native size, in the image's byte order; a partial symbol at the end is ignored */
  constructor(bytes: Uint8Array, first: number, { symbol }: ElfFormat, littleEndian: boolean) {
    const { st_name, st_value, st_size, st_info, st_other, st_shndx } = symbol.fields;
    this.#data = dataOf(bytes);
    this.#littleEndian = littleEndian;
    this.#stride = symbol.size;
    this.#wide = st_value.width === 8;
    this.#name = st_name.offset;
    this.#value = st_value.offset;
    this.#size = st_size.offset;
    this.#info = st_info.offset;
    this.#other = st_other.offset;
    this.#section = st_shndx.offset;
    this.first = first;
    this.count = Math.floor(bytes.length / symbol.size);
  }

  nameOffset(at: number): number {
    return this.#data.getUint32(at * this.#stride + this.#name, this.#littleEndian);
  }

  value(at: number): bigint {
    return this.#word(at * this.#stride + this.#value);
  }

  size(at: number): bigint {
    return this.#word(at * this.#stride + this.#size);
  }

  type(at: number): number {
    return this.#data.getUint8(at * this.#stride + this.#info) & 0xf;
  }

  bind(at: number): number {
    return this.#data.getUint8(at * this.#stride + this.#info) >>> 4;
  }

  section(at: number): number {
    return this.#data.getUint16(at * this.#stride + this.#section, this.#littleEndian);
  }

  entry(at: number): SymbolEntry {
    return {
      nameOffset: this.nameOffset(at),
      value: this.value(at),
      size: this.size(at),
      type: this.type(at),
      bind: this.bind(at),
      visibility: this.#data.getUint8(at * this.#stride + this.#other) & 3,
      section: this.section(at),
    };
  }

  #word(position: number): bigint {
    return this.#wide
      ? this.#data.getBigUint64(position, this.#littleEndian)
      : BigInt(this.#data.getUint32(position, this.#littleEndian));
  }
}

/** Whether the machine has mapping symbols, which mark code and data and name nothing. */
export const hasMappingSymbols = (eMachine: number): boolean =>
  eMachine === EM_ARM || eMachine === EM_AARCH64 || eMachine === EM_RISCV;

/** ARM: `$a`, `$t`, `$d`; AArch64: `$x`, `$d`, `$c`; RISC-V: `$x`, `$d`, `$xrv64i2p1`. A suffix makes them distinct. */
const MAPPING_NAME = /^\$(?:[acdtx](?:\.|$)|xrv)/;

/** Whether this is the name of a mapping symbol. */
export const isMappingName = (name: Uint8Array): boolean =>
  MAPPING_NAME.test(String.fromCharCode(...name.subarray(0, 4)));
