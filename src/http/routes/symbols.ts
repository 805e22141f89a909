/** `POST /symbols`: symbols of an image by name, by address, or all of them in pages. */
import { pipeline, Readable } from 'node:stream';
import { promisify } from 'node:util';
import { constants, createGzip, gzip, type ZlibOptions } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { openSymbols } from '../../inspect/load.ts';
import { findSymbolConflict, SYMBOL_PARAMETERS, toSymbolQuery } from '../../parameters.ts';
import { DEFAULT_PAGE_SYMBOLS, writeSymbolLines, writeSymbols } from '../../report/symbols.ts';
import { DEFAULT_LOADER } from '../../xen/loaders/bsdsyms.ts';
import { JSON_TYPE, NDJSON_TYPE, prefersGzip } from '../negotiation.ts';
import { reportBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

const VARY = 'Accept, Accept-Encoding';

export function symbolsRoute(app: FastifyInstance, services: UploadServices): void {
  const { metrics } = services;

  uploadRoute(app, services, {
    url: '/symbols',
    parameters: SYMBOL_PARAMETERS,
    conflict: findSymbolConflict,
    mediaTypes: [JSON_TYPE, NDJSON_TYPE],
    vary: VARY,
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const opened = await openSymbols(source);
      metrics.image(opened.image, compression);
      if (!opened.ok) {
        throw reportBroken(request, metrics, opened.broken, opened.image, {
          loader: DEFAULT_LOADER,
          loadAddress: null,
        });
      }
      if (mediaType === JSON_TYPE) {
        const query = toSymbolQuery(parameters, DEFAULT_PAGE_SYMBOLS);
        reply.type('application/json; charset=utf-8');
        return send(request, reply, writeSymbols(opened, query, compression));
      }
      const { recorded } = opened.elf;
      if (recorded !== null) reply.header('Bsdsyms-Broken', recorded.code);
      reply.type(NDJSON_TYPE);
      return send(request, reply, writeSymbolLines(opened, toSymbolQuery(parameters, null)));
    },
  });
}

/** Up to this length the answer is sent in one piece, with its length, and can still become a problem. */
const MAX_GATHERED_CHARS = 64 * 1024;

/** A shorter answer would hardly gain. */
const MIN_CODED_CHARS = 1024;
/** Names of symbols shrink to a sixth with the least work. */
const GZIP = { level: constants.Z_BEST_SPEED };

/** Sends text as it comes, with the coding that the caller prefers. */
async function send(
  request: FastifyRequest,
  reply: FastifyReply,
  pieces: AsyncGenerator<string, unknown>,
): Promise<FastifyReply> {
  reply.header('Vary', VARY);
  const coded = prefersGzip(request);
  let gathered = '';
  while (gathered.length <= MAX_GATHERED_CHARS) {
    const { done, value } = await pieces.next();
    if (done !== true) {
      gathered += value;
      continue;
    }
    if (!coded || gathered.length < MIN_CODED_CHARS) return reply.send(Buffer.from(gathered));
    return reply.header('Content-Encoding', 'gzip').send(await gzipAtOnce(gathered, GZIP));
  }
  const text = Readable.from(following(gathered, pieces), { objectMode: false });
  if (!coded) return reply.send(text);
  const zipped = createGzip(GZIP);
  // Each ends with the other: the answer is cut where the text fails, and reading ends when the caller leaves.
  pipeline(text, zipped, () => {});
  return reply.header('Content-Encoding', 'gzip').send(zipped);
}

const gzipAtOnce = promisify<string, ZlibOptions, Buffer>(gzip);

async function* following(first: string, pieces: AsyncGenerator<string, unknown>): AsyncGenerator<string, void> {
  yield first;
  yield* pieces;
}
