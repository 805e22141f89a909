/** Proactive negotiation (RFC 9110, section 12): which representation the caller wants, and which digest. */
import accepts from 'accepts';
import type { FastifyRequest } from 'fastify';
import { parseDictionary } from 'structured-headers';
import { Problem } from './problem.ts';

export const JSON_TYPE = 'application/json';
export const NDJSON_TYPE = 'application/x-ndjson';
export const XML_TYPE = 'application/xml';
export const SVG_TYPE = 'image/svg+xml';

/**
 * The media type that the Accept header prefers; the first one offered when it has no preference or is missing.
 *
 * @param otherwise what a caller gets that accepts none of them; null when it gets none
 * @throws Problem not-acceptable
 */
export function negotiate<const T extends string>(
  request: FastifyRequest,
  offered: readonly [T, ...T[]],
  otherwise: T | null = null,
): T {
  const chosen = accepts(request.raw).type([...offered]);
  const type = offered.find((candidate) => candidate === chosen) ?? otherwise;
  if (type === null) throw new Problem('not-acceptable', `This route answers with ${offered.join(' or ')}.`);
  return type;
}

/** Whether JSON is preferred to text; a caller that wants neither gets text. */
export const prefersJson = (request: FastifyRequest): boolean =>
  accepts(request.raw).type(['text/plain', JSON_TYPE]) === JSON_TYPE;

/** Whether Want-Repr-Digest (RFC 9530) asks for SHA-256. A header that cannot be parsed asks for nothing. */
export function wantsSha256(request: FastifyRequest): boolean {
  const header = request.headers['want-repr-digest'];
  if (typeof header !== 'string') return false;
  try {
    const [preference] = parseDictionary(header).get('sha-256') ?? [0];
    return typeof preference === 'number' && preference > 0;
  } catch {
    return false;
  }
}

/**
 * Whether Accept-Encoding prefers gzip to no coding. A caller that accepts neither gets none (RFC 9110, section 12.5.3 leaves that to the
 * server).
 */
export const prefersGzip = (request: FastifyRequest): boolean =>
  request.headers['accept-encoding'] !== undefined && accepts(request.raw).encoding(['gzip', 'identity']) === 'gzip';
