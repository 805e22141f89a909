/** How the symbols of one image differ between two loaders: ranges of bytes, and what they are. Nothing here throws. */
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
import { type Loader, SIZE_WORD_BYTES, type SymbolLoad, type SymbolPlan } from './loaders/bsdsyms.ts';
import type { Extent } from './plan.ts';

/** Parts that are compared between two pauses. */
const PARTS_PER_STEP = 256;

/** A range of a blob, counted from its start, in bytes. */
export interface BlobRange {
  readonly offset: number;
  readonly size: number;
}

/** A field of a header that says different things. */
export interface FieldDifference {
  /** As the gABI calls it. */
  readonly name: string;
  readonly value: bigint;
  readonly other: bigint;
}

/**
 * - `changed`: at the same place in both, with other bytes;
 * - `moved`: at another place, with or without other bytes;
 * - `missing`: the other has nothing like it;
 * - `added`: only the other has it.
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
      /** In the order of the blob; what only the other one has comes behind. None when both are the same, byte for byte. */
      readonly differences: readonly Difference[];
      /** How many there are besides. */
      readonly unlisted: number;
    };

/**
 * Compares in steps, each of which takes little time: an image can have 65,535 sections.
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
  const others = new Map<string, Part>();
  let done = 0;
  const isStep = (): boolean => ++done % PARTS_PER_STEP === 0;
  for (const part of listParts(format, other.plan)) {
    others.set(part.key, part);
    if (isStep()) yield;
  }
  const differences: Difference[] = [];
  let unlisted = 0;
  const add = (describe: () => Difference): void => {
    if (differences.length < MAX_LISTED) differences.push(describe());
    else unlisted += 1;
  };
  for (const part of listParts(format, plan)) {
    const match = others.get(part.key);
    others.delete(part.key);
    if (match === undefined) add(() => missing(part));
    else if (!isSame(part, match)) add(() => difference(part, match));
    if (isStep()) yield;
  }
  for (const part of others.values()) {
    add(() => added(part));
    if (isStep()) yield;
  }
  return { loader, broken: null, plan: other.plan, differences, unlisted };
}

/** A part of a blob that stands for itself. */
interface Part extends BlobRange {
  /** The same in both blobs for what is the same in the image. */
  readonly key: string;
  readonly what: string;
  /** Its bytes as far as they are fields; null for a copy, or for what belongs to nothing: the key tells those. */
  readonly bytes: Uint8Array | null;
  /** What the bytes are read as; null for bytes without fields. */
  readonly struct: Struct | null;
}

interface Outline extends BlobRange {
  readonly key: string;
  readonly what: string;
  readonly struct: Struct | null;
  /** Index of the section whose header it is; null for everything else. */
  readonly section: number | null;
}

/** The parts of a blob in ascending order, without gaps. */
function* listParts(format: ElfFormat, plan: SymbolPlan): Generator<Part, void> {
  const reader = new PlanReader(plan.extents);
  const times = new Map<string, number>();
  // Two sections may be about the same bytes of the image.
  const distinct = (key: string): string => {
    const time = (times.get(key) ?? 0) + 1;
    times.set(key, time);
    return time === 1 ? key : `${key}, ${time}`;
  };
  let end = 0;
  const unused = (offset: number, before: string): Part => {
    const key = distinct(`before ${before}: ${reader.describe(end, offset - end)}`);
    return { key, what: `unused, before ${before}`, offset: end, size: offset - end, bytes: null, struct: null };
  };
  for (const { key, what, offset, size, struct, section } of outline(format, plan)) {
    // Headers of a size that the image puts at 0.
    if (size === 0) continue;
    if (offset > end) yield unused(offset, what);
    // The size word alone has bytes and no fields.
    const isCopy = struct === null && offset > 0;
    const bytes = isCopy ? null : reader.read(offset, Math.min(size, struct?.size ?? size));
    const type = bytes === null || section === null ? '' : ` (${readType(format, bytes)})`;
    yield { key: distinct(key), what: what + type, offset, size, bytes, struct };
    end = Math.max(end, offset + size);
  }
  if (plan.size > end) yield unused(plan.size, 'the end');
}

const readType = (format: ElfFormat, bytes: Uint8Array): string =>
  sectionTypeName(Number(readLittle(bytes, format.sectionHeader.fields.sh_type)));

function* outline(format: ElfFormat, plan: SymbolPlan): Generator<Outline, void> {
  if (plan.elfHeaderSize !== null) yield* outlineHeaders(format, plan, plan.elfHeaderSize);
  for (const { type, offset, size, fileOffset } of plan.tables) {
    if (fileOffset === null || size === 0) continue;
    const what = type === 'SYMTAB' ? 'symbol table' : 'string table';
    yield { key: `${size} bytes from ${fileOffset}`, what, offset, size, struct: null, section: null };
  }
}

function* outlineHeaders(format: ElfFormat, plan: SymbolPlan, elfHeaderSize: number): Generator<Outline, void> {
  yield {
    key: 'size word',
    what: 'size word',
    offset: 0,
    size: SIZE_WORD_BYTES,
    struct: null,
    section: null,
  };
  yield {
    key: 'ELF header',
    what: 'ELF header',
    offset: SIZE_WORD_BYTES,
    size: Math.min(elfHeaderSize, format.elfHeader.size),
    struct: format.elfHeader,
    section: null,
  };
  yield* outlineSections(format, plan);
}

function* outlineSections({ elfHeader, sectionHeader }: ElfFormat, plan: SymbolPlan): Generator<Outline, void> {
  const header = new PlanReader(plan.extents).read(SIZE_WORD_BYTES, elfHeader.size);
  const { e_shoff, e_shnum, e_shentsize } = elfHeader.fields;
  const start = SIZE_WORD_BYTES + Number(readLittle(header, e_shoff));
  // The rewrite packs its three headers, whatever the image says of their size.
  const packed = plan.loader === 'xen-4.8' || plan.loader === 'xen-4.7';
  // As the image has them; the toolstack's copy of the code goes by the class instead.
  const size = plan.loader === 'xen-4.6' ? Number(readLittle(header, e_shentsize)) : sectionHeader.size;
  const count = packed ? 3 : Number(readLittle(header, e_shnum));
  // Tables and their headers are in the same order.
  let next = 0;
  for (let section = 0; section < count; section++) {
    const table = plan.tables[next]?.index === section ? plan.tables[next] : undefined;
    if (table !== undefined) next += 1;
    yield {
      // The same table has another index with another loader.
      key: table === undefined ? `section ${section}` : `header of ${table.size} bytes from ${table.fileOffset}`,
      what: `section header ${section}`,
      offset: start + section * size,
      size,
      struct: sectionHeader,
      section,
    };
  }
}

/** Whether a part is at the same place with the same bytes. Copies have the same bytes when they have the same key. */
function isSame(part: Part, match: Part): boolean {
  return part.offset === match.offset && part.size === match.size && sameBytes(part.bytes, match.bytes);
}

function difference(part: Part, match: Part): Difference {
  const moved = part.offset !== match.offset;
  const fields = compareFields(part, match);
  const meaning = [
    moved ? `lies at ${match.offset} instead of ${part.offset}` : 'lies at the same place',
    ...(part.size === match.size ? [] : [`takes ${match.size} bytes instead of ${part.size}`]),
    ...(fields.length === 0 ? [] : [`differs in ${fields.map(({ name }) => name).join(', ')}`]),
    ...(fields.length === 0 && !sameBytes(part.bytes, match.bytes) ? ['has other bytes'] : []),
  ];
  return {
    kind: moved ? 'moved' : 'changed',
    what: part.what,
    range: rangeOf(part),
    otherRange: rangeOf(match),
    fields,
    meaning: `With the other loader it ${meaning.join(', ')}.`,
  };
}

const missing = (part: Part): Difference => ({
  kind: 'missing',
  what: part.what,
  range: rangeOf(part),
  otherRange: null,
  fields: [],
  meaning: 'The other loader does not write it.',
});

const added = (part: Part): Difference => ({
  kind: 'added',
  what: part.what,
  range: null,
  otherRange: rangeOf(part),
  fields: [],
  meaning: 'Only the other loader writes it.',
});

const rangeOf = ({ offset, size }: Part): BlobRange => ({ offset, size });

function compareFields({ struct, bytes }: Part, match: Part): FieldDifference[] {
  const other = match.bytes;
  if (struct === null || bytes === null || other === null) return [];
  return Object.values(struct.fields).flatMap((field) => {
    if (field.offset + field.width > Math.min(bytes.length, other.length)) return [];
    const [value, otherValue] = [readLittle(bytes, field), readLittle(other, field)];
    return value === otherValue ? [] : [{ name: field.name, value, other: otherValue }];
  });
}

const sameBytes = (a: Uint8Array | null, b: Uint8Array | null): boolean =>
  a === null || b === null ? a === b : a.length === b.length && a.every((byte, index) => byte === b[index]);

/** Loaders before 4.8 are known for little-endian images only, and 4.8 writes what it replaces so. */
function readLittle(bytes: Uint8Array, { offset, width }: Field): bigint {
  let value = 0n;
  for (let index = width - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[offset + index] ?? 0);
  return value;
}

/** Reads a plan in ascending order, so that however many extents it has, all of it is gone through once. */
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
    const read = new Uint8Array(size);
    this.#slice(offset, size, (extent, from, length, at) => {
      if (extent.kind === 'bytes') read.set(extent.bytes.subarray(from, from + length), at);
      if (extent.kind === 'fill') read.fill(extent.byte, at, at + length);
    });
    return read;
  }

  /** A text that is the same for the same bytes. */
  describe(offset: number, size: number): string {
    const slices: string[] = [];
    this.#slice(offset, size, (extent, from, length) => {
      if (extent.kind === 'bytes') slices.push(`bytes ${extent.bytes.subarray(from, from + length).join(' ')}`);
      if (extent.kind === 'fill') slices.push(`${length} of ${extent.byte}`);
      if (extent.kind === 'copy') slices.push(`${length} from ${extent.offset + from}`);
    });
    return slices.join(', ');
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
