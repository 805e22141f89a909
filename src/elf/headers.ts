/** Stage `init`: is this an ELF image whose header tables can be used, and which section is its symbol table? */
import {
  EI_CLASS,
  EI_DATA,
  ELF32,
  ELF64,
  ELFCLASS64,
  ELFDATA2LSB,
  type ElfFormat,
  hasElfMagic,
  machineName,
  objectTypeName,
  SHT_DYNSYM,
  SHT_SYMTAB,
} from './format.ts';
import { type Recorded, Recorder, type Stage } from './recorder.ts';
import { isStepEnd, runToEnd, type Steps } from './steps.ts';
import { describeTable, type Headers, type Table, type TableBytes, View } from './view.ts';

/** The shortest image that is examined: an ELF32 header. */
export const MIN_IMAGE_BYTES = ELF32.elfHeader.size;

/** How much of the image's start `locateHeaders` needs: the longer ELF header. */
export const ELF_HEADER_BYTES = ELF64.elfHeader.size;

/** The reference divides by the ELF32 size for both classes. */
const SMALLEST_SECTION_HEADER_BYTES = ELF32.sectionHeader.size;

/** The ELF header, and where it places both header tables. */
interface LocatedHeaders extends Omit<Headers, 'programHeaders' | 'sectionHeaders'> {
  readonly programHeaders: Table;
  readonly sectionHeaders: Table;
}

/**
 * Reads from the ELF header which bytes stage `init` needs.
 * Nothing is recorded or judged here; a table that does not fit into the image comes back empty, as `init` stops there.
 *
 * @param start the first `ELF_HEADER_BYTES` of the image, or all of it when it is shorter
 * @returns null when this is not an ELF image
 */
export function locateHeaders(start: Uint8Array, imageSize: number): LocatedHeaders | null {
  if (imageSize < MIN_IMAGE_BYTES || !hasElfMagic(start)) return null;
  const format = start[EI_CLASS] === ELFCLASS64 ? ELF64 : ELF32;
  const littleEndian = start[EI_DATA] === ELFDATA2LSB;
  const padded = new Uint8Array(format.elfHeader.size);
  padded.set(start.subarray(0, padded.length));
  const elfHeader: TableBytes = {
    ...describeTable('ELF header', format.elfHeader, 0n, 0, 1),
    bytes: new DataView(padded.buffer),
    pitch: 0,
  };
  const view = new View({ imageSize, littleEndian });
  const programHeaders = readProgramHeaderTable(view, format, elfHeader);
  const sectionHeaders = readSectionHeaderTable(view, format, elfHeader, null);
  return {
    imageSize,
    format,
    littleEndian,
    elfHeader,
    programHeaders: fits(programHeaders, imageSize) ? programHeaders : { ...programHeaders, count: 0 },
    sectionHeaders: fits(sectionHeaders, imageSize) ? sectionHeaders : { ...sectionHeaders, count: 0 },
  };
}

/** Why a search for the symbol table ended without one. */
export type NoSymbolTable = { readonly found: false } & (
  | { readonly why: 'none'; readonly hasDynamicSymbols: boolean }
  | { readonly why: 'headers-cut'; readonly index: number }
  | { readonly why: 'bad-link'; readonly index: number; readonly link: number }
);

/** How a loader looks for the symbol table. */
export interface SymbolTableSearch {
  /** The first section that is considered. */
  readonly from: 0 | 1;
  /** The lowest valid `sh_link`. */
  readonly lowestLink: 0 | 1;
  /** Whether a SYMTAB with an unusable `sh_link` ends the search instead of being skipped. */
  readonly firstDecides: boolean;
}

/** The search of stage `init`. */
export const INIT_SEARCH: SymbolTableSearch = { from: 1, lowestLink: 1, firstDecides: true };

export interface SymbolTableRef {
  readonly found: true;
  /** Section index of the SYMTAB. */
  readonly index: number;
  /** Its `sh_link`: the section index of its string table, whose type is not checked yet. */
  readonly link: number;
}

/** An image that passed `init`. */
export interface ElfImage {
  readonly headers: Headers;
  /** The first reason recorded so far. */
  readonly recorded: Recorded | null;
  /** How many section headers the loader uses: `e_shnum`, capped. */
  readonly sectionCount: number;
  readonly symbolTable: SymbolTableRef | NoSymbolTable;
}

/** An image as one stage reads it. */
export interface StagedImage extends ElfImage {
  /** Records reads outside the image. */
  readonly view: View;
  readonly recorder: Recorder;
}

/** Begins a stage. What it records is in its `recorder`; `image` does not change. */
export function enterStage(image: ElfImage, stage: Stage): StagedImage {
  const recorder = new Recorder(stage, image.recorded);
  return { ...image, recorder, view: new View(image.headers, recorder) };
}

/** Why an image does not pass `init`: a header table that does not fit into it. */
export interface InitFailure {
  readonly code: 'phdr-overflow' | 'shdr-overflow';
  /** Where the table would begin in the image, and how many bytes it would take. */
  readonly offset: bigint;
  readonly length: bigint;
  /** A reason recorded before. */
  readonly recorded: Recorded | null;
}

type Init = { readonly ok: true; readonly image: ElfImage } | { readonly ok: false; readonly failure: InitFailure };

/** Stage `init` of the loader; source: docs/loader.md. Never throws; works for any headers. */
export const init = (headers: Headers): Init => runToEnd(initInSteps(headers));

/** As `init`, in steps. */
export function* initInSteps(headers: Headers): Steps<Init> {
  const { format, elfHeader, imageSize } = headers;
  const recorder = new Recorder('init');
  const view = new View(headers, recorder);
  const fail = (code: InitFailure['code'], table: Table): Init => ({
    ok: false,
    failure: { code, offset: table.offset, length: span(table), recorded: recorder.recorded },
  });

  const programHeaders = readProgramHeaderTable(view, format, elfHeader);
  if (!fits(programHeaders, imageSize)) return fail('phdr-overflow', programHeaders);
  const sectionHeaders = readSectionHeaderTable(view, format, elfHeader, recorder);
  if (!fits(sectionHeaders, imageSize)) return fail('shdr-overflow', sectionHeaders);

  const sectionCount = sectionHeaders.count;
  const sectionFields = format.sectionHeader.fields;
  const nameTableIndex = view.number(elfHeader, 0, format.elfHeader.fields.e_shstrndx);
  if (nameTableIndex < sectionCount) view.bigint(headers.sectionHeaders, nameTableIndex, sectionFields.sh_offset);

  const symbolTable = yield* findSymbolTable({ headers, view, sectionCount }, INIT_SEARCH);
  if (symbolTable.found) view.bigint(headers.sectionHeaders, symbolTable.link, sectionFields.sh_offset);
  return { ok: true, image: { headers, recorded: recorder.recorded, sectionCount, symbolTable } };
}

/** Finds the symbol table among the section headers. The linked section may be of any type. */
export function* findSymbolTable(
  { headers, view, sectionCount: count }: Pick<StagedImage, 'headers' | 'view' | 'sectionCount'>,
  { from, lowestLink, firstDecides }: SymbolTableSearch,
): Steps<SymbolTableRef | NoSymbolTable> {
  const table = headers.sectionHeaders;
  const { sh_type, sh_link } = headers.format.sectionHeader.fields;
  let hasDynamicSymbols = false;
  let badLink: NoSymbolTable | null = null;
  for (let index: number = from; index < count; index++) {
    if (isStepEnd(index)) yield null;
    if (!view.hasEntry(table, index)) return { found: false, why: 'headers-cut', index };
    const type = view.number(table, index, sh_type);
    if (type === SHT_DYNSYM) hasDynamicSymbols = true;
    if (type !== SHT_SYMTAB) continue;
    const link = view.number(table, index, sh_link);
    if (link >= lowestLink && link < count) return { found: true, index, link };
    badLink ??= { found: false, why: 'bad-link', index, link };
    if (firstDecides) break;
  }
  return badLink ?? { found: false, why: 'none', hasDynamicSymbols };
}

function readProgramHeaderTable(view: View, format: ElfFormat, elfHeader: TableBytes): Table {
  const { e_phoff, e_phentsize, e_phnum } = format.elfHeader.fields;
  return describeTable(
    'program header',
    format.programHeader,
    view.bigint(elfHeader, 0, e_phoff),
    view.number(elfHeader, 0, e_phentsize),
    view.number(elfHeader, 0, e_phnum),
  );
}

/** The count is capped to what the image has room for; a higher one is recorded. */
function readSectionHeaderTable(
  view: View,
  format: ElfFormat,
  elfHeader: TableBytes,
  recorder: Recorder | null,
): Table {
  const { e_shoff, e_shentsize, e_shnum } = format.elfHeader.fields;
  const claimed = view.number(elfHeader, 0, e_shnum);
  const room = Math.floor(view.imageSize / SMALLEST_SECTION_HEADER_BYTES);
  if (claimed > room) {
    recorder?.record('too-many-section-headers', () => ({
      what: 'e_shnum of the ELF header',
      offset: BigInt(e_shnum.offset),
      length: BigInt(e_shnum.width),
      detail:
        `The ELF header counts ${claimed} section headers, but an image of ${view.imageSize} bytes has room for ` +
        `${room} at most. The file is probably cut short or its header damaged.`,
    }));
  }
  return describeTable(
    'section header',
    format.sectionHeader,
    view.bigint(elfHeader, 0, e_shoff),
    view.number(elfHeader, 0, e_shentsize),
    Math.min(claimed, room),
  );
}

const span = (table: Table): bigint => BigInt(table.stride * table.count);

/** Whether the table ends inside the image; as in the reference, the sum wraps at 2^64. */
function fits(table: Table, imageSize: number): boolean {
  return BigInt.asUintN(64, table.offset + span(table)) <= BigInt(imageSize);
}

/** `e_machine` of an image. */
export function readMachine(headers: Pick<Headers, 'imageSize' | 'format' | 'littleEndian' | 'elfHeader'>): number {
  return new View(headers).number(headers.elfHeader, 0, headers.format.elfHeader.fields.e_machine);
}

/** What answers and log lines say about an image, from what there is of the ELF header. */
export interface ImageIdentity {
  readonly class: ElfFormat['class'];
  readonly byteOrder: 'little-endian' | 'big-endian';
  readonly type: string;
  readonly machine: string;
  readonly entry: bigint;
}

/** Reads the identity of an image; fields outside the image are 0. */
export function identify(headers: Pick<Headers, 'imageSize' | 'format' | 'littleEndian' | 'elfHeader'>): ImageIdentity {
  const { format, elfHeader } = headers;
  const view = new View(headers);
  const { e_type, e_entry } = format.elfHeader.fields;
  return {
    class: format.class,
    byteOrder: headers.littleEndian ? 'little-endian' : 'big-endian',
    type: objectTypeName(view.number(elfHeader, 0, e_type)),
    machine: machineName(readMachine(headers)),
    entry: view.bigint(elfHeader, 0, e_entry),
  };
}
