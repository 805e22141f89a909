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

/** A picture of guest-physical memory around a blob. Everything else faults. Guests are little-endian. */
export class GuestMemory {
  readonly #base: bigint;
  readonly #bytes: Uint8Array;

  constructor(blobAddress: bigint, blob: Uint8Array) {
    this.#base = blobAddress - BigInt(MARGIN_BYTES);
    this.#bytes = new Uint8Array(blob.length + 2 * MARGIN_BYTES).fill(UNTOUCHED);
    this.#bytes.set(blob, MARGIN_BYTES);
  }

  read(address: bigint, length: number): Uint8Array {
    const at = this.#at(address, length);
    return this.#bytes.slice(at, at + length);
  }

  write(address: bigint, bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at(address, bytes.length));
  }

  field(address: bigint, field: Field): bigint {
    return readField(this.read(address, field.offset + field.width), 0, field, true);
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
  const header = end + SIZE_WORD_BYTES;
  const tables = findTables(memory, header, format);
  return readSymbols(memory, tables, format);
}

/** NetBSD, `ksyms_addsyms_elf`: sorts the symbol table where it lies, and uses the names only then. */
export function netbsdSymbols(memory: GuestMemory, end: bigint, format: ElfFormat): GuestSymbol[] {
  const size = new DataView(memory.read(end, 4).buffer).getInt32(0, true);
  if (size <= 0) throw new Error('NetBSD: no symbols');
  const header = end + SIZE_WORD_BYTES;
  const tables = findTables(memory, header, format);
  for (const { address, bytes } of [tables.symtab, tables.strtab]) {
    if (address < header || address + bytes > header + BigInt(size))
      throw new Error('NetBSD: table outside of the size');
  }
  if (memory.field(header, format.elfHeader.fields.e_shstrndx) !== 0n) {
    throw new Error('NetBSD: would look for section names');
  }
  const { st_value } = format.symbol.fields;
  const symbols = Array.from({ length: countSymbols(tables, format) }, (_, index) =>
    memory.read(symbolAddress(tables, index, format), format.symbol.size),
  );
  const valueOf = (symbol: Uint8Array): bigint => readField(symbol, 0, st_value, true);
  symbols.sort((a, b) => (valueOf(a) < valueOf(b) ? -1 : Number(valueOf(a) > valueOf(b))));
  symbols.forEach((symbol, index) => {
    memory.write(symbolAddress(tables, index, format), symbol);
  });
  return readSymbols(memory, tables, format);
}

/** Xen Test Framework, `tests/xsa-194`: nothing of the hypervisor's may show between the headers. */
export function xtfComplaints(memory: GuestMemory, end: bigint, format: ElfFormat): string[] {
  const header = end + SIZE_WORD_BYTES;
  const { e_ehsize, e_shoff, e_shnum } = format.elfHeader.fields;
  const headerSize = Number(memory.field(header, e_ehsize));
  const gap = memory.read(header + BigInt(headerSize), Number(memory.field(header, e_shoff)) - headerSize);
  const complaints = [];
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

interface Tables {
  readonly symtab: { readonly address: bigint; readonly bytes: bigint };
  readonly strtab: { readonly address: bigint; readonly bytes: bigint };
}

/** The header checks and the walk that FreeBSD and NetBSD have in common. Section headers have native size. */
function findTables(memory: GuestMemory, header: bigint, format: ElfFormat): Tables {
  const { e_version, e_shoff, e_shnum } = format.elfHeader.fields;
  const ident = memory.read(header, 16);
  const nativeClass = format.class === 'ELF64' ? 2 : 1;
  if (!hasElfMagic(ident) || ident[EI_CLASS] !== nativeClass || memory.field(header, e_version) > 1n) {
    throw new Error('the guest sees no ELF header');
  }
  const { sh_type, sh_offset, sh_size, sh_link } = format.sectionHeader.fields;
  const sectionAt = (index: bigint): bigint =>
    header + memory.field(header, e_shoff) + index * BigInt(format.sectionHeader.size);
  const table = (section: bigint): Tables['symtab'] => ({
    address: header + memory.field(section, sh_offset),
    bytes: memory.field(section, sh_size),
  });
  for (let index = 1n; index < memory.field(header, e_shnum); index++) {
    const symtab = sectionAt(index);
    if (memory.field(symtab, sh_type) !== BigInt(SHT_SYMTAB) || memory.field(symtab, sh_offset) === 0n) continue;
    const strtab = sectionAt(memory.field(symtab, sh_link));
    if (memory.field(strtab, sh_offset) === 0n) continue;
    return { symtab: table(symtab), strtab: table(strtab) };
  }
  throw new Error('the guest finds no symbol table');
}

const countSymbols = ({ symtab }: Tables, format: ElfFormat): number =>
  Math.floor(Number(symtab.bytes) / format.symbol.size);

const symbolAddress = ({ symtab }: Tables, index: number, format: ElfFormat): bigint =>
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
