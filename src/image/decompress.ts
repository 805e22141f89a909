/** Unpacks compressed images as they arrive, as Xen's domain builder does. */
import { createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from 'node:zlib';
import type { ImageSource } from '../inspect/image-source.ts';
import { findCompression, LONGEST_COMPRESSION_MARK_BYTES } from '../inspect/signatures.ts';
import { consume } from './consume.ts';
import { ImageError } from './errors.ts';
import type { ImageSink } from './sink.ts';

/** What is unpacked. */
export type Compression = 'gzip' | 'zstd';

/** Large pieces, as every one of them is a round trip to the thread pool. */
const PIECE_BYTES = 256 * 1024;

const UNPACKERS: Readonly<Record<Compression, () => Gunzip | ZstdDecompress>> = {
  gzip: () => createGunzip({ chunkSize: PIECE_BYTES }),
  zstd: () => createZstdDecompress({ chunkSize: PIECE_BYTES }),
};

const isUnpacked = (compression: string): compression is Compression => Object.hasOwn(UNPACKERS, compression);

/** Looks at the first bytes of an image and unpacks it on its way to the sink behind. Anything else passes untouched. */
export class UnpackingSink {
  readonly #sink: ImageSink;
  /** The first bytes, as long as they are too few to tell. */
  #start: Uint8Array | null = new Uint8Array(0);
  #unpacker: Unpacker | null = null;
  #compression: Compression | null = null;

  /** @param unpack false to let everything pass, whatever it looks like */
  constructor(sink: ImageSink, unpack = true) {
    this.#sink = sink;
    if (!unpack) this.#start = null;
  }

  /** Known once the image has been finished. */
  get compression(): Compression | null {
    return this.#compression;
  }

  /**
   * Takes the next bytes as they are on the wire. A returned promise must be awaited before more is appended.
   *
   * @throws ImageError compression-unsupported, compressed-data-corrupt, and what the sink behind throws
   */
  append(chunk: Uint8Array): void | Promise<void> {
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
    if (this.#start !== null && this.#start.length > 0) await this.#decide(this.#start);
    await this.#unpacker?.finish();
    return this.#sink.finish();
  }

  async discard(): Promise<void> {
    this.#unpacker?.destroy();
    await this.#sink.discard();
  }

  #decide(start: Uint8Array): void | Promise<void> {
    this.#start = null;
    const compression = findCompression(start);
    if (compression !== null) {
      if (!isUnpacked(compression)) {
        throw new ImageError(
          'compression-unsupported',
          `The image is compressed with ${compression}, which is not unpacked here. Send it uncompressed, or with gzip or zstd.`,
        );
      }
      this.#compression = compression;
      this.#unpacker = new Unpacker(compression, this.#sink);
    }
    return this.#pass(start);
  }

  #pass(chunk: Uint8Array): void | Promise<void> {
    return this.#unpacker === null ? this.#sink.append(chunk) : this.#unpacker.append(chunk);
  }
}

/** Feeds decompressing streams, and their output to a sink, holding each back for the other. */
class Unpacker {
  readonly #name: Compression;
  readonly #sink: ImageSink;
  #stream: Gunzip | ZstdDecompress;
  /** The end of the stream; fails with it, or when the image is discarded. */
  #ended = Promise.withResolvers<void>();
  #failure: Error | null = null;
  /** Fails the write under way. */
  #abandon: (error: Error) => void = () => {};
  /** Whether what is still to come is no part of the image. */
  #over = false;

  constructor(name: Compression, sink: ImageSink) {
    this.#name = name;
    this.#sink = sink;
    this.#stream = this.#open();
  }

  async append(chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length > 0 && !this.#over; ) {
      const consumed = await this.#write(rest);
      if (consumed === rest.length) return;
      // Node's gzip goes on with the next member by itself, and ends in front of zeros, which tapes and disks leave.
      if (this.#name === 'gzip') {
        this.#over = true;
        return;
      }
      // A zstd stream ends with its frame.
      await this.#ended.promise;
      this.#stream = this.#open();
      rest = rest.subarray(consumed);
    }
  }

  finish(): Promise<void> {
    this.#stream.end();
    return this.#ended.promise;
  }

  destroy(): void {
    this.#fail(new Error('the image was discarded'));
    this.#stream.destroy();
  }

  /**
   * Waits until the thread that unpacks has let go of the chunk, unless the stream failed.
   *
   * @returns the bytes that were used
   */
  async #write(chunk: Uint8Array): Promise<number> {
    if (this.#failure !== null) throw this.#failure;
    const stream = this.#stream;
    const before = stream.bytesWritten;
    const { promise: written, resolve, reject } = Promise.withResolvers<void>();
    this.#abandon = reject;
    stream.write(chunk, (error) => {
      if (!error) resolve();
    });
    await written;
    return stream.bytesWritten - before;
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.#ended.reject(error);
    // A stream that fails never calls back for the chunk that it was at.
    this.#abandon(error);
  }

  #open(): Gunzip | ZstdDecompress {
    const stream = UNPACKERS[this.#name]();
    const ended = Promise.withResolvers<void>();
    // Told by `append` or `finish`, whichever is waited for.
    ended.promise.catch(() => {});
    this.#ended = ended;
    consume(
      stream,
      (piece) => this.#sink.append(piece),
      (error) => this.#explain(error),
      true,
    ).then(ended.resolve, (error: Error) => {
      stream.destroy();
      this.#fail(error);
    });
    return stream;
  }

  #explain(error: Error): ImageError {
    return new ImageError(
      'compressed-data-corrupt',
      `The image is compressed with ${this.#name}, and the compressed data is damaged or cut short.`,
      error,
    );
  }
}
