/**
 * The readers of guest kernels in the plainest way: one read after the other in a memory that ends with the blob, each of
 * them watched, and writes carried out. What `src/xen/guests` concludes, this goes through.
 */
import { ELF32, ELF64, type ElfFormat, type Field, SHT_SYMTAB } from '../../src/elf/format.ts';
import type { GuestName } from '../../src/xen/guests/verdict.ts';
import { readField, writeField } from './elf-builder.ts';

/** What comes of it. `symbols` with `found` only. */
interface Reading {
  readonly outcome: 'found' | 'none' | 'undefined';
  readonly symbols: bigint | null;
}

/** A symbol with the name that the guest reads. */
interface GuestSymbol {
  readonly name: string;
  readonly value: bigint;
}

class OutsideRead extends Error {}
class NoSymbols extends Error {}

/** Positions count from the first byte. They are exact, and wrap as pointers do. */
class WatchedMemory {
  readonly bytes: Uint8Array;
  readonly #data: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = new Uint8Array(bytes);
    this.#data = new DataView(this.bytes.buffer);
  }

  check(position: bigint, length: number): number {
    const at = BigInt.asIntN(64, position);
    if (at < 0n || at + BigInt(length) > BigInt(this.bytes.length)) throw new OutsideRead();
    return Number(at);
  }

  byte(position: bigint): number {
    return this.bytes[this.check(position, 1)] ?? 0;
  }

  field(structure: bigint, field: Field): bigint {
    const at = this.check(structure + BigInt(field.offset), field.width);
    switch (field.width) {
      case 8:
        return this.#data.getBigUint64(at, true);
      case 4:
        return BigInt(this.#data.getUint32(at, true));
      default:
        return BigInt(field.width === 2 ? this.#data.getUint16(at, true) : this.#data.getUint8(at));
    }
  }

  put(structure: bigint, field: Field, value: number): void {
    const at = this.check(structure + BigInt(field.offset), field.width);
    writeField(this.bytes, at, { ...field, offset: 0 }, value, true);
  }

  copy(from: bigint, length: number): Uint8Array {
    const at = this.check(from, length);
    return this.bytes.slice(at, at + length);
  }

  write(to: bigint, bytes: Uint8Array): void {
    this.bytes.set(bytes, this.check(to, bytes.length));
  }

  /** `strcmp`. */
  compare(a: bigint, b: bigint): number {
    for (let index = 0n; ; index++) {
      const [one, other] = [this.byte(a + index), this.byte(b + index)];
      if (one !== other || one === 0) return one - other;
    }
  }

  /** `strcmp(…) == 0` with a text. */
  spells(position: bigint, text: string): boolean {
    return Buffer.from(`${text}\0`).every((byte, index) => this.byte(position + BigInt(index)) === byte);
  }

  /** The characters up to the next NUL. */
  string(position: bigint): string {
    let text = '';
    for (let at = position; this.byte(at) !== 0; at++) text += String.fromCharCode(this.byte(at));
    return text;
  }
}

const HEADER = 4n;
const SIZE_WORD: Field = { name: 'size word', offset: 0, width: 4 };
const EI_CLASS = 4n;
const SHT_PROGBITS = 1n;

/** What each guest comes to. */
export function readAsGuests(blob: Uint8Array): Readonly<Record<GuestName, Reading>> {
  return {
    freebsd: tried(() => freebsd(new WatchedMemory(blob))),
    netbsd: tried(() => netbsd(new WatchedMemory(blob), false)),
    netbsdKdtrace: tried(() => netbsd(new WatchedMemory(blob), true)),
    xtf: tried(() => xtf(new WatchedMemory(blob))),
  };
}

function tried(read: () => bigint): Reading {
  try {
    return { outcome: 'found', symbols: read() };
  } catch (error) {
    if (error instanceof OutsideRead) return { outcome: 'undefined', symbols: null };
    if (error instanceof NoSymbols) return { outcome: 'none', symbols: null };
    throw error;
  }
}

/** Names and values of whole symbols, as FreeBSD's debugger shows them, and would for ELF32. Throws without a table. */
export function readSymbols(blob: Uint8Array, format: ElfFormat): GuestSymbol[] {
  const memory = new WatchedMemory(blob);
  const { symtab, size, strtab } = findTables(memory, format);
  const { st_name, st_value } = format.symbol.fields;
  return Array.from({ length: Math.floor(Number(size) / format.symbol.size) }, (_, index) => {
    const symbol = symtab + BigInt(index * format.symbol.size);
    return { name: memory.string(strtab + memory.field(symbol, st_name)), value: memory.field(symbol, st_value) };
  });
}

interface Tables {
  readonly symtab: bigint;
  readonly size: bigint;
  readonly strtab: bigint;
  /** The header of the string table. */
  readonly linked: bigint;
}

function findTables(memory: WatchedMemory, format: ElfFormat): Tables {
  checkHeader(memory, format);
  const tables = search(memory, format);
  if (tables === null) throw new NoSymbols();
  return tables;
}

function freebsd(memory: WatchedMemory): bigint {
  const { size } = findTables(memory, ELF64);
  if (size === 0n) throw new NoSymbols();
  return BigInt.asUintN(64, size + 23n) / 24n;
}

function checkHeader(memory: WatchedMemory, format: ElfFormat): void {
  memory.check(HEADER, 4);
  for (const [index, byte] of [0x7f, 0x45, 0x4c, 0x46].entries()) {
    if (memory.byte(HEADER + BigInt(index)) !== byte) throw new NoSymbols();
  }
  if (memory.byte(HEADER + EI_CLASS) !== (format === ELF64 ? 2 : 1)) throw new NoSymbols();
  if (memory.field(HEADER, format.elfHeader.fields.e_version) > 1n) throw new NoSymbols();
}

const section = (memory: WatchedMemory, format: ElfFormat, index: bigint): bigint =>
  HEADER + memory.field(HEADER, format.elfHeader.fields.e_shoff) + index * BigInt(format.sectionHeader.size);

function search(memory: WatchedMemory, format: ElfFormat): Tables | null {
  const { sh_type, sh_offset, sh_size, sh_link } = format.sectionHeader.fields;
  section(memory, format, 0n);
  const count = memory.field(HEADER, format.elfHeader.fields.e_shnum);
  for (let index = 1n; index < count; index++) {
    const header = section(memory, format, index);
    if (memory.field(header, sh_type) !== BigInt(SHT_SYMTAB) || memory.field(header, sh_offset) === 0n) continue;
    const size = memory.field(header, sh_size);
    const linked = section(memory, format, BigInt.asIntN(32, memory.field(header, sh_link)));
    if (memory.field(linked, sh_offset) === 0n) continue;
    return {
      symtab: HEADER + memory.field(header, sh_offset),
      size,
      strtab: HEADER + memory.field(linked, sh_offset),
      linked,
    };
  }
  return null;
}

function netbsd(memory: WatchedMemory, kdtrace: boolean): bigint {
  if (BigInt.asIntN(32, memory.field(0n, SIZE_WORD)) <= 0n) throw new NoSymbols();
  const format = memory.bytes[Number(HEADER + EI_CLASS)] === 1 ? ELF32 : ELF64;
  checkHeader(memory, format);
  memory.check(HEADER, format.elfHeader.size);
  const tables = search(memory, format);
  if (tables !== null) memory.field(tables.linked, format.sectionHeader.fields.sh_size);
  if (kdtrace) findCtf(memory, format);
  if (tables === null) throw new NoSymbols();
  const size = Number(BigInt.asIntN(32, tables.size));
  if (kdtrace && size < 0) throw new OutsideRead();
  return BigInt(
    pack(memory, format, tables, Math.min(Math.max(0, Math.floor(size / format.symbol.size)), 98_303), kdtrace),
  );
}

function findCtf(memory: WatchedMemory, format: ElfFormat): void {
  const { e_shnum, e_shstrndx } = format.elfHeader.fields;
  const { sh_name, sh_type, sh_offset, sh_size } = format.sectionHeader.fields;
  const index = memory.field(HEADER, e_shstrndx);
  if (index === 0n) return;
  const names = HEADER + memory.field(section(memory, format, index), sh_offset);
  for (let at = 1n; at < memory.field(HEADER, e_shnum); at++) {
    const header = section(memory, format, at);
    if (memory.field(header, sh_type) !== SHT_PROGBITS) continue;
    if (!memory.spells(names + memory.field(header, sh_name), '.SUNW_ctf')) continue;
    memory.field(header, sh_offset);
    memory.field(header, sh_size);
    return;
  }
}

/** What NetBSD writes into `st_shndx`. */
const SHBSS = 4;

/** @returns how many symbols stay */
function pack(memory: WatchedMemory, format: ElfFormat, tables: Tables, count: number, kdtrace: boolean): number {
  const { symtab, strtab } = tables;
  const { st_name, st_value, st_size, st_info, st_shndx } = format.symbol.fields;
  const at = (index: number): bigint => symtab + BigInt(index * format.symbol.size);
  const nameOf = (symbol: bigint): bigint => strtab + memory.field(symbol, st_name);
  const isDropped = (symbol: bigint): boolean => {
    if (memory.field(symbol, st_name) === 0n || memory.field(symbol, st_shndx) === 0n) return true;
    const type = memory.field(symbol, st_info) & 0xfn;
    if (type === 4n) return true;
    if (type !== 0n) return false;
    if (memory.field(symbol, st_value) === 0n && memory.spells(nameOf(symbol), '*ABS*')) return true;
    return memory.spells(nameOf(symbol), 'gcc2_compiled.');
  };
  let kept = 0;
  for (let index = 0; index < count; index++) {
    memory.field(at(index), st_name);
    if (!kdtrace && isDropped(at(index))) continue;
    memory.write(at(kept), memory.copy(at(index), format.symbol.size));
    if (kdtrace) memory.put(at(kept), st_size, index + 1);
    memory.put(at(kept), st_shndx, SHBSS);
    memory.string(nameOf(at(kept)));
    kept += 1;
  }
  if (kept > 1 && hasUnsureName(memory, format, tables, kept)) throw new OutsideRead();
  sort(memory, format, tables, kept);
  return kept;
}

/** Whether some name may be without an end while the table is sorted: it ends only in what is moved. */
function hasUnsureName(memory: WatchedMemory, format: ElfFormat, { symtab, strtab }: Tables, kept: number): boolean {
  const { st_name, st_shndx } = format.symbol.fields;
  const start = Number(BigInt.asIntN(64, symtab));
  const isSure = (position: number): boolean => {
    const offset = position - start;
    if (offset < 0 || offset >= kept * format.symbol.size) return memory.bytes[position] === 0;
    return offset % format.symbol.size === st_shndx.offset + 1;
  };
  return Array.from({ length: kept }, (_, index) => {
    const symbol = symtab + BigInt(index * format.symbol.size);
    return Number(BigInt.asIntN(64, strtab + memory.field(symbol, st_name)));
  }).some((name) => !memory.bytes.some((_, position) => position >= name && isSure(position)));
}

/** Globals first, then by name, in place: an insertion sort, as which one it is does not matter. */
function sort(memory: WatchedMemory, format: ElfFormat, { symtab, strtab }: Tables, count: number): void {
  const { st_name, st_info } = format.symbol.fields;
  const at = (index: number): bigint => symtab + BigInt(index * format.symbol.size);
  const order = (a: bigint, b: bigint): number => {
    const rank = (symbol: bigint): number => Number(memory.field(symbol, st_info) >> 4n !== 1n);
    return rank(a) - rank(b) || memory.compare(strtab + memory.field(a, st_name), strtab + memory.field(b, st_name));
  };
  for (let end = 1; end < count; end++) {
    for (let index = end; index > 0 && order(at(index - 1), at(index)) > 0; index--) {
      const moved = memory.copy(at(index), format.symbol.size);
      memory.write(at(index), memory.copy(at(index - 1), format.symbol.size));
      memory.write(at(index - 1), moved);
    }
  }
}

function xtf(memory: WatchedMemory): bigint {
  memory.check(HEADER, 4);
  if (memory.copy(HEADER, 4).some((byte, index) => byte !== [0x7f, 0x45, 0x4c, 0x46][index])) throw new NoSymbols();
  if (memory.byte(HEADER + EI_CLASS) !== 1) throw new NoSymbols();
  const { e_ehsize, e_shoff, e_shnum } = ELF32.elfHeader.fields;
  if (memory.field(HEADER, e_shnum) !== 3n) throw new NoSymbols();
  const end = memory.field(HEADER, e_shoff);
  for (let at = memory.field(HEADER, e_ehsize); at < end; at++) {
    if (memory.byte(HEADER + at) !== 0) throw new NoSymbols();
  }
  return 0n;
}

/**
 * What a guest should find: the first SYMTAB from section 1 on, with its names, as it is in the image.
 *
 * @returns null for images that no guest is able to read: another class or byte order, names outside the string table
 */
export function imageSymbols(image: Uint8Array): GuestSymbol[] | null {
  const elfClass = image[4];
  if ((elfClass !== 1 && elfClass !== 2) || image[5] !== 1) return null;
  const format = elfClass === 2 ? ELF64 : ELF32;
  const { e_shoff, e_shentsize, e_shnum } = format.elfHeader.fields;
  const { sh_type, sh_link, sh_offset, sh_size } = format.sectionHeader.fields;
  const elf = (field: Field): number => Number(readField(image, 0, field, true));
  const sectionField = (index: number, field: Field): number =>
    Number(readField(image, elf(e_shoff) + elf(e_shentsize) * index, field, true));
  const bytesOf = (index: number): Uint8Array =>
    image.subarray(sectionField(index, sh_offset), sectionField(index, sh_offset) + sectionField(index, sh_size));

  const indexes = Array.from({ length: elf(e_shnum) }, (_, index) => index).slice(1);
  const symtabIndex = indexes.find((index) => sectionField(index, sh_type) === SHT_SYMTAB);
  if (symtabIndex === undefined) return null;
  const symtab = bytesOf(symtabIndex);
  const strtab = bytesOf(sectionField(symtabIndex, sh_link));

  const { st_name, st_value } = format.symbol.fields;
  const symbols = Array.from({ length: Math.floor(symtab.length / format.symbol.size) }, (_, index) => {
    const start = Number(readField(symtab, index * format.symbol.size, st_name, true));
    const end = strtab.indexOf(0, start);
    const name =
      start >= strtab.length || end === -1 ? null : Buffer.from(strtab.subarray(start, end)).toString('latin1');
    return { name, value: readField(symtab, index * format.symbol.size, st_value, true) };
  });
  return symbols.every((symbol): symbol is GuestSymbol => symbol.name !== null) ? symbols : null;
}
