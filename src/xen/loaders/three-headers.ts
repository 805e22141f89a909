/**
 * The blob as Xen has laid it out since 4.7: a size word, the ELF header, three section headers (null, SYMTAB, STRTAB)
 * and the two tables.
 */
import { type ElfFormat, type ElfHeaderField, EV_CURRENT, SHT_STRTAB } from '../../elf/format.ts';
import { INIT_SEARCH, type StagedImage, type SymbolTableRef, type SymbolTableSearch } from '../../elf/headers.ts';
import { withoutSteps } from '../../elf/steps.ts';
import { bytesExtent, type Placed } from '../plan.ts';
import { strtabLinkInvalid } from './failures.ts';
import {
  HeaderCopies,
  type LoaderRules,
  type LoaderTraits,
  type PlannedTable,
  placeTables,
  type Reserved,
  roundUp,
  SIZE_WORD_BYTES,
  type TableSize,
  type Written,
} from './layout.ts';

/** Both classes get the room of an ELF64 header, and `e_shoff` 64. */
const ELF_HEADER_ROOM = 64;
const SECTION_HEADERS_AT = SIZE_WORD_BYTES + ELF_HEADER_ROOM;
export const SECTION_COUNT = 3;
/** Indices in the blob's section header table. */
const SYMTAB_INDEX = 1;
const STRTAB_INDEX = 2;

/** Where load puts the symbol table. */
const tablesAt = (format: ElfFormat): bigint => (format.class === 'ELF64' ? 264n : 260n);

/** What the versions of this layout do differently. */
interface ThreeHeaders {
  readonly traits: Omit<LoaderTraits, 'keepsIndices'>;
  readonly search: SymbolTableSearch;
  /** What parse reserves for everything before the tables. */
  reservedHeaderBytes(image: StagedImage): bigint;
  /** Fields of the ELF header that keep the image's value although later versions replace them. */
  readonly keptFields: readonly ElfHeaderField[];
}

/** The loader of Xen 4.8 and later. For ELF32 parse reserves less than load needs (260). */
export const XEN_4_8: LoaderRules = threeHeaders({
  traits: { classes: ['ELF32', 'ELF64'], bigEndian: true, loadsBroken: true },
  search: INIT_SEARCH,
  reservedHeaderBytes: ({ headers }) => (headers.format.class === 'ELF64' ? 264n : 192n),
  keptFields: [],
});

export function threeHeaders(version: ThreeHeaders): LoaderRules {
  return {
    traits: { ...version.traits, keepsIndices: false },
    search: version.search,
    reserve: (image, symbolTable) => withoutSteps(reserve(image, symbolTable, version.reservedHeaderBytes(image))),
    write: (image, symbolTable) => withoutSteps(write(image, symbolTable, version.keptFields)),
  };
}

function reserve({ headers, view }: StagedImage, symbolTable: SymbolTableRef, headerBytes: bigint): Reserved {
  const { format, sectionHeaders } = headers;
  const { sh_type, sh_size } = format.sectionHeader.fields;
  const symtabSize = view.bigint(sectionHeaders, symbolTable.index, sh_size);
  const linkReadable = view.hasEntry(sectionHeaders, symbolTable.link);
  const linkType = linkReadable ? view.number(sectionHeaders, symbolTable.link, sh_type) : 0;
  if (linkType !== SHT_STRTAB) {
    return { ok: false, failure: strtabLinkInvalid(symbolTable, linkReadable ? linkType : null) };
  }
  const strtabSize = view.bigint(sectionHeaders, symbolTable.link, sh_size);
  return { ok: true, size: roundUp(roundUp(headerBytes + symtabSize, format) + strtabSize, format) };
}

/** Checks all that is copied from the image, in the reference's order. */
function write(image: StagedImage, symbolTable: SymbolTableRef, keptFields: readonly ElfHeaderField[]): Written {
  const { headers, view, recorder } = image;
  const { format, sectionHeaders } = headers;
  const fields = format.sectionHeader.fields;

  const elfHeader = writeElfHeader(image, keptFields);
  const copies = new HeaderCopies(format.sectionHeader, SECTION_COUNT, headers.littleEndian);
  const copyHeader = (slot: number, index: number): void =>
    copies.set(slot, index < image.sectionCount ? view.entry(sectionHeaders, index) : null);
  const copyTable = (slot: number, type: PlannedTable['type'], index: number, at: bigint): CopiedTable => {
    const size = copies.bigint(slot, fields.sh_size);
    const source = view.range(`section ${index} (${type})`, copies.bigint(slot, fields.sh_offset), size);
    copies.put(slot, fields.sh_offset, at - BigInt(SIZE_WORD_BYTES));
    const offset = Number(at);
    const table: PlannedTable = {
      index: slot,
      section: index,
      type,
      offset,
      size: Number(size),
      shOffset: offset - SIZE_WORD_BYTES,
      fileOffset: source?.offset ?? null,
      link: slot === SYMTAB_INDEX ? STRTAB_INDEX : copies.number(slot, fields.sh_link),
      info: copies.number(slot, fields.sh_info),
      entrySize: copies.bigint(slot, fields.sh_entsize),
    };
    return { table, type, size, end: at + size, writtenEnd: source === null || size === 0n ? 0n : at + size };
  };

  copyHeader(SYMTAB_INDEX, symbolTable.index);
  const link = copies.number(SYMTAB_INDEX, fields.sh_link);
  const symtab = copyTable(SYMTAB_INDEX, 'SYMTAB', symbolTable.index, tablesAt(format));
  copies.put(SYMTAB_INDEX, fields.sh_link, BigInt(STRTAB_INDEX));

  copyHeader(STRTAB_INDEX, link);
  if (copies.number(STRTAB_INDEX, fields.sh_type) !== SHT_STRTAB) {
    recorder.record('strtab-not-found', () => ({
      what: `section ${link}`,
      offset: null,
      length: null,
      detail: `Section ${symbolTable.index} (SYMTAB) links to section ${link}, which is not a string table.`,
    }));
    return {
      end: roundUp(symtab.writtenEnd, format),
      sizeWord: 0,
      headers: null,
      tables: [symtab.table],
      firstSizes: [symtab],
      placed: () => placeTables([symtab.table]),
    };
  }
  const strtab = copyTable(STRTAB_INDEX, 'STRTAB', link, roundUp(symtab.end, format));

  const tables = [symtab.table, strtab.table];
  const sizeWord = Number(BigInt.asUintN(32, strtab.end - BigInt(SIZE_WORD_BYTES)));
  const leading = new Uint8Array(SECTION_HEADERS_AT + copies.bytes.length);
  new DataView(leading.buffer).setUint32(0, sizeWord, true);
  leading.set(elfHeader, SIZE_WORD_BYTES);
  leading.set(copies.bytes, SECTION_HEADERS_AT);

  const ends = [symtab.writtenEnd, strtab.writtenEnd];
  const lastEnd = ends.reduce((last, end) => (end > last ? end : last), BigInt(leading.length));
  return {
    end: roundUp(lastEnd, format),
    sizeWord,
    headers: {
      elfHeaderSize: format.elfHeader.size,
      sectionHeaders: { offset: SECTION_HEADERS_AT, size: format.sectionHeader.size, count: SECTION_COUNT },
    },
    tables,
    firstSizes: [symtab, strtab],
    placed: () => place(leading, tables),
  };
}

/** A table copied into the blob. */
interface CopiedTable extends TableSize {
  readonly table: PlannedTable;
  /** Where it ends in the blob. `writtenEnd` is 0 for a skipped or empty copy, which writes nothing. */
  readonly end: bigint;
  readonly writtenEnd: bigint;
}

function* place(leading: Uint8Array, tables: readonly PlannedTable[]): Generator<Placed, void> {
  yield { at: 0, extent: bytesExtent(leading) };
  yield* placeTables(tables);
}

function writeElfHeader({ headers, view }: StagedImage, keptFields: readonly ElfHeaderField[]): Uint8Array {
  const { elfHeader, sectionHeader } = headers.format;
  const replaced: readonly (readonly [ElfHeaderField, number])[] = [
    ['e_ehsize', elfHeader.size],
    ['e_shentsize', sectionHeader.size],
    ['e_version', EV_CURRENT],
    ['e_shoff', ELF_HEADER_ROOM],
    ['e_shnum', SECTION_COUNT],
    ['e_phoff', 0],
    ['e_phentsize', 0],
    ['e_phnum', 0],
    ['e_shstrndx', 0],
  ];
  const copy = new HeaderCopies(elfHeader, 1, headers.littleEndian);
  copy.set(0, view.entry(headers.elfHeader, 0));
  for (const [name, value] of replaced) {
    if (!keptFields.includes(name)) copy.put(0, elfHeader.fields[name], BigInt(value));
  }
  return copy.bytes;
}
