/** Stage `segments`: where the kernel lies in guest-physical memory. */
import { type ElfFormat, PF_ANY, PT_LOAD } from '../elf/format.ts';
import { type ElfImage, enterStage, type StagedImage } from '../elf/headers.ts';
import { isStepEnd, runToEnd, type Steps } from '../elf/steps.ts';
import { U64_MAX } from '../elf/u64.ts';
import { countSame, type TableBytes, View } from '../elf/view.ts';

/** Guest-physical addresses. Without a loadable segment `pstart` is 2^64-1 and `pend` 0, as in the reference. */
export interface KernelRange {
  readonly pstart: bigint;
  readonly pend: bigint;
  /** The largest `p_align` of the loadable segments. */
  readonly align: bigint;
  /** Whether any loadable segment has bytes in the file (`p_filesz`). */
  readonly hasFileBytes: boolean;
}

/** An image that passed stage `segments`. */
export interface LocatedKernel {
  /** With what was recorded so far. */
  readonly image: ElfImage;
  readonly kernel: KernelRange;
}

/** Stage `segments` of the loader; source: docs/loader.md. `p_paddr + p_memsz` wraps at 2^64. */
export const findKernelRange = (image: ElfImage): LocatedKernel => runToEnd(findKernelRangeInSteps(image));

/** As `findKernelRange`, in steps. */
export function* findKernelRangeInSteps(image: ElfImage): Steps<LocatedKernel> {
  const staged = enterStage(image, 'segments');
  const segments = new SegmentReader(staged);
  let pstart = U64_MAX;
  let pend = 0n;
  let align = 0n;
  let hasFileBytes = false;
  for (let index = 0; segments.has(index); index += segments.countSame(index)) {
    if (isStepEnd(index)) yield null;
    if (!segments.isLoadable(index)) continue;
    const start = segments.paddr(index);
    const end = BigInt.asUintN(64, start + segments.memsz(index));
    const segmentAlign = segments.align(index);
    if (start < pstart) pstart = start;
    if (end > pend) pend = end;
    if (segmentAlign > align) align = segmentAlign;
    // Read after all that the reference reads, so it is never the first that is recorded.
    if (segments.filesz(index) > 0n) hasFileBytes = true;
  }
  const { recorded } = staged.recorder;
  return { image: { ...image, recorded }, kernel: { pstart, pend, align, hasFileBytes } };
}

/** Whether the image has a loadable segment. */
export const hasSegments = ({ pstart, pend }: KernelRange): boolean => pend !== 0n || pstart !== U64_MAX;

/** A loadable segment, with the fields of its program header. */
export interface Segment {
  /** Index in the program header table. */
  readonly index: number;
  readonly offset: bigint;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
  readonly flags: number;
  readonly align: bigint;
}

/** Reads program headers as segments. A class, as loops over 65,535 of them need objects of one shape to be fast. */
export class SegmentReader {
  readonly #table: TableBytes;
  readonly #view: View;
  readonly #fields: ElfFormat['programHeader']['fields'];

  constructor({ headers, view }: Pick<StagedImage, 'headers' | 'view'>) {
    this.#table = headers.programHeaders;
    this.#view = view;
    this.#fields = headers.format.programHeader.fields;
  }

  /** Whether there is a program header of this index. The first one outside the image ends the table. */
  has(index: number): boolean {
    return index < this.#table.count && this.#view.hasEntry(this.#table, index);
  }

  /** See `countSame` of `elf/view.ts`. */
  countSame(index: number): number {
    return countSame(this.#table, index);
  }

  /** Whether the segment is part of the kernel. */
  isLoadable(index: number): boolean {
    // Both are read for every header, as either read may be the one that is recorded.
    const type = this.#view.number(this.#table, index, this.#fields.p_type);
    const flags = this.flags(index);
    return type === PT_LOAD && (flags & PF_ANY) !== 0;
  }

  offset(index: number): bigint {
    return this.#view.bigint(this.#table, index, this.#fields.p_offset);
  }

  vaddr(index: number): bigint {
    return this.#view.bigint(this.#table, index, this.#fields.p_vaddr);
  }

  paddr(index: number): bigint {
    return this.#view.bigint(this.#table, index, this.#fields.p_paddr);
  }

  filesz(index: number): bigint {
    return this.#view.bigint(this.#table, index, this.#fields.p_filesz);
  }

  memsz(index: number): bigint {
    return this.#view.bigint(this.#table, index, this.#fields.p_memsz);
  }

  flags(index: number): number {
    return this.#view.number(this.#table, index, this.#fields.p_flags);
  }

  align(index: number): bigint {
    return this.#view.bigint(this.#table, index, this.#fields.p_align);
  }

  /** All fields. */
  segment(index: number): Segment {
    return {
      index,
      offset: this.offset(index),
      vaddr: this.vaddr(index),
      paddr: this.paddr(index),
      filesz: this.filesz(index),
      memsz: this.memsz(index),
      flags: this.flags(index),
      align: this.align(index),
    };
  }
}

/** Reads the segments of an image. What is outside the image is not recorded. */
export const segmentsOf = ({ headers }: Pick<ElfImage, 'headers'>): SegmentReader =>
  new SegmentReader({ headers, view: new View(headers) });

/** The first segments of a list, and how many more there are. */
interface ListedSegments {
  readonly segments: Segment[];
  readonly unlisted: number;
}

/** The loadable segments in table order. */
export const listSegments = (image: ElfImage): Segment[] =>
  runToEnd(listSegmentsInSteps(image, Number.POSITIVE_INFINITY)).segments;

/** As `listSegments`, in steps, and at most `maxListed` of them: a list of 65,535 takes 20 MB. */
export function* listSegmentsInSteps(image: ElfImage, maxListed: number): Steps<ListedSegments> {
  const reader = segmentsOf(image);
  const segments: Segment[] = [];
  let unlisted = 0;
  for (let index = 0, step = 1; reader.has(index); index += step) {
    if (isStepEnd(index)) yield null;
    step = segments.length < maxListed ? 1 : reader.countSame(index);
    if (!reader.isLoadable(index)) continue;
    if (segments.length < maxListed) segments.push(reader.segment(index));
    else unlisted += step;
  }
  return { segments, unlisted };
}
