/** Stage `segments`: where the kernel lies in guest-physical memory. */
import { PF_ANY, PT_LOAD } from '../elf/format.ts';
import type { ElfImage } from '../elf/headers.ts';
import { isStepEnd, runToEnd, type Steps } from '../elf/steps.ts';

/** Guest-physical addresses. Without a loadable segment `pstart` is 2^64-1 and `pend` 0, as in the reference. */
export interface KernelRange {
  readonly pstart: bigint;
  readonly pend: bigint;
  /** The largest `p_align` of the loadable segments. */
  readonly align: bigint;
  /** Whether the file has bytes of any loadable segment (`p_filesz`). */
  readonly hasFileBytes: boolean;
}

const MAX_U64 = 2n ** 64n - 1n;

/** Stage `segments` of the loader; source: docs/loader.md. `p_paddr + p_memsz` wraps at 2^64. */
export const findKernelRange = (image: ElfImage): KernelRange => runToEnd(findKernelRangeInSteps(image));

/** As `findKernelRange`, in steps. */
export function* findKernelRangeInSteps(image: ElfImage): Steps<KernelRange> {
  const { headers, view } = image;
  view.stage = 'segments';
  const table = headers.programHeaders;
  const { p_paddr, p_memsz, p_align, p_filesz } = headers.format.programHeader.fields;
  let pstart = MAX_U64;
  let pend = 0n;
  let align = 0n;
  let hasFileBytes = false;
  for (let index = 0; hasSegment(image, index); index++) {
    if (isStepEnd(index)) yield;
    if (!isLoadable(image, index)) continue;
    const start = view.u64(table, index, p_paddr);
    const end = BigInt.asUintN(64, start + view.u64(table, index, p_memsz));
    const segmentAlign = view.u64(table, index, p_align);
    if (start < pstart) pstart = start;
    if (end > pend) pend = end;
    if (segmentAlign > align) align = segmentAlign;
    // After all that the reference reads: it cannot be what is recorded first.
    if (view.u64(table, index, p_filesz) > 0n) hasFileBytes = true;
  }
  return { pstart, pend, align, hasFileBytes };
}

/** Whether the image has a loadable segment. */
export const hasSegments = ({ pstart, pend }: KernelRange): boolean => pend !== 0n || pstart !== MAX_U64;

/** Whether there is a program header of this index. The first one that is not in the image ends the table. */
export const hasSegment = ({ headers, view }: ElfImage, index: number): boolean =>
  index < headers.programHeaders.count && view.hasEntry(headers.programHeaders, index);

/** Whether the segment is one of those that make up the kernel. */
export function isLoadable({ headers, view }: ElfImage, index: number): boolean {
  const table = headers.programHeaders;
  const { p_type, p_flags } = headers.format.programHeader.fields;
  // Both are read for every header, as either read may be the one that is recorded.
  const type = view.u32(table, index, p_type);
  const flags = view.u32(table, index, p_flags);
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

/** The first segments of a list, and how many there are besides. */
export interface ListedSegments {
  readonly segments: Segment[];
  readonly unlisted: number;
}

/** The loadable segments in table order. Reading them again records nothing that was not recorded before. */
export const listSegments = (image: ElfImage): Segment[] =>
  runToEnd(listSegmentsInSteps(image, Number.POSITIVE_INFINITY)).segments;

/** As `listSegments`, in steps, and at most `maxListed` of them: a list of 65,535 takes 20 MB. */
export function* listSegmentsInSteps(image: ElfImage, maxListed: number): Steps<ListedSegments> {
  const { headers } = image;
  const view = image.view.fork();
  const again = { ...image, view };
  const table = headers.programHeaders;
  const fields = headers.format.programHeader.fields;
  const segments: Segment[] = [];
  let unlisted = 0;
  for (let index = 0; hasSegment(again, index); index++) {
    if (isStepEnd(index)) yield;
    if (!isLoadable(again, index)) continue;
    if (segments.length >= maxListed) {
      unlisted += 1;
      continue;
    }
    segments.push({
      index,
      offset: view.u64(table, index, fields.p_offset),
      vaddr: view.u64(table, index, fields.p_vaddr),
      paddr: view.u64(table, index, fields.p_paddr),
      filesz: view.u64(table, index, fields.p_filesz),
      memsz: view.u64(table, index, fields.p_memsz),
      flags: view.u32(table, index, fields.p_flags),
      align: view.u64(table, index, fields.p_align),
    });
  }
  return { segments, unlisted };
}
