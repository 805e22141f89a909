/** Bearer tokens (RFC 6750) from a file that is read again when it changes. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { FastifyBaseLogger, FastifyRequest } from 'fastify';
import { Problem } from './problem.ts';
import { watchFiles } from './watch.ts';

/** RFC 6750, section 2.1. */
const CREDENTIALS = /^Bearer +([\w.~+/-]+=*) *$/i;
const TOKEN = /^[\w.~+/-]+=*$/;

const digest = (token: string): Buffer => createHash('sha256').update(token).digest();

export class Tokens {
  /** Digests, as they all have one length and tell nothing about the length of a token. */
  #digests: readonly Buffer[];

  private constructor(digests: readonly Buffer[]) {
    this.#digests = digests;
  }

  /**
   * Reads one token a line; blank lines and lines that begin with `#` are skipped.
   *
   * @throws Error whose message names the file's trouble: unreadable, no token, a line that is none
   */
  static open(path: string, log: FastifyBaseLogger): Tokens {
    const tokens = new Tokens(readTokens(path));
    watchFiles([path], () => {
      try {
        tokens.#digests = readTokens(path);
        log.info({ tokens: tokens.#digests.length }, 'tokens were read again');
      } catch (error) {
        log.error({ err: error }, 'tokens could not be read again; those before stay in force');
      }
    });
    return tokens;
  }

  /** @throws Problem unauthorized */
  require(request: FastifyRequest): void {
    const given = CREDENTIALS.exec(request.headers.authorization ?? '')?.[1];
    if (given === undefined) throw unauthorized('The request has no bearer token (Authorization: Bearer …).');
    const candidate = digest(given);
    // All are compared, so that the time does not tell which one came near.
    const matches = this.#digests.filter((known) => timingSafeEqual(known, candidate));
    if (matches.length === 0) throw unauthorized('The bearer token is not known.');
  }
}

function readTokens(path: string): Buffer[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  const tokens = lines.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
  if (tokens.length === 0) throw new Error('it has no token');
  const bad = tokens.findIndex((token) => !TOKEN.test(token));
  if (bad !== -1) throw new Error(`its token ${bad + 1} has characters that a bearer token cannot have`);
  return tokens.map(digest);
}

const unauthorized = (detail: string): Problem =>
  new Problem('unauthorized', detail, { headers: { 'WWW-Authenticate': 'Bearer realm="bsdsyms"' } });
