/** The end of a request and its answer, whichever way it comes about. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** What is to be called when an answer is over: one listener for all of it, however many wait. */
const waiting = new WeakMap<ServerResponse, (() => void)[]>();
/** The answers that are not over, by connection: one listener for all of them, which may be many (pipelining). */
const open = new WeakMap<Socket, Set<ServerResponse>>();

/**
 * Calls back once, when the answer has been sent to its end or never will be; at once when it is so already.
 *
 * 'close' of the response alone is not enough. Before Node 24 it is never emitted for a response that waits for another
 * one of its connection when that is destroyed, and it is too late for a listener when the connection is gone before
 * anything was routed.
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
