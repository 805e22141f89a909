/** Answers what fails below the routes: bytes that are no HTTP, requests that never come to their end. */

import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { type ConnectionState, connectionState } from './logging.ts';
import { PROBLEM_KINDS, PROBLEM_MEDIA_TYPE, Problem, type ProblemCode, problemDocument } from './problem.ts';

/** Codes of Node's HTTP server and parser. Everything else it reports is a malformed request. */
const CODES: Readonly<Record<string, ProblemCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'header-fields-too-large',
  HPE_INVALID_EOF_STATE: 'body-truncated',
};

/** Writes the problem to the socket and closes it; only closes it when nobody can read it or an answer has begun. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  const state = connectionState(socket);
  if (error.code === 'ECONNRESET' || !socket.writable || isAnswered(state)) {
    socket.destroy(error);
    return;
  }
  const code = CODES[error.code ?? ''] ?? 'bad-request';
  const { status, explanation } = PROBLEM_KINDS[code];
  const requestId = state.requestId ?? randomUUID();
  const body = JSON.stringify(problemDocument(new Problem(code, explanation), requestId));
  // Nearly always the peer is gone then; should it only have stopped sending, it can still read the answer.
  state.status = code === 'body-truncated' ? PROBLEM_KINDS['client-gone'].status : status;
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      `Content-Type: ${PROBLEM_MEDIA_TYPE}`,
      `Content-Length: ${Buffer.byteLength(body)}`,
      `X-Request-Id: ${requestId}`,
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
    // An answer that the peer does not read must not keep the socket.
    () => socket.destroy(),
  );
}

/** Whether the request that failed has its answer, or the beginning of one. It may be answered while its body comes. */
function isAnswered({ exchange }: ConnectionState): boolean {
  if (exchange === null) return false;
  const { request, response } = exchange;
  const over = request.complete && response.writableFinished;
  return response.headersSent && !over;
}
