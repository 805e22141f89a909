/** Unpacks compressed images and bzImages as they arrive, as Xen's domain builder unpacks them. */

import { hasElfMagic } from '../elf/format.ts';
import { askBuilderOfRefused } from '../inspect/ask-builder.ts';
import { ImageError } from '../inspect/image-error.ts';
import {
  type BzImageFacts,
  COMPRESSIONS,
  type Compression,
  type GzipFacts,
  type ImageSource,
} from '../inspect/image-source.ts';
import { findCompression, LONGEST_COMPRESSION_MARK_BYTES } from '../inspect/signatures.ts';
import { Budget } from './budget.ts';
import { BZIMAGE_HEADER_BYTES, MIN_PROTOCOL, readSetupHeader, type SetupHeader } from './bzimage.ts';
import type { ImageSink } from './sink.ts';
import { type ThreadFault, ThreadUnpacker } from './thread-unpacker.ts';
import { Unpacker, type UnpackFault } from './unpack/unpacker.ts';

/** The window of `xz --lzma2=dict=128MiB`, `zstd --long=27`, and `zstd --ultra -22`, as in the build of Linux. */
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;

const isUnpacked = (name: string): name is Compression => COMPRESSIONS.some((compression) => compression === name);

/** A stage on the path of an image. Its output goes to the next stage, or to the sink. */
interface Stage {
  /** A returned promise must be awaited before more is appended. */
  append(chunk: Uint8Array): void | Promise<void>;
  finish(): Promise<void>;
  destroy(): void;
}

type Take = (chunk: Uint8Array) => void | Promise<void>;

/**
 * Looks at the first bytes of an image and unpacks it on its way to the next sink: a compressed file, a bzImage, or a
 * bzImage that is compressed. Anything else passes unchanged.
 */
export class UnpackingSink {
  readonly #sink: ImageSink;
  readonly #memory: Budget;
  readonly #first: DetectingStage | null;
  #packed: PackedStage | null = null;
  #bzImage: BzImageStage | null = null;
  #discarded = false;
  /** What came out of damaged data. */
  #refused: ImageSource | null = null;

  /**
   * @param unpack false to let every file pass unchanged
   * @param memory counts what unpacking takes
   */
  constructor(sink: ImageSink, unpack = true, memory = new Budget(Number.POSITIVE_INFINITY)) {
    this.#sink = sink;
    this.#memory = memory;
    this.#first = unpack ? new DetectingStage((start) => this.#openFile(start)) : null;
  }

  /** The compression of the kernel; of a bzImage that of its payload. Known after `finish`. */
  get compression(): Compression | null {
    return this.#bzImage?.compression ?? this.#packed?.format ?? null;
  }

  /**
   * Takes the next bytes as they are on the wire. A returned promise must be awaited before more is appended.
   *
   * @throws ImageError compression-unsupported, compressed-data-corrupt, memory-full, and what the next sink throws
   */
  append(chunk: Uint8Array): void | Promise<void> {
    // Chunks that are still on their way must not take memory any more.
    if (this.#discarded) return;
    if (this.#first === null) return this.#sink.append(chunk);
    return this.#first.append(chunk)?.catch((error: unknown) => this.#refuse(error));
  }

  /** Ends the image. @throws as `append` does */
  async finish(): Promise<ImageSource> {
    if (this.#discarded) throw new Error('the image was discarded');
    await this.#first?.finish().catch((error: unknown) => this.#refuse(error));
    return this.#finishSink();
  }

  async #finishSink(): Promise<ImageSource> {
    const source = await this.#sink.finish();
    const gzip = this.#packed?.gzip ?? null;
    const bzImage = this.#bzImage?.facts ?? null;
    return Object.assign(source, {
      ...(gzip === null ? {} : { gzip }),
      ...(this.#packed === null || gzip !== null ? {} : { fileCompression: this.#packed.format }),
      ...(bzImage === null ? {} : { bzImage }),
    });
  }

  /**
   * Refuses damaged data. Xen may take it all the same, so its builder is asked about what came out, which `discard` gives back.
   *
   * @throws the error, with the verdict
   */
  async #refuse(error: unknown): Promise<never> {
    if (!(error instanceof ImageError) || error.code !== 'compressed-data-corrupt' || this.#discarded) throw error;
    this.#refused = await this.#finishSink();
    if (this.#discarded) {
      await this.#refused.close();
      throw error;
    }
    throw new ImageError(error.code, error.message, error.cause, await askBuilderOfRefused(this.#refused));
  }

  /** Gives everything back. Idempotent. */
  async discard(): Promise<void> {
    this.#discarded = true;
    this.#first?.destroy();
    try {
      await this.#refused?.close();
    } finally {
      await this.#sink.discard();
    }
  }

  /** The stage for a file that begins like this. */
  #openFile(start: Uint8Array): Stage {
    const format = hasElfMagic(start) ? null : findCompression(start);
    if (format === null) return this.#openUnpacked(start);
    const inner = new DetectingStage((unpacked) => this.#openUnpacked(unpacked));
    this.#packed = new PackedStage(format, 'The image is compressed with', this.#memory, inner, {
      ignoreTrailing: false,
      // Of the other files Xen takes none.
      readsOn: format === 'gzip',
    });
    return this.#packed;
  }

  /** The stage for a file that is not compressed, or has been unpacked. */
  #openUnpacked(start: Uint8Array): Stage {
    const header = hasElfMagic(start) ? null : readSetupHeader(start);
    const end = new LastStage((chunk) => (this.#discarded ? undefined : this.#sink.append(chunk)));
    if (header === null) return end;
    this.#bzImage = new BzImageStage(header, this.#memory, end);
    return this.#bzImage;
  }
}

/** Whether a file has to be unpacked. @param start the first `PACKING_MARK_BYTES` of the file, or all of it */
export const isPacked = (start: Uint8Array): boolean =>
  !hasElfMagic(start) && (findCompression(start) !== null || readSetupHeader(start) !== null);
export const PACKING_MARK_BYTES = Math.max(LONGEST_COMPRESSION_MARK_BYTES, BZIMAGE_HEADER_BYTES);

/** Passes bytes to the sink. */
class LastStage implements Stage {
  readonly append: Take;

  constructor(take: Take) {
    this.append = take;
  }

  finish(): Promise<void> {
    return Promise.resolve();
  }

  destroy(): void {}
}

/** Gathers the first bytes until they show what the file is, and opens the stage for that. */
class DetectingStage implements Stage {
  readonly #open: (start: Uint8Array) => Stage;
  #start: Uint8Array = new Uint8Array(0);
  #next: Stage | null = null;
  #destroyed = false;

  constructor(open: (start: Uint8Array) => Stage) {
    this.#open = open;
  }

  append(chunk: Uint8Array): void | Promise<void> {
    if (this.#next !== null) return this.#next.append(chunk);
    const start = this.#start.length === 0 ? chunk : Buffer.concat([this.#start, chunk]);
    if (!isEnough(start)) {
      this.#start = Uint8Array.from(start);
      return;
    }
    return this.#begin(start);
  }

  async finish(): Promise<void> {
    if (this.#next === null && this.#start.length > 0) await this.#begin(this.#start);
    await this.#next?.finish();
  }

  destroy(): void {
    this.#destroyed = true;
    this.#next?.destroy();
  }

  #begin(start: Uint8Array): void | Promise<void> {
    if (this.#destroyed) return;
    this.#next = this.#open(start);
    this.#start = new Uint8Array(0);
    return this.#next.append(start);
  }
}

/** Whether these bytes show what the file is. */
const isEnough = (start: Uint8Array): boolean =>
  start.length >= PACKING_MARK_BYTES ||
  hasElfMagic(start) ||
  (start.length >= LONGEST_COMPRESSION_MARK_BYTES && findCompression(start) !== null);

const isZlib = (format: Compression): format is 'gzip' | 'zstd' => format === 'gzip' || format === 'zstd';

interface PackedOptions {
  /** Whether what follows the compressed data, and is no more of it, is ignored. */
  readonly ignoreTrailing: boolean;
  /**
   * Whether `append` takes the rest of damaged data and drops it, and only `finish` throws: what Xen does with the data
   * depends on its last bytes.
   */
  readonly readsOn: boolean;
}

/** Unpacks one layer of compression. */
class PackedStage implements Stage {
  readonly format: Compression;
  readonly #unpacker: Unpacker | ThreadUnpacker;
  readonly #next: Stage;
  readonly #readsOn: boolean;
  #fault: { readonly kind: 'cut' | 'damaged'; readonly error: ImageError } | null = null;
  #fileBytes = 0;
  #unpackedBytes = 0;
  /** The last bytes of the compressed data, at most `SIZE_WORD_BYTES`. */
  #tail = new Uint8Array(0);

  /** @param what begins the sentence of an error */
  constructor(format: string, what: string, memory: Budget, next: Stage, options: PackedOptions) {
    if (!isUnpacked(format))
      throw new ImageError('compression-unsupported', `${what} ${format}, which is not unpacked here.`);
    this.format = format;
    this.#next = next;
    const { ignoreTrailing, readsOn } = options;
    this.#readsOn = readsOn;
    const take: Take = (piece) => {
      this.#unpackedBytes += piece.length;
      return next.append(piece);
    };
    const explain = (fault: UnpackFault | ThreadFault): ImageError => {
      const error = explainFault(format, `${what} ${format}`, fault);
      if (error.code === 'compressed-data-corrupt') {
        this.#fault ??= { kind: fault.kind === 'cut' ? 'cut' : 'damaged', error };
      }
      return error;
    };
    const common = { memory, maxWindowBytes: MAX_WINDOW_BYTES, ignoreTrailing, take, explain };
    this.#unpacker = isZlib(format)
      ? new Unpacker({ ...common, format, allowPadding: format === 'gzip', freePieces: true })
      : new ThreadUnpacker({ ...common, format, passChecksums: readsOn });
  }

  /** The facts of a gzip file; null for other formats, and before `finish`. */
  get gzip(): GzipFacts | null {
    if (this.format !== 'gzip') return null;
    return { fileBytes: this.#fileBytes, sizeWord: readSizeWord(this.#tail), firstMemberBytes: this.firstMemberBytes };
  }

  get firstMemberBytes(): number | null {
    return this.#unpacker.firstMemberBytes;
  }

  get fault(): 'cut' | 'damaged' | null {
    return this.#fault?.kind ?? null;
  }

  get unpackedBytes(): number {
    return this.#unpackedBytes;
  }

  get traits(): ReadonlySet<string> {
    return this.#unpacker instanceof ThreadUnpacker ? this.#unpacker.traits : new Set();
  }

  async append(chunk: Uint8Array): Promise<void> {
    this.#fileBytes += chunk.length;
    this.#tail = lastBytes(this.#tail, chunk);
    if (this.#fault === null) await this.#unpacker.append(chunk).catch((error: unknown) => this.#keep(error));
    if (this.#fault === null) return;
    this.#unpacker.destroy();
    if (!this.#readsOn) throw this.#fault.error;
  }

  async finish(): Promise<void> {
    if (this.#fault === null) await this.#unpacker.finish().catch((error: unknown) => this.#keep(error));
    if (this.#fault === null) return this.#next.finish();
    // What came before the fault goes the rest of its way, if it can.
    await this.#next.finish().catch(() => {});
    throw this.#fault.error;
  }

  /** @throws any error but that of the fault */
  #keep(error: unknown): void {
    if (error !== this.#fault?.error) throw error;
  }

  destroy(): void {
    this.#unpacker.destroy();
    this.#next.destroy();
  }
}

/** Xen too refuses a payload with bytes after the data of these formats. With the other formats it ignores such bytes. */
const READ_TO_END: ReadonlySet<string> = new Set(['lz4', 'zstd']);

/** How many bytes at the start of a payload show how it is compressed. */
const PAYLOAD_MARK_BYTES = LONGEST_COMPRESSION_MARK_BYTES;

const PAYLOAD_OF = 'It is a Linux bzImage compressed with';

/** Finds the payload of a bzImage and unpacks it. Bytes before and after the payload are ignored. */
class BzImageStage implements Stage {
  readonly #payloadOffset: number;
  readonly #payloadBytes: number;
  readonly #memory: Budget;
  readonly #end: Stage;
  #fileBytes = 0;
  #payload: Stage | null = null;
  #packed: PackedStage | null = null;
  /** The first bytes of the payload. */
  #start: Uint8Array = new Uint8Array(0);
  #tail = new Uint8Array(0);

  constructor({ protocol, payloadOffset, payloadBytes }: SetupHeader, memory: Budget, end: Stage) {
    if (protocol < MIN_PROTOCOL) {
      const version = `${protocol >>> 8}.${String(protocol & 0xff).padStart(2, '0')}`;
      throw new ImageError(
        'compression-unsupported',
        `It is a Linux bzImage of boot protocol ${version}, which does not say where the kernel lies in it; since 2.08 it ` +
          'does. Use the ELF kernel (vmlinux) that it was made from.',
      );
    }
    if (payloadBytes === 0) {
      throw new ImageError(
        'compression-unsupported',
        'It is a Linux bzImage without a payload, such as another boot program. Use the ELF kernel itself.',
      );
    }
    this.#payloadOffset = payloadOffset;
    this.#payloadBytes = payloadBytes;
    this.#memory = memory;
    this.#end = end;
  }

  get compression(): Compression | null {
    return this.#packed?.format ?? null;
  }

  /** Known after `finish`. */
  get facts(): BzImageFacts {
    return {
      payloadBytes: this.#payloadBytes,
      payloadEnd: this.#payloadOffset + this.#payloadBytes,
      fileBytes: this.#fileBytes,
      payloadStart: this.#start,
      compression: this.compression,
      sizeWord: readSizeWord(this.#tail),
      firstMemberBytes: this.#packed?.firstMemberBytes ?? null,
      unpackedBytes: this.#packed?.unpackedBytes ?? this.#payloadBytes,
      fault: this.#packed?.fault ?? null,
      traits: this.#packed?.traits ?? new Set(),
    };
  }

  append(chunk: Uint8Array): void | Promise<void> {
    const from = Math.max(0, this.#payloadOffset - this.#fileBytes);
    const to = Math.min(chunk.length, this.#payloadOffset + this.#payloadBytes - this.#fileBytes);
    const payloadAt = this.#fileBytes + from - this.#payloadOffset;
    this.#fileBytes += chunk.length;
    if (from >= to) return;
    const part = chunk.subarray(from, to);
    this.#tail = lastBytes(this.#tail, part);
    return this.#appendPayload(part, payloadAt);
  }

  async finish(): Promise<void> {
    const payloadEnd = this.#payloadOffset + this.#payloadBytes;
    if (this.#fileBytes < payloadEnd) {
      throw new ImageError(
        'compressed-data-corrupt',
        `It is a Linux bzImage of ${this.#fileBytes} bytes, and its payload ends at ${payloadEnd}: the file is cut short.`,
      );
    }
    if (this.#payload === null) await this.#open();
    await this.#payload?.finish();
    if (this.#packed === null) return;
    const { format, unpackedBytes, traits } = this.#packed;
    const sizeWord = readSizeWord(this.#tail);
    if (traits.has('wrong-checksum')) {
      throw new ImageError(
        'compressed-data-corrupt',
        `${PAYLOAD_OF} ${format}, and the compressed data is damaged: a checksum does not fit.`,
      );
    }
    if (unpackedBytes % 2 ** 32 === sizeWord) return;
    throw new ImageError(
      'compressed-data-corrupt',
      `The payload of the Linux bzImage unpacks to ${unpackedBytes} bytes, and the size at its end says ${sizeWord}.`,
    );
  }

  destroy(): void {
    this.#payload?.destroy();
    this.#end.destroy();
  }

  #appendPayload(part: Uint8Array, at: number): void | Promise<void> {
    if (this.#payload !== null) return this.#pass(part, at);
    // Gathers the start until it shows how the payload is compressed.
    this.#start = Uint8Array.from([...this.#start, ...part.subarray(0, PAYLOAD_MARK_BYTES)]);
    const missing = PAYLOAD_MARK_BYTES - at - part.length;
    if (missing > 0) return;
    const start = this.#start.subarray(0, PAYLOAD_MARK_BYTES);
    const rest = part.subarray(PAYLOAD_MARK_BYTES - at);
    this.#start = start;
    const opened = this.#open();
    if (rest.length === 0) return opened;
    return opened.then(() => this.#pass(rest, PAYLOAD_MARK_BYTES));
  }

  /** Opens the payload, and passes its gathered start. */
  async #open(): Promise<void> {
    const start = this.#start;
    if (hasElfMagic(start)) {
      this.#payload = this.#end;
    } else {
      const format = findPayloadCompression(start);
      if (format === null) {
        throw new ImageError(
          'compression-unsupported',
          'It is a Linux bzImage whose payload is neither an ELF kernel nor compressed in a known way.',
        );
      }
      const ignoreTrailing = !READ_TO_END.has(format);
      this.#packed = new PackedStage(format, PAYLOAD_OF, this.#memory, this.#end, { ignoreTrailing, readsOn: true });
      this.#payload = this.#packed;
    }
    await this.#pass(start, 0);
  }

  /** Passes bytes of the payload, without the size word at its end. In gzip data that word is part of the format. */
  #pass(part: Uint8Array, at: number): void | Promise<void> {
    const hasWord = this.#packed !== null && this.#packed.format !== 'gzip';
    const end = this.#payloadBytes - (hasWord ? SIZE_WORD_BYTES : 0);
    const bytes = part.subarray(0, Math.max(0, end - at));
    if (bytes.length > 0) return this.#payload?.append(bytes);
  }
}

/** Xen accepts any dictionary size of lzma. `findCompression` expects one that ends with two zero bytes, as most files have. */
const findPayloadCompression = (start: Uint8Array): string | null =>
  findCompression(start) ?? (start[0] === 0x5d ? 'lzma' : null);

function explainFault(format: Compression, image: string, fault: UnpackFault | ThreadFault): ImageError {
  const corrupt = (what: string, cause?: unknown): ImageError =>
    new ImageError('compressed-data-corrupt', `${image}, and ${what}`, cause);
  switch (fault.kind) {
    case 'damaged':
      return 'cause' in fault
        ? corrupt('the compressed data is damaged or cut short.', fault.cause)
        : corrupt(`the compressed data is damaged: ${fault.what}.`);
    case 'cut':
      return corrupt('the compressed data ends too early: the file is cut short.');
    case 'checksum':
      return corrupt(`the compressed data is damaged: the checksum ${fault.what} does not fit.`);
    case 'trailing-data':
      return corrupt(
        `what follows the end of the compressed data is not ${format}. ` +
          'Something was appended to the file, or it is two files in one.',
      );
    case 'unsupported':
      return new ImageError(
        'compression-unsupported',
        `${image}, and uses a feature that is not supported here: ${fault.what}. Compress it without that.`,
      );
    case 'window-too-large':
      return new ImageError(
        'compression-unsupported',
        `${image} and a window of ${fault.windowBytes} bytes; windows of at most ${fault.maxWindowBytes} bytes are unpacked ` +
          `here. Compress it with ${format === 'zstd' ? 'zstd --long=27 or less, or without --long' : 'a smaller dictionary'}.`,
      );
    case 'dictionary-needed':
      return new ImageError(
        'compression-unsupported',
        `${image} and a dictionary, without which it cannot be unpacked. Compress it without one.`,
      );
    case 'frames-too-small':
      return new ImageError(
        'compression-unsupported',
        `${image} in ${fault.frames} frames within its first ${fault.bytes} bytes. So many small frames are not unpacked ` +
          'here: compress it again, in one piece.',
      );
    case 'no-memory':
      return new ImageError(
        'memory-full',
        `${image}, and unpacking it takes ${fault.neededBytes} bytes of memory, for which the ${fault.limitBytes} bytes of all ` +
          'requests (BSDSYMS_MEMORY_BUDGET_BYTES) have no room now. Send it again later, or compress it with a smaller ' +
          `${format === 'zstd' ? 'window: without --long or --ultra' : 'dictionary'}.`,
      );
  }
}

const SIZE_WORD_BYTES = 4;

/** The last bytes of two pieces, copied, as the caller may reuse them. */
function lastBytes(before: Uint8Array, chunk: Uint8Array): Uint8Array<ArrayBuffer> {
  const end = chunk.subarray(-SIZE_WORD_BYTES);
  const missing = SIZE_WORD_BYTES - end.length;
  return Uint8Array.from(missing === 0 ? end : [...before.subarray(-missing), ...end]);
}

/** Little-endian; what is missing is 0. */
const readSizeWord = (bytes: Uint8Array): number => bytes.reduceRight((value, byte) => value * 256 + byte, 0);
