/** Unpacks a stream of gzip, deflate, brotli or zstd within a memory budget. Input waits until the output was taken. */
import {
  type BrotliDecompress,
  constants,
  crc32,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  type Gunzip,
  type Inflate,
  type InflateRaw,
  type ZstdDecompress,
} from 'node:zlib';
import type { Budget } from '../budget.ts';
import { consume } from '../consume.ts';
import { GzipHeader, TRAILER_BYTES } from './gzip-header.ts';
import { type FrameHeader, MAX_BLOCK_BYTES, ZstdFrames } from './zstd-frames.ts';

/** The formats, by their names as HTTP content codings. */
export type PackedFormat = 'gzip' | 'deflate' | 'br' | 'zstd';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Pieces are large, as each takes a round trip to the thread pool. */
const PIECE_BYTES = 256 * KIB;
/** One piece is filled while the piece before it is taken. */
const PIECES_BYTES = 2 * PIECE_BYTES;
/** State and window of zlib; its manual says 44 KiB. */
const INFLATE_BYTES = 64 * KIB;
/** The largest window of RFC 7932, 16 MiB, and the tables of prefix codes. */
const BROTLI_BYTES = 17 * MIB;
/** State of zstd without its window and buffers. */
const ZSTD_CONTEXT_BYTES = 192 * KIB;

/**
 * zstd always gets this much memory, even when the budget is used up: it is enough for a window of 8 MiB, which every
 * decoder should support (RFC 8878, section 3.1.1.1.2). The other formats always get what they need.
 */
const GRANTED_ZSTD_BYTES = 10 * MIB;

const NOTHING = new Uint8Array(0);
/** The first byte of a gzip member. */
const GZIP_MARK = 0x1f;
/** The most members that are read where other bytes may follow: each takes a decompressor of its own. */
const MAX_MEMBERS = 1000;

/** A frame of any size costs a round trip to the thread pool, some 40 µs. This many frames are always unpacked. */
const FREE_FRAMES = 1000;
/** Beyond them, one more frame for this many bytes. */
const BYTES_PER_FRAME = 512;

/** Why a stream cannot be unpacked. */
export type UnpackFault =
  /** The data breaks a rule of its format, or ends too early. */
  | { readonly kind: 'damaged'; readonly cause: Error }
  /** Other bytes follow the compressed data. */
  | { readonly kind: 'trailing-data' }
  /** A zstd frame needs a larger window than is allowed. */
  | { readonly kind: 'window-too-large'; readonly windowBytes: number; readonly maxWindowBytes: number }
  /** A zstd frame needs a dictionary. */
  | { readonly kind: 'dictionary-needed' }
  /** There are too many zstd frames for the bytes that were read. */
  | { readonly kind: 'frames-too-small'; readonly frames: number; readonly bytes: number }
  /** The budget has no room for the decompressor. */
  | { readonly kind: 'no-memory'; readonly neededBytes: number; readonly limitBytes: number };

/** What to unpack, and where to. */
export interface UnpackOptions {
  readonly format: PackedFormat;
  /** Counts the memory of the decompressor while it lives. */
  readonly memory: Budget;
  /** The largest window of zstd; a power of two. The other formats have limits of their own. */
  readonly maxWindowBytes: number;
  /** Whether zeros may follow gzip data, as disks and tapes leave them. Bytes after the zeros are ignored, as by gzip(1). */
  readonly allowPadding: boolean;
  /** Whether any bytes after gzip data are ignored. */
  readonly ignoreTrailing?: boolean;
  /** Takes an unpacked piece, which is no longer needed once it returns, or its promise settles. */
  readonly take: (piece: Uint8Array) => void | Promise<void>;
  /** Whether the memory of pieces that were taken is freed at once. */
  readonly freePieces: boolean;
  /** The error to be thrown for a fault. */
  readonly explain: (fault: UnpackFault) => Error;
}

/** One compressed stream, with one decompressor at a time. Exactly one of `finish` and `destroy` ends it. */
export class Unpacker {
  readonly #options: UnpackOptions;
  readonly #frames: ZstdFrames | null;
  #stream: ZlibStream | null = null;
  #failure: Error | null = null;
  /** Taken from the budget. */
  #heldBytes = 0;
  #frameCount = 0;
  /** The gzip member whose header and trailer are read here, usually only the first; otherwise null. */
  #member: GzipMember | null;
  #firstMemberBytes: number | null = null;
  #padding = false;
  #memberCount = 1;

  constructor(options: UnpackOptions) {
    this.#options = options;
    this.#frames = options.format === 'zstd' ? new ZstdFrames() : null;
    this.#member = options.format === 'gzip' ? new GzipMember() : null;
  }

  /** Unpacked bytes of the first gzip member; null before its end, and for other formats. */
  get firstMemberBytes(): number | null {
    return this.#firstMemberBytes;
  }

  /**
   * Takes the next bytes. Await the promise before appending more; the chunk is then no longer needed.
   *
   * @throws what `explain` returns for a fault, and what `take` throws
   */
  append(chunk: Uint8Array): Promise<void> {
    if (this.#frames !== null) return this.#appendFrames(chunk, this.#frames);
    return this.#member === null ? this.#appendRest(chunk) : this.#appendMember(chunk, this.#member);
  }

  /** Resolves when everything was unpacked and taken. @throws as `append` does */
  async finish(): Promise<void> {
    this.#check();
    if (this.#frames !== null && !this.#frames.atEnd) throw this.#damaged('the last frame is not complete');
    await this.#stream?.end();
    if (this.#member?.hasBegun === true) throw this.#damaged('a member is not complete');
    this.#release();
  }

  /** Stops, and gives everything back. Idempotent, also after `finish`. */
  destroy(): void {
    this.#failure ??= new Error('the stream was closed before its end');
    this.#stream?.destroy(this.#failure);
    this.#release();
  }

  /**
   * Xen unpacks the first member only, so its end must be known. zlib does not report it for gzip data. So the header and
   * the trailer are read here, and zlib gets the data between them.
   */
  async #appendMember(chunk: Uint8Array, member: GzipMember): Promise<void> {
    this.#check();
    let at = 0;
    if (chunk.length > 0) member.hasBegun = true;
    try {
      at += member.header.read(chunk);
    } catch (error) {
      throw this.#options.explain({ kind: 'damaged', cause: error as Error });
    }
    if (at < chunk.length && !member.hasEnded) {
      const stream = this.#open(INFLATE_BYTES, (piece) => member.count(piece));
      const used = await stream.write(chunk.subarray(at));
      at += used;
      member.hasEnded = at < chunk.length;
      if (member.hasEnded) await stream.end();
      this.#check();
    }
    if (!member.hasEnded) return;
    at += member.readTrailer(chunk.subarray(at));
    if (!member.isComplete) return;
    if (!member.isIntact) throw this.#damaged('incorrect data check');
    this.#member = null;
    this.#stream = null;
    this.#firstMemberBytes ??= member.bytes;
    if (at < chunk.length) await this.#appendRest(chunk.subarray(at));
  }

  /** Takes bytes of a format without members, or of the members after the first. */
  async #appendRest(chunk: Uint8Array): Promise<void> {
    this.#check();
    const { format, allowPadding, ignoreTrailing = false, explain } = this.#options;
    if (chunk.length === 0 || this.#padding) return;
    if (format === 'gzip' && ignoreTrailing) {
      if (chunk[0] !== GZIP_MARK) {
        this.#padding = true;
        return;
      }
      // zlib would read trailing bytes as another member. So every member is read as the first one is.
      this.#memberCount += 1;
      if (this.#memberCount > MAX_MEMBERS) throw explain({ kind: 'trailing-data' });
      this.#member = new GzipMember();
      return this.#appendMember(chunk, this.#member);
    }
    if (format === 'gzip' && this.#stream === null && chunk[0] === 0 && allowPadding) {
      this.#padding = true;
      return;
    }
    // For gzip, zlib continues with the next member by itself, and stops before zeros. The other formats end with their data.
    const stream = this.#open(format === 'br' ? BROTLI_BYTES : INFLATE_BYTES);
    const used = await stream.write(chunk);
    if (used === chunk.length) return;
    if (!allowPadding || chunk[used] !== 0) throw explain({ kind: 'trailing-data' });
    this.#padding = true;
  }

  async #appendFrames(chunk: Uint8Array, frames: ZstdFrames): Promise<void> {
    this.#check();
    let stored: Uint8Array[] = [];
    for (const part of frames.read(chunk)) {
      if (part.kind === 'stored') {
        stored.push(part.bytes);
        continue;
      }
      if (stored.length > 0) await this.#pass(stored);
      stored = [];
      switch (part.kind) {
        case 'frame':
          this.#admit(part.header, part.offset);
          break;
        case 'packed': {
          const used = await this.#stream?.write(part.bytes);
          if (used !== part.bytes.length) throw this.#damaged('a frame ends before its last block');
          break;
        }
        case 'foreign':
          if (part.offset === 0) throw this.#damaged('no frame begins at its start');
          throw this.#options.explain({ kind: 'trailing-data' });
      }
      this.#check();
    }
    if (stored.length > 0) await this.#pass(stored);
  }

  /** Passes on the contents of stored frames as one piece, as there may be very many of them. */
  async #pass(stored: readonly Uint8Array[]): Promise<void> {
    await this.#options.take(stored.length === 1 ? (stored[0] ?? NOTHING) : Buffer.concat(stored));
    this.#check();
  }

  /** Checks what a frame asks for, takes the memory for it, and makes sure that there is a decompressor. */
  #admit({ windowBytes, contentBytes, needsDictionary }: FrameHeader, offset: number): void {
    const { maxWindowBytes, explain } = this.#options;
    if (windowBytes > maxWindowBytes) throw explain({ kind: 'window-too-large', windowBytes, maxWindowBytes });
    if (needsDictionary) throw explain({ kind: 'dictionary-needed' });
    this.#frameCount += 1;
    if (this.#frameCount > FREE_FRAMES + offset / BYTES_PER_FRAME) {
      throw explain({ kind: 'frames-too-small', frames: this.#frameCount, bytes: offset });
    }
    const blockBytes = Math.min(windowBytes, MAX_BLOCK_BYTES);
    // zstd holds the window and two more blocks, or the content where that is less, and one incoming block.
    const windowAndBlocks = Math.min(contentBytes ?? Number.POSITIVE_INFINITY, windowBytes + 2 * blockBytes);
    this.#open(ZSTD_CONTEXT_BYTES + windowAndBlocks + blockBytes);
  }

  /**
   * The decompressor, which is made on the first call.
   *
   * @param bytes the memory that it takes besides the pieces
   * @param look sees every piece before it is taken
   */
  #open(bytes: number, look: (piece: Uint8Array) => void = () => {}): ZlibStream {
    this.#hold(PIECES_BYTES + bytes);
    const { take, freePieces } = this.#options;
    this.#stream ??= new ZlibStream(
      this.#member === null ? createStream(this.#options) : createInflateRaw({ chunkSize: PIECE_BYTES }),
      (piece) => {
        look(piece);
        return take(piece);
      },
      (error) => this.#options.explain(this.#toFault(error)),
      freePieces,
    );
    return this.#stream;
  }

  #hold(bytes: number): void {
    const more = bytes - this.#heldBytes;
    if (more <= 0) return;
    const { format, memory, explain } = this.#options;
    if (format !== 'zstd' || bytes <= GRANTED_ZSTD_BYTES) memory.overdraw(more);
    else if (!memory.take(more)) throw explain({ kind: 'no-memory', neededBytes: bytes, limitBytes: memory.limit });
    this.#heldBytes = bytes;
  }

  #release(): void {
    this.#options.memory.give(this.#heldBytes);
    this.#heldBytes = 0;
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  #damaged(what: string): Error {
    return this.#options.explain({ kind: 'damaged', cause: new Error(what) });
  }

  #toFault(cause: Error): UnpackFault {
    const isAfterMember = this.#firstMemberBytes !== null;
    if (isAfterMember && cause.message === 'incorrect header check') return { kind: 'trailing-data' };
    return { kind: 'damaged', cause };
  }
}

/** A gzip member while it arrives. */
class GzipMember {
  readonly header = new GzipHeader();
  hasBegun = false;
  /** Whether the compressed data has ended and the trailer follows. */
  hasEnded = false;
  readonly #trailer = new Uint8Array(TRAILER_BYTES);
  #trailerBytes = 0;
  #crc = 0;
  #bytes = 0;

  /** Unpacked bytes so far. */
  get bytes(): number {
    return this.#bytes;
  }

  get isComplete(): boolean {
    return this.#trailerBytes === TRAILER_BYTES;
  }

  /** Whether the trailer has the checksum and the length of the unpacked bytes. */
  get isIntact(): boolean {
    const trailer = new DataView(this.#trailer.buffer);
    return trailer.getUint32(0, true) === this.#crc && trailer.getUint32(4, true) === this.#bytes % 2 ** 32;
  }

  count(piece: Uint8Array): void {
    this.#crc = crc32(piece, this.#crc);
    this.#bytes += piece.length;
  }

  /** @returns how many of the bytes belong to the trailer */
  readTrailer(bytes: Uint8Array): number {
    const part = bytes.subarray(0, TRAILER_BYTES - this.#trailerBytes);
    this.#trailer.set(part, this.#trailerBytes);
    this.#trailerBytes += part.length;
    return part.length;
  }
}

type ZlibTransform = Gunzip | Inflate | InflateRaw | BrotliDecompress | ZstdDecompress;

function createStream({ format, maxWindowBytes }: UnpackOptions): ZlibTransform {
  const chunkSize = PIECE_BYTES;
  switch (format) {
    case 'gzip':
      return createGunzip({ chunkSize });
    case 'deflate':
      return createInflate({ chunkSize });
    case 'br':
      return createBrotliDecompress({ chunkSize, params: { [constants.BROTLI_DECODER_PARAM_LARGE_WINDOW]: 0 } });
    case 'zstd':
      return createZstdDecompress({
        chunkSize,
        params: { [constants.ZSTD_d_windowLogMax]: Math.ceil(Math.log2(maxWindowBytes)) },
      });
  }
}

/** Feeds a decompressing stream, and passes its output on. */
class ZlibStream {
  readonly #stream: ZlibTransform;
  readonly #ended = Promise.withResolvers<void>();
  #failure: Error | null = null;
  /** Fails the write under way. */
  #abandon: (error: Error) => void = () => {};

  constructor(
    stream: ZlibTransform,
    take: (piece: Uint8Array) => void | Promise<void>,
    explain: (error: Error) => Error,
    freePieces: boolean,
  ) {
    this.#stream = stream;
    // `write` and `end` report the failure.
    this.#ended.promise.catch(() => {});
    consume(stream, take, explain, freePieces).then(this.#ended.resolve, (error: Error) => this.destroy(error));
  }

  /**
   * Waits until the thread pool no longer uses the chunk, unless the stream failed.
   *
   * @returns how many bytes were used; fewer than all when the compressed data ended within the chunk
   */
  async write(chunk: Uint8Array): Promise<number> {
    if (this.#failure !== null) throw this.#failure;
    const before = this.#stream.bytesWritten;
    const { promise: written, resolve, reject } = Promise.withResolvers<void>();
    this.#abandon = reject;
    this.#stream.write(chunk, (error) => {
      if (!error) resolve();
    });
    await written;
    return this.#stream.bytesWritten - before;
  }

  /** Resolves when everything was unpacked and taken. */
  end(): Promise<void> {
    this.#stream.end();
    return this.#ended.promise;
  }

  destroy(error: Error): void {
    this.#failure ??= error;
    this.#ended.reject(this.#failure);
    // A stream that fails does not call back for the pending chunk.
    this.#abandon(this.#failure);
    this.#stream.destroy();
  }
}
