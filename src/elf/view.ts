/** Checked reads of an image's headers. Every untrusted byte of a header is read through `View`. */
import { readBigint, readNumber } from './fields.ts';
import type { ElfFormat, Field, Struct } from './format.ts';
import type { FoundRange, Recorder } from './recorder.ts';

/** Where a table of headers lies: entry i is at `offset + stride * i`, modulo 2^64. */
export interface Table {
  readonly name: 'ELF header' | 'program header' | 'section header';
  readonly struct: Struct;
  readonly offset: bigint;
  /**
   * `offset` as a signed double: offsets of 2^63 and more are negative.
   *
   * An image is smaller than 2^53 bytes and a table spans less than 2^32, so positions decide "inside or not" exactly
   * as the reference's unsigned 64-bit arithmetic does, wrap-around included, at the cost of plain numbers.
   */
  readonly position: number;
  readonly stride: number;
  readonly count: number;
}

/**
 * A table with the bytes of its entries: entry i at `i * pitch`, `struct.size` bytes each.
 * Bytes outside the image are zero there; `View` never reads them.
 */
export interface TableBytes extends Table {
  readonly bytes: DataView;
  readonly pitch: number;
}

/** A table of `count` entries, `stride` bytes apart, of which the first is at `offset` of the image. */
export function describeTable(
  name: Table['name'],
  struct: Struct,
  offset: bigint,
  stride: number,
  count: number,
): Table {
  return { name, struct, offset, position: Number(BigInt.asIntN(64, offset)), stride, count };
}

/** The headers of an image, read in advance: all that the stages read. */
export interface Headers {
  /** Bytes in the whole image. */
  readonly imageSize: number;
  readonly format: ElfFormat;
  readonly littleEndian: boolean;
  readonly elfHeader: TableBytes;
  readonly programHeaders: TableBytes;
  readonly sectionHeaders: TableBytes;
}

/** Reads header fields of one image. What is outside the image reads as 0, and is recorded where there is a recorder. */
export class View {
  readonly imageSize: number;
  readonly littleEndian: boolean;
  readonly #recorder: Recorder | null;

  /** @param recorder records reads outside the image; without one they do not count against it */
  constructor(
    { imageSize, littleEndian }: Pick<Headers, 'imageSize' | 'littleEndian'>,
    recorder: Recorder | null = null,
  ) {
    this.imageSize = imageSize;
    this.littleEndian = littleEndian;
    this.#recorder = recorder;
  }

  /** A field of up to 4 bytes of entry `index`; 0 when it is not inside the image. */
  number(table: TableBytes, index: number, field: Field): number {
    if (!this.#checkField(table, index, field)) return 0;
    return readNumber(table.bytes, index * table.pitch + field.offset, field.width, this.littleEndian);
  }

  /** A field of up to 8 bytes of entry `index`; 0 when it is not inside the image. */
  bigint(table: TableBytes, index: number, field: Field): bigint {
    if (!this.#checkField(table, index, field)) return 0n;
    return readBigint(table.bytes, index * table.pitch + field.offset, field.width, this.littleEndian);
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
   * @param what names the range; a function is called only when it is recorded
   */
  range(
    what: string | (() => string),
    offset: bigint,
    length: bigint,
  ): { readonly offset: number; readonly length: number } | null {
    const size = BigInt(this.imageSize);
    if (offset > size || length > size - offset) {
      this.#recordOutside(() => ({ what: typeof what === 'string' ? what : what(), offset, length }));
      return null;
    }
    return { offset: Number(offset), length: Number(length) };
  }

  #recordOutside(describe: () => FoundRange): void {
    this.#recorder?.recordOutside(this.imageSize, describe);
  }

  #checkEntry(table: Table, index: number, length: number): boolean {
    if (isInside(entryPosition(table, index), length, this.imageSize)) return true;
    this.#recordOutside(() => ({
      what: describeEntry(table, index),
      offset: entryOffset(table, index),
      length: BigInt(table.struct.size),
    }));
    return false;
  }

  #checkField(table: TableBytes, index: number, field: Field): boolean {
    if (isInside(entryPosition(table, index) + field.offset, field.width, this.imageSize)) return true;
    this.#recordOutside(() => ({
      what: `${field.name} of ${describeEntry(table, index)}`,
      offset: BigInt.asUintN(64, entryOffset(table, index) + BigInt(field.offset)),
      length: BigInt(field.width),
    }));
    return false;
  }
}

/** How many entries the entry at `index` stands for. With a stride of 0, the second one stands for all that are left. */
export const countSame = ({ stride, count }: Table, index: number): number =>
  stride === 0 && index > 0 ? count - index : 1;

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
