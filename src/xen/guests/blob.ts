/** The one reader of blobs: size word, ELF header, and the search for the tables that guests share. */

import type { ByteWalk } from '../../elf/byte-walk.ts';
import { dataOf, readBigint, readNumber } from '../../elf/fields.ts';
import {
  EI_CLASS,
  EI_DATA,
  ELF_MAGIC,
  ELF32,
  ELF64,
  ELFCLASS64,
  ELFDATA2LSB,
  type ElfFormat,
  type ElfHeaderField,
  hasElfMagic,
  SHT_SYMTAB,
} from '../../elf/format.ts';
import { type Loader, SIZE_WORD_BYTES } from '../loaders/bsdsyms.ts';
import { roundUp } from '../loaders/layout.ts';
import { BLOCK_BYTES, type GuestMemory, positionOf, Structures } from './memory.ts';
import { type GuestVerdict, none, type OutsideCode, unknown } from './verdict.ts';

/** The classes by their number in `EI_CLASS`. */
const FORMATS: Readonly<Record<number, ElfFormat>> = { [ELFCLASS64 - 1]: ELF32, [ELFCLASS64]: ELF64 };
const EI_CLASS_END = EI_CLASS + 1;

/** What several guests read of a blob. All numbers are as a guest reads them: little-endian. */
export interface Blob {
  readonly memory: GuestMemory;
  /** Null when the memory ends before it does. */
  readonly sizeWord: number | null;
  /** Whether the memory begins with an ELF header instead. */
  readonly lacksSizeWord: boolean;
  /** The ELF header after the size word, up to the end of the memory. */
  readonly header: ElfHeader;
  /** The result of the search for tables; null when the ELF header is invalid or cut. */
  readonly search: TableSearch | null;
}

/** The ELF header of a blob as a guest reads it, up to the end of the memory. */
export class ElfHeader {
  /** By the class; null when that is outside or unknown. */
  readonly format: ElfFormat | null;
  readonly #bytes: Uint8Array;
  readonly #data: DataView;

  /** @param bytes up to the longer ELF header; fewer where the memory ends */
  constructor(bytes: Uint8Array) {
    this.format = FORMATS[bytes[EI_CLASS] ?? 0] ?? null;
    this.#bytes = bytes;
    this.#data = dataOf(bytes);
  }

  get hasMagic(): boolean {
    return hasElfMagic(this.#bytes);
  }

  /** Whether the first `length` bytes are inside the memory. */
  has(length: number): boolean {
    return this.#bytes.length >= length;
  }

  /** A field that is inside. @param littleEndian default: as guests do */
  bigint(format: ElfFormat, name: ElfHeaderField, littleEndian = true): bigint {
    const { offset, width } = format.elfHeader.fields[name];
    return readBigint(this.#data, offset, width, littleEndian);
  }

  /** As `bigint`. Addresses and offsets of 2^53 and more are rounded. */
  number(format: ElfFormat, name: ElfHeaderField, littleEndian = true): number {
    return Number(this.bigint(format, name, littleEndian));
  }

  /** Whether `EI_DATA`, which no guest reads, says little-endian. */
  get saysLittleEndian(): boolean {
    return this.#bytes[EI_DATA] === ELFDATA2LSB;
  }
}

const endOf = ({ elfHeader }: ElfFormat, name: ElfHeaderField): number => {
  const { offset, width } = elfHeader.fields[name];
  return offset + width;
};

/** Reads what comes before the tables. */
export function* readBlob(memory: GuestMemory): ByteWalk<Blob> {
  const start = yield* memory.block(0, Math.min(memory.size, SIZE_WORD_BYTES + ELF64.elfHeader.size));
  const header = new ElfHeader(start.subarray(SIZE_WORD_BYTES));
  const { format } = header;
  const canSearch = format !== null && header.hasMagic && header.has(endOf(format, 'e_shnum'));
  return {
    memory,
    sizeWord: start.length < SIZE_WORD_BYTES ? null : readNumber(dataOf(start), 0, SIZE_WORD_BYTES, true),
    lacksSizeWord: hasElfMagic(start) && !header.hasMagic,
    header,
    search: canSearch ? yield* findTables(memory, header, format) : null,
  };
}

/** What a guest requires of the ELF header. */
interface HeaderCheck {
  /** Its own class. */
  readonly format: ElfFormat;
  readonly checksVersion: boolean;
  /** How many bytes of it are read before anything else. */
  readonly length: number;
}

/** How far FreeBSD and the Xen Test Framework read the ELF header. */
export const throughSectionCount = (format: ElfFormat): number => endOf(format, 'e_shnum');

/** Checks the ELF header in the order of guests: magic, class, version. Null when the guest continues. */
export function checkHeader({ header, lacksSizeWord }: Blob, check: HeaderCheck): GuestVerdict | null {
  const { format, checksVersion, length } = check;
  if (!header.has(ELF_MAGIC.length)) return unknown('elf-header-outside');
  if (lacksSizeWord) return none('size-word-missing');
  if (!header.hasMagic) return none('no-elf-header');
  if (!header.has(EI_CLASS_END)) return unknown('elf-header-outside');
  if (header.format !== format) return none('other-class');
  if (checksVersion) {
    if (!header.has(endOf(format, 'e_version'))) return unknown('elf-header-outside');
    if (header.number(format, 'e_version') > 1) return none('elf-version');
  }
  return header.has(length) ? null : unknown('elf-header-outside');
}

/** A table as guests find it. */
interface GuestTable {
  /** From the first byte of the blob on, in 64 bits. */
  readonly offset: bigint;
  /** The same as a position; may be anywhere. */
  readonly at: number;
  /** `sh_size`. */
  readonly size: bigint;
}

/** Both tables, and what guests do not check. */
export interface GuestTables {
  readonly symtab: GuestTable;
  /** Its `size` is null when the linked header reaches outside. */
  readonly strtab: Omit<GuestTable, 'size'> & { readonly size: bigint | null };
  /** `sh_link` of the symbol table, signed as guests take it, and the type of the header that it leads to. */
  readonly link: number;
  readonly linkedType: number | null;
}

type TableSearch =
  | { readonly found: true; readonly tables: GuestTables }
  /** `outside`: a header that had to be read is not inside the memory; null when there are simply no tables. */
  | { readonly found: false; readonly outside: OutsideCode | null };

const HEADERS_PER_BLOCK = BLOCK_BYTES / ELF64.sectionHeader.size;

/** The section headers as guests walk them: in steps of their native size, whatever `e_shentsize` says. */
export class SectionHeaders {
  readonly count: number;
  readonly #memory: GuestMemory;
  readonly #format: ElfFormat;
  readonly #at: number;

  /** @param header inside the memory up to `e_shnum` */
  constructor(memory: GuestMemory, header: ElfHeader, format: ElfFormat) {
    this.#memory = memory;
    this.#format = format;
    this.#at = positionOf(header.bigint(format, 'e_shoff'));
    this.count = header.number(format, 'e_shnum');
  }

  /** Where a header lies, whatever its index. */
  position(index: number): number {
    return this.#at + index * this.#format.sectionHeader.size;
  }

  /** The header of this index; in what is returned its index is 0. */
  read(index: number): ByteWalk<Structures> {
    return this.#readBlock(index, 1);
  }

  /**
   * Visits the headers of a type from section 1 on, until one is cut by the end of the memory.
   *
   * @param visit gets the index of the section, and its index in the block. @returns false for a header that is cut
   * @returns whether one was cut
   */
  *visit(type: number, visit: (section: number, block: Structures, index: number) => boolean): ByteWalk<boolean> {
    const { sh_type } = this.#format.sectionHeader.fields;
    for (let first = 1; first < this.count; first += HEADERS_PER_BLOCK) {
      const count = Math.min(HEADERS_PER_BLOCK, this.count - first);
      const block = yield* this.#readBlock(first, count);
      for (let index = 0; index < count; index++) {
        if (!block.has(index, sh_type)) return true;
        if (block.number(index, sh_type) === type && !visit(first + index, block, index)) return true;
      }
    }
    return false;
  }

  *#readBlock(first: number, count: number): ByteWalk<Structures> {
    const { size } = this.#format.sectionHeader;
    const at = this.position(first);
    return new Structures(this.#memory, yield* this.#memory.block(at, count * size), at, size);
  }
}

const INT32_END = 2 ** 31;

/**
 * The search that FreeBSD and NetBSD share: the first SYMTAB from section 1 on with an `sh_offset`, whose `sh_link` leads
 * to a header with an `sh_offset`, whatever its index and type.
 *
 * 65,535 headers may link to headers anywhere, so all links are looked up together.
 */
function* findTables(memory: GuestMemory, header: ElfHeader, format: ElfFormat): ByteWalk<TableSearch> {
  const headers = new SectionHeaders(memory, header, format);
  const { sh_offset, sh_size, sh_link } = format.sectionHeader.fields;
  const candidates: number[] = [];
  const links: number[] = [];
  const isCut = yield* headers.visit(SHT_SYMTAB, (section, block, index) => {
    if (!block.has(index, sh_offset)) return false;
    if (block.bigint(index, sh_offset) === 0n) return true;
    if (!block.has(index, sh_size) || !block.has(index, sh_link)) return false;
    candidates.push(section);
    links.push(block.number(index, sh_link) | 0);
    return true;
  });
  // The first one whose link does not lead to an sh_offset of 0 ends the search.
  const last = yield* memory.findFirst(
    headers.position(-INT32_END) + sh_offset.offset,
    format.sectionHeader.size,
    links.map((link) => link + INT32_END),
    sh_offset.width,
    (bytes) => (bytes.length < sh_offset.width ? 'outside' : bytes.some((byte) => byte !== 0) ? 'found' : null),
  );
  if (last === null) return { found: false, outside: isCut ? 'section-header-outside' : null };
  if (last.result === 'outside') return { found: false, outside: 'linked-header-outside' };
  return {
    found: true,
    tables: yield* readTables(headers, format, candidates[last.index] ?? 0, links[last.index] ?? 0),
  };
}

function* readTables(headers: SectionHeaders, format: ElfFormat, index: number, link: number): ByteWalk<GuestTables> {
  const { sh_type, sh_offset, sh_size } = format.sectionHeader.fields;
  const symtab = yield* headers.read(index);
  const linked = yield* headers.read(link);
  return {
    symtab: { ...locate(symtab.bigint(0, sh_offset)), size: symtab.bigint(0, sh_size) },
    strtab: { ...locate(linked.bigint(0, sh_offset)), size: linked.has(0, sh_size) ? linked.bigint(0, sh_size) : null },
    link,
    linkedType: linked.has(0, sh_type) ? linked.number(0, sh_type) : null,
  };
}

const locate = (offset: bigint): Pick<GuestTable, 'offset' | 'at'> => ({
  offset: BigInt.asUintN(64, BigInt(SIZE_WORD_BYTES) + offset),
  at: positionOf(offset),
});

/** What the ELF header says about a blob. Guests do not read all of it. */
export interface BlobHeader {
  readonly format: ElfFormat;
  /** As `EI_DATA` says. */
  readonly littleEndian: boolean;
  /** In that byte order, as loaders keep it. */
  readonly machine: number;
  /** `e_shnum`, as guests read it. */
  readonly sections: number;
  /** The loader whose layout it has, judging by the header. */
  readonly loader: Loader | null;
}

/** @param header after the size word, or in its place. @returns null when there is none, or it is cut */
export function describeHeader(header: ElfHeader): BlobHeader | null {
  const { format } = header;
  if (format === null || !header.hasMagic || !header.has(format.elfHeader.size)) return null;
  return {
    format,
    littleEndian: header.saysLittleEndian,
    machine: header.number(format, 'e_machine', header.saysLittleEndian),
    sections: header.number(format, 'e_shnum'),
    loader: guessLoader(header, format),
  };
}

/** Since 4.7 there are three headers after the room of an ELF64 header; before that all, right after the header. */
function guessLoader(header: ElfHeader, format: ElfFormat): Loader | null {
  const [shoff, shnum, shstrndx, ehsize, shentsize] = (
    ['e_shoff', 'e_shnum', 'e_shstrndx', 'e_ehsize', 'e_shentsize'] as const
  ).map((name) => header.number(format, name));
  const { elfHeader, sectionHeader } = format;
  if (shoff === ELF64.elfHeader.size && shnum === 3) {
    const tidy = shstrndx === 0 && ehsize === elfHeader.size && shentsize === sectionHeader.size;
    // With headers of native size the two differ in e_shstrndx alone, which nearly every image sets.
    return tidy ? 'xen-4.8' : format.class === 'ELF64' ? 'xen-4.7' : null;
  }
  if (shnum === 0) return null;
  if (shstrndx === 0 && shoff === elfHeader.size) return 'libxc-4.6';
  return shoff === ehsize ? 'xen-4.6' : null;
}

/** Where the blob ends by its size word, counted from its start. Xen pads it to 8 bytes (ELF64) or 4 (ELF32). */
export function findBlobEnd({ format }: BlobHeader, sizeWord: number): number {
  return Number(roundUp(BigInt(SIZE_WORD_BYTES + sizeWord), format));
}
