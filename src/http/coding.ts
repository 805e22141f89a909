/** Content codings of a request body (RFC 9110, section 8.4): what `Content-Encoding` says is undone here. */
import type { IncomingMessage } from 'node:http';
import type { Readable, Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import { Problem } from './problem.ts';

const PIECE_BYTES = 256 * 1024;
const options = { chunkSize: PIECE_BYTES };

const DECODERS: ReadonlyMap<string, () => Transform> = new Map([
  ['gzip', () => createGunzip(options)],
  ['x-gzip', () => createGunzip(options)],
  ['deflate', () => createInflate(options)],
  ['br', () => createBrotliDecompress(options)],
  ['zstd', () => createZstdDecompress(options)],
]);

/** Nobody applies more than one; each costs a window of memory. */
const MAX_CODINGS = 2;

/**
 * The decoders that undo the codings of a request, in the order in which they are to be applied.
 *
 * @throws Problem coding-unsupported
 */
export function contentDecoders(contentEncoding: string | undefined): readonly (() => Transform)[] {
  const codings = (contentEncoding ?? '')
    .split(',')
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => coding !== '' && coding !== 'identity');
  if (codings.length > MAX_CODINGS) {
    throw unsupported(`The body has ${codings.length} content codings; at most ${MAX_CODINGS} are undone.`);
  }
  return codings.toReversed().map((coding) => {
    const decoder = DECODERS.get(coding);
    if (decoder === undefined)
      throw unsupported(`The Content-Encoding ${JSON.stringify(coding.slice(0, 40))} is not supported.`);
    return decoder;
  });
}

function unsupported(what: string): Problem {
  const known = [...DECODERS.keys()].filter((coding) => coding !== 'x-gzip').join(', ');
  return new Problem('coding-unsupported', `${what} Supported are ${known}, or none at all.`, {
    headers: { 'Accept-Encoding': known },
  });
}

/** The decoded body. An error on the way becomes its error; the request itself is never destroyed. */
export function decodeBody(request: IncomingMessage, decoders: readonly (() => Transform)[]): Readable {
  return decoders.reduce<Readable>((source, create) => {
    const decoder = create();
    const fail = (error?: Error): void => {
      decoder.destroy(error ?? new Problem('client-gone', 'The connection was closed.'));
    };
    source.on('error', fail);
    source.on('close', () => {
      if (!source.readableEnded) fail();
    });
    return source.pipe(decoder);
  }, request);
}
