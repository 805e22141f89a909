/** Answers what fails below the routes: bytes that are not HTTP, and requests that never end. */

import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { answerHttp2 } from './http2.ts';
import { type ConnectionState, connectionState } from './logging.ts';
import { STATUS_CODES } from './node-http.ts';
import { PROBLEM_KINDS, PROBLEM_MEDIA_TYPE, Problem, type ProblemCode, problemDocument } from './problem.ts';
import { connectionOf } from './turns.ts';

/** Codes of Node's HTTP server and parser. Everything else it reports is a malformed request. */
const CODES: Readonly<Record<string, ProblemCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'header-fields-too-large',
  HPE_INVALID_EOF_STATE: 'body-truncated',
  HPE_PAUSED_H2_UPGRADE: 'http-version-unsupported',
};

/** What to do, where that follows from the error. */
const DETAILS: Readonly<Record<string, string>> = {
  HPE_PAUSED_H2_UPGRADE:
    'The connection begins with the preface of HTTP/2 (prior knowledge). The service takes HTTP/1.1: curl --http1.1, without ' +
    '--http2-prior-knowledge. A proxy in front of it can take HTTP/2.',
};

/** How long a connection stays open after its last answer, so that the client can read it and no reset overtakes it. */
const LINGER_MS = 5000;

/** Writes the problem to the socket and closes it. If an answer has begun or no client can read one, it only closes it. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  const connection = connectionOf(socket);
  // Without a connection, a TLS handshake failed: an answer would wait for the end of the handshake forever.
  if (connection === undefined || error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy(error);
    return;
  }
  // The error is in the bytes after a complete request, whose answer comes first.
  if (connection.owesAnswer) {
    connection.afterwards(() => answerClientError(error, socket));
    return;
  }
  const state = connectionState(socket);
  if (isAnswered(state)) {
    socket.destroy(error);
    return;
  }
  const code = CODES[error.code ?? ''] ?? 'bad-request';
  // Nearly always the peer is gone then. If it has only stopped sending, it can still read the answer.
  state.code = code === 'body-truncated' ? 'client-gone' : code;
  // A request that is under way holds its slot until the connection is closed, so do not delay that.
  const lingers = !connection.busy && !socket.readableEnded;
  const detail = DETAILS[error.code ?? ''] ?? PROBLEM_KINDS[code].explanation;
  const problem = new Problem(code, detail);
  // A client that has been answered in HTTP/1.1 can read it.
  const frames = state.exchange === null ? afterPreface(error) : null;
  if (frames === null) writeProblem(socket, problem, lingers);
  else writeHttp2Problem(socket, problem, frames);
}

/** What has arrived after the preface of HTTP/2; null when the error is another one. */
function afterPreface(error: NodeJS.ErrnoException): Buffer | null {
  if (error.code !== 'HPE_PAUSED_H2_UPGRADE' || !('rawPacket' in error) || !('bytesParsed' in error)) return null;
  const { rawPacket, bytesParsed } = error;
  return Buffer.isBuffer(rawPacket) && typeof bytesParsed === 'number' ? rawPacket.subarray(bytesParsed) : null;
}

/** CONNECT is for proxies. Node has detached the connection, so earlier requests on it can no longer be answered. */
export function answerConnect(request: IncomingMessage, socket: Duplex): void {
  socket.on('error', () => {});
  if (!(socket instanceof Socket) || connectionOf(socket)?.busy !== false) {
    socket.destroy();
    return;
  }
  const detail = `${request.method} is not allowed: this service is not a proxy.`;
  writeProblem(socket, new Problem('method-not-allowed', detail, { headers: { Allow: '' } }), true);
}

function describeProblem(socket: Socket, problem: Problem): { readonly headers: Record<string, string>; body: string } {
  const requestId = connectionState(socket).requestId ?? randomUUID();
  const body = JSON.stringify(problemDocument(problem, requestId));
  const headers = {
    'Content-Type': PROBLEM_MEDIA_TYPE,
    'Content-Length': String(Buffer.byteLength(body)),
    'X-Request-Id': requestId,
    'X-Content-Type-Options': 'nosniff',
    ...problem.headers,
  };
  return { headers, body };
}

/** A peer that does not read the answer must not keep the socket open. */
function closeAfterLinger(socket: Socket): void {
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

function writeHttp2Problem(socket: Socket, problem: Problem, frames: Buffer): void {
  const { headers, body } = describeProblem(socket, problem);
  const lower = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
  closeAfterLinger(socket);
  answerHttp2(socket, frames, { status: problem.status, headers: Object.fromEntries(lower), body });
}

function writeProblem(socket: Socket, problem: Problem, lingers: boolean): void {
  const { headers, body } = describeProblem(socket, problem);
  const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const close = (): void => {
    socket.destroy();
  };
  socket.end(
    [`HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`, ...fields, 'Connection: close', '', body].join(
      '\r\n',
    ),
    lingers ? undefined : close,
  );
  closeAfterLinger(socket);
  if (!lingers) return;
  // The parser has stopped. The rest of the bytes is read and dropped.
  socket.removeAllListeners('data');
  socket.on('data', () => {});
  socket.once('end', close);
}

/** Whether the request that failed has its answer, or the start of one: an answer may begin while the body arrives. */
function isAnswered({ exchange }: ConnectionState): boolean {
  if (exchange === null) return false;
  const { request, response } = exchange;
  const over = request.complete && response.writableFinished;
  return response.headersSent && !over;
}
