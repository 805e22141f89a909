/** Who may upload: those with a token of the operator's, or with one that an issuer signed. */
import type { FastifyRequest } from 'fastify';
import { refuseToken, requireBearer } from './bearer.ts';
import { Oidc } from './oidc.ts';
import type { Tokens } from './tokens.ts';

/** Who was let in, for the log: never a token. */
interface Client {
  /** The name of the token or of the entry that lets it in; null for a token without a name. */
  readonly client: string | null;
  /** Of a signed token: its `sub`. */
  readonly subject?: string;
}

const clients = new WeakMap<FastifyRequest, Client>();

/** The log fields of a request that showed a token. */
export const clientFields = (request: FastifyRequest): Client | undefined => clients.get(request);

export class Access {
  readonly #tokens: Tokens | null;
  readonly #oidc: Oidc | null;

  constructor(tokens: Tokens | null, oidc: Oidc | null) {
    this.#tokens = tokens;
    this.#oidc = oidc;
  }

  /** @throws Problem */
  async require(request: FastifyRequest): Promise<void> {
    const token = requireBearer(request);
    const known = this.#tokens?.find(token);
    if (known !== undefined) {
      clients.set(request, { client: known.name });
      return;
    }
    if (this.#oidc === null || !Oidc.looksSigned(token)) throw refuseToken('The bearer token is not known.');
    const { name, subject } = await this.#oidc.require(token);
    clients.set(request, { client: name, subject });
  }

  /** Calls back with the names that a client can have, now and whenever they change. */
  watchNames(onNames: (names: readonly string[]) => void): void {
    this.#tokens?.watchNames(onNames);
    this.#oidc?.watchNames(onNames);
  }
}
