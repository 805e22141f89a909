/** Requests to the origin of an image. Every hop and address is checked, and every wait is bounded. */
import { lookup as lookupAddresses } from 'node:dns/promises';
import type { Agent, ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { ImageError } from '../../inspect/image-error.ts';
import { notAllowed, type SourceAuthority } from './authority.ts';
import type { HeaderFields } from './credentials.ts';
import { type RequestResult, resultOf } from './results.ts';
import { parseSourceUrl } from './source-url.ts';

/** Not imported as a module, since that would also load WebSocket and HTTP/2. */
const http = process.getBuiltinModule('node:http');

const MAX_REDIRECTS = 4;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Ranges are read one after the other; a second connection is needed only when the first one is given up. */
const MAX_SOCKETS = 2;

/** Limits of the requests for one image. */
export interface SourceLimits {
  /** For name resolution, and again for connection and TLS. */
  readonly sourceConnectTimeoutMs: number;
  /** How long an answer or its body may pause. */
  readonly sourceStallTimeoutMs: number;
  /** The total time that one image may wait for its origin. */
  readonly sourceTimeoutMs: number;
  /** Requests for one image, redirects included. */
  readonly sourceMaxRequests: number;
}

/** An address of a host. */
export interface ResolvedAddress {
  readonly address: string;
  readonly family: number;
}
export type Resolve = (host: string) => Promise<readonly ResolvedAddress[]>;

/** The system's resolver: /etc/hosts, search domains and DNS. */
const resolveHost: Resolve = (host) => lookupAddresses(host, { all: true });

/** Receives every request to an origin, for metrics, logs and traces. */
export interface OriginObserver {
  /** @returns a callback for the end of the request, which is called once */
  begin(
    url: URL,
  ): (end: { readonly result: RequestResult; readonly status: number | null; readonly bytes: number }) => void;
  /** Bytes have arrived, of any request. A file stays open until its answer has been sent, so its end comes too late for the log. */
  received(bytes: number): void;
}

/** What requests to an origin depend on. */
export interface OriginOptions {
  readonly authority: SourceAuthority;
  readonly limits: SourceLimits;
  readonly observer?: OriginObserver;
  /** Default: the system's. */
  readonly resolve?: Resolve;
  /** Its abortion ends all requests. */
  readonly signal?: AbortSignal;
  /** Sent as User-Agent. */
  readonly userAgent?: string;
}

/** The answer of an origin, after redirects. Read its body to the end, or call `discard`. */
export class OriginAnswer {
  /** The URL that answered, after redirects. */
  readonly url: URL;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly #response: IncomingMessage;
  readonly #wait: <T>(work: Promise<T>) => Promise<T>;
  readonly #onBytes: (bytes: number) => void;
  readonly #end: (result: RequestResult, bytes: number) => void;
  #bytes = 0;

  constructor(
    url: URL,
    response: IncomingMessage,
    wait: <T>(work: Promise<T>) => Promise<T>,
    onBytes: (bytes: number) => void,
    end: (result: RequestResult, bytes: number) => void,
  ) {
    this.url = url;
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.#response = response;
    this.#wait = wait;
    this.#onBytes = onBytes;
    this.#end = end;
  }

  /**
   * The body in chunks, read no faster than they are taken. Leaving the loop early closes the connection.
   *
   * @param expectedBytes the length that the body must have; null if unknown
   * @throws ImageError source-timeout, source-unavailable or source-unusable
   */
  async *chunks(expectedBytes: number | null): AsyncGenerator<Buffer, void> {
    const iterator = this.#response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    let result: RequestResult = 'aborted';
    try {
      for (;;) {
        const { done, value } = await this.#wait(iterator.next());
        if (done === true) break;
        this.#bytes += value.length;
        this.#onBytes(value.length);
        if (expectedBytes !== null && this.#bytes > expectedBytes) {
          throw new ImageError('source-unusable', `The origin sent more than the ${expectedBytes} bytes of the range.`);
        }
        yield value;
      }
      if (expectedBytes !== null && this.#bytes < expectedBytes) throw brokenOff(this.#bytes, expectedBytes);
      result = 'ok';
    } catch (error) {
      const failure = explainFailure(error);
      result = resultOf(failure.code);
      throw failure;
    } finally {
      if (result !== 'ok') this.#response.destroy();
      this.#end(result, this.#bytes);
    }
  }

  /** Drops the rest of the answer and its connection. */
  discard(result: RequestResult): void {
    this.#response.destroy();
    this.#end(result, this.#bytes);
  }
}

/** The origin of one image. It keeps connections until `close`. */
export class Origin {
  readonly #options: OriginOptions;
  readonly #agents: { readonly 'http:': Agent; readonly 'https:': https.Agent };
  /** The addresses of each host. They are resolved and checked once, so a later change of the name has no effect. */
  readonly #addresses = new Map<string, readonly ResolvedAddress[]>();
  readonly #closing = new AbortController();
  #requests = 0;
  #leftMs: number;

  constructor(options: OriginOptions) {
    this.#options = options;
    this.#leftMs = options.limits.sourceTimeoutMs;
    options.signal?.addEventListener('abort', () => this.close(), { once: true });
    if (options.signal?.aborted === true) this.#closing.abort();
    // Without proxyEnv: a proxy would resolve the host itself, without these checks.
    const kept = { keepAlive: true, maxSockets: MAX_SOCKETS };
    this.#agents = { 'http:': new http.Agent(kept), 'https:': new https.Agent(kept) };
  }

  /**
   * Sends a GET, and follows redirects, each of which passes the same checks.
   *
   * @throws ImageError
   */
  async get(start: URL, headers: HeaderFields): Promise<OriginAnswer> {
    let url = start;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const answer = await this.#ask(url, headers);
      const { location } = answer.headers;
      if (!REDIRECTS.has(answer.status) || location === undefined) return answer;
      answer.discard('redirect');
      url = this.#follow(url, location);
    }
    throw new ImageError('source-refused', `The origin redirected more than ${MAX_REDIRECTS} times.`);
  }

  /** Ends all requests and connections. Idempotent. */
  close(): void {
    this.#closing.abort();
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  #follow(from: URL, location: string): URL {
    const joined = URL.canParse(location, from.href) ? new URL(location, from.href) : null;
    if (joined === null)
      throw new ImageError('source-unusable', 'The origin redirected to something that is not a URL.');
    // A fragment is for the client, and not part of the request (RFC 9110, section 10.2.2).
    joined.hash = '';
    try {
      const url = parseSourceUrl(joined.href);
      if (url.protocol !== 'file:') return url;
    } catch {
      // Such a URL is under no prefix.
    }
    throw notAllowed('The origin redirected to a URL that may not be named.');
  }

  async #ask(url: URL, headers: HeaderFields): Promise<OriginAnswer> {
    const { authority, limits, observer, userAgent = 'bsdsyms' } = this.#options;
    const credentials = authority.admit(url);
    if (this.#requests >= limits.sourceMaxRequests) {
      throw new ImageError(
        'source-scattered',
        `What is needed of the image lies so far apart that reading it takes more than ${limits.sourceMaxRequests} requests ` +
          '(BSDSYMS_SOURCE_MAX_REQUESTS). Upload the image.',
      );
    }
    this.#requests += 1;
    const end = observer?.begin(url);
    let status: number | null = null;
    let ended = false;
    const finish = (result: RequestResult, bytes: number): void => {
      if (!ended) end?.({ result, status, bytes });
      ended = true;
    };
    try {
      const addresses = await this.#resolve(url);
      // The operator's fields replace the User-Agent, and the fields of the request replace the operator's.
      const fields = { 'User-Agent': userAgent, ...credentials, ...headers, 'Accept-Encoding': 'identity' };
      const response = await this.#send(url, fields, addresses);
      status = response.statusCode ?? 0;
      const wait = <T>(work: Promise<T>): Promise<T> => this.#wait(work, 'stall');
      return new OriginAnswer(url, response, wait, (bytes) => observer?.received(bytes), finish);
    } catch (error) {
      const failure = explainFailure(error);
      finish(this.#closing.signal.aborted ? 'aborted' : resultOf(failure.code), 0);
      throw failure;
    }
  }

  /** The addresses of a host. If one of them is not allowed, none is used. */
  async #resolve({ hostname }: URL): Promise<readonly ResolvedAddress[]> {
    const host = hostname.replace(/^\[(.*)\]$/, '$1');
    const known = this.#addresses.get(host);
    if (known !== undefined) return known;
    const family = isIP(host);
    const { resolve = resolveHost, authority } = this.#options;
    // Node connects to a literal address without calling `lookup`, so it is checked here as well.
    const addresses = family === 0 ? await this.#wait(resolve(host), 'connect') : [{ address: host, family }];
    if (addresses.length === 0) throw new ImageError('source-unavailable', 'The host of the image has no address.');
    authority.admitAddresses(
      host,
      addresses.map(({ address }) => address),
    );
    this.#addresses.set(host, addresses);
    return addresses;
  }

  async #send(url: URL, headers: HeaderFields, addresses: readonly ResolvedAddress[]): Promise<IncomingMessage> {
    for (let attempt = 0; ; attempt++) {
      const request = this.#open(url, headers, addresses);
      try {
        return await this.#answerOf(request);
      } catch (error) {
        request.destroy();
        // The origin may have closed a kept connection just when it was used again.
        if (attempt > 0 || !request.reusedSocket || !isReset(error)) throw error;
      }
    }
  }

  #open(url: URL, headers: HeaderFields, addresses: readonly ResolvedAddress[]): ClientRequest {
    const pinned: LookupFunction = (_host, options, callback) => {
      const [first] = addresses;
      if (options.all === true) callback(null, [...addresses]);
      else callback(null, first?.address ?? '', first?.family);
    };
    const options = { method: 'GET', headers, lookup: pinned, signal: this.#closing.signal };
    return url.protocol === 'https:'
      ? https.request(url, { ...options, agent: this.#agents['https:'] })
      : http.request(url, { ...options, agent: this.#agents['http:'] });
  }

  /** Waits for the connection, then for the head of the answer. */
  async #answerOf(request: ClientRequest): Promise<IncomingMessage> {
    const connected = Promise.withResolvers<void>();
    const answered = Promise.withResolvers<IncomingMessage>();
    request.once('socket', (socket) => {
      if (request.reusedSocket || !socket.connecting) connected.resolve();
      else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => connected.resolve());
    });
    request.once('response', (response) => {
      // An error of a destroyed answer has no effect.
      response.on('error', () => {});
      answered.resolve(response);
    });
    request.on('error', (error) => {
      connected.reject(error);
      answered.reject(error);
    });
    // Nothing may wait for one of the two, and its rejection must not count as unhandled.
    connected.promise.catch(() => {});
    answered.promise.catch(() => {});
    request.end();
    await this.#wait(connected.promise, 'connect');
    return this.#wait(answered.promise, 'stall');
  }

  /** Waits for the origin, within the limit of this step and the rest of the total time. */
  async #wait<T>(work: Promise<T>, step: 'connect' | 'stall'): Promise<T> {
    const { sourceConnectTimeoutMs, sourceStallTimeoutMs, sourceTimeoutMs } = this.#options.limits;
    const stepMs = step === 'connect' ? sourceConnectTimeoutMs : sourceStallTimeoutMs;
    const limitMs = Math.min(stepMs, this.#leftMs);
    const failed = Promise.withResolvers<never>();
    const fail = (): void =>
      failed.reject(
        new ImageError(
          'source-timeout',
          limitMs < stepMs
            ? `The origin took more than ${sourceTimeoutMs} ms for this image in all (BSDSYMS_SOURCE_TIMEOUT_MS).`
            : step === 'connect'
              ? `There was no connection to the origin within ${stepMs} ms (BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS).`
              : `The origin sent nothing for ${stepMs} ms (BSDSYMS_SOURCE_STALL_TIMEOUT_MS).`,
        ),
      );
    const abandon = (): void => failed.reject(new Error('the image was closed'));
    const { signal } = this.#closing;
    const started = performance.now();
    const timer = setTimeout(fail, limitMs);
    signal.addEventListener('abort', abandon);
    if (signal.aborted) abandon();
    try {
      return await Promise.race([work, failed.promise]);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abandon);
      this.#leftMs = Math.max(0, this.#leftMs - (performance.now() - started));
    }
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

const isReset = (error: unknown): boolean => ['ECONNRESET', 'EPIPE'].includes(codeOf(error));

const brokenOff = (bytes: number, expectedBytes: number): ImageError =>
  new ImageError('source-unavailable', `The origin broke off after ${bytes} of ${expectedBytes} bytes.`);

/** The failure of a request as an ImageError that contains nothing of the answer or the URL. */
function explainFailure(error: unknown): ImageError {
  if (error instanceof ImageError) return error;
  const code = codeOf(error);
  const kind = code.startsWith('HPE_') ? 'source-unusable' : 'source-unavailable';
  const what =
    kind === 'source-unusable'
      ? 'The answer of the origin is not HTTP'
      : 'The origin could not be reached or broke off';
  return new ImageError(kind, `${what}${/^[A-Z][A-Z0-9_]+$/.test(code) ? ` (${code})` : ''}.`);
}
