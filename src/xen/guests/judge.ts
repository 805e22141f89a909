/**
 * What the symbol readers of guest kernels make of a blob that lies in their memory. They check next to nothing, so most
 * of what is wrong with a blob shows only in what they do with it. Source: docs/verify.md. Nothing here throws.
 */
import {
  EI_CLASS,
  EI_DATA,
  ELF32,
  ELF64,
  ELFCLASS64,
  ELFDATA2LSB,
  type ElfFormat,
  type Field,
  hasElfMagic,
  machineName,
  SHT_STRTAB,
  SHT_SYMTAB,
  type Struct,
} from '../../elf/format.ts';
import { type Loader, SIZE_WORD_BYTES } from '../loaders/bsdsyms.ts';
import { roundUp } from '../loaders/layout.ts';

/** Those that are asked. */
export const GUESTS = ['freebsd', 'netbsd', 'openbsd', 'xtf'] as const;
/** One of them. */
export type GuestName = (typeof GUESTS)[number];

/** Why a guest finds no symbols, or misreads them. Codes are stable for ever. */
export const GUEST_FINDINGS = {
  'address-unaligned':
    'The blob does not begin where a guest looks: behind its image, rounded up to 8 bytes (ELF64) or 4 (ELF32).',
  'size-word-missing': 'The dump begins with the ELF header; the size word in front of it is part of the blob.',
  'no-elf-header': 'Behind the size word is no ELF header of a class that there is, or the dump ends before it does.',
  'elf-version': 'The e_version of the ELF header is above 1.',
  'size-word-unusable': 'The size word is 0, or above 2^31-1: NetBSD reads it as a signed number.',
  'machine-unknown':
    'OpenBSD takes symbols for its own machine only, and runs on Xen on none with this class and e_machine.',
  'section-names-outside': 'The header that e_shstrndx leads to, which OpenBSD reads, is none of the section headers.',
  'headers-cut': 'The dump ends before the section headers that have to be walked through do.',
  'link-outside':
    'The sh_link of the symbol table leads to none of the section headers; guests take whatever lies there for one.',
  'no-symbol-table':
    'No section header from 1 on (OpenBSD: 0) is a SYMTAB with an sh_offset whose sh_link leads to one with an sh_offset.',
  'table-outside-size': 'A table reaches beyond the bytes that the size word counts.',
  'section-count': 'The Xen Test Framework expects three section headers.',
  'header-leak': 'Bytes between the ELF header and the section headers are not zero: hypervisor stack (CVE-2016-9384).',
  'table-cut': 'A table reaches beyond the end of the dump; a guest reads on in whatever follows in memory.',
  'symbol-name-outside': 'A symbol has its name outside of the string table.',
  'symbol-name-unterminated': 'The name of a symbol runs to the end of the string table without a NUL.',
  'section-names-sought':
    'The e_shstrndx is not 0, so NetBSD looks for section names, and the blob does not have them.',
} as const;
/** Stable for ever. */
export type GuestFindingCode = keyof typeof GUEST_FINDINGS;

/** Something that keeps a guest from its symbols, or that it misreads. */
export interface GuestFinding {
  readonly code: GuestFindingCode;
  /** What was found where. */
  readonly detail: string;
  /** Index of the symbol that it is about. */
  readonly symbol: number | null;
}

/** What one guest makes of a blob. */
export interface GuestVerdict {
  readonly found: boolean;
  /** Why not; null when it is found. */
  readonly why: GuestFinding | null;
  /** Symbols that the guest then has, the null symbol included; null for a guest that does not read them. */
  readonly symbols: number | null;
  /** The first thing that it misreads; null when there is none, or nothing is found. */
  readonly firstMisfit: GuestFinding | null;
}

/** The fields of a blob's ELF header that anybody looks at, as a guest of its class and byte order reads them. */
export interface BlobHeader {
  readonly format: ElfFormat;
  readonly littleEndian: boolean;
  readonly machine: number;
  readonly version: number;
  /** Counted from the ELF header, in bytes. */
  readonly shoff: bigint;
  readonly shnum: number;
  readonly shstrndx: number;
  readonly ehsize: number;
  /** The loader whose layout it has, as far as the header can tell. */
  readonly loader: Loader | null;
}

/** @param bytes from the ELF header on. @returns null when they are none, or too few */
export function readBlobHeader(bytes: Uint8Array): BlobHeader | null {
  const elfClass = bytes[EI_CLASS];
  if (!hasElfMagic(bytes) || (elfClass !== ELFCLASS64 && elfClass !== ELFCLASS64 - 1)) return null;
  const format = elfClass === ELFCLASS64 ? ELF64 : ELF32;
  if (bytes.length < format.elfHeader.size) return null;
  const littleEndian = bytes[EI_DATA] === ELFDATA2LSB;
  const { fields } = format.elfHeader;
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = (field: Field, order = littleEndian): number => Number(readField(data, 0, field, order));
  const shoff = readField(data, 0, fields.e_shoff, littleEndian);
  return {
    format,
    littleEndian,
    machine: read(fields.e_machine),
    version: read(fields.e_version),
    shoff,
    shnum: read(fields.e_shnum),
    shstrndx: read(fields.e_shstrndx),
    ehsize: read(fields.e_ehsize),
    // The fields that loaders replace are little-endian in every blob.
    loader: guessLoader({
      shoff: read(fields.e_shoff, true),
      shnum: read(fields.e_shnum, true),
      shstrndx: read(fields.e_shstrndx, true),
      ehsize: read(fields.e_ehsize, true),
      shentsize: read(fields.e_shentsize, true),
      native: format,
    }),
  };
}

interface LoaderMarks {
  readonly shoff: number;
  readonly shnum: number;
  readonly shstrndx: number;
  readonly ehsize: number;
  readonly shentsize: number;
  readonly native: ElfFormat;
}

/** Since 4.7 there are three headers behind the room of an ELF64 header; before that all, right behind the header. */
function guessLoader({ shoff, shnum, shstrndx, ehsize, shentsize, native }: LoaderMarks): Loader | null {
  const { elfHeader, sectionHeader } = native;
  if (shoff === ELF64.elfHeader.size && shnum === 3) {
    const tidy = shstrndx === 0 && ehsize === elfHeader.size && shentsize === sectionHeader.size;
    // With headers of native size the two differ in this field alone, which images nearly always have.
    return tidy ? 'xen-4.8' : native.class === 'ELF64' ? 'xen-4.7' : null;
  }
  if (shnum > 0 && shstrndx === 0 && shoff === elfHeader.size) return 'libxc-4.6';
  return shnum > 0 && shoff === ehsize ? 'xen-4.6' : null;
}

/** A table as a guest finds it, counted from the start of the blob. Nothing says that it is inside. */
export interface GuestTable {
  readonly offset: bigint;
  readonly size: bigint;
}

export interface GuestTables {
  readonly symtab: GuestTable;
  readonly strtab: GuestTable;
}

export type TableWalk =
  | { readonly found: true; readonly tables: GuestTables }
  | { readonly found: false; readonly why: GuestFinding };

/** Where in the blob the section headers are, and how many bytes they take. */
export function locateSectionHeaders({ format, shoff, shnum }: BlobHeader): GuestTable {
  return { offset: BigInt(SIZE_WORD_BYTES) + shoff, size: BigInt(shnum * format.sectionHeader.size) };
}

/**
 * The walk that the guests have in common.
 *
 * @param sectionHeaders their bytes, as far as the dump has them; guests take them to have the size of their class
 * @param from the first section that is looked at
 */
export function walkSections(header: BlobHeader, sectionHeaders: Uint8Array, from: 0 | 1): TableWalk {
  const { format, littleEndian, shnum } = header;
  const { sh_type, sh_offset, sh_size, sh_link } = format.sectionHeader.fields;
  const data = new DataView(sectionHeaders.buffer, sectionHeaders.byteOffset, sectionHeaders.byteLength);
  const there = Math.floor(sectionHeaders.length / format.sectionHeader.size);
  const read = (index: number, field: Field): bigint =>
    readField(data, index * format.sectionHeader.size, field, littleEndian);
  const table = (index: number): GuestTable => ({
    offset: BigInt(SIZE_WORD_BYTES) + read(index, sh_offset),
    size: read(index, sh_size),
  });
  const cut = (index: number): TableWalk => ({
    found: false,
    why: finding('headers-cut', `The dump ends before section header ${index} of ${shnum} does.`),
  });

  for (let index = from; index < shnum; index++) {
    if (index >= there) return cut(index);
    if (read(index, sh_type) !== BigInt(SHT_SYMTAB) || read(index, sh_offset) === 0n) continue;
    const link = Number(read(index, sh_link));
    if (link >= shnum) {
      const detail = `Section header ${index} links to ${link}, and there are ${shnum}.`;
      return { found: false, why: finding('link-outside', detail) };
    }
    if (link >= there) return cut(link);
    if (read(link, sh_offset) === 0n) continue;
    return { found: true, tables: { symtab: table(index), strtab: table(link) } };
  }
  return {
    found: false,
    why: finding('no-symbol-table', `None of the ${shnum} section headers leads to both tables.`),
  };
}

/** Whether the section names that `e_shstrndx` leads to are in a dump of `size` bytes. */
export function findsSectionNames(header: BlobHeader, sectionHeaders: Uint8Array, size: number): boolean {
  const { format, littleEndian, shnum, shstrndx } = header;
  const { fields, size: bytes } = format.sectionHeader;
  if (shstrndx >= shnum || (shstrndx + 1) * bytes > sectionHeaders.length) return false;
  const data = new DataView(sectionHeaders.buffer, sectionHeaders.byteOffset, sectionHeaders.byteLength);
  const read = (field: Field): bigint => readField(data, shstrndx * bytes, field, littleEndian);
  const offset = read(fields.sh_offset);
  const end = BigInt(SIZE_WORD_BYTES) + offset + read(fields.sh_size);
  return read(fields.sh_type) === BigInt(SHT_STRTAB) && offset !== 0n && end <= BigInt(size);
}

/** Where the blob ends by its size word, counted from its start: as Xen pads it, to 8 bytes (ELF64) or 4 (ELF32). */
export function findBlobEnd({ format }: BlobHeader, sizeWord: number): number {
  return Number(roundUp(BigInt(SIZE_WORD_BYTES + sizeWord), format));
}

/** Where a walk leads, and what is wrong with the names there. */
export interface InspectedTables {
  readonly walk: TableWalk;
  /** The first symbol whose name cannot be read, if there is one. */
  readonly name: GuestFinding | null;
  /** The first symbol whose name begins beyond the end of the string table, if there is one. */
  readonly nameBeyond: GuestFinding | null;
}

/** What is known of a dump once everything that guests look at was read. */
export interface InspectedBlob {
  /** Bytes in the dump. */
  readonly size: number;
  /** Where it was taken from; null when nobody said. */
  readonly address: bigint | null;
  /** Null when the dump is too short for one, or begins with the ELF header. */
  readonly sizeWord: number | null;
  readonly header: BlobHeader | null;
  /** The tables that the walk from section 1 on leads to, and those of OpenBSD's, from section 0 on; nearly always the same. */
  readonly tables: InspectedTables | null;
  readonly tablesFromZero: InspectedTables | null;
  /** Whether `e_shstrndx` leads to a string table that the dump has. */
  readonly hasSectionNames: boolean;
  /** Where between ELF header and section headers the first byte is that is not zero, if there is one. */
  readonly leakAt: number | null;
}

/** What each of the guests makes of it. */
export function judge(blob: InspectedBlob): Readonly<Record<GuestName, GuestVerdict>> {
  return {
    freebsd: judgeReader(blob, versionObjection),
    netbsd: judgeReader(blob, netbsdObjection, netbsdMisfit),
    openbsd: judgeReader({ ...blob, tables: blob.tablesFromZero }, openbsdObjection),
    xtf: judgeXtf(blob),
  };
}

type Objection = (header: BlobHeader, blob: InspectedBlob) => GuestFinding | null;

/** What all guests look at before anything else. */
function findHeader({ address, sizeWord, size, header }: InspectedBlob): GuestFinding | null {
  if (sizeWord === null && header !== null) {
    return finding('size-word-missing', 'The dump begins with 7f 45 4c 46. Take it from 4 bytes before that.');
  }
  if (header === null) {
    return finding('no-elf-header', `There is no ELF header at offset ${SIZE_WORD_BYTES} of the ${size} bytes.`);
  }
  const alignment = header.format.class === 'ELF64' ? 8n : 4n;
  if (address !== null && address % alignment !== 0n) {
    return finding('address-unaligned', `0x${address.toString(16)} is not a multiple of ${alignment}.`);
  }
  return null;
}

/** FreeBSD (`xen_pvh_parse_symtab`), and what the others have in common with it. */
function judgeReader(blob: InspectedBlob, object: Objection, misfit: Objection = () => null): GuestVerdict {
  const { header, tables } = blob;
  const missing = findHeader(blob);
  if (missing !== null || header === null || tables === null) return notFound(missing);
  const objection = object(header, blob);
  if (objection !== null) return notFound(objection);
  const { walk, name } = tables;
  if (!walk.found) return notFound(walk.why);
  const { symtab } = walk.tables;
  return {
    found: true,
    why: null,
    symbols: Number(symtab.size / BigInt(header.format.symbol.size)),
    firstMisfit: misfit(header, blob) ?? findCutTable(walk.tables, blob.size) ?? name,
  };
}

const versionObjection: Objection = ({ version }) =>
  version > 1 ? finding('elf-version', `The e_version is ${version}.`) : null;

/** NetBSD (`ksyms_addsyms_elf`). */
function netbsdObjection(header: BlobHeader, blob: InspectedBlob): GuestFinding | null {
  const version = versionObjection(header, blob);
  if (version !== null) return version;
  const { sizeWord, tables } = blob;
  const size = (sizeWord ?? 0) | 0;
  if (size <= 0) return finding('size-word-unusable', `As a signed number the size word is ${size}.`);
  if (tables?.walk.found !== true) return null;
  const end = BigInt(SIZE_WORD_BYTES + size);
  for (const [name, { offset, size: bytes }] of Object.entries(tables.walk.tables)) {
    if (offset + bytes <= end) continue;
    return finding('table-outside-size', `The ${name} ends at ${offset + bytes}, what the size word counts at ${end}.`);
  }
  return null;
}

const netbsdMisfit: Objection = ({ shstrndx }, { hasSectionNames }) =>
  shstrndx === 0 || hasSectionNames ? null : finding('section-names-sought', `The e_shstrndx is ${shstrndx}.`);

/** OpenBSD on Xen: the machines that it has, by class. */
const OPENBSD_MACHINES: Readonly<Record<ElfFormat['class'], readonly number[]>> = { ELF32: [3], ELF64: [62, 183] };

/** OpenBSD (`db_elf_sym_init`): the only one that looks at section 0, and at the names before it takes the table. */
function openbsdObjection(
  { format, machine, shstrndx, shnum }: BlobHeader,
  { tables }: InspectedBlob,
): GuestFinding | null {
  if (!OPENBSD_MACHINES[format.class].includes(machine)) {
    return finding('machine-unknown', `The blob is ${format.class} for ${machineName(machine)}.`);
  }
  if (shstrndx < shnum) return tables?.nameBeyond ?? null;
  return finding('section-names-outside', `The e_shstrndx is ${shstrndx}, with ${shnum} section headers.`);
}

/** The Xen Test Framework (`tests/xsa-194`), which is after what the hypervisor leaves between the headers. */
function judgeXtf(blob: InspectedBlob): GuestVerdict {
  const { header, leakAt, size } = blob;
  const missing = findHeader(blob);
  if (missing !== null || header === null) return notFound(missing);
  if (header.shnum !== 3) return notFound(finding('section-count', `There are ${header.shnum} section headers.`));
  if (leakAt !== null) return notFound(finding('header-leak', `The byte at offset ${leakAt} is not zero.`));
  const { offset } = locateSectionHeaders(header);
  if (header.shoff > BigInt(header.ehsize) && offset > BigInt(size)) {
    return notFound(finding('headers-cut', `The section headers begin at ${offset}, the dump ends at ${size}.`));
  }
  return { found: true, why: null, symbols: null, firstMisfit: null };
}

function findCutTable(tables: GuestTables, size: number): GuestFinding | null {
  for (const [name, table] of Object.entries(tables)) {
    const end = table.offset + table.size;
    if (end > BigInt(size)) return finding('table-cut', `The ${name} ends at ${end}, the dump at ${size}.`);
  }
  return null;
}

const finding = (code: GuestFindingCode, detail: string, symbol: number | null = null): GuestFinding => ({
  code,
  detail,
  symbol,
});

export const nameFinding = (
  code: 'symbol-name-outside' | 'symbol-name-unterminated',
  symbol: number,
  nameOffset: number,
  strtabBytes: number,
): GuestFinding =>
  finding(code, `Its name begins at ${nameOffset} of the ${strtabBytes} bytes of the string table.`, symbol);

const notFound = (why: GuestFinding | null): GuestVerdict => ({ found: false, why, symbols: 0, firstMisfit: null });

/** A field of a structure at `at`; the bytes are known to be there. */
function readField(data: DataView, at: number, { offset, width }: Field, littleEndian: boolean): bigint {
  if (width === 8) return data.getBigUint64(at + offset, littleEndian);
  return BigInt(width === 4 ? data.getUint32(at + offset, littleEndian) : data.getUint16(at + offset, littleEndian));
}

/** Bytes that are enough for the size word and an ELF header of either class. */
export const BLOB_HEAD_BYTES = SIZE_WORD_BYTES + (ELF64.elfHeader satisfies Struct).size;
