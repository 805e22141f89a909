/** The end of a request and its answer, however it comes about. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** The callbacks of each answer that is not over. One listener serves all of them. */
const waiting = new WeakMap<ServerResponse, (() => void)[]>();
/** The answers that are not over, by connection; with pipelining there may be many. One listener serves all of them. */
const open = new WeakMap<Socket, Set<ServerResponse>>();

/**
 * Calls back once, when the answer was sent completely or can no longer be sent; at once if that is so already.
 *
 * The event 'close' of the response is not enough. Before Node 24 a response that waits for an earlier one never emits it
 * when the connection is destroyed. And if the connection is gone before the request was routed, it came before the listener.
 */
export function whenOver({ socket }: IncomingMessage, response: ServerResponse, callback: () => void): void {
  if (response.destroyed || socket.destroyed) {
    callback();
    return;
  }
  const callbacks = waiting.get(response);
  if (callbacks !== undefined) {
    callbacks.push(callback);
    return;
  }
  waiting.set(response, [callback]);
  response.once('close', () => end(response));
  responsesOf(socket).add(response);
}

function responsesOf(socket: Socket): Set<ServerResponse> {
  const known = open.get(socket);
  if (known !== undefined) return known;
  const responses = new Set<ServerResponse>();
  open.set(socket, responses);
  socket.once('close', () => {
    for (const response of responses) end(response);
  });
  return responses;
}

function end(response: ServerResponse): void {
  const callbacks = waiting.get(response);
  if (callbacks === undefined) return;
  waiting.delete(response);
  open.get(response.req.socket)?.delete(response);
  for (const callback of callbacks) callback();
}
