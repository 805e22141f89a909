/** What all loaders have in common: how they reserve a region, copy headers into the blob and place tables there. */
import { readBigint, readNumber, writeBigint } from '../../elf/fields.ts';
import type { ElfClass, ElfFormat, Field, Struct } from '../../elf/format.ts';
import type { StagedImage, SymbolTableRef, SymbolTableSearch } from '../../elf/headers.ts';
import type { Steps } from '../../elf/steps.ts';
import { copyExtent, type Placed } from '../plan.ts';
import type { Failure } from './failures.ts';

/** The size word that opens the blob; `sh_offset`s count from its end. */
export const SIZE_WORD_BYTES = 4;

const alignmentMask = (format: ElfFormat): bigint => (format.class === 'ELF64' ? 7n : 3n);

/** Rounds up to the class's alignment, without wrapping. */
export function roundUp(value: bigint, format: ElfFormat): bigint {
  const mask = alignmentMask(format);
  return (value + mask) & ~mask;
}

/** What a loader accepts, and how its blobs are built: all differences between loaders that are not code. */
export interface LoaderTraits {
  /** The classes that it loads. */
  readonly classes: readonly ElfClass[];
  readonly bigEndian: boolean;
  /** Whether it continues after a reason was recorded. Loaders that do not are modelled for valid images only. */
  readonly loadsBroken: boolean;
  /** Whether sections have the same index in the blob as in the image. */
  readonly keepsIndices: boolean;
}

/** What one loader does. Both stages read in the order of the reference. */
export interface LoaderRules {
  readonly traits: LoaderTraits;
  readonly search: SymbolTableSearch;
  /** Stage `parse`: the bytes that are reserved, rounded up and without wrapping. */
  reserve(image: StagedImage, symbolTable: SymbolTableRef): Steps<Reserved>;
  /** Stage `load`. */
  write(image: StagedImage, symbolTable: SymbolTableRef, reservedSize: bigint): Steps<Written>;
}

export type Reserved = { readonly ok: true; readonly size: bigint } | { readonly ok: false; readonly failure: Failure };

/** One table of the blob. Offsets and sizes are bytes; `offset` counts from the blob's start. */
export interface PlannedTable {
  /** Index in the blob's own section header table. */
  readonly index: number;
  /** Index in the section header table of the image. */
  readonly section: number;
  readonly type: 'SYMTAB' | 'STRTAB';
  readonly offset: number;
  readonly size: number;
  /** The `sh_offset` that the guest finds, which counts from the ELF header. */
  readonly shOffset: number;
  /** Where the bytes lie in the image; null when the copy was skipped because they are not inside. */
  readonly fileOffset: number | null;
  /** The `sh_link` that the guest finds; of a SYMTAB the index of its string table. */
  readonly link: number;
  /** `sh_info`; of a SYMTAB the index of the first global symbol. */
  readonly info: number;
  readonly entrySize: bigint;
}

/** Where the headers of a blob lie, in bytes from its start. The ELF header follows the size word. */
export interface PlannedHeaders {
  readonly elfHeaderSize: number;
  readonly sectionHeaders: {
    readonly offset: number;
    /** Bytes that each header takes; they lie next to each other. */
    readonly size: number;
    readonly count: number;
  };
}

/** The size that a table claims, however large. */
export interface TableSize {
  readonly type: PlannedTable['type'];
  readonly size: bigint;
}

/** What stage `load` writes. */
export interface Written {
  /** The end of what load writes, rounded up. */
  readonly end: bigint;
  readonly sizeWord: number;
  /** Null when loading stopped before the headers were written. */
  readonly headers: PlannedHeaders | null;
  /** Their offsets and sizes are exact when `end` is within a limit; an image can have 65,535 of them. */
  readonly tables: readonly PlannedTable[];
  /** The exact sizes of the first tables. */
  readonly firstSizes: readonly TableSize[];
  /** In ascending order, without overlaps. Call it only when `end` is within the limit. */
  placed(): Iterable<Placed>;
}

/** The copied tables at their places in the blob. */
export function* placeTables(tables: readonly PlannedTable[]): Generator<Placed, void> {
  for (const { fileOffset, offset, size } of tables) {
    if (fileOffset !== null && size > 0) yield { at: offset, extent: copyExtent({ offset: fileOffset, length: size }) };
  }
}

/**
 * Headers copied for the blob, packed. Fields that are kept have the image's byte order; replaced ones are little-endian
 * for every image, as in the reference.
 */
export class HeaderCopies {
  readonly bytes: Uint8Array;
  readonly #data: DataView;
  readonly #size: number;
  readonly #littleEndian: boolean;

  constructor(struct: Struct, count: number, littleEndian: boolean) {
    this.bytes = new Uint8Array(struct.size * count);
    this.#data = new DataView(this.bytes.buffer);
    this.#size = struct.size;
    this.#littleEndian = littleEndian;
  }

  /** @param source a whole header, or null for one that could not be copied: it stays zero */
  set(index: number, source: Uint8Array | null): void {
    if (source !== null) this.bytes.set(source, index * this.#size);
  }

  /** A field of up to 4 bytes. */
  number(index: number, { offset, width }: Field): number {
    return readNumber(this.#data, index * this.#size + offset, width, this.#littleEndian);
  }

  /** A field of up to 8 bytes. */
  bigint(index: number, { offset, width }: Field): bigint {
    return readBigint(this.#data, index * this.#size + offset, width, this.#littleEndian);
  }

  /** Writes the low bits of `value`, as many as the field has. */
  put(index: number, { offset, width }: Field, value: bigint): void {
    writeBigint(this.#data, index * this.#size + offset, width, true, value);
  }
}
