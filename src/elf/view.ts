/**
 * Checked reads of an image's headers.
 *
 * The loader never fails in the middle: a field that is not inside the image reads as 0, the first such reason is
 * kept, and work goes on. Everything that reads an untrusted byte of a header goes through `View`.
 */
import type { ElfFormat, Field, Struct } from './format.ts';

/** Where in the loader's work something was found. */
export type Stage = 'init' | 'segments' | 'notes' | 'parse' | 'load';

/** Reasons that the reference records while it goes on. `xen/broken.ts` has their wording. */
export type RecordedCode =
  | 'out-of-range-access'
  | 'too-many-section-headers'
  | 'no-symbol-table'
  | 'strtab-not-found'
  | 'string-too-long'
  | 'too-many-notes'
  | 'segments-too-large';

/** What a reason is about. */
export interface Finding {
  /** What was being read, for people and logs: `e_shoff of the ELF header`. */
  readonly what: string;
  /** Where in the image that lies or would lie, and its length in bytes; null when it is not about bytes. */
  readonly offset: bigint | null;
  readonly length: bigint | null;
  /** What was found there, as one or more sentences. */
  readonly detail: string;
}

/** The first reason that was recorded against an image. */
export interface Recorded extends Finding {
  readonly code: RecordedCode;
  readonly stage: Stage;
}

/** Where a table of headers lies: entry i is at `offset + stride * i`, modulo 2^64. */
export interface Table {
  readonly name: 'ELF header' | 'program header' | 'section header';
  readonly struct: Struct;
  readonly offset: bigint;
  /**
   * `offset` as a signed double: offsets of 2^63 and more are negative.
   *
   * An image is smaller than 2^53 bytes and a table spans less than 2^32, so positions decide "inside or not" exactly
   * as the reference's unsigned 64-bit arithmetic does, wrap-around included, at the price of plain numbers.
   */
  readonly position: number;
  readonly stride: number;
  readonly count: number;
}

/**
 * A table with the bytes of its entries: entry i at `i * pitch`, `struct.size` bytes each.
 * Whatever is outside the image is left as zeros there; `View` never looks at it.
 */
export interface TableBytes extends Table {
  readonly bytes: DataView;
  readonly pitch: number;
}

export function describeTable(
  name: Table['name'],
  struct: Struct,
  offset: bigint,
  stride: number,
  count: number,
): Table {
  return { name, struct, offset, position: Number(BigInt.asIntN(64, offset)), stride, count };
}

/** The headers of an image, read ahead: all that the stages look at. */
export interface Headers {
  /** Bytes in the whole image. */
  readonly imageSize: number;
  readonly format: ElfFormat;
  readonly littleEndian: boolean;
  readonly elfHeader: TableBytes;
  readonly programHeaders: TableBytes;
  readonly sectionHeaders: TableBytes;
}

export class View {
  readonly imageSize: number;
  readonly littleEndian: boolean;
  /** The stage that reads now; it becomes part of what is recorded. */
  stage: Stage = 'init';
  #recorded: Recorded | null = null;

  constructor(imageSize: number, littleEndian: boolean) {
    this.imageSize = imageSize;
    this.littleEndian = littleEndian;
  }

  /** The first reason recorded; later ones never replace it. */
  get recorded(): Recorded | null {
    return this.#recorded;
  }

  /** Keeps the reason if it is the first. `describe` is called only then, so recording costs nothing in a loop. */
  record(code: RecordedCode, describe: () => Finding): void {
    this.#recorded ??= { code, stage: this.stage, ...describe() };
  }

  /** A view that goes on from here: what it records is not recorded here. */
  fork(): View {
    const fork = new View(this.imageSize, this.littleEndian);
    fork.stage = this.stage;
    fork.#recorded = this.#recorded;
    return fork;
  }

  /** Records a range that is not inside the image. */
  recordOutside(describe: () => Omit<Finding, 'detail'>): void {
    this.record('out-of-range-access', () => {
      const finding = describe();
      return { ...finding, detail: outsideDetail(finding, this.imageSize) };
    });
  }

  /** A field of 16 or 32 bits of entry `index`, zero-extended; 0 when it is not inside the image. */
  u32(table: TableBytes, index: number, field: Field): number {
    if (!this.#checkField(table, index, field)) return 0;
    const at = index * table.pitch + field.offset;
    return field.width === 2
      ? table.bytes.getUint16(at, this.littleEndian)
      : table.bytes.getUint32(at, this.littleEndian);
  }

  /** A field of 32 or 64 bits of entry `index`, zero-extended to 64; 0 when it is not inside the image. */
  u64(table: TableBytes, index: number, field: Field): bigint {
    if (!this.#checkField(table, index, field)) return 0n;
    const at = index * table.pitch + field.offset;
    return field.width === 8
      ? table.bytes.getBigUint64(at, this.littleEndian)
      : BigInt(table.bytes.getUint32(at, this.littleEndian));
  }

  /** Whether the first byte of entry `index` is inside the image; recorded when not. */
  hasEntry(table: Table, index: number): boolean {
    return this.#checkEntry(table, index, 1);
  }

  /** The `struct.size` bytes of entry `index`, or null (recorded) when they are not wholly inside the image. */
  entry(table: TableBytes, index: number): Uint8Array | null {
    const { size } = table.struct;
    if (!this.#checkEntry(table, index, size)) return null;
    return new Uint8Array(table.bytes.buffer, table.bytes.byteOffset + index * table.pitch, size);
  }

  /**
   * The range as image offsets when it is wholly inside the image; otherwise null, and `what` is recorded.
   * A range of length 0 beyond the end is outside too.
   *
   * @param what called only then
   */
  range(
    what: string | (() => string),
    offset: bigint,
    length: bigint,
  ): { readonly offset: number; readonly length: number } | null {
    const size = BigInt(this.imageSize);
    if (offset > size || length > size - offset) {
      this.recordOutside(() => ({ what: typeof what === 'string' ? what : what(), offset, length }));
      return null;
    }
    return { offset: Number(offset), length: Number(length) };
  }

  #checkEntry(table: Table, index: number, length: number): boolean {
    if (isInside(entryPosition(table, index), length, this.imageSize)) return true;
    this.recordOutside(() => ({
      what: describeEntry(table, index),
      offset: entryOffset(table, index),
      length: BigInt(table.struct.size),
    }));
    return false;
  }

  #checkField(table: TableBytes, index: number, field: Field): boolean {
    if (isInside(entryPosition(table, index) + field.offset, field.width, this.imageSize)) return true;
    this.recordOutside(() => ({
      what: `${field.name} of ${describeEntry(table, index)}`,
      offset: BigInt.asUintN(64, entryOffset(table, index) + BigInt(field.offset)),
      length: BigInt(field.width),
    }));
    return false;
  }
}

/** The exact offset of entry `index`, modulo 2^64. */
export function entryOffset(table: Table, index: number): bigint {
  return BigInt.asUintN(64, table.offset + BigInt(table.stride * index));
}

/** The position of entry `index`, see `Table.position`. */
export function entryPosition(table: Table, index: number): number {
  return table.position + table.stride * index;
}

/** The reference's rule for every access, on positions as `entryPosition` gives them. */
export function isInside(position: number, length: number, imageSize: number): boolean {
  return position >= 0 && position <= imageSize && length <= imageSize - position;
}

function describeEntry(table: Table, index: number): string {
  return table.name === 'ELF header' ? 'the ELF header' : `${table.name} ${index}`;
}

function outsideDetail({ what, offset, length }: Omit<Finding, 'detail'>, imageSize: number): string {
  return (
    `${what[0]?.toUpperCase()}${what.slice(1)} would be ${length} bytes at offset ${offset}, ` +
    `but the image ends at ${imageSize}. The file is probably cut short: compare its size with the original.`
  );
}
