/** Stage `segments`: where the kernel lies in guest-physical memory. */
import { PF_ANY, PT_LOAD } from '../elf/format.ts';
import type { ElfImage } from '../elf/headers.ts';

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
export function findKernelRange(image: ElfImage): KernelRange {
  const { headers, view } = image;
  view.stage = 'segments';
  const table = headers.programHeaders;
  const { p_paddr, p_memsz, p_align, p_filesz } = headers.format.programHeader.fields;
  let pstart = MAX_U64;
  let pend = 0n;
  let align = 0n;
  let hasFileBytes = false;
  for (const index of loadableSegments(image)) {
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

/** The indices of the loadable segments in table order, up to the first header that is not in the image. */
export function* loadableSegments({ headers, view }: ElfImage): Generator<number, void> {
  const table = headers.programHeaders;
  const { p_type, p_flags } = headers.format.programHeader.fields;
  for (let index = 0; index < table.count && view.hasEntry(table, index); index++) {
    // Both are read for every header, as either read may be the one that is recorded.
    const type = view.u32(table, index, p_type);
    const flags = view.u32(table, index, p_flags);
    if (type === PT_LOAD && (flags & PF_ANY) !== 0) yield index;
  }
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

/** The loadable segments in table order. Reading them again records nothing that was not recorded before. */
export function listSegments(image: ElfImage): Segment[] {
  const { headers } = image;
  const view = image.view.fork();
  const table = headers.programHeaders;
  const fields = headers.format.programHeader.fields;
  return Array.from(loadableSegments({ ...image, view }), (index) => ({
    index,
    offset: view.u64(table, index, fields.p_offset),
    vaddr: view.u64(table, index, fields.p_vaddr),
    paddr: view.u64(table, index, fields.p_paddr),
    filesz: view.u64(table, index, fields.p_filesz),
    memsz: view.u64(table, index, fields.p_memsz),
    flags: view.u32(table, index, fields.p_flags),
    align: view.u64(table, index, fields.p_align),
  }));
}
