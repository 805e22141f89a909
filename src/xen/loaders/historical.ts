/**
 * The loaders before Xen 4.8, to compare what a guest saw on older hosts. They are modelled for well-formed
 * little-endian images only; `loadSymbols` refuses everything else.
 */
import { SHT_STRTAB, SHT_SYMTAB } from '../../elf/format.ts';
import type { StagedImage, SymbolTableSearch } from '../../elf/headers.ts';
import { isStepEnd, type Steps } from '../../elf/steps.ts';
import { bytesExtent, copyExtent, type Placed } from '../plan.ts';
import { MAX_NAMED_TABLES } from './failures.ts';
import {
  HeaderCopies,
  type LoaderRules,
  type PlannedTable,
  placeTables,
  type Reserved,
  roundUp,
  SIZE_WORD_BYTES,
  type TableSize,
  type Written,
} from './layout.ts';
import { SECTION_COUNT, threeHeaders } from './three-headers.ts';

/** The rewrite as first committed: the region is sized by the header sizes that the image claims. */
export const XEN_4_7: LoaderRules = threeHeaders({
  traits: { classes: ['ELF64'], bigEndian: false, loadsBroken: false },
  search: { from: 0, lowestLink: 1, firstDecides: true },
  reservedHeaderBytes: (image) => {
    const { e_ehsize } = image.headers.format.elfHeader.fields;
    const elfHeaderSize = image.view.number(image.headers.elfHeader, 0, e_ehsize);
    const sectionHeadersSize = SECTION_COUNT * image.headers.sectionHeaders.stride;
    return roundUp(BigInt(SIZE_WORD_BYTES + elfHeaderSize + sectionHeadersSize), image.headers.format);
  },
  keptFields: ['e_shstrndx', 'e_ehsize', 'e_shentsize', 'e_version'],
});

/** A SYMTAB with an invalid `sh_link` is skipped, and section 0 is treated like any other. */
const SEARCH_4_6: SymbolTableSearch = { from: 0, lowestLink: 0, firstDecides: false };

/** The hypervisor's loader up to 4.6: all section headers, and every SYMTAB and STRTAB. */
export const XEN_4_6: LoaderRules = allHeaders({
  headerSizes: (image) => ({
    elfHeader: image.view.number(image.headers.elfHeader, 0, image.headers.format.elfHeader.fields.e_ehsize),
    sectionHeader: image.headers.sectionHeaders.stride,
  }),
  tidies: false,
});

/** The toolstack's own copy of that code. */
export const LIBXC_4_6: LoaderRules = allHeaders({
  headerSizes: ({ headers }) => ({
    elfHeader: headers.format.elfHeader.size,
    sectionHeader: headers.format.sectionHeader.size,
  }),
  tidies: true,
});

/** What the two loaders of 4.6 do differently. */
interface AllHeaders {
  /** Bytes that each header takes in the blob. */
  readonly headerSizes: (image: StagedImage) => HeaderSizes;
  /** Whether names are dropped, and with them the STRTABs that no SYMTAB links to. */
  readonly tidies: boolean;
}

interface HeaderSizes {
  readonly elfHeader: number;
  readonly sectionHeader: number;
}

function allHeaders(version: AllHeaders): LoaderRules {
  return {
    traits: { classes: ['ELF32', 'ELF64'], bigEndian: false, loadsBroken: false, keepsIndices: true },
    search: SEARCH_4_6,
    reserve: (image) => reserve(image, version.headerSizes(image)),
    write: (image, _symbolTable, reservedSize) => write(image, version, reservedSize),
  };
}

const tablesAt = ({ headers, sectionCount }: StagedImage, { elfHeader, sectionHeader }: HeaderSizes): bigint =>
  roundUp(BigInt(SIZE_WORD_BYTES + elfHeader + sectionCount * sectionHeader), headers.format);

const tableType = (shType: number): PlannedTable['type'] | null =>
  shType === SHT_SYMTAB ? 'SYMTAB' : shType === SHT_STRTAB ? 'STRTAB' : null;

/** Reserves room for every table, copied or not. */
function* reserve(image: StagedImage, sizes: HeaderSizes): Steps<Reserved> {
  const { headers, view, sectionCount } = image;
  const { format, sectionHeaders } = headers;
  const { sh_type, sh_size } = format.sectionHeader.fields;
  let size = tablesAt(image, sizes);
  for (let index = 0; index < sectionCount; index++) {
    if (isStepEnd(index)) yield null;
    if (tableType(view.number(sectionHeaders, index, sh_type)) === null) continue;
    size += roundUp(view.bigint(sectionHeaders, index, sh_size), format);
  }
  return { ok: true, size };
}

function* write(image: StagedImage, { headerSizes, tidies }: AllHeaders, reservedSize: bigint): Steps<Written> {
  const { headers, view, sectionCount } = image;
  const { format, sectionHeaders } = headers;
  const { sh_name, sh_type, sh_offset, sh_size, sh_link, sh_info, sh_entsize } = format.sectionHeader.fields;
  const sizes = headerSizes(image);

  const elfHeader = writeElfHeader(image, sizes, tidies);
  const copies = new HeaderCopies(format.sectionHeader, sectionCount, headers.littleEndian);
  const linked = new Set<number>();
  for (let index = 0; index < sectionCount; index++) {
    if (isStepEnd(index)) yield null;
    copies.set(index, view.entry(sectionHeaders, index));
    if (copies.number(index, sh_type) === SHT_SYMTAB) linked.add(copies.number(index, sh_link));
  }

  const tables: PlannedTable[] = [];
  const firstSizes: TableSize[] = [];
  let end = tablesAt(image, sizes);
  for (let index = 0; index < sectionCount; index++) {
    if (isStepEnd(index)) yield null;
    const type = tableType(copies.number(index, sh_type));
    if (tidies && type === 'STRTAB' && !linked.has(index)) {
      copies.put(index, sh_offset, 0n);
      continue;
    }
    if (tidies) copies.put(index, sh_name, 0n);
    if (type === null) continue;
    const size = copies.bigint(index, sh_size);
    const source = view.range(() => `section ${index} (${type})`, copies.bigint(index, sh_offset), size);
    const offset = Number(end);
    if (firstSizes.length < MAX_NAMED_TABLES) firstSizes.push({ type, size });
    tables.push({
      index,
      section: index,
      type,
      offset,
      size: Number(size),
      shOffset: offset - SIZE_WORD_BYTES,
      fileOffset: source?.offset ?? null,
      link: copies.number(index, sh_link),
      info: copies.number(index, sh_info),
      entrySize: copies.bigint(index, sh_entsize),
    });
    copies.put(index, sh_offset, end - BigInt(SIZE_WORD_BYTES));
    end = roundUp(end + size, format);
  }

  const sizeWord = Number(BigInt.asUintN(32, reservedSize - BigInt(SIZE_WORD_BYTES)));
  return {
    end,
    sizeWord,
    headers: {
      elfHeaderSize: sizes.elfHeader,
      sectionHeaders: {
        offset: SIZE_WORD_BYTES + sizes.elfHeader,
        size: sizes.sectionHeader,
        count: sectionCount,
      },
    },
    tables,
    firstSizes,
    placed: () => place(image, sizes, { sizeWord, elfHeader, sectionHeaders: copies.bytes, tables }),
  };
}

/** What the blob consists of; the headers are packed. */
interface Parts {
  readonly sizeWord: number;
  readonly elfHeader: Uint8Array;
  readonly sectionHeaders: Uint8Array;
  readonly tables: readonly PlannedTable[];
}

function* place(
  { headers, sectionCount }: StagedImage,
  sizes: HeaderSizes,
  { sizeWord, elfHeader, sectionHeaders, tables }: Parts,
): Generator<Placed, void> {
  const { format } = headers;
  yield { at: 0, extent: bytesExtent(littleEndian32(sizeWord)) };
  yield* placeSlots(elfHeader, SIZE_WORD_BYTES, sizes.elfHeader, 1, format.elfHeader.size, 0);
  yield* placeSlots(
    sectionHeaders,
    SIZE_WORD_BYTES + sizes.elfHeader,
    sizes.sectionHeader,
    sectionCount,
    format.sectionHeader.size,
    headers.sectionHeaders.position,
  );
  yield* placeTables(tables);
}

function writeElfHeader({ headers, view }: StagedImage, sizes: HeaderSizes, tidies: boolean): Uint8Array {
  const { e_phoff, e_phentsize, e_phnum, e_shoff, e_shstrndx } = headers.format.elfHeader.fields;
  const copy = new HeaderCopies(headers.format.elfHeader, 1, headers.littleEndian);
  copy.set(0, view.entry(headers.elfHeader, 0));
  // A larger e_ehsize also copies what follows the header in the image.
  view.range('the ELF header', 0n, BigInt(sizes.elfHeader));
  copy.put(0, e_phoff, 0n);
  copy.put(0, e_phentsize, 0n);
  copy.put(0, e_phnum, 0n);
  copy.put(0, e_shoff, BigInt(sizes.elfHeader));
  if (tidies) copy.put(0, e_shstrndx, 0n);
  return copy.bytes;
}

/**
 * Places packed headers of `packedSize` bytes into slots of `slotSize` bytes: a shorter slot cuts the header, a longer
 * one continues with what follows it in the image, where headers begin at `position` and are `slotSize` apart.
 */
function* placeSlots(
  packed: Uint8Array,
  at: number,
  slotSize: number,
  count: number,
  packedSize: number,
  position: number,
): Generator<Placed, void> {
  if (slotSize === 0) return;
  if (slotSize === packedSize) {
    yield { at, extent: bytesExtent(packed) };
    return;
  }
  const kept = Math.min(slotSize, packedSize);
  for (let index = 0; index < count; index++) {
    const start = index * packedSize;
    const slotAt = at + index * slotSize;
    yield { at: slotAt, extent: bytesExtent(packed.subarray(start, start + kept)) };
    if (slotSize > kept) {
      const rest = { offset: position + index * slotSize + kept, length: slotSize - kept };
      yield { at: slotAt + kept, extent: copyExtent(rest) };
    }
  }
}

function littleEndian32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
