/** The keys of an issuer of tokens (RFC 7517): fetched when they are needed, within limits, and kept. */
import type { FastifyBaseLogger } from 'fastify';
import type * as Jose from 'jose';

/** For a document of the issuer, from the connection to the last byte. */
const FETCH_MS = 5000;
/** Issuers have less than 10 KiB. */
const MAX_DOCUMENT_BYTES = 256 * 1024;
/** Between two attempts, whatever came of the first: callers cannot make the service ask more often. */
const COOL_DOWN_MS = 30_000;
/** Older keys are fetched again while they are used. */
const FRESH_MS = 10 * 60_000;
/** Older keys are not used: the issuer may have withdrawn them. */
const USABLE_MS = 60 * 60_000;

/** The keys are not there, for a reason that is not the caller's. */
export class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
  readonly retryAfterSeconds: number;

  constructor(message: string, retryAfterSeconds: number, cause?: unknown) {
    super(message, { cause });
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Finds the key of a token. */
export type FindKey = Jose.JWTVerifyGetKey;

interface Clock {
  /** Milliseconds that never go back. */
  readonly now: () => number;
}

/** Where the keys of an issuer are. */
interface Issuer {
  readonly issuer: string;
  /** Null: the issuer's metadata has it (OpenID Connect Discovery 1.0). */
  readonly jwksUrl: URL | null;
}

export class IssuerKeys {
  readonly #jose: typeof Jose;
  readonly #issuer: Issuer;
  readonly #log: FastifyBaseLogger;
  readonly #clock: Clock;
  #find: ReturnType<typeof Jose.createLocalJWKSet> | null = null;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #triedAt = Number.NEGATIVE_INFINITY;
  #fetching: Promise<void> | null = null;
  /** Whether the last attempt failed. */
  #failed = false;

  constructor(jose: typeof Jose, issuer: Issuer, log: FastifyBaseLogger, clock: Clock = performance) {
    this.#jose = jose;
    this.#issuer = issuer;
    this.#log = log;
    this.#clock = clock;
  }

  /** @throws KeysUnavailable, and the errors of jose for a token that none of the keys is for */
  readonly find: FindKey = async (header, token) => {
    const age = this.#clock.now() - this.#fetchedAt;
    if (this.#find === null || age > USABLE_MS) await this.#fetch();
    // Those that are there serve meanwhile; a failure is logged.
    else if (age > FRESH_MS && this.#waitMs === 0) this.#fetch().catch(() => {});
    const { JWKSNoMatchingKey } = this.#jose.errors;
    try {
      return await this.#known(header, token);
    } catch (error) {
      if (!(error instanceof JWKSNoMatchingKey)) throw error;
      if (this.#waitMs > 0 && this.#fetching === null) {
        // Nobody knows what an issuer has that could not be asked.
        if (this.#failed) throw this.#unavailable();
        throw error;
      }
    }
    // The issuer may have a new key.
    await this.#fetch();
    return this.#known(header, token);
  };

  #known(...wanted: Parameters<FindKey>): ReturnType<FindKey> {
    if (this.#find === null) throw this.#unavailable();
    return this.#find(...wanted);
  }

  /** Until the issuer may be asked again. */
  get #waitMs(): number {
    return Math.max(0, this.#triedAt + COOL_DOWN_MS - this.#clock.now());
  }

  #unavailable(cause?: unknown): KeysUnavailable {
    const seconds = Math.max(1, Math.ceil(this.#waitMs / 1000));
    return new KeysUnavailable('The keys of the issuer cannot be fetched.', seconds, cause);
  }

  /** Those who need the keys at the same time wait for one request. */
  async #fetch(): Promise<void> {
    if (this.#fetching === null) {
      if (this.#waitMs > 0) throw this.#unavailable();
      this.#triedAt = this.#clock.now();
      this.#fetching = this.#fetchOnce().finally(() => {
        this.#fetching = null;
      });
    }
    await this.#fetching;
  }

  async #fetchOnce(): Promise<void> {
    const { issuer } = this.#issuer;
    try {
      const signal = AbortSignal.timeout(FETCH_MS);
      const url = this.#issuer.jwksUrl ?? (await discover(issuer, signal));
      const document = await fetchJson(url, signal);
      // It says what is wrong with a document that is none.
      this.#find = this.#jose.createLocalJWKSet(document as unknown as Jose.JSONWebKeySet);
      this.#fetchedAt = this.#clock.now();
      this.#failed = false;
      this.#log.info({ issuer }, 'the keys of an issuer of tokens were fetched');
    } catch (error) {
      this.#failed = true;
      this.#log.error({ err: error, issuer }, 'the keys of an issuer of tokens could not be fetched');
      throw this.#unavailable(error);
    }
  }
}

/** @returns where the issuer says that its keys are */
async function discover(issuer: string, signal: AbortSignal): Promise<URL> {
  const metadata = await fetchJson(new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`), signal);
  if (metadata['issuer'] !== issuer) throw new Error('its metadata is that of another issuer');
  const jwksUri = metadata['jwks_uri'];
  if (typeof jwksUri !== 'string' || !URL.canParse(jwksUri)) throw new Error('its metadata has no jwks_uri');
  const url = new URL(jwksUri);
  if (!isSafeUrl(url)) throw new Error('its jwks_uri is not https');
  return url;
}

const LOOPBACK = new Set(['127.0.0.1', '[::1]', 'localhost']);

/** Somebody who changes the keys on their way could make tokens. */
export const isSafeUrl = ({ protocol, hostname, username }: URL): boolean =>
  (protocol === 'https:' || (protocol === 'http:' && LOOPBACK.has(hostname))) && username === '';

async function fetchJson(url: URL, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
  const response = await fetch(url, { redirect: 'error', signal, headers: { accept: 'application/json' } });
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw new Error(`${url.pathname} answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body) {
    length += chunk.byteLength;
    // What has been unpacked counts, and leaving the loop closes the connection.
    if (length > MAX_DOCUMENT_BYTES) throw new Error(`${url.pathname} has more than ${MAX_DOCUMENT_BYTES} bytes`);
    chunks.push(chunk);
  }
  const document: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  if (typeof document !== 'object' || document === null) throw new Error(`${url.pathname} is no JSON object`);
  return document as Readonly<Record<string, unknown>>;
}
