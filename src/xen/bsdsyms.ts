/**
 * Stages `parse` and `load`: from the headers of an image to a plan of the symbol blob, as Xen has laid it out since 4.8.
 *
 * The blob is a size word and a small ELF file: ELF header, three section headers (null, SYMTAB, STRTAB), the two tables.
 */
import { type ElfFormat, EV_CURRENT, type Field, SHT_STRTAB, sectionTypeName } from '../elf/format.ts';
import type { ElfImage, NoSymbolTable, SymbolTableRef } from '../elf/headers.ts';
import type { Finding, Recorded } from '../elf/view.ts';
import { type Broken, type BrokenCode, broken } from './broken.ts';
import { bytesExtent, copyExtent, type Extent, fillExtent, fillGaps, type Placed } from './plan.ts';

export type Loader = 'xen-4.8';
export const DEFAULT_LOADER: Loader = 'xen-4.8';

/** The size word that opens the blob; `sh_offset`s count from behind it. */
export const SIZE_WORD_BYTES = 4;
/** Both classes get the room of an ELF64 header, and `e_shoff` 64. */
const ELF_HEADER_ROOM = 64;
const SECTION_HEADERS_AT = SIZE_WORD_BYTES + ELF_HEADER_ROOM;
const SECTION_COUNT = 3;
const U64_END = 2n ** 64n;
/**
 * What the blob holds where load writes nothing beyond the region that parse reserved. That happens only for ELF32,
 * whose header room is under-reserved, in front of a table: the memory there is not the loader's, and the reference's
 * measured answers, which decide, hold this byte. Inside the region, and behind the last table, it is zero.
 */
const UNRESERVED_BYTE = 0xaa;

/** What parse reserves for everything before the tables. For ELF32 that is less than load needs (260). */
const reservedHeaderBytes = (format: ElfFormat): bigint => (format.class === 'ELF64' ? 264n : 192n);
/** Where load puts the symbol table. */
const tablesAt = (format: ElfFormat): bigint => (format.class === 'ELF64' ? 264n : 260n);

const alignment = (format: ElfFormat): bigint => (format.class === 'ELF64' ? 8n : 4n);

/** Rounds up to the class's alignment, without wrapping. */
export function roundUp(value: bigint, format: ElfFormat): bigint {
  const align = alignment(format);
  return ((value + align - 1n) / align) * align;
}

/** Guest-physical addresses as the reference computes them, modulo 2^64. */
export interface Region {
  readonly pstart: bigint;
  readonly pend: bigint;
}

/** One table of the blob. Offsets and sizes are bytes; `offset` counts from the blob's start. */
export interface PlannedTable {
  /** Index in the blob's own section header table. */
  readonly index: number;
  readonly type: 'SYMTAB' | 'STRTAB';
  readonly offset: number;
  readonly size: number;
  /** The `sh_offset` that the guest finds, which counts from the ELF header. */
  readonly shOffset: number;
  /** Where the bytes come from, or null when the copy was skipped as it is not inside the image. */
  readonly fileOffset: number | null;
  /** `sh_info`; of a SYMTAB the index of the first global symbol. */
  readonly info: number;
  readonly entrySize: bigint;
  /** Whether the guest finds a section header for it. */
  readonly listed: boolean;
}

export interface SymbolPlan {
  readonly loader: Loader;
  readonly loadAddress: bigint;
  readonly pstart: bigint;
  /** The true end: `pstart + size`. */
  readonly pend: bigint;
  /** Bytes in the blob. */
  readonly size: number;
  readonly sizeWord: number;
  /** The end as the reference reserves it. */
  readonly xenReservedEnd: bigint;
  /** Bytes of the blob's ELF header, or null when loading stopped before it was written. */
  readonly elfHeaderSize: number | null;
  readonly tables: readonly PlannedTable[];
  /** The blob, without gaps. */
  readonly extents: readonly Extent[];
}

export type SymbolLoad =
  | { readonly ok: true; readonly plan: SymbolPlan; readonly recorded: Recorded | null }
  | { readonly ok: false; readonly broken: Broken };

export interface LoadOptions {
  /** Guest-physical, 0 .. 2^64-1. */
  readonly loadAddress: bigint;
  /** The longest blob that is planned. */
  readonly maxBlobBytes: number;
}

/**
 * Runs parse and load on an image whose segments were looked at.
 *
 * A recorded reason does not keep a blob from being planned: that is for the caller to judge. Without a region, or
 * with one beyond the limit, there is no plan; the reason reported is then the first that was recorded, if any.
 * Source: docs/loader.md. Never throws.
 */
export function loadSymbols(image: ElfImage, options: LoadOptions): SymbolLoad {
  const { view } = image;
  const refuse = (failure: Failure): SymbolLoad => ({ ok: false, broken: reported(failure, view.recorded) });

  const parsed = reserveRegion(image, options.loadAddress);
  if (!parsed.ok) return refuse(parsed.failure);
  const { region, reservedSize, symbolTable } = parsed;

  const written = writeTables(image, symbolTable);
  const needed = written.end > reservedSize ? written.end : reservedSize;
  if (needed > BigInt(options.maxBlobBytes)) return refuse(regionTooLarge(written, needed, options.maxBlobBytes));
  if (region.pstart + needed > U64_END) return refuse(regionWraps(region.pstart, needed));

  const size = Number(needed);
  return {
    ok: true,
    recorded: view.recorded,
    plan: {
      loader: 'xen-4.8',
      loadAddress: options.loadAddress,
      pstart: region.pstart,
      pend: region.pstart + needed,
      size,
      sizeWord: written.sizeWord,
      xenReservedEnd: region.pend,
      elfHeaderSize: written.elfHeaderSize,
      tables: written.tables.map(toPlannedTable),
      extents: fillGaps(markUnreserved(written.placed(), Number(reservedSize)), size),
    },
  };
}

type Failure = { readonly code: BrokenCode; readonly finding: Finding };

type Parsed =
  | {
      readonly ok: true;
      readonly region: Region;
      /** The region's size without wrapping. */
      readonly reservedSize: bigint;
      readonly symbolTable: SymbolTableRef;
    }
  | { readonly ok: false; readonly failure: Failure };

/** Stage `parse`. */
function reserveRegion(image: ElfImage, loadAddress: bigint): Parsed {
  const { headers, view, symbolTable } = image;
  const { format, sectionHeaders } = headers;
  const { sh_type, sh_size } = format.sectionHeader.fields;
  view.stage = 'parse';

  if (!symbolTable.found) {
    const finding = describeNoSymbolTable(image, symbolTable);
    view.record('no-symbol-table', () => finding);
    return { ok: false, failure: { code: 'no-symbol-table', finding } };
  }
  const symtabSize = view.u64(sectionHeaders, symbolTable.index, sh_size);
  const linkReadable = view.hasEntry(sectionHeaders, symbolTable.link);
  const linkType = linkReadable ? view.u32(sectionHeaders, symbolTable.link, sh_type) : 0;
  if (linkType !== SHT_STRTAB) {
    return { ok: false, failure: strtabLinkInvalid(symbolTable, linkReadable ? linkType : null) };
  }
  const strtabSize = view.u64(sectionHeaders, symbolTable.link, sh_size);
  const afterSymtab = roundUp(reservedHeaderBytes(format) + symtabSize, format);
  const reservedSize = roundUp(afterSymtab + strtabSize, format);

  const pstart = BigInt.asUintN(64, roundUp(loadAddress, format));
  if (pstart === 0n) return { ok: false, failure: noPlace(loadAddress) };
  return {
    ok: true,
    region: { pstart, pend: BigInt.asUintN(64, pstart + reservedSize) },
    reservedSize,
    symbolTable,
  };
}

/** A table as load sees it, before its size was held against the limit. */
interface Table {
  readonly type: PlannedTable['type'];
  readonly index: number;
  readonly offset: bigint;
  readonly size: bigint;
  readonly source: { readonly offset: number; readonly length: number } | null;
  readonly info: number;
  readonly entrySize: bigint;
  readonly listed: boolean;
}

interface Written {
  /** The end of what load writes, rounded up. */
  readonly end: bigint;
  readonly sizeWord: number;
  readonly elfHeaderSize: number | null;
  readonly tables: readonly Table[];
  /** To be called once `end` is known to be within the limit. */
  placed(): Placed[];
}

/** Stage `load`. All that is copied from the image is checked here, in the reference's order. */
function writeTables(image: ElfImage, symbolTable: SymbolTableRef): Written {
  const { headers, view } = image;
  const { format, sectionHeaders } = headers;
  const elfFields = format.elfHeader.fields;
  const fields = format.sectionHeader.fields;
  view.stage = 'load';

  const elfHeader = new HeaderCopy(format.elfHeader.size, headers.littleEndian, view.entry(headers.elfHeader, 0));
  elfHeader.put(elfFields.e_ehsize, BigInt(format.elfHeader.size));
  elfHeader.put(elfFields.e_shentsize, BigInt(format.sectionHeader.size));
  elfHeader.put(elfFields.e_version, BigInt(EV_CURRENT));
  elfHeader.put(elfFields.e_shoff, BigInt(ELF_HEADER_ROOM));
  elfHeader.put(elfFields.e_shnum, BigInt(SECTION_COUNT));
  elfHeader.put(elfFields.e_phoff, 0n);
  elfHeader.put(elfFields.e_phentsize, 0n);
  elfHeader.put(elfFields.e_phnum, 0n);
  elfHeader.put(elfFields.e_shstrndx, 0n);

  const copyTable = (header: HeaderCopy, name: string, at: bigint): Omit<Table, 'listed' | 'type' | 'index'> => {
    const size = header.get(fields.sh_size);
    return {
      offset: at,
      size,
      source: view.range(name, header.get(fields.sh_offset), size),
      info: Number(header.get(fields.sh_info)),
      entrySize: header.get(fields.sh_entsize),
    };
  };
  const copyHeader = (index: number): HeaderCopy => {
    const source = index < image.sectionCount ? view.entry(sectionHeaders, index) : null;
    return new HeaderCopy(format.sectionHeader.size, headers.littleEndian, source);
  };

  const symtabHeader = copyHeader(symbolTable.index);
  const link = Number(symtabHeader.get(fields.sh_link));
  const symtab = copyTable(symtabHeader, `section ${symbolTable.index} (SYMTAB)`, tablesAt(format));
  symtabHeader.put(fields.sh_offset, symtab.offset - BigInt(SIZE_WORD_BYTES));
  symtabHeader.put(fields.sh_link, 2n);

  const strtabHeader = copyHeader(link);
  if (Number(strtabHeader.get(fields.sh_type)) !== SHT_STRTAB) {
    view.record('strtab-not-found', () => ({
      what: `section ${link}`,
      offset: null,
      length: null,
      detail: `Section ${symbolTable.index} (SYMTAB) links to section ${link}, which is no string table.`,
    }));
    const table: Table = { type: 'SYMTAB', index: 1, ...symtab, listed: false };
    return {
      end: roundUp(endOf(table), format),
      sizeWord: 0,
      elfHeaderSize: null,
      tables: [table],
      placed: () => placeTables([table]),
    };
  }
  const strtabAt = roundUp(symtab.offset + symtab.size, format);
  const strtab = copyTable(strtabHeader, `section ${link} (STRTAB)`, strtabAt);
  strtabHeader.put(fields.sh_offset, strtabAt - BigInt(SIZE_WORD_BYTES));

  const tables: readonly Table[] = [
    { type: 'SYMTAB', index: 1, ...symtab, listed: true },
    { type: 'STRTAB', index: 2, ...strtab, listed: true },
  ];
  const sizeWord = Number(BigInt.asUintN(32, strtabAt + strtab.size - BigInt(SIZE_WORD_BYTES)));
  const leading = new Uint8Array(SECTION_HEADERS_AT + SECTION_COUNT * format.sectionHeader.size);
  new DataView(leading.buffer).setUint32(0, sizeWord, true);
  leading.set(elfHeader.bytes, SIZE_WORD_BYTES);
  leading.set(symtabHeader.bytes, SECTION_HEADERS_AT + format.sectionHeader.size);
  leading.set(strtabHeader.bytes, SECTION_HEADERS_AT + 2 * format.sectionHeader.size);

  const lastEnd = tables.reduce((end, table) => (endOf(table) > end ? endOf(table) : end), BigInt(leading.length));
  return {
    end: roundUp(lastEnd, format),
    sizeWord,
    elfHeaderSize: format.elfHeader.size,
    tables,
    placed: () => [{ at: 0, extent: bytesExtent(leading) }, ...placeTables(tables)],
  };
}

/** Where the bytes of a table end that are written; a skipped or empty copy writes nothing. */
const endOf = ({ source, offset, size }: Table): bigint => (source === null || size === 0n ? 0n : offset + size);

function placeTables(tables: readonly Table[]): Placed[] {
  return tables.flatMap(({ source, offset }) =>
    source === null || source.length === 0 ? [] : [{ at: Number(offset), extent: copyExtent(source) }],
  );
}

/** Fills what lies between placed extents but beyond the reserved size. */
function markUnreserved(placed: readonly Placed[], reservedSize: number): Placed[] {
  let end = 0;
  return placed.flatMap((next): Placed[] => {
    const from = Math.max(end, reservedSize);
    end = next.at + next.extent.length;
    return next.at > from ? [{ at: from, extent: fillExtent(next.at - from, UNRESERVED_BYTE) }, next] : [next];
  });
}

function toPlannedTable(table: Table): PlannedTable {
  return {
    index: table.index,
    type: table.type,
    offset: Number(table.offset),
    size: Number(table.size),
    shOffset: Number(table.offset) - SIZE_WORD_BYTES,
    fileOffset: table.source?.offset ?? null,
    info: table.info,
    entrySize: table.entrySize,
    listed: table.listed,
  };
}

/**
 * A header on its way into the blob. What stays keeps the image's byte order, what is replaced is written
 * little-endian: that is what the reference does, whatever the image.
 */
class HeaderCopy {
  readonly bytes: Uint8Array;
  readonly #data: DataView;
  readonly #littleEndian: boolean;

  constructor(size: number, littleEndian: boolean, source: Uint8Array | null) {
    this.bytes = new Uint8Array(size);
    if (source !== null) this.bytes.set(source);
    this.#data = new DataView(this.bytes.buffer);
    this.#littleEndian = littleEndian;
  }

  get({ offset, width }: Field): bigint {
    return width === 8
      ? this.#data.getBigUint64(offset, this.#littleEndian)
      : BigInt(this.#data.getUint32(offset, this.#littleEndian));
  }

  /** Writes the low bits of `value`, as many as the field has. */
  put({ offset, width }: Field, value: bigint): void {
    if (width === 2) this.#data.setUint16(offset, Number(BigInt.asUintN(16, value)), true);
    else if (width === 4) this.#data.setUint32(offset, Number(BigInt.asUintN(32, value)), true);
    else this.#data.setBigUint64(offset, value, true);
  }
}

/** The first reason recorded wins as the code; what ended the work is then told in the detail. */
function reported({ code, finding }: Failure, recorded: Recorded | null): Broken {
  if (recorded === null || recorded.code === code) return broken(code, recorded?.stage ?? 'parse', finding);
  return broken(recorded.code, recorded.stage, {
    ...recorded,
    detail: `${recorded.detail} Besides, no symbols can be loaded (${code}): ${finding.detail}`,
  });
}

function describeNoSymbolTable(image: ElfImage, search: NoSymbolTable): Finding {
  const count = image.sectionCount;
  const detail = (): string => {
    switch (search.why) {
      case 'headers-cut':
        return `Section header ${search.index} of ${count} lies outside the image, and no symbol table came before it.`;
      case 'bad-link':
        return (
          `Section ${search.index} (SYMTAB) links to section ${search.link}, but its string table must be one of the ` +
          `sections 1 to ${count - 1}. The loader looks no further than the first symbol table.`
        );
      case 'none':
        return (
          (count === 0
            ? 'The image has no section headers'
            : `None of the ${count} sections is a symbol table (SYMTAB)`) +
          (search.hasDynamicSymbols ? ', only dynamic symbols (DYNSYM), which do not count' : '') +
          '. The kernel was probably stripped: upload the unstripped one.'
        );
    }
  };
  return { what: 'symbol table', offset: null, length: null, detail: detail() };
}

function strtabLinkInvalid({ index, link }: SymbolTableRef, type: number | null): Failure {
  const found =
    type === null
      ? 'whose header lies outside the image'
      : `whose type is ${type} (${sectionTypeName(type)}), not ${SHT_STRTAB} (STRTAB)`;
  return {
    code: 'strtab-link-invalid',
    finding: {
      what: `section ${link}`,
      offset: null,
      length: null,
      detail: `Section ${index} (SYMTAB) links to section ${link}, ${found}. Without its string table Xen loads no symbols.`,
    },
  };
}

function noPlace(loadAddress: bigint): Failure {
  const detail =
    loadAddress === 0n
      ? 'The load address is 0, where Xen loads no symbols. It is the loadAddress parameter or, by default, the end of ' +
        'the kernel, which is 0 when the image has no loadable segments, as in an object file: link it or give a loadAddress.'
      : `The load address 0x${loadAddress.toString(16)} wraps to 0 when it is rounded up. Give a lower loadAddress.`;
  return { code: 'load-address-unusable', finding: { what: 'load address', offset: null, length: null, detail } };
}

function regionWraps(pstart: bigint, size: bigint): Failure {
  return {
    code: 'load-address-unusable',
    finding: {
      what: 'load address',
      offset: null,
      length: null,
      detail:
        `The symbols are ${size} bytes; from 0x${pstart.toString(16)} on they would run past 2^64. ` +
        'Give a lower loadAddress.',
    },
  };
}

function regionTooLarge({ tables }: Written, size: bigint, maxBlobBytes: number): Failure {
  const sizes = tables.map((table) => `${table.type} ${table.size}`).join(', ');
  return {
    code: 'region-too-large',
    finding: {
      what: 'symbol region',
      offset: null,
      length: size,
      detail:
        `The symbols would take ${size} bytes (${sizes}); this service allows ${maxBlobBytes}. ` +
        'If the image is not damaged, ask for a higher BSDSYMS_MAX_BLOB_BYTES.',
    },
  };
}
