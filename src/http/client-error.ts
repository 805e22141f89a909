/** Answers what fails below the routes: bytes that are no HTTP, requests that never come to their end. */

import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionState, connectionState } from './logging.ts';
import { STATUS_CODES } from './node-http.ts';
import { PROBLEM_KINDS, PROBLEM_MEDIA_TYPE, Problem, type ProblemCode, problemDocument } from './problem.ts';
import { connectionOf } from './turns.ts';

/** Codes of Node's HTTP server and parser. Everything else it reports is a malformed request. */
const CODES: Readonly<Record<string, ProblemCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'header-fields-too-large',
  HPE_INVALID_EOF_STATE: 'body-truncated',
};

/** How long a connection may last after its last answer: to be read, and so that no reset overtakes it. */
const LINGER_MS = 5000;

/** Writes the problem to the socket and closes it; only closes it when nobody can read it or an answer has begun. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  const connection = connectionOf(socket);
  // Without a connection it is a TLS handshake that failed: an answer would wait for its end forever.
  if (connection === undefined || error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy(error);
    return;
  }
  // The error is in what follows a complete request, whose answer comes first.
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
  // Nearly always the peer is gone then; should it only have stopped sending, it can still read the answer.
  state.code = code === 'body-truncated' ? 'client-gone' : code;
  // A request that is under way holds its slot until the connection is closed, so do not delay that.
  const lingers = !connection.busy && !socket.readableEnded;
  writeProblem(socket, new Problem(code, PROBLEM_KINDS[code].explanation), lingers);
}

/** CONNECT is for proxies. Node has given up the connection, so earlier requests on it cannot be answered any more. */
export function answerConnect(request: IncomingMessage, socket: Duplex): void {
  socket.on('error', () => {});
  if (!(socket instanceof Socket) || connectionOf(socket)?.busy !== false) {
    socket.destroy();
    return;
  }
  const detail = `${request.method} is not taken here: this is no proxy.`;
  writeProblem(socket, new Problem('method-not-allowed', detail, { headers: { Allow: '' } }), true);
}

function writeProblem(socket: Socket, problem: Problem, lingers: boolean): void {
  const requestId = connectionState(socket).requestId ?? randomUUID();
  const body = JSON.stringify(problemDocument(problem, requestId));
  const headers = Object.entries(problem.headers).map(([name, value]) => `${name}: ${value}`);
  const close = (): void => {
    socket.destroy();
  };
  socket.end(
    [
      `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
      `Content-Type: ${PROBLEM_MEDIA_TYPE}`,
      `Content-Length: ${Buffer.byteLength(body)}`,
      `X-Request-Id: ${requestId}`,
      'X-Content-Type-Options: nosniff',
      ...headers,
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
    lingers ? undefined : close,
  );
  // An answer that the peer does not read must not keep the socket.
  setTimeout(close, LINGER_MS).unref();
  if (!lingers) return;
  // The parser has given up; what still comes is read and dropped.
  socket.removeAllListeners('data');
  socket.on('data', () => {});
  socket.once('end', close);
}

/** Whether the request that failed has its answer, or the beginning of one. It may be answered while its body comes. */
function isAnswered({ exchange }: ConnectionState): boolean {
  if (exchange === null) return false;
  const { request, response } = exchange;
  const over = request.complete && response.writableFinished;
  return response.headersSent && !over;
}
