/** The symbol readers of guest kernels, which meet the blob as it lies in their memory. They trust it blindly. */
import { ELF32, ELF64, type ElfFormat, type Field, hasElfMagic, SHT_SYMTAB } from '../../src/elf/format.ts';
import { readField } from './elf-builder.ts';

export interface GuestSymbol {
  readonly name: string;
  readonly value: bigint;
}

/** What the loader did not write. Not zero, so that nobody takes it for padding. */
const UNTOUCHED = 0xaa;
const MARGIN_BYTES = 4096;
const SIZE_WORD_BYTES = 4n;
const EI_CLASS = 4;
const SHT_STRTAB = 3n;

/** A picture of guest-physical memory around a blob. Everything else faults. */
export class GuestMemory {
  readonly littleEndian: boolean;
  readonly #base: bigint;
  readonly #bytes: Uint8Array;

  /**
   * @param littleEndian how the guest reads it, whatever wrote it
   * @param marginBytes what there is on either side of the blob
   */
  constructor(blobAddress: bigint, blob: Uint8Array, { littleEndian = true, marginBytes = MARGIN_BYTES } = {}) {
    this.littleEndian = littleEndian;
    this.#base = blobAddress - BigInt(marginBytes);
    this.#bytes = new Uint8Array(blob.length + 2 * marginBytes).fill(UNTOUCHED);
    this.#bytes.set(blob, marginBytes);
  }

  read(address: bigint, length: number): Uint8Array {
    const at = this.#at(address, length);
    return this.#bytes.slice(at, at + length);
  }

  /** Whether a read does not fault. */
  has(address: bigint, length: number): boolean {
    return address >= this.#base && address + BigInt(length) <= this.#base + BigInt(this.#bytes.length);
  }

  write(address: bigint, bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at(address, bytes.length));
  }

  field(address: bigint, field: Field): bigint {
    return readField(this.read(address, field.offset + field.width), 0, field, this.littleEndian);
  }

  /** Up to the next NUL, wherever it is. */
  string(address: bigint): string {
    const at = this.#at(address, 1);
    const end = this.#bytes.indexOf(0, at);
    if (end === -1) throw new Error(`page fault behind 0x${address.toString(16)}`);
    return latin1(this.#bytes.subarray(at, end));
  }

  #at(address: bigint, length: number): number {
    const at = Number(address - this.#base);
    if (at < 0 || at + length > this.#bytes.length) throw new Error(`page fault at 0x${address.toString(16)}`);
    return at;
  }
}

/** FreeBSD, `xen_pvh_parse_symtab`. `end` is the linker's symbol behind the kernel, where the blob lies. */
export function freebsdSymbols(memory: GuestMemory, end: bigint, format: ElfFormat): GuestSymbol[] {
  return readSymbols(memory, freebsdTables(memory, end, format), format);
}

export const freebsdTables: TablesReader = (memory, end, format) => findTables(memory, end + SIZE_WORD_BYTES, format);

/** NetBSD, `ksyms_addsyms_elf`: sorts the symbol table where it lies, and uses the names only then. */
export function netbsdSymbols(memory: GuestMemory, end: bigint, format: ElfFormat): GuestSymbol[] {
  const tables = netbsdTables(memory, end, format);
  const { st_value } = format.symbol.fields;
  const symbols = Array.from({ length: countSymbols(tables, format) }, (_, index) =>
    memory.read(symbolAddress(tables, index, format), format.symbol.size),
  );
  const valueOf = (symbol: Uint8Array): bigint => readField(symbol, 0, st_value, memory.littleEndian);
  symbols.sort((a, b) => (valueOf(a) < valueOf(b) ? -1 : Number(valueOf(a) > valueOf(b))));
  symbols.forEach((symbol, index) => {
    memory.write(symbolAddress(tables, index, format), symbol);
  });
  return readSymbols(memory, tables, format);
}

export const netbsdTables: TablesReader = (memory, end, format) => {
  const size = new DataView(memory.read(end, 4).buffer).getInt32(0, memory.littleEndian);
  if (size <= 0) throw new Error('NetBSD: no symbols');
  const header = end + SIZE_WORD_BYTES;
  const tables = findTables(memory, header, format);
  for (const { address, bytes } of [tables.symtab, tables.strtab]) {
    if (address < header || address + bytes > header + BigInt(size))
      throw new Error('NetBSD: table outside of the size');
  }
  return tables;
};

/** OpenBSD, `db_elf_sym_init`: begins at section 0, compares section names on its way, and looks at every `st_name`. */
export const openbsdTables: TablesReader = (memory, end, format) => {
  const header = end + SIZE_WORD_BYTES;
  const { e_machine, e_shnum, e_shstrndx } = format.elfHeader.fields;
  const { sh_type, sh_offset, sh_link } = format.sectionHeader.fields;
  if (!isHeader(memory, header, format)) throw new Error('OpenBSD: bad magic');
  // i386; amd64 and arm64.
  const ports = format.class === 'ELF32' ? [3n] : [62n, 183n];
  if (!ports.includes(memory.field(header, e_machine))) throw new Error('OpenBSD: bad e_machine');
  const nameIndex = memory.field(header, e_shstrndx);
  const count = memory.field(header, e_shnum);
  if (nameIndex >= count) throw new Error('OpenBSD: takes something else for the header of the section names');
  // Names of old are compared on the way; the SYMTAB that follows overrides what that finds.
  memory.field(sectionAddress(memory, header, nameIndex, format), sh_offset);
  for (let index = 0n; index < count; index++) {
    const symtab = sectionAddress(memory, header, index, format);
    if (memory.field(symtab, sh_type) !== BigInt(SHT_SYMTAB) || memory.field(symtab, sh_offset) === 0n) continue;
    const strtab = sectionAddress(memory, header, memory.field(symtab, sh_link), format);
    if (memory.field(strtab, sh_offset) === 0n) continue;
    const tables = tablesAt(memory, header, symtab, strtab, format);
    for (let symbol = 0; symbol < countSymbols(tables, format); symbol++) {
      const at = symbolAddress(tables, symbol, format);
      // What is behind the memory that there is nobody knows.
      if (!memory.has(at, format.symbol.size)) break;
      if (memory.field(at, format.symbol.fields.st_name) > tables.strtab.bytes)
        throw new Error('OpenBSD: symtab corrupted');
    }
    return tables;
  }
  throw new Error('OpenBSD: no symbol table');
};

/** With DTrace, NetBSD looks for a section of its own by name: whether these names can be read. */
export function canReadSectionNames(memory: GuestMemory, end: bigint, format: ElfFormat): boolean {
  const header = end + SIZE_WORD_BYTES;
  const { e_shnum, e_shstrndx } = format.elfHeader.fields;
  const { sh_type, sh_offset, sh_size } = format.sectionHeader.fields;
  const index = memory.field(header, e_shstrndx);
  if (index === 0n) return true;
  if (index >= memory.field(header, e_shnum)) return false;
  const section = sectionAddress(memory, header, index, format);
  const offset = memory.field(section, sh_offset);
  if (memory.field(section, sh_type) !== SHT_STRTAB) return false;
  return offset !== 0n && memory.has(header + offset, Number(memory.field(section, sh_size)));
}

/** Xen Test Framework, `tests/xsa-194`: nothing of the hypervisor's may show between the headers. */
export function xtfComplaints(memory: GuestMemory, end: bigint, format: ElfFormat): string[] {
  const header = end + SIZE_WORD_BYTES;
  const { e_ehsize, e_shoff, e_shnum } = format.elfHeader.fields;
  const headerSize = Number(memory.field(header, e_ehsize));
  const gap = memory.read(header + BigInt(headerSize), Number(memory.field(header, e_shoff)) - headerSize);
  const complaints = [];
  if (!isHeader(memory, header, format)) complaints.push('no ELF header');
  if (!gap.every((byte) => byte === 0)) complaints.push('stack leaked between the ELF header and the section headers');
  if (memory.field(header, e_shnum) !== 3n) complaints.push('expected 3 section headers');
  return complaints;
}

/**
 * What a guest should find: the first SYMTAB from section 1 on, with its names, as it is in the image.
 *
 * @returns null for images that no guest is able to read: another class or byte order, names outside the string table
 */
export function imageSymbols(image: Uint8Array): GuestSymbol[] | null {
  const elfClass = image[EI_CLASS];
  if ((elfClass !== 1 && elfClass !== 2) || image[5] !== 1) return null;
  const format = elfClass === 2 ? ELF64 : ELF32;
  const { e_shoff, e_shentsize, e_shnum } = format.elfHeader.fields;
  const { sh_type, sh_link, sh_offset, sh_size } = format.sectionHeader.fields;
  const elf = (field: Field): number => Number(readField(image, 0, field, true));
  const section = (index: number, field: Field): number =>
    Number(readField(image, elf(e_shoff) + elf(e_shentsize) * index, field, true));
  const bytesOf = (index: number): Uint8Array =>
    image.subarray(section(index, sh_offset), section(index, sh_offset) + section(index, sh_size));

  const indexes = Array.from({ length: elf(e_shnum) }, (_, index) => index).slice(1);
  const symtabIndex = indexes.find((index) => section(index, sh_type) === SHT_SYMTAB);
  if (symtabIndex === undefined) return null;
  const symtab = bytesOf(symtabIndex);
  const strtab = bytesOf(section(symtabIndex, sh_link));

  const { st_name, st_value } = format.symbol.fields;
  const symbols = Array.from({ length: Math.floor(symtab.length / format.symbol.size) }, (_, index) => {
    const start = Number(readField(symtab, index * format.symbol.size, st_name, true));
    const end = strtab.indexOf(0, start);
    const name = start >= strtab.length || end === -1 ? null : latin1(strtab.subarray(start, end));
    return { name, value: readField(symtab, index * format.symbol.size, st_value, true) };
  });
  return symbols.every((symbol): symbol is GuestSymbol => symbol.name !== null) ? symbols : null;
}

/** Where a guest takes symbols from, as far as it checks them at once. Throws when it does not take any. */
export type TablesReader = (memory: GuestMemory, end: bigint, format: ElfFormat) => Tables;

/** Where a guest takes symbols and their names from. */
export interface Tables {
  readonly symtab: { readonly address: bigint; readonly bytes: bigint };
  readonly strtab: { readonly address: bigint; readonly bytes: bigint };
}

/** The header checks and the walk that FreeBSD and NetBSD have in common. Section headers have native size. */
function findTables(memory: GuestMemory, header: bigint, format: ElfFormat): Tables {
  const { e_version, e_shnum } = format.elfHeader.fields;
  if (!isHeader(memory, header, format) || memory.field(header, e_version) > 1n) {
    throw new Error('the guest sees no ELF header');
  }
  const { sh_type, sh_offset, sh_link } = format.sectionHeader.fields;
  for (let index = 1n; index < memory.field(header, e_shnum); index++) {
    const symtab = sectionAddress(memory, header, index, format);
    if (memory.field(symtab, sh_type) !== BigInt(SHT_SYMTAB) || memory.field(symtab, sh_offset) === 0n) continue;
    const strtab = sectionAddress(memory, header, memory.field(symtab, sh_link), format);
    if (memory.field(strtab, sh_offset) === 0n) continue;
    return tablesAt(memory, header, symtab, strtab, format);
  }
  throw new Error('the guest finds no symbol table');
}

function isHeader(memory: GuestMemory, header: bigint, format: ElfFormat): boolean {
  const ident = memory.read(header, 16);
  return hasElfMagic(ident) && ident[EI_CLASS] === (format.class === 'ELF64' ? 2 : 1);
}

const sectionAddress = (memory: GuestMemory, header: bigint, index: bigint, format: ElfFormat): bigint =>
  header + memory.field(header, format.elfHeader.fields.e_shoff) + index * BigInt(format.sectionHeader.size);

function tablesAt(memory: GuestMemory, header: bigint, symtab: bigint, strtab: bigint, format: ElfFormat): Tables {
  const { sh_offset, sh_size } = format.sectionHeader.fields;
  const table = (section: bigint): Tables['symtab'] => ({
    address: header + memory.field(section, sh_offset),
    bytes: memory.field(section, sh_size),
  });
  return { symtab: table(symtab), strtab: table(strtab) };
}

export const countSymbols = ({ symtab }: Tables, format: ElfFormat): number =>
  Math.floor(Number(symtab.bytes) / format.symbol.size);

export const symbolAddress = ({ symtab }: Tables, index: number, format: ElfFormat): bigint =>
  symtab.address + BigInt(index * format.symbol.size);

function readSymbols(memory: GuestMemory, tables: Tables, format: ElfFormat): GuestSymbol[] {
  const { st_name, st_value } = format.symbol.fields;
  return Array.from({ length: countSymbols(tables, format) }, (_, index) => {
    const symbol = symbolAddress(tables, index, format);
    return {
      name: memory.string(tables.strtab.address + memory.field(symbol, st_name)),
      value: memory.field(symbol, st_value),
    };
  });
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
