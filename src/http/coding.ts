/** Undoes the content codings of a request body (RFC 9110, section 8.4), which `Content-Encoding` lists. */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { Budget } from '../image/budget.ts';
import { consume } from '../image/consume.ts';
import { type PackedFormat, Unpacker, type UnpackFault } from '../image/unpack/unpacker.ts';
import { ImageError } from '../inspect/image-error.ts';
import { clientGone, Problem } from './problem.ts';

const CODINGS: ReadonlyMap<string, PackedFormat> = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['deflate', 'deflate'],
  ['br', 'br'],
  ['zstd', 'zstd'],
]);

/** The codings that are undone, without aliases. */
export const CONTENT_CODINGS: readonly string[] = [...CODINGS.keys()].filter((coding) => coding !== 'x-gzip');

/** Clients apply one; each takes a window of memory. */
const MAX_CODINGS = 2;
/** The largest window of the content coding zstd (RFC 9659). */
const MAX_WINDOW_BYTES = 8 * 1024 * 1024;

/**
 * The codings of a request, in the order in which they are to be undone.
 *
 * @throws Problem coding-unsupported
 */
export function contentCodings(contentEncoding: string | undefined): readonly PackedFormat[] {
  const names = (contentEncoding ?? '')
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '' && name !== 'identity');
  if (names.length > MAX_CODINGS) {
    throw unsupported(`The body has ${names.length} content codings; at most ${MAX_CODINGS} are undone.`);
  }
  return names.toReversed().map((name) => {
    const coding = CODINGS.get(name);
    if (coding === undefined)
      throw unsupported(`The Content-Encoding ${JSON.stringify(name.slice(0, 40))} is not supported.`);
    return coding;
  });
}

function unsupported(what: string): Problem {
  const known = CONTENT_CODINGS.join(', ');
  return new Problem('coding-unsupported', `${what} Supported are ${known}, or none at all.`, {
    headers: { 'Accept-Encoding': known },
  });
}

/**
 * The body without its codings. A failure becomes the error of the stream; the request itself is never destroyed.
 *
 * @param codings in the order in which they are to be undone
 * @param memory counts what the decompressors take until the stream is destroyed, which also happens at its end
 */
export function decodeBody(request: IncomingMessage, codings: readonly PackedFormat[], memory: Budget): Readable {
  return codings.length === 0 ? request : new DecodedBody(request, codings, memory);
}

/** A body without its codings. It has the header fields of the request, as the form parser reads them from the body. */
class DecodedBody extends Readable {
  readonly headers: IncomingHttpHeaders;
  readonly #unpackers: readonly Unpacker[];
  /** Lets the unpacking go on. */
  #wake: () => void = () => {};

  constructor(request: IncomingMessage, codings: readonly PackedFormat[], memory: Budget) {
    super();
    this.headers = request.headers;
    const unpackers: Unpacker[] = [];
    let take = (piece: Uint8Array): void | Promise<void> => this.#pass(piece);
    // From the last to the first, as each hands its bytes to the one after it.
    for (const format of codings.toReversed()) {
      const unpacker = new Unpacker({
        format,
        memory,
        maxWindowBytes: MAX_WINDOW_BYTES,
        allowPadding: false,
        take,
        // Pieces may still wait in the queue of the stream.
        freePieces: false,
        explain: (fault) => explainFault(format, fault),
      });
      unpackers.unshift(unpacker);
      take = (piece) => unpacker.append(piece);
    }
    this.#unpackers = unpackers;
    // An error before anything listens would end the process. It stays in `errored`.
    this.on('error', () => {});
    void this.#run(request, take);
  }

  override _read(): void {
    this.#wake();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    for (const unpacker of this.#unpackers) unpacker.destroy();
    this.#wake();
    callback(error);
  }

  async #run(request: IncomingMessage, take: (chunk: Uint8Array) => void | Promise<void>): Promise<void> {
    try {
      await consume(request, take, explainRequest);
      for (const unpacker of this.#unpackers) await unpacker.finish();
      this.push(null);
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  #pass(piece: Uint8Array): void | Promise<void> {
    if (this.push(piece) || this.destroyed) return;
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

const explainRequest = (error: Error): Error =>
  'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE' ? clientGone(error) : error;

function explainFault(coding: PackedFormat, fault: UnpackFault): Error {
  switch (fault.kind) {
    case 'damaged':
      return new ImageError(
        'compressed-data-corrupt',
        'The body is damaged or cut short inside its Content-Encoding.',
        fault.cause,
      );
    case 'trailing-data':
      return new ImageError(
        'compressed-data-corrupt',
        `The body goes on after the end of its Content-Encoding ${coding}, with something that is not ${coding}.`,
      );
    case 'window-too-large':
      return unsupported(
        `The Content-Encoding zstd has a window of ${fault.windowBytes} bytes; at most ${fault.maxWindowBytes} are allowed ` +
          '(RFC 9659). Code the body without --long and --ultra, or send it as it is, without Content-Encoding.',
      );
    case 'dictionary-needed':
      return unsupported('The Content-Encoding zstd needs a dictionary, and there is none.');
    case 'frames-too-small':
      return unsupported(
        `The Content-Encoding zstd has ${fault.frames} frames within its first ${fault.bytes} bytes. So many small frames ` +
          'are not undone; code the body in one piece.',
      );
    case 'no-memory':
      return new ImageError(
        'memory-full',
        `Undoing the Content-Encoding ${coding} takes ${fault.neededBytes} bytes of memory, for which the ${fault.limitBytes} ` +
          'bytes of all requests (BSDSYMS_MEMORY_BUDGET_BYTES) have no room now. Send it again later.',
      );
  }
}
