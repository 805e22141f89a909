/** Stage `segments`: where the kernel lies in guest-physical memory. */
import { PF_ANY, PT_LOAD } from '../elf/format.ts';
import { type ElfImage, enterStage, type StagedImage } from '../elf/headers.ts';
import { isStepEnd, runToEnd, type Steps } from '../elf/steps.ts';
import { View } from '../elf/view.ts';

/** Guest-physical addresses. Without a loadable segment `pstart` is 2^64-1 and `pend` 0, as in the reference. */
export interface KernelRange {
  readonly pstart: bigint;
  readonly pend: bigint;
  /** The largest `p_align` of the loadable segments. */
  readonly align: bigint;
  /** Whether any loadable segment has bytes in the file (`p_filesz`). */
  readonly hasFileBytes: boolean;
}

const MAX_U64 = 2n ** 64n - 1n;

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
  const { headers, view, recorder } = staged;
  const table = headers.programHeaders;
  const { p_paddr, p_memsz, p_align, p_filesz } = headers.format.programHeader.fields;
  let pstart = MAX_U64;
  let pend = 0n;
  let align = 0n;
  let hasFileBytes = false;
  for (let index = 0; hasSegment(staged, index); index++) {
    if (isStepEnd(index)) yield null;
    if (!isLoadable(staged, index)) continue;
    const start = view.bigint(table, index, p_paddr);
    const end = BigInt.asUintN(64, start + view.bigint(table, index, p_memsz));
    const segmentAlign = view.bigint(table, index, p_align);
    if (start < pstart) pstart = start;
    if (end > pend) pend = end;
    if (segmentAlign > align) align = segmentAlign;
    // Read after all that the reference reads, so it is never the first that is recorded.
    if (view.bigint(table, index, p_filesz) > 0n) hasFileBytes = true;
  }
  return { image: { ...image, recorded: recorder.recorded }, kernel: { pstart, pend, align, hasFileBytes } };
}

/** Whether the image has a loadable segment. */
export const hasSegments = ({ pstart, pend }: KernelRange): boolean => pend !== 0n || pstart !== MAX_U64;

type HeadersInView = Pick<StagedImage, 'headers' | 'view'>;

/** Whether there is a program header of this index. The first one outside the image ends the table. */
export const hasSegment = ({ headers, view }: HeadersInView, index: number): boolean =>
  index < headers.programHeaders.count && view.hasEntry(headers.programHeaders, index);

/** Whether the segment is part of the kernel. */
export function isLoadable({ headers, view }: HeadersInView, index: number): boolean {
  const table = headers.programHeaders;
  const { p_type, p_flags } = headers.format.programHeader.fields;
  // Both are read for every header, as either read may be the one that is recorded.
  const type = view.number(table, index, p_type);
  const flags = view.number(table, index, p_flags);
  return type === PT_LOAD && (flags & PF_ANY) !== 0;
}

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

/** The first segments of a list, and how many more there are. */
interface ListedSegments {
  readonly segments: Segment[];
  readonly unlisted: number;
}

/** The loadable segments in table order. */
export const listSegments = (image: ElfImage): Segment[] =>
  runToEnd(listSegmentsInSteps(image, Number.POSITIVE_INFINITY)).segments;

/** As `listSegments`, in steps, and at most `maxListed` of them: a list of 65,535 takes 20 MB. */
export function* listSegmentsInSteps({ headers }: ElfImage, maxListed: number): Steps<ListedSegments> {
  const view = new View(headers);
  const reads = { headers, view };
  const segments: Segment[] = [];
  let unlisted = 0;
  for (let index = 0; hasSegment(reads, index); index++) {
    if (isStepEnd(index)) yield null;
    if (!isLoadable(reads, index)) continue;
    if (segments.length < maxListed) segments.push(readSegment(reads, index));
    else unlisted += 1;
  }
  return { segments, unlisted };
}

/** The fields of a program header. */
export function readSegment({ headers, view }: HeadersInView, index: number): Segment {
  const table = headers.programHeaders;
  const fields = headers.format.programHeader.fields;
  return {
    index,
    offset: view.bigint(table, index, fields.p_offset),
    vaddr: view.bigint(table, index, fields.p_vaddr),
    paddr: view.bigint(table, index, fields.p_paddr),
    filesz: view.bigint(table, index, fields.p_filesz),
    memsz: view.bigint(table, index, fields.p_memsz),
    flags: view.number(table, index, fields.p_flags),
    align: view.bigint(table, index, fields.p_align),
  };
}
