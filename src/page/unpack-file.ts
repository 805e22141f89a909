/** Unpacks compressed kernels and Linux bzImages in a browser. What was unpacked is a file of the browser again. */
import { hasElfMagic } from '../elf/format.ts';
import { BZIMAGE_HEADER_BYTES, MIN_PROTOCOL, readSetupHeader, type SetupHeader } from '../image/bzimage.ts';
import { DecodeError, type DecodeFault, Input } from '../image/unpack/decoder.ts';
import { DECODERS } from '../image/unpack/formats.ts';
import { ImageError } from '../inspect/image-error.ts';
import { type BzImageFacts, COMPRESSIONS, type Compression, type GzipFacts } from '../inspect/image-source.ts';
import { findCompression, LONGEST_COMPRESSION_MARK_BYTES } from '../inspect/signatures.ts';
import { nextTurn } from '../inspect/turn.ts';

/** As the service: its default for BSDSYMS_MAX_IMAGE_BYTES, and its largest window. */
const MAX_UNPACKED_BYTES = 2 * 1024 * 1024 * 1024;
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;
const START_BYTES = Math.max(LONGEST_COMPRESSION_MARK_BYTES, BZIMAGE_HEADER_BYTES);
const SIZE_WORD_BYTES = 4;
/** So much is read at a time. */
const INPUT_BYTES = 1024 * 1024;
/** So much is kept in the memory of the worker before it is handed to the browser, which may keep it on disk. */
const GATHERED_BYTES = 16 * 1024 * 1024;
/** A message, such as the one to cancel, waits so long at most. */
const TURN_MS = 30;

/** How the work goes on, and how it ends early. */
export interface Watch {
  /** Throws when the work is to end. */
  readonly interrupt: () => void;
  /** @param done bytes of the compressed file, of `total` */
  readonly progress: (what: string, done: number, total: number) => void;
}

/** A kernel, and what it came in. */
export interface UnpackedFile {
  readonly image: Blob;
  readonly compression: Compression | null;
  /** As `ImageSource` has them. */
  readonly facts: {
    readonly gzip?: GzipFacts;
    readonly fileCompression?: Exclude<Compression, 'gzip'>;
    readonly bzImage?: BzImageFacts;
  };
}

const readRange = async (file: Blob, from: number, to: number): Promise<Uint8Array> =>
  new Uint8Array(await file.slice(from, to).arrayBuffer());

/**
 * The kernel in a file; an ELF file, and one that is neither compressed nor a bzImage, is left as it is.
 *
 * @throws ImageError compression-unsupported, compressed-data-corrupt, image-too-large, and what `watch.interrupt` throws
 */
export async function unpackFile(file: Blob, watch: Watch): Promise<UnpackedFile> {
  const start = await readRange(file, 0, START_BYTES);
  const format = hasElfMagic(start) ? null : findCompression(start);
  if (format === null) return unpackBzImage(file, start, null, {}, watch);
  const known = checkFormat(format, 'The image is compressed with');
  const what = `The image is compressed with ${known}`;
  const advice = {
    unsupported: `Unpack it first (${known} -d), or use the bsdsyms command or the service.`,
    damaged: `Check it with ${known} -t; a file of several parts, or with something appended, has to be unpacked first (${known} -d).`,
  };
  const { image } = await unpack(file, known, { what, ignoreTrailing: false, advice }, watch);
  const facts =
    known === 'gzip'
      ? { gzip: { fileBytes: file.size, sizeWord: await readSizeWord(file), firstMemberBytes: image.size } }
      : { fileCompression: known };
  return unpackBzImage(image, await readRange(image, 0, START_BYTES), known, facts, watch);
}

async function readSizeWord(file: Blob): Promise<number> {
  const bytes = await readRange(file, Math.max(0, file.size - SIZE_WORD_BYTES), file.size);
  return bytes.length < SIZE_WORD_BYTES ? 0 : new DataView(bytes.buffer).getUint32(0, true);
}

function checkFormat(format: string, what: string): Compression {
  const known = COMPRESSIONS.find((compression) => compression === format);
  if (known !== undefined) return known;
  throw new ImageError('compression-unsupported', `${what} ${format}, which is not unpacked here.`);
}

/** What follows these in a payload is a fault for Xen, too. What follows the others it does not look at. */
const READ_TO_END: ReadonlySet<string> = new Set(['lz4', 'zstd']);

/** The tools that unpack a compressed file do not take a bzImage. */
const PAYLOAD_ADVICE = {
  unsupported: 'Choose the ELF kernel (vmlinux) that it was made from, or use the bsdsyms command or the service.',
  damaged:
    'Choose the ELF kernel (vmlinux) that it was made from. The bsdsyms command and the service say more about what is wrong.',
};

async function unpackBzImage(
  file: Blob,
  start: Uint8Array,
  compression: Compression | null,
  facts: UnpackedFile['facts'],
  watch: Watch,
): Promise<UnpackedFile> {
  const header = hasElfMagic(start) ? null : readSetupHeader(start);
  if (header === null) return { image: file, compression, facts };
  const payload = findPayload(file, header);
  const payloadStart = await readRange(payload, 0, LONGEST_COMPRESSION_MARK_BYTES);
  const sizeWord = await readSizeWord(payload);
  const common = {
    payloadBytes: payload.size,
    payloadEnd: header.payloadOffset + payload.size,
    fileBytes: file.size,
    payloadStart,
    sizeWord,
    // What is damaged was refused before.
    fault: null,
  };
  if (hasElfMagic(payloadStart)) {
    const bytes = { firstMemberBytes: payload.size, unpackedBytes: payload.size };
    const bzImage = { ...common, ...bytes, compression: null, traits: new Set<string>() };
    return { image: payload, compression, facts: { ...facts, bzImage } };
  }
  // Xen takes every dictionary of lzma.
  const format = findCompression(payloadStart) ?? (payloadStart[0] === 0x5d ? 'lzma' : null);
  if (format === null) {
    throw new ImageError(
      'compression-unsupported',
      'It is a Linux bzImage whose payload is neither an ELF kernel nor compressed in a way that is known.',
    );
  }
  const known = checkFormat(format, 'It is a Linux bzImage compressed with');
  // All but gzip, which ends with it anyway, are followed by a size word.
  const packed = known === 'gzip' ? payload : payload.slice(0, Math.max(0, payload.size - SIZE_WORD_BYTES));
  const what = `It is a Linux bzImage compressed with ${known}`;
  const subject = { what, ignoreTrailing: !READ_TO_END.has(known), advice: PAYLOAD_ADVICE };
  const { image, firstMemberBytes, traits } = await unpack(packed, known, subject, watch);
  if (image.size % 2 ** 32 !== sizeWord) {
    throw new ImageError(
      'compressed-data-corrupt',
      `The payload of the Linux bzImage unpacks to ${image.size} bytes, and the size at its end says ${sizeWord}.`,
    );
  }
  const bzImage = { ...common, compression: known, firstMemberBytes, unpackedBytes: image.size, traits };
  return { image, compression: known, facts: { ...facts, bzImage } };
}

/** @throws ImageError */
function findPayload(file: Blob, { protocol, payloadOffset, payloadBytes }: SetupHeader): Blob {
  if (protocol < MIN_PROTOCOL || payloadBytes === 0) {
    throw new ImageError(
      'compression-unsupported',
      protocol < MIN_PROTOCOL
        ? 'It is a Linux bzImage of a boot protocol before 2.08, which does not say where the kernel lies in it. Choose the ELF ' +
            'kernel (vmlinux) that it was made from.'
        : 'It is a Linux bzImage without a payload, such as another boot program. Choose the ELF kernel itself.',
    );
  }
  const end = payloadOffset + payloadBytes;
  if (file.size < end) {
    throw new ImageError(
      'compressed-data-corrupt',
      `It is a Linux bzImage of ${file.size} bytes, and its payload ends at ${end}: the file is cut short.`,
    );
  }
  return file.slice(payloadOffset, end);
}

interface Unpacked {
  readonly image: Blob;
  readonly firstMemberBytes: number;
  readonly traits: ReadonlySet<string>;
}

/** What is unpacked, and what is said of it. */
interface Subject {
  /** Such as `The image is compressed with gzip`. */
  readonly what: string;
  /** Whether bytes after the end of the compressed data do not matter. */
  readonly ignoreTrailing: boolean;
  /** What to do where only the browser could unpack it. */
  readonly advice: { readonly unsupported: string; readonly damaged: string };
}

function unpack(file: Blob, format: Compression, subject: Subject, watch: Watch): Promise<Unpacked> {
  return format === 'gzip' || format === 'zstd'
    ? unpackByBrowser(file, format, subject, watch)
    : unpackByDecoder(file, format, subject, watch);
}

/** Gathers what was unpacked, and hands it to the browser piece by piece. */
class Gatherer {
  #done: Blob[] = [];
  #pieces: Uint8Array<ArrayBuffer>[] = [];
  #bytes = 0;
  size = 0;

  /** Takes a piece, which must not change any more. @throws ImageError image-too-large */
  add(piece: Uint8Array<ArrayBuffer>): void {
    this.size += piece.length;
    this.#bytes += piece.length;
    this.#pieces.push(piece);
    if (this.size > MAX_UNPACKED_BYTES) {
      throw new ImageError(
        'image-too-large',
        `It unpacks to more than ${MAX_UNPACKED_BYTES} bytes, the most that is unpacked here.`,
      );
    }
    if (this.#bytes >= GATHERED_BYTES) this.#flush();
  }

  finish(): Blob {
    this.#flush();
    return new Blob(this.#done);
  }

  #flush(): void {
    this.#done.push(new Blob(this.#pieces));
    this.#pieces = [];
    this.#bytes = 0;
  }
}

/** What the browser unpacks by itself: one member, or one frame, and nothing after it. */
async function unpackByBrowser(
  file: Blob,
  format: 'gzip' | 'zstd',
  { what, advice }: Subject,
  { interrupt, progress }: Watch,
): Promise<Unpacked> {
  let stream: DecompressionStream;
  try {
    // Newer browsers know zstd, too; the types do not.
    stream = new DecompressionStream(format as 'gzip');
  } catch {
    throw new ImageError(
      'compression-unsupported',
      `${what}, which this browser does not unpack. ${advice.unsupported}`,
    );
  }
  const gatherer = new Gatherer();
  let done = 0;
  const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      done += chunk.length;
      controller.enqueue(chunk);
    },
  });
  const reader = file.stream().pipeThrough(counted).pipeThrough(stream).getReader();
  let failure: unknown;
  for (;;) {
    const step = await reader.read().catch((error: unknown) => {
      failure = error;
      return { done: true, value: undefined } as const;
    });
    if (step.done) break;
    interruptReader(interrupt, reader);
    gatherer.add(step.value);
    progress('Unpacking', done, file.size);
  }
  interrupt();
  if (failure !== undefined) {
    throw new ImageError(
      'compressed-data-corrupt',
      `${what}, and the browser cannot unpack it: it is damaged or cut short, or something follows its end. ${advice.damaged}`,
      failure,
    );
  }
  return { image: gatherer.finish(), firstMemberBytes: gatherer.size, traits: new Set() };
}

function interruptReader(interrupt: () => void, reader: { cancel(): Promise<void> }): void {
  try {
    interrupt();
  } catch (error) {
    void reader.cancel();
    throw error;
  }
}

/** The formats that the decoders of this project unpack. */
async function unpackByDecoder(
  file: Blob,
  format: keyof typeof DECODERS,
  { what, ignoreTrailing }: Subject,
  { interrupt, progress }: Watch,
): Promise<Unpacked> {
  const input = new Input();
  const decoding = DECODERS[format](input, { maxWindowBytes: MAX_WINDOW_BYTES, ignoreTrailing });
  const gatherer = new Gatherer();
  const traits = new Set<string>();
  let firstMemberBytes: number | null = null;
  let offset = 0;
  let turnEnds = performance.now() + TURN_MS;
  try {
    for (let step = decoding.next(); step.done !== true; step = decoding.next()) {
      const event = step.value;
      switch (event.kind) {
        case 'input':
          if (offset >= file.size) {
            input.finish();
          } else {
            input.feed(await readRange(file, offset, offset + INPUT_BYTES));
            offset = Math.min(file.size, offset + INPUT_BYTES);
          }
          break;
        case 'piece':
          gatherer.add(Uint8Array.from(event.bytes));
          break;
        case 'member':
          firstMemberBytes ??= gatherer.size;
          break;
        case 'trait':
          traits.add(event.trait);
          break;
        case 'memory':
          break;
      }
      if (performance.now() < turnEnds) continue;
      progress('Unpacking', input.offset, file.size);
      await nextTurn();
      interrupt();
      turnEnds = performance.now() + TURN_MS;
    }
  } catch (error) {
    throw error instanceof DecodeError ? explainFault(error.fault, what) : error;
  }
  return { image: gatherer.finish(), firstMemberBytes: firstMemberBytes ?? gatherer.size, traits };
}

function explainFault(fault: DecodeFault, what: string): ImageError {
  const corrupt = (found: string): ImageError => new ImageError('compressed-data-corrupt', `${what}, and ${found}`);
  switch (fault.kind) {
    case 'damaged':
      return corrupt(`the compressed data is damaged: ${fault.what}.`);
    case 'cut':
      return corrupt('the compressed data ends too early: the file is cut short.');
    case 'checksum':
      return corrupt(`the compressed data is damaged: the checksum ${fault.what} does not fit.`);
    case 'trailing-data':
      return corrupt('something else follows the end of the compressed data.');
    case 'unsupported':
      return new ImageError(
        'compression-unsupported',
        `${what}, and uses something that is not supported here: ${fault.what}. Compress it without that.`,
      );
    case 'window-too-large':
      return new ImageError(
        'compression-unsupported',
        `${what} and a window of ${fault.windowBytes} bytes; windows of at most ${fault.maxWindowBytes} bytes are unpacked here. ` +
          'Compress it with a smaller dictionary.',
      );
  }
}
