/** Runs an image through all stages of the core and keeps everything that came out. */
import { type ElfImage, type InitFailure, init } from '../../src/elf/headers.ts';
import type { Recorded } from '../../src/elf/recorder.ts';
import type { Headers } from '../../src/elf/view.ts';
import { MemorySource } from '../../src/image/memory.ts';
import type { ImageSource } from '../../src/inspect/image-source.ts';
import { readHeaders } from '../../src/inspect/read-headers.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import type { Broken } from '../../src/xen/broken.ts';
import { DEFAULT_LOADER, type Loader, loadSymbols, type SymbolPlan } from '../../src/xen/loaders/bsdsyms.ts';
import { findKernelRange, type LocatedKernel } from '../../src/xen/segments.ts';

export const MIB = 1024 * 1024;

export interface LoadOptions {
  /** Default: xen-4.8. */
  readonly loader?: Loader;
  /** Default: the end of the kernel. */
  readonly loadAddress?: bigint | null;
  /** Default: 1 MiB. */
  readonly maxBlobBytes?: number;
}

interface Tried extends LocatedKernel {
  /** The first reason recorded against the image. */
  readonly recorded: Recorded | null;
}

export interface Loaded extends Tried {
  readonly outcome: 'loaded';
  readonly plan: SymbolPlan;
  readonly blob: Uint8Array;
}

export interface Refused extends Tried {
  readonly outcome: 'refused';
  readonly broken: Broken;
}

export type LoadResult =
  | Loaded
  | Refused
  | { readonly outcome: 'not-elf' }
  | { readonly outcome: 'init-failed'; readonly failure: InitFailure };

export async function load(image: Uint8Array | ImageSource, options: LoadOptions = {}): Promise<LoadResult> {
  const source = image instanceof Uint8Array ? new MemorySource([image]) : image;
  const headers = await readHeaders(source);
  if (headers === null) return { outcome: 'not-elf' };
  const started = init(headers);
  if (!started.ok) return { outcome: 'init-failed', failure: started.failure };
  const located = findKernelRange(started.image);
  const loadAddress = options.loadAddress ?? located.kernel.pend;
  const { loader = DEFAULT_LOADER, maxBlobBytes = MIB } = options;
  const result = loadSymbols(located.image, { loader, loadAddress, maxBlobBytes });
  const { recorded } = result;
  if (!result.ok) return { outcome: 'refused', ...located, recorded, broken: result.broken };
  const { plan } = result;
  return { outcome: 'loaded', ...located, recorded, plan, blob: await collect(streamExtents(source, plan.extents)) };
}

/** As `load`, for images that must be loaded, with or without a recorded reason. */
export async function mustLoad(image: Uint8Array | ImageSource, options: LoadOptions = {}): Promise<Loaded> {
  const result = await load(image, options);
  if (result.outcome !== 'loaded') throw new Error(`the image was not loaded: ${describe(result)}`);
  return result;
}

/** As `load`, for images that must come through `init` and be refused then. */
export async function mustRefuse(image: Uint8Array | ImageSource, options: LoadOptions = {}): Promise<Refused> {
  const result = await load(image, options);
  if (result.outcome !== 'refused') throw new Error(`the image was not refused: ${describe(result)}`);
  return result;
}

/** The headers of an image that must be ELF. */
export async function mustReadHeaders(image: Uint8Array | ImageSource): Promise<Headers> {
  const headers = await readHeaders(image instanceof Uint8Array ? new MemorySource([image]) : image);
  if (headers === null) throw new Error('the image is not ELF');
  return headers;
}

/** An image that must pass `init`. */
export async function mustInit(image: Uint8Array | ImageSource): Promise<ElfImage> {
  const started = init(await mustReadHeaders(image));
  if (!started.ok) throw new Error(`the image did not pass init: ${started.failure.code}`);
  return started.image;
}

/** An image that must pass `init` and `segments`. */
export const mustLocate = async (image: Uint8Array | ImageSource): Promise<LocatedKernel> =>
  findKernelRange(await mustInit(image));

/** Why an image that must be ELF does not pass `init`. */
export async function mustFailInit(image: Uint8Array | ImageSource): Promise<InitFailure> {
  const started = init(await mustReadHeaders(image));
  if (started.ok) throw new Error('the image passed init');
  return started.failure;
}

/** The pieces of a stream as one array. */
export async function collect(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}

function describe(result: LoadResult): string {
  switch (result.outcome) {
    case 'refused':
      return `${result.broken.code}: ${result.broken.detail}`;
    case 'init-failed':
      return result.failure.code;
    case 'not-elf':
    case 'loaded':
      return result.outcome;
  }
}

/**
 * How often others have their turn during a piece of work.
 *
 * @param work is given the number of turns so far, counted from its start
 */
export const turnsOf = async (work: (turn: () => number) => Promise<unknown>): Promise<number> => {
  let turns = 0;
  let done = false;
  const count = (): void => {
    turns += 1;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  await work(() => turns);
  done = true;
  return turns;
};
