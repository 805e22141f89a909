/** The Authorization header of a request with a bearer token, and what it is refused with (RFC 6750). */
import type { FastifyRequest } from 'fastify';
import { Problem } from './problem.ts';

/** RFC 6750, section 2.1. */
const CREDENTIALS = /^Bearer +([\w.~+/-]+=*) *$/i;
const CHALLENGE = 'Bearer realm="bsdsyms"';

/**
 * @returns the token
 * @throws Problem unauthorized when there is none, bad-request when there may be two
 */
export function requireBearer(request: FastifyRequest): string {
  const given = request.raw.headersDistinct['authorization'] ?? [];
  // Node would take the first one; a proxy may have looked at the last.
  if (given.length > 1) {
    throw new Problem('bad-request', 'The request has more than one Authorization field.', {
      headers: { 'WWW-Authenticate': `${CHALLENGE}, error="invalid_request"` },
    });
  }
  const token = CREDENTIALS.exec(given[0] ?? '')?.[1];
  if (token !== undefined) return token;
  // Section 3.1: no error code where there are no credentials of this scheme.
  throw new Problem('unauthorized', 'The request has no bearer token (Authorization: Bearer …).', {
    headers: { 'WWW-Authenticate': CHALLENGE },
  });
}

/** A token that lets nobody in. @param detail without anything of the token but names */
export const refuseToken = (detail: string): Problem =>
  new Problem('unauthorized', detail, { headers: { 'WWW-Authenticate': `${CHALLENGE}, error="invalid_token"` } });

/** A good token of somebody who is not let in. */
export const forbid = (detail: string): Problem =>
  new Problem('forbidden', detail, { headers: { 'WWW-Authenticate': `${CHALLENGE}, error="insufficient_scope"` } });
