/** One image through all stages: the only place that puts the pure loader and the bytes of an image together. */
import { hasElfMagic } from './elf/format.ts';
import { type ImageIdentity, type InitFailure, identify, init, MIN_IMAGE_BYTES } from './elf/headers.ts';
import type { Headers } from './elf/view.ts';
import { readBuildId } from './image/build-id.ts';
import { readHeaders } from './image/headers.ts';
import { RECOGNISED_BYTES, recogniseContent } from './image/recognise.ts';
import type { ImageSource } from './image/source.ts';
import { readGuestWarnings } from './image/symbols.ts';
import { type Broken, broken } from './xen/broken.ts';
import { type Loader, loadSymbols, type SymbolPlan } from './xen/bsdsyms.ts';
import { findKernelRange, type KernelRange } from './xen/kernel.ts';
import { planWarnings, type Warning } from './xen/warnings.ts';

export interface LoadRequest {
  readonly loader: Loader;
  /** Guest-physical; null for the end of the kernel. */
  readonly loadAddress: bigint | null;
  readonly maxBlobBytes: number;
}

/** What is known of an image. Without an ELF header that is its size only. */
export interface ImageFacts {
  /** Bytes of the uncompressed image. */
  readonly size: number;
  readonly identity: ImageIdentity | null;
  /** The GNU build ID in hex. */
  readonly buildId: string | null;
}

export interface LoadedImage {
  readonly ok: true;
  readonly image: ImageFacts;
  readonly kernel: KernelRange;
  readonly plan: SymbolPlan;
  /** The first reason recorded against the image; the plan is then what the reference would have written anyway. */
  readonly broken: Broken | null;
  readonly warnings: readonly Warning[];
}

export interface RefusedImage {
  readonly ok: false;
  readonly image: ImageFacts;
  /** Where the symbols would have been placed, as far as it came to that. */
  readonly loadAddress: bigint | null;
  readonly broken: Broken;
}

/**
 * Parses and loads an image.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function loadImage(source: ImageSource, request: LoadRequest): Promise<LoadedImage | RefusedImage> {
  const headers = await readHeaders(source);
  if (headers === null) {
    const image = { size: source.size, identity: null, buildId: null };
    return { ok: false, image, loadAddress: request.loadAddress, broken: await notElf(source) };
  }
  const image: ImageFacts = {
    size: source.size,
    identity: identify(headers),
    buildId: await readBuildId(source, headers),
  };
  const started = init(headers);
  if (!started.ok) {
    return { ok: false, image, loadAddress: request.loadAddress, broken: tableOverflow(started.failure, headers) };
  }

  const kernel = findKernelRange(started.image);
  const loadAddress = request.loadAddress ?? kernel.pend;
  const { loader, maxBlobBytes } = request;
  const loaded = loadSymbols(started.image, { loader, loadAddress, maxBlobBytes });
  if (!loaded.ok) return { ok: false, image, loadAddress, broken: loaded.broken };

  const { plan, recorded } = loaded;
  return {
    ok: true,
    image,
    kernel,
    plan,
    broken: recorded === null ? null : broken(recorded.code, recorded.stage, recorded),
    warnings: [...planWarnings(started.image, plan), ...(await readGuestWarnings(source, headers, plan))],
  };
}

async function notElf(source: ImageSource): Promise<Broken> {
  const start = await source.read(0, Math.min(source.size, RECOGNISED_BYTES));
  const detail = hasElfMagic(start)
    ? `The file begins like an ELF image but has only ${source.size} bytes; an ELF header alone takes ` +
      `${MIN_IMAGE_BYTES}. It was probably cut short: compare its size with the original.`
    : `The ${source.size} bytes do not begin with 7f 45 4c 46, the mark of an ELF image. ${recogniseContent(start)}`;
  return broken('not-elf', 'init', {
    what: 'start of the image',
    offset: 0n,
    length: BigInt(Math.min(source.size, MIN_IMAGE_BYTES)),
    detail,
  });
}

function tableOverflow({ code, offset, length, recorded }: InitFailure, headers: Headers): Broken {
  const what = code === 'phdr-overflow' ? 'program header table' : 'section header table';
  const before = recorded === null ? '' : ` Before that was recorded (${recorded.code}): ${recorded.detail}`;
  return broken(code, 'init', {
    what,
    offset,
    length,
    detail:
      `The ${what} would be ${length} bytes at offset ${offset}, but the image ends at ${headers.imageSize}. ` +
      `The file is probably cut short: compare its size with the original.${before}`,
  });
}
