/**
 * Stages `parse` and `load`: from the headers of an image to a plan of the symbol blob.
 *
 * The blob is a size word and a small ELF file: ELF header, section headers, tables. `three-headers` and `historical`
 * say how the loaders lay it out; what they share is here.
 */
import { type ElfImage, enterStage, findSymbolTable, INIT_SEARCH, type SymbolTableRef } from '../../elf/headers.ts';
import type { Recorded } from '../../elf/recorder.ts';
import { runToEnd, type Steps } from '../../elf/steps.ts';
import { U64_END } from '../../elf/u64.ts';
import { type Broken, broken, reportRecorded } from '../broken.ts';
import { type Extent, fillGaps } from '../plan.ts';
import {
  type Failure,
  noPlace,
  noSymbolTable,
  regionTooLarge,
  regionWraps,
  reported,
  unsupportedByteOrder,
  unsupportedClass,
} from './failures.ts';
import { LIBXC_4_6, XEN_4_6, XEN_4_7 } from './historical.ts';
import { type LoaderRules, type LoaderTraits, type PlannedHeaders, type PlannedTable, roundUp } from './layout.ts';
import { XEN_4_8 } from './three-headers.ts';

export { SIZE_WORD_BYTES } from './layout.ts';

const RULES = {
  'xen-4.8': XEN_4_8,
  'xen-4.7': XEN_4_7,
  'xen-4.6': XEN_4_6,
  'libxc-4.6': LIBXC_4_6,
} as const satisfies Record<string, LoaderRules>;

/** The loader whose layout of the symbols is produced. */
export type Loader = keyof typeof RULES;
/** What a loader accepts, and how its blobs are built. */
export const traitsOf = (loader: Loader): LoaderTraits => RULES[loader].traits;
/** All loaders, the default first. */
export const LOADERS = Object.keys(RULES) as Loader[];
/** The loader of Xen 4.8 and later. */
export const DEFAULT_LOADER: Loader = 'xen-4.8';

/** The symbol blob: where it goes, what it consists of, and how to make it. Addresses are guest-physical. */
export interface SymbolPlan {
  readonly loader: Loader;
  readonly loadAddress: bigint;
  readonly pstart: bigint;
  /** The true end: `pstart + size`. */
  readonly pend: bigint;
  /** Bytes in the blob. */
  readonly size: number;
  readonly sizeWord: number;
  /** The end as the reference reserves it, modulo 2^64. */
  readonly xenReservedEnd: bigint;
  /** Null when loading stopped before the headers were written. */
  readonly headers: PlannedHeaders | null;
  /** The SYMTAB and STRTAB that were copied, in ascending order. */
  readonly tables: readonly PlannedTable[];
  /** The blob without gaps: a `fill` is where load writes nothing. */
  readonly extents: readonly Extent[];
}

/** A plan, or why there is none. */
export type SymbolLoad = {
  /** The first reason recorded so far. */
  readonly recorded: Recorded | null;
} & ({ readonly ok: true; readonly plan: SymbolPlan } | { readonly ok: false; readonly broken: Broken });

/** What `loadSymbols` needs besides the image. */
export interface LoadOptions {
  readonly loader: Loader;
  /** Guest-physical, 0 .. 2^64-1. */
  readonly loadAddress: bigint;
  /** Bytes in the longest blob that is planned. */
  readonly maxBlobBytes: number;
}

/**
 * Runs stages `parse` and `load` on an image that passed `segments`.
 *
 * xen-4.8 plans a blob despite a recorded reason, which the caller judges. Earlier loaders refuse such an image, and
 * images that they do not support. Without a region, or with one beyond the limit, there is no plan; the reason reported
 * is then the first that was recorded, if any.
 * Source: docs/loader.md. Never throws.
 */
export const loadSymbols = (image: ElfImage, options: LoadOptions): SymbolLoad =>
  runToEnd(loadSymbolsInSteps(image, options));

/** As `loadSymbols`, in steps. */
export function* loadSymbolsInSteps(
  image: ElfImage,
  { loader, loadAddress, maxBlobBytes }: LoadOptions,
): Steps<SymbolLoad> {
  const rules = RULES[loader];
  const unsupported = findUnsupported(image, loader, rules.traits);
  // This is about the request, so a reason recorded against the image does not replace it.
  if (unsupported !== null)
    return { ok: false, recorded: image.recorded, broken: broken(unsupported.code, 'parse', unsupported.finding) };

  const reservation = yield* reserveRegionInSteps(image, loadAddress, rules);
  if (!reservation.ok) return refuse(reservation.failure, reservation.recorded);
  const { symbolTable, reservedSize, region } = reservation;
  if (region.pstart === 0n) return refuse(noPlace(loadAddress), reservation.recorded);

  const staged = enterStage({ ...image, recorded: reservation.recorded }, 'load');
  const written = yield* rules.write(staged, symbolTable, reservedSize);
  const { recorded } = staged.recorder;
  const needed = written.end > reservedSize ? written.end : reservedSize;
  if (needed > BigInt(maxBlobBytes)) {
    return refuse(regionTooLarge(written.firstSizes, written.tables.length, needed, maxBlobBytes), recorded);
  }
  if (region.pstart + needed > U64_END) return refuse(regionWraps(region.pstart, needed), recorded);
  if (recorded !== null && !rules.traits.loadsBroken) {
    return { ok: false, recorded, broken: reportRecorded(recorded) };
  }

  const size = Number(needed);
  return {
    ok: true,
    recorded,
    plan: {
      loader,
      loadAddress,
      pstart: region.pstart,
      pend: region.pstart + needed,
      size,
      sizeWord: written.sizeWord,
      xenReservedEnd: region.pend,
      headers: written.headers,
      tables: written.tables,
      extents: yield* fillGaps(written.placed(), size),
    },
  };
}

/** Guest-physical addresses as the reference computes them, modulo 2^64. */
export interface Region {
  readonly pstart: bigint;
  readonly pend: bigint;
}

type Reservation = {
  /** The first reason recorded so far. */
  readonly recorded: Recorded | null;
} & (
  | {
      readonly ok: true;
      /** Nothing is loaded when its `pstart` is 0. */
      readonly region: Region;
      /** The region's size without wrapping. */
      readonly reservedSize: bigint;
      readonly symbolTable: SymbolTableRef;
    }
  | { readonly ok: false; readonly failure: Failure }
);

/** Stage `parse` of the default loader. A missing symbol table is recorded, a missing string table is not. */
export const reserveRegion = (image: ElfImage, loadAddress: bigint): Reservation =>
  runToEnd(reserveRegionInSteps(image, loadAddress, XEN_4_8));

function* reserveRegionInSteps(image: ElfImage, loadAddress: bigint, rules: LoaderRules): Steps<Reservation> {
  const staged = enterStage(image, 'parse');
  const { recorder } = staged;
  const { format } = image.headers;
  const symbolTable = rules.search === INIT_SEARCH ? image.symbolTable : yield* findSymbolTable(staged, rules.search);
  if (!symbolTable.found) {
    const failure = noSymbolTable(image, symbolTable, rules.search);
    recorder.record('no-symbol-table', () => failure.finding);
    return { ok: false, recorded: recorder.recorded, failure };
  }
  const reserved = yield* rules.reserve(staged, symbolTable);
  const { recorded } = recorder;
  if (!reserved.ok) return { ...reserved, recorded };
  const pstart = BigInt.asUintN(64, roundUp(loadAddress, format));
  const pend = BigInt.asUintN(64, pstart + reserved.size);
  return { ok: true, recorded, region: { pstart, pend }, reservedSize: reserved.size, symbolTable };
}

const refuse = (failure: Failure, recorded: Recorded | null): SymbolLoad => ({
  ok: false,
  recorded,
  broken: reported(failure, recorded),
});

function findUnsupported(
  { headers: { format, littleEndian } }: ElfImage,
  loader: Loader,
  { classes, bigEndian }: LoaderTraits,
): Failure | null {
  if (!classes.includes(format.class)) return unsupportedClass(format.class, loader);
  if (!littleEndian && !bigEndian) return unsupportedByteOrder(loader);
  return null;
}
