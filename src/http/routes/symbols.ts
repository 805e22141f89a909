/** `POST /symbols`: symbols of an image by name, by address, or all of them in pages. */
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { openSymbols } from '../../inspect/load.ts';
import { findSymbolConflict, SYMBOL_PARAMETERS, toSymbolQuery } from '../../parameters.ts';
import { DEFAULT_PAGE_SYMBOLS, writeSymbolLines, writeSymbols } from '../../report/symbols.ts';
import { DEFAULT_LOADER } from '../../xen/loaders/bsdsyms.ts';
import { JSON_TYPE, NDJSON_TYPE } from '../negotiation.ts';
import { noteBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

export function lookupRoutes(app: FastifyInstance, services: UploadServices): void {
  const { metrics } = services;

  uploadRoute(app, services, {
    url: '/symbols',
    parameters: SYMBOL_PARAMETERS,
    conflict: findSymbolConflict,
    mediaTypes: [JSON_TYPE, NDJSON_TYPE],
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const opened = await openSymbols(source);
      metrics.image(opened.image, compression);
      if (!opened.ok) {
        throw noteBroken(request, metrics, opened.broken, opened.image, { loader: DEFAULT_LOADER, loadAddress: null });
      }
      if (mediaType === JSON_TYPE) {
        const query = toSymbolQuery(parameters, DEFAULT_PAGE_SYMBOLS);
        return send(reply.type('application/json; charset=utf-8'), writeSymbols(opened, query, compression));
      }
      const { recorded } = opened.elf;
      if (recorded !== null) reply.header('Bsdsyms-Broken', recorded.code);
      return send(reply.type(NDJSON_TYPE), writeSymbolLines(opened, toSymbolQuery(parameters, null)));
    },
  });
}

/** Up to this length it is sent in one piece, with its length, and may still fail. */
const MAX_GATHERED_CHARS = 64 * 1024;

/** Sends text as it comes. */
async function send(reply: FastifyReply, pieces: AsyncGenerator<string, void>): Promise<FastifyReply> {
  let gathered = '';
  while (gathered.length <= MAX_GATHERED_CHARS) {
    const { done, value } = await pieces.next();
    if (done === true) return reply.send(Buffer.from(gathered));
    gathered += value;
  }
  return reply.send(Readable.from(following(gathered, pieces), { objectMode: false }));
}

async function* following(first: string, pieces: AsyncGenerator<string, void>): AsyncGenerator<string, void> {
  yield first;
  yield* pieces;
}
