/** Images by reference (`imageUrl`), as routes, metrics, log and traces see them. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { FastifyBaseLogger, FastifyRequest } from 'fastify';
import { type Config, nameFailure, SETTINGS } from '../config.ts';
import { parsePrefixes } from '../image/remote/allow-list.ts';
import { AllowedSources } from '../image/remote/authority.ts';
import { Credentials } from '../image/remote/credentials.ts';
import type { OriginObserver, Resolve, SourceLimits } from '../image/remote/origin.ts';
import { openReference, type Reference } from '../image/remote/reference.ts';
import { type RequestResult } from '../image/remote/results.ts';
import { placeOf, type SourcePlace } from '../image/remote/source-url.ts';
import type { ImageStore } from '../image/store.ts';
import type { Parameters, ParameterValues } from '../parameters.ts';
import { watchFiles } from './watch.ts';

/** What reading images by reference depends on. */
export interface References {
  readonly sources: AllowedSources;
  readonly limits: SourceLimits;
  readonly userAgent: string;
  /** Default: the system's resolver. */
  readonly resolve?: Resolve;
}

/** @throws ConfigError for prefixes or header fields that cannot be used */
export function openReferences(
  config: Config,
  logger: FastifyBaseLogger,
  version: string,
  resolve: Resolve | undefined,
): References {
  const sources = new AllowedSources(nameFailure(SETTINGS.imageSources, () => parsePrefixes(config.imageSources)));
  const path = config.imageSourceHeadersFile;
  if (path !== null) {
    const readAgain = (): void => {
      sources.credentials = Credentials.parse(readFileSync(path, 'utf8'));
    };
    nameFailure(SETTINGS.imageSourceHeadersFile, readAgain);
    watchFiles([path], () => {
      try {
        readAgain();
        logger.info({ prefixes: sources.credentials.count }, 'header fields for sources were read again');
      } catch (error) {
        logger.error({ err: error }, 'header fields for sources could not be read again; those before stay in force');
      }
    });
  }
  return { sources, limits: config, userAgent: `bsdsyms/${version}`, ...(resolve === undefined ? {} : { resolve }) };
}

/** What the log line of a request says about its reference. Never a query, which may hold a secret. */
interface SourceRecord extends SourcePlace {
  requests: number;
  bytes: number;
}

const records = new WeakMap<FastifyRequest, SourceRecord>();

/** The log fields of a request whose image is named by a URL. */
export function sourceFields(request: FastifyRequest): { readonly source?: SourceRecord } {
  const source = records.get(request);
  return source === undefined ? {} : { source };
}

/**
 * Opens the image that a request names. Requests to the origin are logged and traced as part of that request.
 *
 * @param onResult called with the end of each request to the origin
 * @throws ImageError
 */
export function openRequested(
  request: FastifyRequest,
  imageUrl: string,
  { sources, ...options }: References,
  image: { readonly store: ImageStore; readonly unpack: boolean; readonly signal: AbortSignal },
  onResult: (result: RequestResult, bytes: number) => void,
): Promise<Reference> {
  const url = URL.canParse(imageUrl) ? new URL(imageUrl) : null;
  // `placeOf` leaves out user information, which is refused only later.
  if (url !== null) records.set(request, { ...placeOf(url), requests: 0, bytes: 0 });
  const observer = observe(request, onResult);
  return openReference(imageUrl, { ...options, ...image, authority: sources, observer });
}

function observe(request: FastifyRequest, onResult: (result: RequestResult, bytes: number) => void): OriginObserver {
  const record = records.get(request);
  return {
    begin(url) {
      if (record !== undefined) record.requests += 1;
      const span = startSpan(request, url);
      return ({ result, status, bytes }) => {
        onResult(result, bytes);
        endSpan(span, result, status, bytes);
      };
    },
    received(bytes) {
      if (record !== undefined) record.bytes += bytes;
    },
  };
}

/** The part of OpenTelemetry's span that is used. The package is loaded only when traces are wanted. */
interface Span {
  setAttribute(name: string, value: string | number): unknown;
  setStatus(status: { readonly code: number }): unknown;
  end(): void;
}
interface Traced {
  readonly opentelemetry?: () => {
    readonly instrumented: boolean;
    readonly context: unknown;
    readonly tracer: { startSpan(name: string, options: object, context: unknown): Span };
  };
}
/** SpanKind and SpanStatusCode of OpenTelemetry. */
const INTERNAL = 0;
const CLIENT = 2;
const ERROR = 2;

function startSpan(request: FastifyRequest, url: URL): Span | null {
  // The plugin's types declare it for every process, but without traces it is not there.
  const trace = (request as unknown as Traced).opentelemetry?.();
  if (trace?.instrumented !== true) return null;
  const { protocol, hostname, port } = url;
  const place = { 'url.scheme': protocol.slice(0, -1), 'url.path': placeOf(url).path };
  if (protocol === 'file:') {
    return trace.tracer.startSpan('read image source', { kind: INTERNAL, attributes: place }, trace.context);
  }
  const attributes = {
    ...place,
    'http.request.method': 'GET',
    'server.address': hostname.replace(/^\[(.*)\]$/, '$1'),
    'server.port': Number(port) || (protocol === 'https:' ? 443 : 80),
  };
  return trace.tracer.startSpan('GET image source', { kind: CLIENT, attributes }, trace.context);
}

function endSpan(span: Span | null, result: RequestResult, status: number | null, bytes: number): void {
  if (span === null) return;
  if (status !== null) span.setAttribute('http.response.status_code', status);
  span.setAttribute('http.response.body.size', bytes);
  if (result.startsWith('source-')) {
    span.setAttribute('error.type', result);
    span.setStatus({ code: ERROR });
  }
  span.end();
}

/** What an answer depends on besides the image. */
interface Representation {
  readonly route: string;
  readonly mediaType: string;
  readonly parameters: ParameterValues<Parameters>;
  /** Of the service. */
  readonly version: string;
}

/**
 * The entity tag of an answer; null when the origin does not distinguish versions of the image. It is weak, since the
 * header fields of two answers may differ.
 */
export function entityTag(imageUrl: string, imageVersion: string | null, answer: Representation): string | null {
  if (imageVersion === null) return null;
  const { origin, path } = placeOf(new URL(imageUrl));
  const { imageUrl: _named, ...parameters } = answer.parameters;
  const parts = [answer.version, answer.route, answer.mediaType, parameters, origin, path, imageVersion];
  const text = JSON.stringify(parts, (_name, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));
  return `W/"${createHash('sha256').update(text).digest('base64url').slice(0, 32)}"`;
}

/** An entity tag for the weak comparison (RFC 9110, section 8.8.3.2). */
const opaque = (tag: string): string => tag.trim().replace(/^W\//, '');

/** Whether If-None-Match names an entity tag (RFC 9110, section 13.1.2); `*` names none, as there may be no answer. */
export function isFresh(request: FastifyRequest, tag: string | null): boolean {
  const given = request.headers['if-none-match'];
  if (tag === null || given === undefined) return false;
  return given.split(',').some((one) => opaque(one) === opaque(tag));
}
