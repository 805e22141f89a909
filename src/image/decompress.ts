/** Unpacks compressed images as they arrive, as Xen's domain builder does. */

import { ImageError } from '../inspect/image-error.ts';
import { COMPRESSIONS, type Compression, type GzipFacts, type ImageSource } from '../inspect/image-source.ts';
import { findCompression, LONGEST_COMPRESSION_MARK_BYTES } from '../inspect/signatures.ts';
import { Budget } from './budget.ts';
import type { ImageSink } from './sink.ts';
import { Unpacker, type UnpackFault } from './unpack/unpacker.ts';

/** `zstd --long=27`, and `--ultra -22`, with which the build of Linux compresses its kernels. */
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;

const isUnpacked = (name: string): name is Compression => COMPRESSIONS.some((compression) => compression === name);

/** Looks at the first bytes of an image and unpacks it on its way to the sink behind. Anything else passes untouched. */
export class UnpackingSink {
  readonly #sink: ImageSink;
  readonly #memory: Budget;
  /** The first bytes, as long as they are too few to tell. */
  #start: Uint8Array | null = new Uint8Array(0);
  #unpacker: Unpacker | null = null;
  #compression: Compression | null = null;
  #fileBytes = 0;
  /** The last bytes of the file, at most `SIZE_WORD_BYTES`. */
  #tail = new Uint8Array(0);
  #discarded = false;

  /**
   * @param unpack false to let everything pass, whatever it looks like
   * @param memory where the memory that unpacking takes is counted
   */
  constructor(sink: ImageSink, unpack = true, memory = new Budget(Number.POSITIVE_INFINITY)) {
    this.#sink = sink;
    this.#memory = memory;
    if (!unpack) this.#start = null;
  }

  /** Known once the image has been finished. */
  get compression(): Compression | null {
    return this.#compression;
  }

  /**
   * Takes the next bytes as they are on the wire. A returned promise must be awaited before more is appended.
   *
   * @throws ImageError compression-unsupported, compressed-data-corrupt, memory-full, and what the sink behind throws
   */
  append(chunk: Uint8Array): void | Promise<void> {
    // There may be chunks on their way. Nothing may be taken for them any more.
    if (this.#discarded) return;
    if (this.#start === null) return this.#pass(chunk);
    const start = this.#start.length === 0 ? chunk : Buffer.concat([this.#start, chunk]);
    if (start.length < LONGEST_COMPRESSION_MARK_BYTES) {
      this.#start = Uint8Array.from(start);
      return;
    }
    return this.#decide(start);
  }

  /** @throws as `append` does */
  async finish(): Promise<ImageSource> {
    if (this.#discarded) throw new Error('the image was discarded');
    if (this.#start !== null && this.#start.length > 0) await this.#decide(this.#start);
    await this.#unpacker?.finish();
    const source = await this.#sink.finish();
    const firstMemberBytes = this.#unpacker?.firstMemberBytes ?? null;
    if (firstMemberBytes === null) return source;
    const gzip: GzipFacts = { fileBytes: this.#fileBytes, sizeWord: readSizeWord(this.#tail), firstMemberBytes };
    return Object.assign(source, { gzip });
  }

  async discard(): Promise<void> {
    this.#discarded = true;
    this.#unpacker?.destroy();
    await this.#sink.discard();
  }

  #decide(start: Uint8Array): void | Promise<void> {
    this.#start = null;
    const format = findCompression(start);
    if (format !== null) {
      if (!isUnpacked(format)) {
        throw new ImageError(
          'compression-unsupported',
          `The image is compressed with ${format}, which is not unpacked here. Send it uncompressed, or with gzip or zstd.`,
        );
      }
      this.#compression = format;
      this.#unpacker = new Unpacker({
        format,
        memory: this.#memory,
        maxWindowBytes: MAX_WINDOW_BYTES,
        allowPadding: format === 'gzip',
        take: (piece) => this.#sink.append(piece),
        freePieces: true,
        explain: (fault) => explainFault(format, fault),
      });
    }
    return this.#pass(start);
  }

  #pass(chunk: Uint8Array): void | Promise<void> {
    if (this.#unpacker === null) return this.#sink.append(chunk);
    this.#fileBytes += chunk.length;
    this.#tail = lastBytes(this.#tail, chunk);
    return this.#unpacker.append(chunk);
  }
}

function explainFault(format: Compression, fault: UnpackFault): ImageError {
  const image = `The image is compressed with ${format}`;
  switch (fault.kind) {
    case 'damaged':
      return new ImageError(
        'compressed-data-corrupt',
        `${image}, and the compressed data is damaged or cut short.`,
        fault.cause,
      );
    case 'trailing-data':
      return new ImageError(
        'compressed-data-corrupt',
        `${image}, and what follows the end of the compressed data is not ${format}. ` +
          'Something was appended to the file, or it is two files in one.',
      );
    case 'window-too-large':
      return new ImageError(
        'compression-unsupported',
        `${image} and a window of ${fault.windowBytes} bytes; windows of at most ${fault.maxWindowBytes} bytes are unpacked ` +
          'here. Compress it with zstd --long=27 or less, or without --long.',
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
          'here: compress it anew, in one piece.',
      );
    case 'no-memory':
      return new ImageError(
        'memory-full',
        `${image}, and unpacking it takes ${fault.neededBytes} bytes of memory, for which the ${fault.limitBytes} bytes of all ` +
          'requests (BSDSYMS_MEMORY_BUDGET_BYTES) have no room now. Send it again later, or compress it without --long or --ultra.',
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
