/** One image through all stages: the only place where the pure loader meets the bytes of an image. */
import { hasElfMagic } from '../elf/format.ts';
import {
  type ElfImage,
  type ImageIdentity,
  type InitFailure,
  identify,
  initInSteps,
  MIN_IMAGE_BYTES,
} from '../elf/headers.ts';
import type { Headers } from '../elf/view.ts';
import { type Broken, broken, reportRecorded } from '../xen/broken.ts';
import type { BuilderVerdict } from '../xen/builder.ts';
import { type Comparison, comparePlans } from '../xen/compare.ts';
import { type FlatImagePlan, planFlatImageInSteps } from '../xen/flat-image.ts';
import type { GuestVerdicts } from '../xen/guests/verdict.ts';
import { MAX_LISTED } from '../xen/listed.ts';
import {
  DEFAULT_LOADER,
  type Loader,
  type LoadOptions,
  loadSymbolsInSteps,
  type SymbolPlan,
} from '../xen/loaders/bsdsyms.ts';
import { locateSymbols } from '../xen/locate-symbols.ts';
import type { XenNotes } from '../xen/notes/walk.ts';
import {
  findKernelRangeInSteps,
  hasSegments,
  type KernelRange,
  listSegmentsInSteps,
  type Segment,
} from '../xen/segments.ts';
import { asksForSymbols, kernelWarnings, planWarnings, type Warning } from '../xen/warnings.ts';
import { askBuilder, askBuilderOfRefused } from './ask-builder.ts';
import type { ImageSource } from './image-source.ts';
import { DEFAULT_MAX_BLOB_BYTES, DEFAULT_MAX_FLAT_BYTES } from './limits.ts';
import { readBuildId } from './read-build-id.ts';
import { readHeaders } from './read-headers.ts';
import { readXenNotes } from './read-notes.ts';
import { readTableWarnings } from './read-warnings.ts';
import { findTextDamage, readStart, recogniseContent } from './recognise.ts';
import { findHeaderDamage, recogniseElf } from './recognise-elf.ts';
import { SymbolTable } from './symbol-table.ts';
import { runInSteps } from './turn.ts';
import { verifyPlan } from './verify.ts';

export const ON_BROKEN = ['reject', 'load'] as const;
/** Whether an image with a recorded reason is refused, or loaded as Xen does. */
export type OnBroken = (typeof ON_BROKEN)[number];

/** How to load an image; every member has a default. */
export interface LoadRequest {
  /** Default: `xen-4.8`. */
  readonly loader?: Loader;
  /** Guest-physical, 0 .. 2^64-1; null, the default, for the end of the kernel. */
  readonly loadAddress?: bigint | null;
  /** Default: `reject`. */
  readonly onBroken?: OnBroken;
  /** Another loader to compare with; null, the default, for none. */
  readonly compareWith?: Loader | null;
  /** Whether guests are asked what they make of the blob, which takes as long as reading it a few times. Default: false. */
  readonly askGuests?: boolean;
  /** The longest blob that is planned. Default: 256 MiB. */
  readonly maxBlobBytes?: number;
}

/** What is known about an image; without an ELF header, only its size. */
export interface ImageFacts {
  /** Bytes of the uncompressed image. */
  readonly size: number;
  readonly identity: ImageIdentity | null;
  /** The GNU build ID in hex. */
  readonly buildId: string | null;
  /** What it was packed in besides a compression; null for nothing. */
  readonly container: 'bzImage' | null;
}

/** An image with its symbols planned. */
export interface LoadedImage extends OpenedImage {
  readonly plan: SymbolPlan;
  /**
   * The first reason recorded against the image, only with `onBroken: 'load'`; the plan is then what the reference
   * writes despite it.
   */
  readonly broken: Broken | null;
  readonly warnings: readonly Warning[];
  /** What the other loader does differently; null when none was named. */
  readonly comparison: Comparison | null;
  /** What guests make of the blob; null when they were not asked. */
  readonly guests: GuestVerdicts | null;
}

/** An image that cannot be planned, or that is refused for a recorded reason. */
export interface RefusedImage {
  readonly ok: false;
  readonly image: ImageFacts;
  /** Where the symbols would have been placed; null when that was not decided. */
  readonly loadAddress: bigint | null;
  readonly broken: Broken;
}

/** An image that passed stages `init` and `segments`. */
export interface OpenedImage {
  readonly ok: true;
  readonly image: ImageFacts;
  readonly elf: ElfImage;
  readonly kernel: KernelRange;
}

/**
 * Stages `init` and `segments`.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function openImage(source: ImageSource): Promise<OpenedImage | RefusedImage> {
  const headers = await readHeaders(source);
  const container = source.bzImage === undefined ? null : 'bzImage';
  if (headers === null) {
    const image: ImageFacts = { size: source.size, identity: null, buildId: null, container };
    return { ok: false, image, loadAddress: null, broken: await notElf(source) };
  }
  const image: ImageFacts = {
    size: source.size,
    identity: identify(headers),
    buildId: await readBuildId(source, headers),
    container,
  };
  const started = await runInSteps(initInSteps(headers));
  if (!started.ok) return { ok: false, image, loadAddress: null, broken: tableOverflow(started.failure, headers) };
  const { image: elf, kernel } = await runInSteps(findKernelRangeInSteps(started.image));
  return { ok: true, image, elf, kernel };
}

/**
 * Parses and loads an image. Reads its headers and notes, and both symbol tables for the warnings.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function loadImage(source: ImageSource, request: LoadRequest = {}): Promise<LoadedImage | RefusedImage> {
  const opened = await openImage(source);
  if (!opened.ok) return { ...opened, loadAddress: request.loadAddress ?? null };
  const notes = await readXenNotes(source, opened.elf, opened.kernel);
  return loadOpened(source, opened, notes, () => containerWarnings(source, opened.elf, notes), request);
}

/**
 * As `loadImage`, for an image that was opened and whose notes were read.
 *
 * @param warnOfContainer what the container of the image changes; asked only when the image is loaded
 */
export async function loadOpened(
  source: ImageSource,
  opened: OpenedImage,
  notes: XenNotes,
  warnOfContainer: () => Promise<readonly Warning[]>,
  request: LoadRequest,
): Promise<LoadedImage | RefusedImage> {
  const { loader = DEFAULT_LOADER, onBroken = 'reject', maxBlobBytes = DEFAULT_MAX_BLOB_BYTES } = request;
  const { image, elf, kernel } = opened;
  const loadAddress = request.loadAddress ?? kernel.pend;
  const loaded = await runInSteps(loadSymbolsInSteps(elf, { loader, loadAddress, maxBlobBytes }));
  if (!loaded.ok) return refuse(source, opened, loaded.broken, loadAddress);

  const { plan, recorded } = loaded;
  if (recorded !== null && onBroken === 'reject') {
    return refuse(source, opened, reportRecorded(recorded), loadAddress);
  }
  const tables = await readTableWarnings(source, elf, plan);
  const warnings = [
    ...planWarnings(elf, plan),
    ...kernelWarnings(elf, kernel, notes),
    ...(await warnOfContainer()),
    ...tables.warnings,
  ];
  const other = request.compareWith ?? null;
  const comparison =
    other === null ? null : await compare(elf, plan, { loader: other, loadAddress, maxBlobBytes }, onBroken);
  return {
    ok: true,
    image,
    elf,
    kernel,
    plan,
    broken: reportRecorded(recorded),
    warnings,
    comparison,
    guests: request.askGuests === true ? await verifyPlan(source, plan, tables.elsewhere) : null,
  };
}

/** A plain file is what Xen reads; what it does with a packed one may be something else. */
async function containerWarnings(source: ImageSource, elf: ElfImage, notes: XenNotes): Promise<Warning[]> {
  if (source.gzip === undefined && source.fileCompression === undefined && source.bzImage === undefined) return [];
  const { warning } = await askBuilder(source, elf, notes);
  return warning === null ? [] : [warning];
}

/** What the other loader does differently. It refuses an image as it would on its own. */
async function compare(
  image: ElfImage,
  plan: SymbolPlan,
  options: LoadOptions,
  onBroken: OnBroken,
): Promise<Comparison> {
  const { loader } = options;
  const other = await runInSteps(loadSymbolsInSteps(image, options));
  if (other.ok && other.recorded !== null && onBroken === 'reject') {
    return { loader, broken: reportRecorded(other.recorded), plan: null };
  }
  return runInSteps(comparePlans(image.headers.format.class, plan, loader, other));
}

/** What Xen makes of a kernel. A recorded reason is reported, not refused. */
export interface InspectedKernel extends OpenedImage {
  /** The loadable segments in table order, 1,000 at most. */
  readonly segments: readonly Segment[];
  /** How many more loadable segments there are. */
  readonly unlistedSegments: number;
  /** What Xen's ELF library says. */
  readonly xen: XenNotes;
  /** What Xen's domain builder says: whether the toolstack would start the kernel as a guest. */
  readonly builder: BuilderVerdict;
  readonly warnings: readonly Warning[];
}

/** A file that fails `init`, which Xen may take all the same: it adds zeros to gzip files, and has other loaders. */
export interface RefusedKernel extends RefusedImage {
  readonly builder: BuilderVerdict;
}

/**
 * What Xen makes of an image that passes `init`, with or without symbols.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function inspectKernel(source: ImageSource): Promise<InspectedKernel | RefusedKernel> {
  const opened = await openImage(source);
  if (!opened.ok) return { ...opened, builder: await askBuilderOfRefused(source) };
  const { elf, kernel } = opened;
  const xen = await readXenNotes(source, elf, kernel);
  const { verdict, warning } = await askBuilder(source, elf, xen);
  const warnings = [...kernelWarnings(elf, kernel, xen), ...(warning === null ? [] : [warning])];
  const { segments, unlisted } = await runInSteps(listSegmentsInSteps(elf, MAX_LISTED));
  return { ...opened, segments, unlistedSegments: unlisted, xen, builder: verdict, warnings };
}

/** An image whose symbols can be read. Any other recorded reason is reported, not refused. */
export interface OpenedSymbols extends OpenedImage {
  readonly table: SymbolTable;
}

/**
 * Opens the symbol table that the loader would use.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function openSymbols(source: ImageSource): Promise<OpenedSymbols | RefusedImage> {
  const opened = await openImage(source);
  if (!opened.ok) return opened;
  const { elf } = opened;
  const located = locateSymbols(elf);
  if (!located.ok) return refuse(source, opened, located.broken, null);
  return { ...opened, table: new SymbolTable(source, elf, located.tables) };
}

export const SYMBOLS_CHOICES = ['auto', 'always', 'never'] as const;
/** Whether the symbols are placed after the kernel; `auto` when its notes ask for them. */
export type SymbolsChoice = (typeof SYMBOLS_CHOICES)[number];

/** How to make a flat image; every member has a default. */
export interface FlatRequest {
  /** Default: `xen-4.8`. */
  readonly loader?: Loader;
  /** Default: `auto`. */
  readonly symbols?: SymbolsChoice;
  /** Default: `reject`. */
  readonly onBroken?: OnBroken;
  /** The longest symbol blob that is planned. Default: 256 MiB. */
  readonly maxBlobBytes?: number;
  /** The longest flat image that is planned. Default: 4 GiB. */
  readonly maxFlatBytes?: number;
}

/** An image as it lies in guest memory, as a plan. */
export interface FlattenedImage extends OpenedImage {
  readonly plan: FlatImagePlan;
  /** The symbols that are in it. */
  readonly symbols: SymbolPlan | null;
  /** The first reason recorded against the image, only with `onBroken: 'load'`. */
  readonly broken: Broken | null;
}

/**
 * The kernel as it lies in guest memory.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function flattenImage(
  source: ImageSource,
  {
    loader = DEFAULT_LOADER,
    symbols: choice = 'auto',
    onBroken = 'reject',
    maxBlobBytes = DEFAULT_MAX_BLOB_BYTES,
    maxFlatBytes = DEFAULT_MAX_FLAT_BYTES,
  }: FlatRequest = {},
): Promise<FlattenedImage | RefusedImage> {
  const opened = await openImage(source);
  if (!opened.ok) return opened;
  const { elf, kernel } = opened;
  const wanted = choice === 'always' || (choice === 'auto' && asksForSymbols(await readXenNotes(source, elf, kernel)));
  const loadAddress = kernel.pend;
  // Without segments the symbols have no place either; the flat image is refused for that.
  const hasPlace = wanted && hasSegments(kernel);
  const symbols = hasPlace ? await runInSteps(loadSymbolsInSteps(elf, { loader, loadAddress, maxBlobBytes })) : null;
  if (symbols !== null && !symbols.ok) return refuse(source, opened, symbols.broken, loadAddress);
  const flat = await runInSteps(planFlatImageInSteps(elf, { kernel, symbols, maxFlatBytes }));
  if (!flat.ok) return refuse(source, opened, flat.broken, loadAddress);
  const reported = reportRecorded(flat.recorded);
  if (reported !== null && onBroken === 'reject') return refuse(source, opened, reported, loadAddress);
  return { ...opened, plan: flat.plan, symbols: symbols?.plan ?? null, broken: reported };
}

/** Refuses an image that passed `init`, and says what it is when that explains it. */
async function refuse(
  source: ImageSource,
  { image, elf }: OpenedImage,
  reason: Broken,
  loadAddress: bigint | null,
): Promise<RefusedImage> {
  const advice = (await recogniseElf(source, elf.headers)) ?? (isStripped(elf, reason) ? STRIPPED : null);
  const reported = advice === null ? reason : { ...reason, detail: `${reason.detail} ${advice}` };
  return { ok: false, image, loadAddress, broken: reported };
}

const STRIPPED = 'The kernel was probably stripped: use the unstripped one.';
const isStripped = ({ symbolTable }: ElfImage, { code }: Broken): boolean =>
  code === 'no-symbol-table' && !symbolTable.found && symbolTable.why === 'none';

async function notElf(source: ImageSource): Promise<Broken> {
  const start = await readStart(source);
  const detail = hasElfMagic(start)
    ? `The file begins like an ELF image but has only ${source.size} bytes; an ELF header alone takes ` +
      `${MIN_IMAGE_BYTES}. ${findTextDamage(start) ?? CUT_SHORT}`
    : `The ${source.size} bytes do not begin with 7f 45 4c 46, the mark of an ELF image. ${recogniseContent(start)}`;
  return broken('not-elf', 'init', {
    what: 'start of the image',
    offset: 0n,
    length: BigInt(Math.min(source.size, MIN_IMAGE_BYTES)),
    detail,
  });
}

const CUT_SHORT = 'The file was probably cut short: compare its size with the original.';

function tableOverflow({ code, offset, length, recorded }: InitFailure, headers: Headers): Broken {
  const what = code === 'phdr-overflow' ? 'program header table' : 'section header table';
  const before = recorded === null ? '' : ` Recorded before that (${recorded.code}): ${recorded.detail}`;
  const cause = findHeaderDamage(headers) ?? `${CUT_SHORT}${before}`;
  return broken(code, 'init', {
    what,
    offset,
    length,
    detail: `The ${what} would be ${length} bytes at offset ${offset}, but the image ends at ${headers.imageSize}. ${cause}`,
  });
}
