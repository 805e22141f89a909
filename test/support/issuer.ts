/** An issuer of tokens on the loopback: its keys, its metadata, and tokens, good ones and broken ones. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';
import type { TemporaryDirectory } from './temporary.ts';

interface IssuerKey {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  /** As the issuer publishes it. */
  readonly jwk: JWK;
}

export async function makeKey(kid: string, alg = 'RS256'): Promise<IssuerKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { kid, alg, privateKey, publicKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

export const AUDIENCE = 'https://bsdsyms.example';

/** The claims of GitHub's, as far as they matter. */
export const CLAIMS = {
  sub: 'repo:bsd-kernels/netbsd:ref:refs/heads/main',
  repository_owner: 'bsd-kernels',
  repository: 'bsd-kernels/netbsd',
};

interface TokenOptions {
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly header?: Readonly<Record<string, unknown>>;
  readonly key?: IssuerKey;
  /** In seconds from now. */
  readonly expires?: number | null;
  readonly notBefore?: number;
}

export class TestIssuer {
  keys: readonly IssuerKey[] = [];
  /** How often each path was asked for. */
  readonly requests: string[] = [];
  /** Answers in place of the issuer. @returns whether it did */
  misbehaviour: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  readonly #server = createServer((request, response) => this.#answer(request, response));

  static async start(): Promise<TestIssuer> {
    const issuer = new TestIssuer();
    issuer.keys = [await makeKey('first')];
    issuer.#server.listen(0, '127.0.0.1');
    await once(issuer.#server, 'listening');
    return issuer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get key(): IssuerKey {
    const [key] = this.keys;
    if (key === undefined) throw new Error('the issuer has no key');
    return key;
  }

  get jwks(): object {
    return { keys: this.keys.map(({ jwk }) => jwk) };
  }

  /** A good token, unless the options make it another one. */
  sign({ claims = {}, header = {}, key = this.key, expires = 600, notBefore }: TokenOptions = {}): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const token = new SignJWT({ iss: this.url, aud: AUDIENCE, iat: now, ...CLAIMS, ...claims });
    token.setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'JWT', ...header });
    if (expires !== null) token.setExpirationTime(now + expires);
    if (notBefore !== undefined) token.setNotBefore(now + notBefore);
    return token.sign(key.privateKey);
  }

  /** Writes a file for BSDSYMS_OIDC_FILE that lets one owner in. @returns its path */
  configure(directory: TemporaryDirectory, entry: Readonly<Record<string, unknown>> = {}): string {
    return directory.write(JSON.stringify({ issuers: [this.entry(entry)] }));
  }

  entry(members: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
    const claims = { repository_owner: 'bsd-kernels' };
    return { name: 'kernels', issuer: this.url, audience: AUDIENCE, claims, ...members };
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    this.requests.push(path);
    if (this.misbehaviour(request, response)) return;
    const documents: Readonly<Record<string, object>> = {
      '/.well-known/openid-configuration': { issuer: this.url, jwks_uri: `${this.url}/jwks` },
      '/jwks': this.jwks,
    };
    const document = documents[path];
    response.writeHead(document === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(document ?? {}));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** A file with the keys of an issuer. @returns its path */
export function writeKeys(directory: TemporaryDirectory, issuer: TestIssuer): string {
  const path = directory.file('keys.json');
  writeFileSync(path, JSON.stringify(issuer.jwks));
  return path;
}
