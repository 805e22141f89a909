/**
 * NetBSD (`ksyms_addsyms_elf`, `addsymtab`), with and without `KDTRACE_HOOKS`.
 *
 * It packs the symbol table in place and then sorts it in place, by name. The sort is not carried out here: every name
 * was read to its end while packing, and the sort reads no further. Packing and sorting change names only where the
 * tables overlap; even then each place in the table keeps a NUL, in the `st_shndx` that NetBSD writes.
 */

import type { ByteWalk } from '../../elf/byte-walk.ts';
import { readBigint, readNumber, writeBigint } from '../../elf/fields.ts';
import { ELF64, type ElfFormat, type Field, SHT_PROGBITS, SHT_STRTAB } from '../../elf/format.ts';
import { asciiBytes } from '../../elf/image-reader.ts';
import { SHN_UNDEF, STT_FILE, STT_NOTYPE } from '../../elf/symbols.ts';
import { type Blob, checkHeader, type GuestTables, SectionHeaders } from './blob.ts';
import { type GuestMemory, positionOf } from './memory.ts';
import { findMisplacement, findTableMisreadings, NameCheck, type Placement } from './misreadings.ts';
import { found, type GuestVerdict, type GuestWarningCode, none, type OutsideCode, unknown } from './verdict.ts';

/** `KSYMS_MAX_ID` - 1. */
const MAX_SYMBOLS = 98_303;
/** What NetBSD writes into the `st_shndx` of every symbol that it keeps (`SHBSS`). */
const KEPT_SECTION = 4;
const STT_TYPE_MASK = 0xf;
const SYMBOLS_PER_TURN = 16_384;

/** Names of symbols without a type that are dropped; `*ABS*` only with the value 0. */
const DROPPED_NAME = asciiBytes('gcc2_compiled.\0');
const DROPPED_ABSOLUTE_NAME = asciiBytes('*ABS*\0');
const LONGEST_DROPPED = DROPPED_NAME.length;
const CTF_SECTION_NAME = asciiBytes('.SUNW_ctf\0');

/** How the kernel was built. */
interface NetbsdOptions {
  /** With `KDTRACE_HOOKS`. Without them, as in XEN3_DOMU, useless symbols are dropped. */
  readonly kdtrace: boolean;
}

/** What NetBSD makes of a blob, built as the options say. */
export function* judgeNetbsd(blob: Blob, placement: Placement, options: NetbsdOptions): ByteWalk<GuestVerdict> {
  const { memory, header, sizeWord } = blob;
  if (sizeWord === null) return unknown('size-word-outside');
  if ((sizeWord | 0) <= 0) return none('size-word-unusable');
  // The kernel has the blob's class, if that is valid.
  const format = header.format ?? ELF64;
  const refusal = checkHeader(blob, { format, checksVersion: true, length: format.elfHeader.size });
  if (refusal !== null || blob.search === null) return refusal ?? unknown('elf-header-outside');
  const { search } = blob;
  if (!search.found && search.outside !== null) return unknown(search.outside);
  if (search.found && search.tables.strtab.size === null) return unknown('linked-header-outside');
  const ctf: CtfSearch = options.kdtrace ? yield* findCtf(blob, format) : { outside: null, hasNames: true };
  if (ctf.outside !== null) return unknown(ctf.outside);
  if (!search.found) return none('no-symbol-table');

  const { tables } = search;
  const stride = format.symbol.size;
  const size = Number(BigInt.asIntN(32, tables.symtab.size));
  // A negative size gives a negative number of symbols, for which the map of symbols is cleared without end.
  if (size < 0 && options.kdtrace) return unknown('symbol-map-outside');
  const count = Math.min(Math.max(0, Math.floor(size / stride)), MAX_SYMBOLS);
  const packed = yield* pack(memory, format, tables, count, options);
  if (packed.outside !== null) return unknown(packed.outside);
  const warnings = [
    ...findMisplacement(blob, format, placement, 'end'),
    ...findTableMisreadings(blob, format, tables),
    ...packed.warnings,
  ];
  if (BigInt(count) < tables.symtab.size / BigInt(stride)) warnings.push('symbols-cut-off');
  if (overlap(tables)) warnings.push('tables-overlap');
  if (!ctf.hasNames) warnings.push('section-names-missing');
  return found(BigInt(packed.kept), warnings);
}

const overlap = ({ symtab, strtab }: GuestTables): boolean =>
  strtab.at < symtab.at + Number(symtab.size) && symtab.at < strtab.at + Number(strtab.size ?? 0n);

interface CtfSearch {
  readonly outside: OutsideCode | null;
  /** Whether `e_shstrndx` is 0 or leads to a string table. */
  readonly hasNames: boolean;
}

/** With DTrace, looks for a section by its name. */
function* findCtf({ memory, header }: Blob, format: ElfFormat): ByteWalk<CtfSearch> {
  const { sh_name, sh_type, sh_offset, sh_size } = format.sectionHeader.fields;
  const namesIndex = header.number(format, 'e_shstrndx');
  if (namesIndex === 0) return { outside: null, hasNames: true };
  const headers = new SectionHeaders(memory, header, format);
  const namesHeader = yield* headers.read(namesIndex);
  if (!namesHeader.has(0, sh_offset)) return { outside: 'name-header-outside', hasNames: false };
  const names = positionOf(namesHeader.bigint(0, sh_offset));
  const hasNames = namesIndex < headers.count && namesHeader.number(0, sh_type) === SHT_STRTAB;

  const sections: number[] = [];
  const nameOffsets: number[] = [];
  const isCut = yield* headers.visit(SHT_PROGBITS, (section, block, index) => {
    if (!block.has(index, sh_name)) return false;
    sections.push(section);
    nameOffsets.push(block.number(index, sh_name));
    return true;
  });
  // The first name that matches, or reaches outside, ends the search.
  const last = yield* memory.findFirst(names, 1, nameOffsets, CTF_SECTION_NAME.length, (bytes) => {
    const comparison = compare(bytes, CTF_SECTION_NAME);
    return comparison === 'differs' ? null : comparison;
  });
  if (last === null) return { outside: isCut ? 'section-header-outside' : null, hasNames };
  if (last.result === 'outside') return { outside: 'section-name-outside', hasNames };
  const section = yield* headers.read(sections[last.index] ?? 0);
  const isThere = section.has(0, sh_offset) && section.has(0, sh_size);
  return { outside: isThere ? null : 'section-header-outside', hasNames };
}

interface Packed {
  readonly outside: OutsideCode | null;
  /** Symbols that are kept. */
  readonly kept: number;
  readonly warnings: readonly GuestWarningCode[];
}

const outside = (code: OutsideCode): Packed => ({ outside: code, kept: 0, warnings: [] });

/**
 * Packs the first `count` symbols as NetBSD does: reads each of them, drops some, and measures the name of each that is
 * kept.
 */
function* pack(
  memory: GuestMemory,
  format: ElfFormat,
  tables: GuestTables,
  count: number,
  { kdtrace }: NetbsdOptions,
): ByteWalk<Packed> {
  if (count === 0) return { outside: null, kept: 0, warnings: [] };
  const { st_name, st_value, st_info, st_shndx } = format.symbol.fields;
  const names = yield* NameCheck.of(memory, tables);
  const table = yield* PackedTable.read(memory, format, tables, count);
  const dropped = kdtrace ? null : yield* table.findDropped();
  const { strings } = table;
  // No name begins before the string table, so no NUL before it ends one.
  const lastNul = yield* memory.findLastNul(Math.min(Math.max(0, strings), memory.size), memory.size);
  let lastName = -1;

  for (let index = 0; index < count; index++) {
    if (index % SYMBOLS_PER_TURN === SYMBOLS_PER_TURN - 1) yield null;
    if (!table.has(index, st_name)) return outside('symbol-outside');
    const name = table.number(index, st_name);
    if (dropped !== null) {
      if (name === 0) continue;
      if (!table.has(index, st_shndx)) return outside('symbol-outside');
      if (table.number(index, st_shndx) === SHN_UNDEF) continue;
      if (!table.has(index, st_info)) return outside('symbol-outside');
      const type = table.number(index, st_info) & STT_TYPE_MASK;
      if (type === STT_FILE) continue;
      if (type === STT_NOTYPE) {
        if (!table.has(index, st_value)) return outside('symbol-outside');
        const comparison = table.compareName(index, dropped);
        if (comparison === 'outside') return outside('symbol-name-outside');
        if (comparison === 'same') continue;
      }
    }
    if (!table.isWhole(index)) return outside('symbol-outside');
    table.keep(index, kdtrace);
    const at = strings + name;
    if (at < 0 || at > table.lastNul(lastNul)) return outside('symbol-name-outside');
    lastName = Math.max(lastName, at);
    names.check(name);
  }
  if (table.kept > 1 && lastName > table.sureNul(lastNul)) return outside('symbol-name-outside');
  return { outside: null, kept: table.kept, warnings: names.warnings };
}

type Comparison = 'differs' | 'same' | 'outside';
const COMPARISONS: readonly Comparison[] = ['differs', 'same', 'outside'];

/** As `strcmp`: stops at the first difference. @param bytes the part of a string that is inside the memory */
function compare(bytes: Uint8Array, wanted: Uint8Array): Comparison {
  for (let index = 0; index < wanted.length; index++) {
    if (index >= bytes.length) return 'outside';
    if (bytes[index] !== wanted[index]) return 'differs';
  }
  return 'same';
}

function compareDropped(bytes: Uint8Array, value: bigint): Comparison {
  const absolute = value === 0n ? compare(bytes, DROPPED_ABSOLUTE_NAME) : 'differs';
  return absolute === 'differs' ? compare(bytes, DROPPED_NAME) : absolute;
}

/** The symbol table while it is packed. It is held whole, as it has no more than `MAX_SYMBOLS` symbols. */
class PackedTable {
  /** Where the string table lies. */
  readonly strings: number;
  /** Whether names may lie in the packed symbols: none begins before the string table, but some may end after it. */
  readonly overlaps: boolean;
  kept = 0;
  readonly #memory: GuestMemory;
  readonly #format: ElfFormat;
  readonly #start: number;
  readonly #end: number;
  /** Symbols that are wholly inside the memory. */
  readonly #whole: number;
  /** The table, with the room of a compared name before and after it. */
  readonly #bytes: Uint8Array;
  readonly #data: DataView;

  private constructor(
    memory: GuestMemory,
    format: ElfFormat,
    { symtab, strtab }: GuestTables,
    count: number,
    whole: number,
    bytes: Uint8Array,
  ) {
    this.strings = strtab.at;
    this.overlaps = strtab.at < symtab.at + count * format.symbol.size;
    this.#memory = memory;
    this.#format = format;
    this.#start = symtab.at;
    this.#end = symtab.at + count * format.symbol.size;
    this.#whole = whole;
    this.#bytes = bytes;
    this.#data = new DataView(bytes.buffer);
  }

  static *read(memory: GuestMemory, format: ElfFormat, tables: GuestTables, count: number): ByteWalk<PackedTable> {
    const { at } = tables.symtab;
    const { size } = format.symbol;
    const whole = at < 0 ? 0 : Math.max(0, Math.min(count, Math.floor((memory.size - at) / size)));
    // The part of a cut symbol that is inside is read too.
    const loaded = Math.min(count, whole + 1);
    const bytes = yield* memory.copy(at - LONGEST_DROPPED, loaded * size + 2 * LONGEST_DROPPED);
    return new PackedTable(memory, format, tables, count, whole, bytes);
  }

  /** Whether a field of a symbol is inside the memory. */
  has(index: number, { offset, width }: Field): boolean {
    return index < this.#whole || this.#memory.isInside(this.#start + index * this.#format.symbol.size + offset, width);
  }

  isWhole(index: number): boolean {
    return index < this.#whole;
  }

  /** A field of a symbol that is not packed yet. */
  number(index: number, { offset, width }: Field): number {
    return readNumber(this.#data, this.#slot(index) + offset, width, true);
  }

  /** Which typeless symbols are dropped for their names, where packing cannot change the names. */
  *findDropped(): ByteWalk<Uint8Array> {
    const { st_name, st_info, st_shndx } = this.#format.symbol.fields;
    const count = (this.#bytes.length - 2 * LONGEST_DROPPED) / this.#format.symbol.size;
    const results = new Uint8Array(count);
    const symbols: number[] = [];
    const names: number[] = [];
    for (let index = 0; index < count; index++) {
      if (index % SYMBOLS_PER_TURN === SYMBOLS_PER_TURN - 1) yield null;
      const name = this.number(index, st_name);
      const isTypeless = (this.number(index, st_info) & STT_TYPE_MASK) === STT_NOTYPE;
      if (name === 0 || !isTypeless || this.number(index, st_shndx) === SHN_UNDEF || this.#isPacked(name)) continue;
      symbols.push(index);
      names.push(name);
    }
    yield* this.#memory.scatter(this.strings, 1, names, LONGEST_DROPPED, (at, bytes) => {
      const symbol = symbols[at] ?? 0;
      results[symbol] = COMPARISONS.indexOf(compareDropped(bytes, this.#value(symbol)));
    });
    return results;
  }

  /** Compares the name of a typeless symbol with those for which it is dropped. @param known from `findDropped` */
  compareName(index: number, known: Uint8Array): Comparison {
    const name = this.number(index, this.#format.symbol.fields.st_name);
    if (!this.#isPacked(name)) return COMPARISONS[known[index] ?? 0] ?? 'differs';
    const at = this.strings + name;
    const there = at < 0 ? 0 : Math.max(0, Math.min(LONGEST_DROPPED, this.#memory.size - at));
    const offset = at - this.#start + LONGEST_DROPPED;
    return compareDropped(this.#bytes.subarray(offset, offset + there), this.#value(index));
  }

  /** Moves a symbol to the end of those that are kept. */
  keep(index: number, kdtrace: boolean): void {
    if (this.overlaps) {
      const { st_shndx, st_size } = this.#format.symbol.fields;
      const from = this.#slot(index);
      const to = this.#slot(this.kept);
      this.#bytes.copyWithin(to, from, from + this.#format.symbol.size);
      writeBigint(this.#data, to + st_shndx.offset, st_shndx.width, true, BigInt(KEPT_SECTION));
      // The index of a symbol takes the place of its size until the table is sorted.
      if (kdtrace) writeBigint(this.#data, to + st_size.offset, st_size.width, true, BigInt(index + 1));
    }
    this.kept += 1;
  }

  /** Where the last NUL of the memory is now. @param before where it was before anything was packed */
  lastNul(before: number): number {
    if (!this.overlaps || this.kept === 0 || before >= this.#packedEnd) return before;
    // What follows has none, and the symbol packed last has one in its st_shndx.
    const last = this.#slot(this.kept - 1);
    const at = this.#bytes.subarray(last, last + this.#format.symbol.size).lastIndexOf(0);
    return this.#packedEnd - this.#format.symbol.size + at;
  }

  /** Where a NUL is, however the table is sorted; after it there may be none. */
  sureNul(before: number): number {
    if (!this.overlaps || this.kept === 0 || before >= this.#packedEnd) return before;
    return this.#packedEnd - this.#format.symbol.size + this.#format.symbol.fields.st_shndx.offset + 1;
  }

  get #packedEnd(): number {
    return this.#start + this.kept * this.#format.symbol.size;
  }

  #slot(index: number): number {
    return LONGEST_DROPPED + index * this.#format.symbol.size;
  }

  #value(index: number): bigint {
    const { offset, width } = this.#format.symbol.fields.st_value;
    return readBigint(this.#data, this.#slot(index) + offset, width, true);
  }

  /** Whether the start of a name may lie in the packed symbols. */
  #isPacked(name: number): boolean {
    const at = this.strings + name;
    return this.overlaps && at < this.#end && at + LONGEST_DROPPED > this.#start;
  }
}
