/** Bearer tokens (RFC 6750), with names, from a file that is read again when it changes. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { FastifyBaseLogger, FastifyRequest } from 'fastify';
import { refuseToken, requireBearer } from './bearer.ts';
import { watchFiles } from './watch.ts';

const TOKEN = /^[\w.~+/-]+=*$/;
/** A token has no colon, so that the first one ends the name. */
const NAME = /^[A-Za-z0-9][\w.-]{0,63}$/;

/** In metrics. */
export const UNNAMED = 'unnamed';

interface NamedToken {
  /** Null for a token without a name. */
  readonly name: string | null;
  /** They all have one length, and tell nothing about the length of a token. */
  readonly digest: Buffer;
}

const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest();

export class Tokens {
  #tokens: readonly NamedToken[];
  /** Called with the names, at once and whenever the file was read again. */
  #onNames: (names: readonly string[]) => void = () => {};

  private constructor(tokens: readonly NamedToken[]) {
    this.#tokens = tokens;
  }

  /**
   * Reads one token a line, as `name:token` or bare; blank lines and lines that begin with `#` are skipped. Several tokens may have
   * one name, so that they can be replaced one after the other.
   *
   * @throws Error whose message names the file's trouble: unreadable, no token, a line that is none
   */
  static open(path: string, log: FastifyBaseLogger): Tokens {
    const tokens = new Tokens(readTokens(path));
    watchFiles([path], () => {
      try {
        tokens.#tokens = readTokens(path);
        tokens.#onNames(tokens.#names);
        log.info({ tokens: tokens.#tokens.length }, 'tokens were read again');
      } catch (error) {
        log.error({ err: error }, 'tokens could not be read again; those before stay in force');
      }
    });
    return tokens;
  }

  get #names(): string[] {
    return this.#tokens.map(({ name }) => name ?? UNNAMED);
  }

  watchNames(onNames: (names: readonly string[]) => void): void {
    this.#onNames = onNames;
    onNames(this.#names);
  }

  /** @returns the token's line, undefined for one that is not known */
  find(token: string): { readonly name: string | null } | undefined {
    const candidate = digestOf(token);
    let found: NamedToken | undefined;
    // All are compared, so that the time does not tell which one came near.
    for (const known of this.#tokens) {
      if (timingSafeEqual(known.digest, candidate)) found = known;
    }
    return found;
  }

  /**
   * @returns the name of the token of a request, null when it has none
   * @throws Problem unauthorized
   */
  require(request: FastifyRequest): string | null {
    const found = this.find(requireBearer(request));
    if (found === undefined) throw refuseToken('The bearer token is not known.');
    return found.name;
  }
}

function readTokens(path: string): NamedToken[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  const given = lines.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
  if (given.length === 0) throw new Error('it has no token');
  const tokens = given.map((line, index) => readLine(line, index + 1));
  const names = new Map<string, string | null>();
  for (const [index, { name, digest }] of tokens.entries()) {
    const key = digest.toString('hex');
    // The log would tell of only one of them.
    if (names.has(key) && names.get(key) !== name) throw new Error(`its token ${index + 1} has two names`);
    names.set(key, name);
  }
  return tokens;
}

function readLine(line: string, number: number): NamedToken {
  const colon = line.indexOf(':');
  const name = colon === -1 ? null : line.slice(0, colon);
  const token = line.slice(colon + 1);
  if (!TOKEN.test(token)) throw new Error(`its token ${number} has characters that a bearer token cannot have`);
  if (name !== null && !NAME.test(name)) {
    throw new Error(`the name of its token ${number} is not 1 to 64 letters, digits and _ . -`);
  }
  return { name, digest: digestOf(token) };
}
