/** The end of a request and its answer, whichever way it comes about. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** What is to be called when a connection is closed. One listener for all requests of it, which may be many (pipelining). */
const waiting = new WeakMap<Socket, Set<() => void>>();

/**
 * Calls back once, when the answer has been sent to its end or never will be; at once when it is so already.
 *
 * 'close' of the response alone does not tell: before Node 24 it is never emitted for a response that waits behind another
 * one of its connection when that is destroyed, and it is too late for a listener when the connection is gone before
 * anything was routed.
 */
export function whenOver(request: IncomingMessage, response: ServerResponse, callback: () => void): void {
  const { socket } = request;
  if (response.destroyed || socket.destroyed) {
    callback();
    return;
  }
  const callbacks = callbacksOf(socket);
  const end = (): void => {
    response.off('close', end);
    callbacks.delete(end);
    callback();
  };
  response.once('close', end);
  callbacks.add(end);
}

function callbacksOf(socket: Socket): Set<() => void> {
  const known = waiting.get(socket);
  if (known !== undefined) return known;
  const callbacks = new Set<() => void>();
  waiting.set(socket, callbacks);
  socket.once('close', () => {
    for (const end of callbacks) end();
  });
  return callbacks;
}
