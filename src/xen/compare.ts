/** How the symbols of one image differ between two loaders: ranges of bytes, and what they are. Nothing here throws. */
import { dataOf, readBigint } from '../elf/fields.ts';
import {
  ELF32,
  ELF64,
  type ElfClass,
  type ElfFormat,
  type Field,
  type Struct,
  sectionTypeName,
} from '../elf/format.ts';
import type { Steps } from '../elf/steps.ts';
import type { Broken } from './broken.ts';
import { MAX_LISTED } from './listed.ts';
import { type Loader, SIZE_WORD_BYTES, type SymbolLoad, type SymbolPlan, traitsOf } from './loaders/bsdsyms.ts';
import type { PlannedHeaders, PlannedTable } from './loaders/layout.ts';
import type { Extent } from './plan.ts';

/** Parts compared between two pauses. */
const PARTS_PER_STEP = 256;

/** A range of a blob, counted from its start, in bytes. */
export interface BlobRange {
  readonly offset: number;
  readonly size: number;
}

/** A header field whose values differ. */
export interface FieldDifference {
  /** Its name in the gABI. */
  readonly name: string;
  readonly value: bigint;
  readonly other: bigint;
}

/**
 * - `changed`: at the same offset, with different bytes;
 * - `moved`: at a different offset, with the same bytes or not;
 * - `missing`: not in the other blob;
 * - `added`: only in the other blob.
 */
export type DifferenceKind = 'changed' | 'moved' | 'missing' | 'added';

/** A part of the blob that the other loader writes differently. */
export interface Difference {
  readonly kind: DifferenceKind;
  /** What lies there: `size word`, `ELF header`, `section header of the symbol table`, … */
  readonly what: string;
  /** Where it is in the blob; null when it is `added`. */
  readonly range: BlobRange | null;
  /** Where it is in the other blob; null when it is `missing`. */
  readonly otherRange: BlobRange | null;
  readonly fields: readonly FieldDifference[];
  /** As a sentence. */
  readonly meaning: string;
}

/** What another loader does differently with the same image at the same address. */
export type Comparison =
  | {
      readonly loader: Loader;
      /** The other loader does not load the image. */
      readonly broken: Broken;
      readonly plan: null;
    }
  | {
      readonly loader: Loader;
      readonly broken: null;
      readonly plan: SymbolPlan;
      /** In the order of the blob, then what only the other has. Empty when both are the same, byte for byte. */
      readonly differences: readonly Difference[];
      /** How many more there are. */
      readonly unlisted: number;
    };

/**
 * Compares in steps: an image can have 65,535 sections.
 *
 * @param other what the other loader makes of the same image at the same address
 */
export function* comparePlans(
  elfClass: ElfClass,
  plan: SymbolPlan,
  loader: Loader,
  other: SymbolLoad,
): Steps<Comparison> {
  if (!other.ok) return { loader, broken: other.broken, plan: null };
  const format = elfClass === 'ELF64' ? ELF64 : ELF32;
  const others = new OtherParts();
  let done = 0;
  const isStep = (): boolean => ++done % PARTS_PER_STEP === 0;
  for (const part of listParts(format, other.plan, (table) => table.section)) {
    others.add(part);
    if (isStep()) yield null;
  }
  const own = new FieldReader(format, plan);
  const theirs = new FieldReader(format, other.plan);
  const differences: Difference[] = [];
  let unlisted = 0;
  const add = (describe: () => Difference): void => {
    if (differences.length < MAX_LISTED) differences.push(describe());
    else unlisted += 1;
  };
  for (const part of listParts(format, plan, matchSections(plan, other.plan))) {
    const match = others.take(part);
    if (match === null) add(() => missing(own.describe(part, own.read(part)), part));
    else {
      const [bytes, otherBytes] = [own.read(part), theirs.read(match)];
      const isSame = part.offset === match.offset && part.size === match.size && sameBytes(bytes, otherBytes);
      if (!isSame) add(() => difference(own.describe(part, bytes), part, match, own.compare(part, bytes, otherBytes)));
    }
    if (isStep()) yield null;
  }
  for (const part of others.remaining()) {
    if (part !== null) add(() => added(theirs.describe(part, theirs.read(part)), part));
    if (isStep()) yield null;
  }
  return { loader, broken: null, plan: other.plan, differences, unlisted };
}

/** The number by which a table is found in the other blob. */
type SectionOf = (table: PlannedTable) => number;

/** Added to sections that the other blob has no table of: no image has so many. */
const UNMATCHED = 2 ** 16;

/**
 * Loaders that keep indices take the same sections of the image. Others may find the same bytes by different sections,
 * so tables are matched by their place in the image.
 */
function matchSections(plan: SymbolPlan, other: SymbolPlan): SectionOf {
  if (keepsIndices(plan) && keepsIndices(other)) return ({ section }) => section;
  const known = new Map<PlannedTable, number>();
  const few = keepsIndices(plan) ? other.tables : plan.tables;
  const many = few === plan.tables ? other.tables : plan.tables;
  for (const table of few) {
    const same = many.find((one) => one.fileOffset === table.fileOffset && one.size === table.size && !known.has(one));
    if (same === undefined) continue;
    // The number is the other blob's.
    const number = few === plan.tables ? same.section : table.section;
    known.set(table, number).set(same, number);
  }
  return (table) => known.get(table) ?? UNMATCHED + table.section;
}

/** The parts of the other blob that are not found in this one yet. */
class OtherParts {
  /** In the order of the blob; null for those that were taken. */
  readonly #parts: (Part | null)[] = [];
  /** By `keyOf`: the position of a part in use, counted from 1; 0 when there is none. */
  readonly #positions = new Int32Array((UNMATCHED + 1) * PART_KINDS.length);
  /** Positions of unused parts, by their text; equal ones are taken in order. */
  readonly #unused = new Map<string, { readonly positions: number[]; taken: number }>();

  add(part: Part): void {
    const position = this.#parts.push(part);
    if (part.unused === null) {
      this.#positions[keyOf(part)] = position;
      return;
    }
    const same = this.#unused.get(part.unused);
    if (same === undefined) this.#unused.set(part.unused, { positions: [position], taken: 0 });
    else same.positions.push(position);
  }

  /** The counterpart of a part; null when there is none, or it was taken before. */
  take(part: Part): Part | null {
    const position = part.unused === null ? this.#positions[keyOf(part)] : this.#takeUnused(part.unused);
    if (position === undefined || position === 0) return null;
    const found = this.#parts[position - 1] ?? null;
    this.#parts[position - 1] = null;
    return found;
  }

  /** In the order of the blob; null for those that were taken. */
  remaining(): Iterable<Part | null> {
    return this.#parts;
  }

  #takeUnused(text: string): number | undefined {
    const same = this.#unused.get(text);
    return same?.positions[same.taken++];
  }
}

const keepsIndices = ({ loader }: SymbolPlan): boolean => traitsOf(loader).keepsIndices;

const PART_KINDS = [
  'size word',
  'ELF header',
  'section header',
  'header of a table',
  'symbol table',
  'string table',
  'end',
] as const;
type PartKind = (typeof PART_KINDS)[number];

/** A part of a blob. An image can have 131,070 of them, so they hold little. */
interface Part extends BlobRange {
  readonly kind: PartKind;
  /** For a section header or a table its section index in the image; otherwise 0. */
  readonly section: number;
  /** For a section header its index in the blob; otherwise 0. */
  readonly index: number;
  /** For unused bytes before the part: a text that is equal for equal bytes. */
  readonly unused: string | null;
}

/** A number for each part in use, equal in both blobs for the same part of the image. */
const keyOf = ({ kind, section }: Part): number => section * PART_KINDS.length + PART_KINDS.indexOf(kind);

/** The structure of a part; null for bytes without fields. */
function structOf({ elfHeader, sectionHeader }: ElfFormat, part: Pick<Part, 'kind'>): Struct | null {
  if (part.kind === 'ELF header') return elfHeader;
  return isSectionHeader(part) ? sectionHeader : null;
}

const isSectionHeader = ({ kind }: Pick<Part, 'kind'>): boolean =>
  kind === 'section header' || kind === 'header of a table';

function nameOf(part: Pick<Part, 'kind' | 'index'>): string {
  if (part.kind === 'end') return 'the end';
  return isSectionHeader(part) ? `section header ${part.index}` : part.kind;
}

/** The parts of a blob in ascending order, without gaps. */
function* listParts(format: ElfFormat, plan: SymbolPlan, sectionOf: SectionOf): Generator<Part, void> {
  const reader = new PlanReader(plan.extents);
  let end = 0;
  for (const part of outline(format, plan, sectionOf)) {
    const { kind, section, index, offset, size } = part;
    // An image can give headers the size 0.
    if (size === 0 && kind !== 'end') continue;
    if (offset > end) {
      const unused = `${nameOf(part)}: ${reader.describe(end, offset - end)}`;
      yield { kind, section, index, offset: end, size: offset - end, unused };
    }
    if (kind !== 'end') yield part;
    end = Math.max(end, offset + size);
  }
}

function* outline(format: ElfFormat, plan: SymbolPlan, sectionOf: SectionOf): Generator<Part, void> {
  const { headers } = plan;
  const unused = null;
  if (headers !== null) {
    const size = Math.min(headers.elfHeaderSize, format.elfHeader.size);
    yield { kind: 'size word', section: 0, index: 0, offset: 0, size: SIZE_WORD_BYTES, unused };
    yield { kind: 'ELF header', section: 0, index: 0, offset: SIZE_WORD_BYTES, size, unused };
    yield* outlineSections(headers, plan, sectionOf);
  }
  for (const table of plan.tables) {
    const { type, offset, size, fileOffset } = table;
    const kind = type === 'SYMTAB' ? 'symbol table' : 'string table';
    if (fileOffset !== null) yield { kind, section: sectionOf(table), index: 0, offset, size, unused };
  }
  yield { kind: 'end', section: 0, index: 0, offset: plan.size, size: 0, unused };
}

function* outlineSections(
  { sectionHeaders: { offset: start, size, count } }: PlannedHeaders,
  plan: SymbolPlan,
  sectionOf: SectionOf,
): Generator<Part, void> {
  // Tables and their headers are in the same order.
  let next = 0;
  for (let index = 0; index < count; index++) {
    const table = plan.tables[next]?.index === index ? plan.tables[next] : undefined;
    if (table !== undefined) next += 1;
    const kind = table === undefined ? 'section header' : 'header of a table';
    // The index of a table differs between loaders.
    const section = table === undefined ? index : sectionOf(table);
    yield { kind, section, index, offset: start + index * size, size, unused: null };
  }
}

/** Reads the fields of the parts of a blob, each once: a read further back starts again at the beginning of the plan. */
class FieldReader {
  readonly #format: ElfFormat;
  readonly #reader: PlanReader;

  constructor(format: ElfFormat, plan: SymbolPlan) {
    this.#format = format;
    this.#reader = new PlanReader(plan.extents);
  }

  /** The bytes of its fields; null for tables and unused bytes, which are known to be equal. */
  read(part: Part): Uint8Array | null {
    const { kind, offset, size, unused } = part;
    if (unused !== null || kind === 'symbol table' || kind === 'string table') return null;
    return this.#reader.read(offset, Math.min(size, structOf(this.#format, part)?.size ?? size));
  }

  /** @param bytes what was read of it */
  describe(part: Part, bytes: Uint8Array | null): string {
    if (part.unused !== null) return `unused, before ${nameOf(part)}`;
    if (!isSectionHeader(part) || bytes === null) return nameOf(part);
    const { sh_type } = this.#format.sectionHeader.fields;
    // Loader xen-4.6 cuts its headers to the e_shentsize of the image.
    if (sh_type.offset + sh_type.width > bytes.length) return nameOf(part);
    const type = Number(readLittle(bytes, sh_type));
    return `${nameOf(part)} (${sectionTypeName(type)})`;
  }

  /** The fields that differ. */
  compare(part: Part, bytes: Uint8Array | null, other: Uint8Array | null): PartDifference {
    const struct = structOf(this.#format, part);
    const fields =
      struct === null || bytes === null || other === null
        ? []
        : Object.values(struct.fields).flatMap((field) => {
            if (field.offset + field.width > Math.min(bytes.length, other.length)) return [];
            const [value, otherValue] = [readLittle(bytes, field), readLittle(other, field)];
            return value === otherValue ? [] : [{ name: field.name, value, other: otherValue }];
          });
    return { fields, hasOtherBytes: !sameBytes(bytes, other) };
  }
}

interface PartDifference {
  readonly fields: FieldDifference[];
  /** Whether any bytes differ, in fields or not. */
  readonly hasOtherBytes: boolean;
}

function difference(what: string, part: Part, match: Part, { fields, hasOtherBytes }: PartDifference): Difference {
  const moved = part.offset !== match.offset;
  const meaning = [
    moved ? `lies at ${match.offset} instead of ${part.offset}` : 'lies at the same place',
    ...(part.size === match.size ? [] : [`takes ${match.size} bytes instead of ${part.size}`]),
    ...(fields.length === 0 ? [] : [`differs in ${fields.map(({ name }) => name).join(', ')}`]),
    ...(fields.length === 0 && hasOtherBytes ? ['has different bytes'] : []),
  ];
  return {
    kind: moved ? 'moved' : 'changed',
    what,
    range: rangeOf(part),
    otherRange: rangeOf(match),
    fields,
    meaning: `With the other loader it ${meaning.join(', ')}.`,
  };
}

const missing = (what: string, part: Part): Difference => ({
  kind: 'missing',
  what,
  range: rangeOf(part),
  otherRange: null,
  fields: [],
  meaning: 'The other loader does not write it.',
});

const added = (what: string, part: Part): Difference => ({
  kind: 'added',
  what,
  range: null,
  otherRange: rangeOf(part),
  fields: [],
  meaning: 'Only the other loader writes it.',
});

const rangeOf = ({ offset, size }: Part): BlobRange => ({ offset, size });

function sameBytes(a: Uint8Array | null, b: Uint8Array | null): boolean {
  if (a === null || b === null) return a === b;
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/**
 * Loaders before 4.8 take little-endian images only, and 4.8 writes the fields that it replaces little-endian. `e_ident`,
 * which all of them copy, is not a number.
 */
const readLittle = (bytes: Uint8Array, { offset, width }: Field): bigint =>
  width > 8 ? 0n : readBigint(dataOf(bytes), offset, width, true);

/** Reads a plan. Reads in ascending order pass over its extents once. */
class PlanReader {
  readonly #extents: readonly Extent[];
  #index = 0;
  /** Where in the plan the extent at `#index` begins. */
  #at = 0;

  constructor(extents: readonly Extent[]) {
    this.#extents = extents;
  }

  /** The bytes of a range; what is copied from the image reads as zero. */
  read(offset: number, size: number): Uint8Array {
    if (offset < this.#at) this.#restart();
    const current = this.#extents[this.#index];
    const start = offset - this.#at;
    // Nearly all headers are in one run of bytes.
    if (current?.kind === 'bytes' && start + size < current.length) return current.bytes.subarray(start, start + size);
    const read = new Uint8Array(size);
    this.#slice(offset, size, (extent, from, length, at) => {
      if (extent.kind === 'bytes') read.set(extent.bytes.subarray(from, from + length), at);
    });
    return read;
  }

  /** A text that is equal for equal bytes. */
  describe(offset: number, size: number): string {
    const slices: string[] = [];
    this.#slice(offset, size, (extent, from, length) => {
      if (extent.kind === 'bytes') slices.push(`bytes ${extent.bytes.subarray(from, from + length).join(' ')}`);
      if (extent.kind === 'fill') slices.push(`${length} zeros`);
      if (extent.kind === 'copy') slices.push(`${length} from ${extent.offset + from}`);
    });
    return slices.join(', ');
  }

  #restart(): void {
    this.#index = 0;
    this.#at = 0;
  }

  #slice(offset: number, size: number, take: (extent: Extent, from: number, length: number, at: number) => void): void {
    for (;;) {
      const extent = this.#extents[this.#index];
      if (extent === undefined || this.#at >= offset + size) return;
      const from = Math.max(this.#at, offset);
      const to = Math.min(this.#at + extent.length, offset + size);
      if (to > from) take(extent, from - this.#at, to - from, from - offset);
      if (this.#at + extent.length > offset + size) return;
      this.#at += extent.length;
      this.#index += 1;
    }
  }
}
