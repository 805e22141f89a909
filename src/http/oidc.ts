/** Tokens that an issuer signs (OpenID Connect), as CI systems give them to their jobs: who of them is let in. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { FastifyBaseLogger } from 'fastify';
import type * as Jose from 'jose';
import { forbid, refuseToken } from './bearer.ts';
import { type FindKey, IssuerKeys, isSafeUrl, KeysUnavailable } from './issuer-keys.ts';
import { Problem } from './problem.ts';
import { watchFiles } from './watch.ts';

/** Signatures by a private key. Never `none`, and never a secret: with HMAC the public key would be one. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];
/** Clocks differ. */
const CLOCK_TOLERANCE_SECONDS = 30;
const NAME = /^[A-Za-z0-9][\w.-]{0,63}$/;
/** Three parts of base64url. */
const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;
const MAX_LOGGED_SUBJECT = 256;

type ClaimValue = string | number | boolean;

/** Who is let in: an entry of the file. */
interface Entry {
  /** In the log and the metrics. */
  readonly name: string;
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** Each has to have one of the values. */
  readonly claims: Readonly<Record<string, readonly ClaimValue[]>>;
  /** Where the keys are: a file, a URL, or where the issuer's metadata says. */
  readonly jwksFile: string | null;
  readonly jwksUrl: URL | null;
}

/** Somebody who was let in. */
export interface OidcClient {
  readonly name: string;
  readonly subject: string;
}

interface Rules {
  readonly entries: readonly Entry[];
  /** By issuer. */
  readonly keys: ReadonlyMap<string, FindKey>;
}

export class Oidc {
  readonly #jose: typeof Jose;
  readonly #log: FastifyBaseLogger;
  readonly #path: string;
  readonly #watched = new Set<string>();
  #rules: Rules = { entries: [], keys: new Map() };
  #onNames: (names: readonly string[]) => void = () => {};

  private constructor(path: string, jose: typeof Jose, log: FastifyBaseLogger) {
    this.#path = path;
    this.#jose = jose;
    this.#log = log;
  }

  /**
   * Reads the file, and again when it or a file with keys changes. jose is loaded only by this.
   *
   * @throws Error whose message says what cannot be used
   */
  static async open(path: string, log: FastifyBaseLogger): Promise<Oidc> {
    const jose = await import('jose');
    const oidc = new Oidc(path, jose, log);
    oidc.#read();
    return oidc;
  }

  /** @throws Error; what was in force before stays so */
  #read(): void {
    const entries = readEntries(this.#path);
    this.#rules = { entries, keys: this.#openKeys(entries) };
    this.#onNames(this.#names);
    const files = [this.#path, ...entries.flatMap(({ jwksFile }) => (jwksFile === null ? [] : [jwksFile]))];
    for (const file of files) {
      if (this.#watched.has(file)) continue;
      this.#watched.add(file);
      watchFiles([file], () => this.#readAgain());
    }
  }

  #readAgain(): void {
    try {
      this.#read();
      this.#log.info({ entries: this.#rules.entries.length }, 'issuers of tokens were read again');
    } catch (error) {
      this.#log.error({ err: error }, 'issuers of tokens could not be read again; those before stay in force');
    }
  }

  /** @throws Error for a file with keys that cannot be used */
  #openKeys(entries: readonly Entry[]): Map<string, FindKey> {
    const keys = new Map<string, FindKey>();
    for (const { issuer, jwksFile, jwksUrl } of entries) {
      if (keys.has(issuer)) continue;
      // Keys that were fetched stay, should the issuer be down right now.
      const before = this.#rules.entries.find((entry) => entry.issuer === issuer);
      const same = before?.jwksFile === null && jwksFile === null && before.jwksUrl?.href === jwksUrl?.href;
      const kept = same ? this.#rules.keys.get(issuer) : undefined;
      if (kept !== undefined) keys.set(issuer, kept);
      else if (jwksFile !== null) keys.set(issuer, readKeys(this.#jose, jwksFile));
      else keys.set(issuer, new IssuerKeys(this.#jose, { issuer, jwksUrl }, this.#log).find);
    }
    return keys;
  }

  get #names(): string[] {
    return this.#rules.entries.map(({ name }) => name);
  }

  watchNames(onNames: (names: readonly string[]) => void): void {
    this.#onNames = onNames;
    onNames(this.#names);
  }

  /** Whether a token can be one of an issuer. */
  static looksSigned(token: string): boolean {
    return JWT.test(token);
  }

  /** @throws Problem unauthorized, forbidden or issuer-unavailable */
  async require(token: string): Promise<OidcClient> {
    const { entries, keys } = this.#rules;
    const issuer = this.#issuerOf(token);
    const own = entries.filter((entry) => entry.issuer === issuer);
    const findKey = keys.get(issuer);
    if (own.length === 0 || findKey === undefined)
      throw refuseToken('The issuer of the token is not one that is known here.');
    const payload = await this.#verify(token, issuer, findKey);
    return admit(payload, own);
  }

  /** Not verified yet: it chooses the keys. */
  #issuerOf(token: string): string {
    try {
      const { iss } = this.#jose.decodeJwt(token);
      if (typeof iss === 'string') return iss;
    } catch {
      // Told below.
    }
    throw refuseToken('The token is not a JSON Web Token with an issuer (iss).');
  }

  async #verify(token: string, issuer: string, findKey: FindKey): Promise<Jose.JWTPayload> {
    try {
      const { payload } = await this.#jose.jwtVerify(token, findKey, {
        issuer,
        algorithms: ALGORITHMS,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['exp', 'sub', 'aud'],
      });
      return payload;
    } catch (error) {
      if (error instanceof KeysUnavailable) {
        throw new Problem('issuer-unavailable', error.message, {
          cause: error.cause,
          headers: { 'Retry-After': String(error.retryAfterSeconds) },
        });
      }
      throw refuseToken(this.#explain(error));
    }
  }

  /** Why a token is not good, without anything of it but the names of claims. */
  #explain(error: unknown): string {
    const {
      JWTExpired,
      JWTClaimValidationFailed,
      JOSEAlgNotAllowed,
      JWKSMultipleMatchingKeys,
      JWKSNoMatchingKey,
      JWSSignatureVerificationFailed,
    } = this.#jose.errors;
    if (error instanceof JWTExpired)
      return 'The token has expired (exp). Ask the CI system for a new one in the same step.';
    if (error instanceof JWTClaimValidationFailed) {
      return error.claim === 'nbf'
        ? 'The token is not valid yet (nbf).'
        : `The token has no usable claim ${error.claim}.`;
    }
    if (error instanceof JOSEAlgNotAllowed) return 'The token is signed with an algorithm that is not accepted.';
    if (error instanceof JWKSMultipleMatchingKeys)
      return 'The token does not say which key of its issuer it is signed with (kid).';
    if (error instanceof JWKSNoMatchingKey) return 'The token is signed with a key that its issuer does not have.';
    if (error instanceof JWSSignatureVerificationFailed) return 'The signature of the token is wrong.';
    // Of a token or a key that is malformed.
    this.#log.debug({ err: error }, 'a token could not be verified');
    return 'The token is malformed.';
  }
}

/** Which entry lets a good token in. @throws Problem unauthorized or forbidden */
function admit(payload: Jose.JWTPayload, entries: readonly Entry[]): OidcClient {
  const audiences = new Set([payload.aud ?? []].flat());
  const meant = entries.filter((entry) => entry.audiences.some((audience) => audiences.has(audience)));
  if (meant.length === 0)
    throw refuseToken('The token is meant for somebody else: its audience (aud) is not this service.');
  const misfits = meant.map((entry) => findMisfit(payload, entry));
  const found = meant[misfits.indexOf(null)];
  if (found === undefined) {
    const names = [...new Set(misfits)].join(', ');
    throw forbid(
      `The token is good, but its claims let nobody in here: ${names}. The operator of the service lists who is let in.`,
    );
  }
  return { name: found.name, subject: String(payload.sub).slice(0, MAX_LOGGED_SUBJECT) };
}

/** @returns the first claim that does not fit, null when all do */
function findMisfit(payload: Jose.JWTPayload, { claims }: Entry): string | null {
  for (const [name, accepted] of Object.entries(claims)) {
    const value = Object.hasOwn(payload, name) ? payload[name] : undefined;
    // Such as groups, of which one is enough.
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (!values.some((one) => accepted.some((other) => other === one))) return name;
  }
  return null;
}

// --- the file

/** @throws Error */
function readEntries(path: string): Entry[] {
  const document = readObject(parseJson(readFileSync(path, 'utf8'), 'it'), 'it', ['issuers']);
  const list = document['issuers'];
  if (!Array.isArray(list) || list.length === 0) throw new Error('it needs a list issuers with an entry at least');
  const entries = list.map((given: unknown, index) => readEntry(given, `issuers[${index}]`, dirname(path)));
  for (const [index, { name, issuer, jwksFile, jwksUrl }] of entries.entries()) {
    const before = entries.slice(0, index);
    if (before.some((other) => other.name === name)) throw new Error(`issuers[${index}] has the name of another entry`);
    const same = before.find((other) => other.issuer === issuer);
    if (same !== undefined && (same.jwksFile !== jwksFile || same.jwksUrl?.href !== jwksUrl?.href)) {
      throw new Error(`issuers[${index}] has other keys than an entry of the same issuer`);
    }
  }
  return entries;
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${what} is not JSON`);
  }
}

function readObject(value: unknown, what: string, known: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`${what} is no object`);
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new Error(`${what} has a member ${JSON.stringify(unknown.slice(0, 40))}; known are ${known.join(', ')}`);
  }
  return value as Readonly<Record<string, unknown>>;
}

function readEntry(value: unknown, what: string, folder: string): Entry {
  const entry = readObject(value, what, ['name', 'issuer', 'audience', 'claims', 'jwksFile', 'jwksUrl']);
  const { name, issuer, jwksFile = null } = entry;
  if (typeof name !== 'string' || !NAME.test(name)) {
    throw new Error(`${what}.name is not 1 to 64 letters, digits and _ . -`);
  }
  if (typeof issuer !== 'string' || readUrl(issuer, `${what}.issuer`) === null)
    throw new Error(`${what}.issuer is missing`);
  if (jwksFile !== null && typeof jwksFile !== 'string') throw new Error(`${what}.jwksFile is no path`);
  const jwksUrl = readUrl(entry['jwksUrl'] ?? null, `${what}.jwksUrl`);
  if (jwksFile !== null && jwksUrl !== null) throw new Error(`${what} has a jwksFile and a jwksUrl`);
  return {
    name,
    issuer,
    audiences: readList(entry['audience'], `${what}.audience`, isText),
    claims: readClaims(entry['claims'], `${what}.claims`),
    jwksFile: jwksFile === null ? null : resolve(folder, jwksFile),
    jwksUrl,
  };
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
const isClaimValue = (value: unknown): value is ClaimValue => ['string', 'number', 'boolean'].includes(typeof value);

function readUrl(value: unknown, what: string): URL | null {
  if (value === null) return null;
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : null;
  if (url === null || !isSafeUrl(url)) throw new Error(`${what} is no https URL`);
  return url;
}

/** One value, or a list of them. */
function readList<T>(value: unknown, what: string, is: (one: unknown) => one is T): readonly T[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.length === 0 || !list.every(is)) throw new Error(`${what} has to be a value or a list of values`);
  return list;
}

function readClaims(value: unknown, what: string): Entry['claims'] {
  const claims = typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : [];
  // GitHub gives everyone a token for any audience.
  if (claims.length === 0) {
    throw new Error(
      `${what} has to name a claim at least, such as repository_owner: an issuer gives tokens to others, too`,
    );
  }
  return Object.fromEntries(
    claims.map(([name, accepted]) => [name, readList<ClaimValue>(accepted, `${what}.${name}`, isClaimValue)]),
  );
}

/** @throws Error for a file that cannot be used */
function readKeys(jose: typeof Jose, path: string): FindKey {
  const document = parseJson(readFileSync(path, 'utf8'), 'a jwksFile');
  try {
    return jose.createLocalJWKSet(document as Jose.JSONWebKeySet);
  } catch {
    throw new Error('a jwksFile is no JSON Web Key Set');
  }
}
