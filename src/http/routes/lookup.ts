/** `POST /symbols`: symbols of an image by name, by address, or all of them in pages. */
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { Type } from 'typebox';
import { symbolBindNumbers, symbolTypeNumbers } from '../../elf/symbols.ts';
import { openSymbols } from '../../load.ts';
import {
  DEFAULT_PAGE_SYMBOLS,
  findConflict,
  type SymbolQuery,
  writeSymbolLines,
  writeSymbols,
} from '../../report/symbols.ts';
import { DEFAULT_LOADER } from '../../xen/bsdsyms.ts';
import { isAddress, type ParameterCollector } from '../parameters.ts';
import { Problem } from '../problem.ts';
import { JSON_TYPE, NDJSON_TYPE, SymbolParameters, symbolsResponse } from '../schemas.ts';
import { noteBroken, type UploadServices, uploadRoute } from '../upload-route.ts';

/** It would reach from one string into the next. */
const hasNoNul = (text: string): boolean => !text.includes('\0');

export function lookupRoutes(app: FastifyInstance, services: UploadServices): void {
  const { metrics } = services;

  uploadRoute(app, services, {
    url: '/symbols',
    operationId: 'symbols',
    summary: 'Symbols of an image, by name, by address or in pages',
    description:
      'Of the symbol table that the loader would take. A reason recorded against the image is reported, not refused, ' +
      'as long as the tables can be read. With Accept: application/x-ndjson one line for each symbol or address.',
    parameters: SymbolParameters,
    also: { name: hasNoNul, prefix: hasNoNul, address: isAddress },
    checkTogether: refuseConflicts,
    mediaTypes: [JSON_TYPE, NDJSON_TYPE],
    ok: {
      description: 'The symbols, or the addresses with their symbols.',
      headers: {
        'Bsdsyms-Broken': {
          type: 'string',
          description: 'The code of what is wrong with the image elsewhere. Only with NDJSON.',
        },
      },
      content: {
        [JSON_TYPE]: { schema: symbolsResponse },
        [NDJSON_TYPE]: {
          schema: Type.String({ description: 'Lines of JSON: each a Symbol; with `address` each a ResolvedAddress.' }),
        },
      },
    },
    async handle({ request, reply, source, compression, parameters, mediaType }) {
      const opened = await openSymbols(source);
      metrics.image(opened.image, compression);
      if (!opened.ok) {
        throw noteBroken(request, metrics, opened.broken, opened.image, { loader: DEFAULT_LOADER, loadAddress: null });
      }
      if (mediaType === JSON_TYPE) {
        const query = toQuery(parameters, DEFAULT_PAGE_SYMBOLS);
        return send(reply.type('application/json; charset=utf-8'), writeSymbols(opened, query, compression));
      }
      const { recorded } = opened.elf.view;
      if (recorded !== null) reply.header('Bsdsyms-Broken', recorded.code);
      return send(reply.type(NDJSON_TYPE), writeSymbolLines(opened, toQuery(parameters, null)));
    },
  });
}

/** @throws Problem parameter-conflict */
function refuseConflicts(parameters: ParameterCollector): void {
  const conflict = findConflict((name) => parameters.get(name) !== undefined);
  if (conflict === null) return;
  const [first, second] = conflict;
  throw new Problem(
    'parameter-conflict',
    `${first} and ${second} exclude each other. Ask for symbols by name, or by address, or for a page of them (type, ` +
      'bind, prefix, limit, after).',
  );
}

function toQuery(parameters: ParameterCollector, defaultLimit: number | null): SymbolQuery {
  const names = parameters.getAll('name');
  if (names.length > 0) return { names };
  const addresses = parameters.getAll('address').map(BigInt);
  if (addresses.length > 0) return { addresses };
  const limit = parameters.get('limit');
  return {
    page: {
      after: Number(parameters.get('after') ?? 0),
      limit: limit === undefined ? defaultLimit : Number(limit),
      types: symbolTypeNumbers(parameters.getAll('type')),
      binds: symbolBindNumbers(parameters.getAll('bind')),
      prefix: parameters.get('prefix') ?? '',
    },
  };
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
