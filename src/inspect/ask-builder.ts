/** What Xen's domain builder makes of the file that an image came in, which is not always the image. */
import { type ElfImage, initInSteps } from '../elf/headers.ts';
import {
  type BuilderVerdict,
  type Container,
  findOtherLoader,
  judgeByBuilder,
  judgeOtherFile,
  LOADER_PROBE_BYTES,
  refuseAll,
} from '../xen/builder.ts';
import { takeBzImage } from '../xen/bzimage-container.ts';
import { notTaken, type TakenKernel, takeGzip } from '../xen/gzip-container.ts';
import type { XenNotes } from '../xen/notes/walk.ts';
import { findKernelRangeInSteps } from '../xen/segments.ts';
import type { Warning } from '../xen/warnings.ts';
import { assertInside, type ImageSource } from './image-source.ts';
import { readHeaders } from './read-headers.ts';
import { readXenNotes } from './read-notes.ts';
import { runInSteps } from './turn.ts';

/** Files above this are not read at all. */
const MAX_FILE_BYTES = 2 ** 30;

interface BuilderAnswer {
  readonly verdict: BuilderVerdict;
  /** Set when the container changes what Xen does with the kernel. */
  readonly warning: Warning | null;
}

/**
 * Asks the builder about an image.
 *
 * @param xen its notes
 * @throws only what the source throws when it cannot be read
 */
export async function askBuilder(source: ImageSource, image: ElfImage, xen: XenNotes): Promise<BuilderAnswer> {
  const plain = await judgeKernel(source, image, xen);
  const { container, taken } = takeFile(source);
  if (!taken.ok) {
    const { why } = taken;
    const verdict: BuilderVerdict = { takes: { ok: false, container, kernelSize: null, why }, ...refuseAll(why) };
    // A kernel that the builder would not start unpacked either needs no warning about how it is packed.
    const isNew = source.gzip !== undefined || source.bzImage !== undefined || plain.pv.ok || plain.hvm.ok;
    return { verdict, warning: container !== null && isNew ? warn(source, why.reason) : null };
  }
  const { kernelSize, imageBytes } = taken;
  const isPlain = kernelSize === source.size && imageBytes === source.size;
  const seen = isPlain ? plain : await judgeUnopened(new PaddedSource(source, imageBytes, kernelSize));
  const verdict: BuilderVerdict = { takes: { ok: true, container, kernelSize, why: null }, ...seen };
  const isSame = seen.pv.ok === plain.pv.ok && seen.hvm.ok === plain.hvm.ok && imageBytes === source.size;
  const found = `It has ${kernelSize} bytes: the ${imageBytes} of the first member, then zeros.`;
  return { verdict, warning: isSame ? null : warn(source, found) };
}

/**
 * Asks the builder about what is no image here: a file that fails stage `init`, or compressed data that this service refuses.
 *
 * @param source what was unpacked of it
 * @throws only what the source throws when it cannot be read
 */
export async function askBuilderOfRefused(source: ImageSource): Promise<BuilderVerdict> {
  const { container, taken } = takeFile(source);
  if (!taken.ok) {
    return { takes: { ok: false, container, kernelSize: null, why: taken.why }, ...refuseAll(taken.why) };
  }
  const { kernelSize, imageBytes } = taken;
  const seen = await judgeUnopened(new PaddedSource(source, Math.min(imageBytes, source.size), kernelSize));
  return { takes: { ok: true, container, kernelSize, why: null }, ...seen };
}

/** Which kernel the builder takes out of the file that an image came in. */
function takeFile({ size, gzip, fileCompression, bzImage }: ImageSource): {
  readonly container: Container | null;
  readonly taken: TakenKernel;
} {
  // The builder undoes no other compression of a whole file.
  if (fileCompression !== undefined) return { container: fileCompression, taken: notTaken('no-loader') };
  if (gzip !== undefined) {
    const taken = takeGzip(gzip);
    if (!taken.ok || bzImage === undefined) return { container: 'gzip', taken };
    if (taken.imageBytes < bzImage.payloadEnd) return { container: 'bzImage', taken: notTaken('no-loader') };
  }
  if (bzImage !== undefined) return { container: 'bzImage', taken: takeBzImage(bzImage) };
  if (size === 0) return { container: null, taken: notTaken('file-empty') };
  if (size > MAX_FILE_BYTES) return { container: null, taken: notTaken('file-too-large') };
  return { container: null, taken: { ok: true, kernelSize: size, imageBytes: size } };
}

/** All that is read of a kernel here. */
type KernelBytes = Pick<ImageSource, 'size' | 'read'>;
type LoaderVerdict = Omit<BuilderVerdict, 'takes'>;

async function judgeKernel(source: KernelBytes, image: ElfImage, xen: XenNotes): Promise<LoaderVerdict> {
  const start = await source.read(0, Math.min(source.size, LOADER_PROBE_BYTES));
  return judgeByBuilder(image, xen, findOtherLoader(start, source.size));
}

/** As `judgeKernel`, from the beginning. A file that is not ELF may have another loader. */
async function judgeUnopened(source: KernelBytes): Promise<LoaderVerdict> {
  const headers = await readHeaders(source);
  const started = headers === null ? null : await runInSteps(initInSteps(headers));
  if (started?.ok !== true) {
    const start = await source.read(0, Math.min(source.size, LOADER_PROBE_BYTES));
    return judgeOtherFile(findOtherLoader(start, source.size));
  }
  const { image, kernel } = await runInSteps(findKernelRangeInSteps(started.image));
  return judgeKernel(source, image, await readXenNotes(source, image, kernel));
}

const warn = (source: ImageSource, found: string): Warning => ({
  code: 'xen-reads-differently',
  detail: `${describeReading(source)} ${found} ${adviseReading(source)}`,
});

function describeReading({ gzip, fileCompression, bzImage }: ImageSource): string {
  if (fileCompression !== undefined) return `Xen does not unpack a file that is compressed with ${fileCompression}.`;
  if (bzImage !== undefined) {
    return `Xen unpacks the payload of a bzImage into as many bytes as the size at its end says (${bzImage.sizeWord}).`;
  }
  return (
    'Xen unpacks the first member of the gzip file only, into as many bytes as the last four of the file say ' +
    `(${gzip?.sizeWord ?? 0}) and 16 more.`
  );
}

function adviseReading({ fileCompression, bzImage }: ImageSource): string {
  if (fileCompression !== undefined) return 'Give Xen the kernel unpacked, or compressed with gzip.';
  return bzImage === undefined ? 'Compress the kernel again, as one member.' : 'Give Xen the kernel unpacked.';
}

/** The first bytes of an image, then zeros. */
class PaddedSource implements KernelBytes {
  readonly size: number;
  readonly #source: KernelBytes;
  readonly #imageBytes: number;

  constructor(source: KernelBytes, imageBytes: number, size: number) {
    this.#source = source;
    this.#imageBytes = imageBytes;
    this.size = size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    const inside = Math.max(0, Math.min(length, this.#imageBytes - offset));
    if (inside === length) return this.#source.read(offset, length);
    const bytes = new Uint8Array(length);
    if (inside > 0) bytes.set(await this.#source.read(offset, inside));
    return bytes;
  }
}
