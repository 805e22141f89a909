/** Plans the flat image: the kernel in guest-physical memory, as the reference writes it. */

import { type ElfImage, enterStage, type StagedImage } from '../elf/headers.ts';
import { hex } from '../elf/hex.ts';
import type { Finding, Recorded } from '../elf/recorder.ts';
import { isStepEnd, runToEnd, type Steps } from '../elf/steps.ts';
import type { Broken } from './broken.ts';
import type { SymbolLoad, SymbolPlan } from './loaders/bsdsyms.ts';
import { noSegments, regionTooLow, reported } from './loaders/failures.ts';
import { copyExtent, type Extent, fillExtent, fillGaps, overlay, type Placed } from './plan.ts';
import { hasSegments, type KernelRange, SegmentReader } from './segments.ts';

/** What `planFlatImage` needs besides the image. */
export interface FlatImageOptions {
  readonly kernel: KernelRange;
  /** The planned symbols, when the kernel's notes or the caller ask for them. */
  readonly symbols: Extract<SymbolLoad, { readonly ok: true }> | null;
  /** Bytes in the longest image that is planned. */
  readonly maxFlatBytes: number;
}

/** The flat image: where it lies, and how to make it. Addresses are guest-physical. */
export interface FlatImagePlan {
  /** Where the image begins in guest-physical memory: the kernel's `pstart`. */
  readonly pstart: bigint;
  /** `pstart + size`. */
  readonly pend: bigint;
  /** Bytes in the image. */
  readonly size: number;
  /** The image, without gaps. Unwritten bytes are zero. */
  readonly extents: readonly Extent[];
}

/** A plan and the first reason recorded, or why there is no plan. */
export type FlatImage =
  | { readonly ok: true; readonly plan: FlatImagePlan; readonly recorded: Recorded | null }
  | { readonly ok: false; readonly broken: Broken };

/** Segments may overlap, but add up to at most this many times the image. */
const MAX_SEGMENT_FACTOR = 2n;

/**
 * Lays the loadable segments into memory in table order, later ones over earlier ones, and the symbols over them.
 *
 * As with `loadSymbols`, an image with a recorded reason is still planned. Planning costs neither memory nor time for
 * the bytes themselves, however large the segments and the gaps between them.
 * Source: docs/loader.md. Never throws.
 */
export const planFlatImage = (image: ElfImage, options: FlatImageOptions): FlatImage =>
  runToEnd(planFlatImageInSteps(image, options));

/** As `planFlatImage`, in steps. */
export function* planFlatImageInSteps(
  image: ElfImage,
  { kernel, symbols: loaded, maxFlatBytes }: FlatImageOptions,
): Steps<FlatImage> {
  const { recorded } = image;
  const { pstart } = kernel;
  if (!hasSegments(kernel)) return { ok: false, broken: reported(noSegments(), recorded, 'segments') };
  const symbols = loaded?.plan ?? null;
  // Xen reserves the region, then loads the segments, then the symbols: their reasons come in that order.
  const early = loaded === null || loaded.recorded?.stage === 'load' ? recorded : loaded.recorded;
  const pend = symbols !== null && symbols.pend > kernel.pend ? symbols.pend : kernel.pend;
  const size = pend - pstart;
  if (size < 0n || size > BigInt(maxFlatBytes)) {
    const finding = tooLarge(kernel, size, maxFlatBytes);
    return { ok: false, broken: reported({ code: 'segments-too-large', finding }, recorded, 'load') };
  }
  if (symbols !== null && symbols.pstart < pstart) {
    return { ok: false, broken: reported(regionTooLow(symbols.pstart, pstart), recorded, 'load') };
  }

  const staged = enterStage(image, 'load');
  const written = yield* writeSegments(staged, pstart, size);
  if (symbols !== null) yield* placeSymbols(written, symbols, Number(symbols.pstart - pstart));
  const extents = yield* fillGaps(yield* overlay(written), Number(size));
  return {
    ok: true,
    recorded: early ?? staged.recorder.recorded ?? loaded?.recorded ?? null,
    plan: { pstart, pend, size: Number(size), extents },
  };
}

function* writeSegments(image: StagedImage, pstart: bigint, size: bigint): Steps<Placed[]> {
  const { headers, view, recorder } = image;
  const segments = new SegmentReader(image);
  const written: Placed[] = [];
  /** A write that is not wholly inside the destination is skipped entirely. */
  const write = (index: number, at: bigint, length: bigint, extent: () => Extent | null): void => {
    if (at > size || length > size - at) {
      recorder.record('out-of-range-access', () => outsideDestination(index, at, length, size));
      return;
    }
    const what = extent();
    if (what !== null && what.length > 0) written.push({ at: Number(at), extent: what });
  };

  let allowed = size * MAX_SEGMENT_FACTOR;
  for (let index = 0; segments.has(index); index++) {
    if (isStepEnd(index)) yield null;
    if (!segments.isLoadable(index)) continue;
    const memsz = segments.memsz(index);
    if (memsz > allowed) {
      recorder.record('segments-too-large', () => tooMuch(index, size));
      break;
    }
    allowed -= memsz;
    // With a stride of 0 all entries are one header, which has been written already.
    if (headers.programHeaders.stride === 0 && index > 0) continue;
    const at = BigInt.asUintN(64, segments.paddr(index) - pstart);
    const filesz = segments.filesz(index);
    const offset = segments.offset(index);
    write(index, at, filesz, () => {
      const source = view.range(() => `segment ${index}`, offset, filesz);
      return source === null ? null : copyExtent(source);
    });
    const zeros = BigInt.asUintN(64, memsz - filesz);
    write(index, BigInt.asUintN(64, at + filesz), zeros, () => fillExtent(Number(zeros)));
  }
  return written;
}

/** Load does not write the gaps of its plan: there the bytes of segments stay. */
function* placeSymbols(written: Placed[], { extents }: SymbolPlan, start: number): Steps<void> {
  let at = start;
  for (const [index, extent] of extents.entries()) {
    if (isStepEnd(index)) yield null;
    if (extent.kind !== 'fill') written.push({ at, extent });
    at += extent.length;
  }
}

function tooLarge({ pstart, pend }: KernelRange, size: bigint, maxFlatBytes: number): Finding {
  const detail =
    size >= 0n
      ? `The kernel and its symbols span ${size} bytes of memory; at most ${maxFlatBytes} are allowed.`
      : `The kernel would begin at ${hex(pstart)} and end at ${hex(pend)}: a segment runs past 2^64.`;
  return { what: 'loadable segments', offset: null, length: size >= 0n ? size : null, detail };
}

function tooMuch(index: number, size: bigint): Finding {
  return {
    what: `segment ${index}`,
    offset: null,
    length: null,
    detail:
      `Up to segment ${index} the loadable segments add up to more than twice the ${size} bytes of memory that ` +
      'the kernel spans; it and all later ones are left out.',
  };
}

function outsideDestination(index: number, at: bigint, length: bigint, size: bigint): Finding {
  return {
    what: `segment ${index}`,
    offset: null,
    length,
    detail:
      `${length} bytes of segment ${index} would go to byte ${at} of the ${size} bytes that the kernel spans. ` +
      'Its p_filesz is probably larger than its p_memsz.',
  };
}
