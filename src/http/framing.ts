/** Refuses what Node's parser accepts although RFC 9112 does not. */
import type { IncomingMessage } from 'node:http';
import { Problem, type ProblemCode } from './problem.ts';

const VERSIONS: ReadonlySet<string> = new Set(['1.0', '1.1']);
/** RFC 3986, sections 3.2.2 and 3.2.3: characters of a host, and a port. */
const HOST = /^[\w.~!$&'()*+,;=%:[\]-]*$/;

/**
 * Refuses a request whose end or whose target is in doubt. The connection is closed after the answer.
 *
 * @throws Problem http-version-unsupported, bad-request or transfer-coding-unsupported
 */
export function checkFraming({ httpVersion, headers, headersDistinct }: IncomingMessage): void {
  if (!VERSIONS.has(httpVersion)) {
    throw refusal('http-version-unsupported', `The request has HTTP version ${httpVersion}. Send HTTP/1.1.`);
  }
  checkHost(httpVersion, headersDistinct['host'] ?? []);
  checkTransferCoding(httpVersion, headers['transfer-encoding']);
}

/** RFC 9112, section 3.2. */
function checkHost(httpVersion: string, hosts: readonly string[]): void {
  const [host] = hosts;
  if (hosts.length > 1) throw refusal('bad-request', `The request has ${hosts.length} Host fields; it must have one.`);
  if (host === undefined) {
    if (httpVersion === '1.1') throw refusal('bad-request', 'The request has no Host field; HTTP/1.1 requires it.');
  } else if (!HOST.test(host)) {
    throw refusal('bad-request', 'The Host field is not a host name or address with an optional port.');
  }
}

/** RFC 9112, sections 6.1 and 7. The parser has checked that chunked comes last, and that there is no Content-Length. */
function checkTransferCoding(httpVersion: string, codings: string | undefined): void {
  if (codings === undefined) return;
  if (httpVersion === '1.0') throw refusal('bad-request', 'An HTTP/1.0 request cannot have a Transfer-Encoding.');
  if (codings.trim().toLowerCase() !== 'chunked') {
    const detail = 'The only transfer coding is chunked. Use Content-Encoding for a compressed body.';
    throw refusal('transfer-coding-unsupported', detail);
  }
}

const refusal = (code: ProblemCode, detail: string): Problem =>
  new Problem(code, detail, { headers: { Connection: 'close' } });
