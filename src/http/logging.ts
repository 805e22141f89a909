/**
 * What is logged: one line per request, one per broken image. Never a byte of an image, a file name or a token;
 * of an image that a URL names the origin and the path, but not the query.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { hex } from '../elf/hex.ts';
import type { ImageFacts } from '../inspect/load.ts';
import type { Broken } from '../xen/broken.ts';
import type { Loader } from '../xen/loaders/bsdsyms.ts';
import { clientFields } from './access.ts';
import { whenOver } from './exchange.ts';
import type { Metrics } from './metrics.ts';
import { findAnsweredProblem, PROBLEM_KINDS, type ProblemCode } from './problem.ts';
import { sourceFields } from './reference.ts';
import type { Refusals } from './refusals.ts';

/** What a connection is busy with, for errors that happen below the routes, and for counting bytes. */
export interface ConnectionState {
  /** The last request and its response. */
  exchange: { readonly request: IncomingMessage; readonly response: ServerResponse } | null;
  /** The id of the request that is not answered yet. */
  requestId: string | null;
  /** The problem of an answer that was written below the routes. */
  code: ProblemCode | null;
  bytesRead: number;
  bytesWritten: number;
}

const connections = new WeakMap<Socket, ConnectionState>();

export function connectionState(socket: Socket): ConnectionState {
  let state = connections.get(socket);
  if (state === undefined) {
    state = { exchange: null, requestId: null, code: null, bytesRead: 0, bytesWritten: 0 };
    connections.set(socket, state);
  }
  return state;
}

/**
 * Logs and counts one request when it is over, be its response finished or cut off. `bytesIn` and `bytesOut` are what
 * went over the connection since the request before it, header fields included.
 */
export function observeRequest(
  request: FastifyRequest,
  reply: FastifyReply,
  metrics: Metrics,
  refusals: Refusals,
): void {
  const { socket } = request.raw;
  const state = connectionState(socket);
  state.exchange = { request: request.raw, response: reply.raw };
  state.requestId = request.id;
  const started = performance.now();
  whenOver(request.raw, reply.raw, () => {
    const { bytesRead, bytesWritten } = socket;
    const { method } = request;
    const route = request.routeOptions.url ?? null;
    const finished = reply.raw.writableFinished;
    const code = finished ? findAnsweredProblem(request) : (state.code ?? 'client-gone');
    const status = finished || code === null ? reply.statusCode : PROBLEM_KINDS[code].status;
    const elapsedMs = performance.now() - started;
    const client = clientFields(request);
    request.log.info(
      {
        method,
        route,
        status,
        ...(code === null ? {} : { code }),
        bytesIn: bytesRead - state.bytesRead,
        bytesOut: bytesWritten - state.bytesWritten,
        durationMs: Math.round(elapsedMs * 1000) / 1000,
        ...sourceFields(request),
        ...client,
      },
      'request',
    );
    metrics.request(route, method, status, elapsedMs / 1000);
    if (client !== undefined) metrics.client(client.client, status);
    refusals.ended(request, status);
    Object.assign(state, { requestId: null, code: null, bytesRead, bytesWritten });
  });
}

/** Logs the one line for an image that was not loaded cleanly. */
export function logBroken(
  request: FastifyRequest,
  broken: Broken,
  image: ImageFacts,
  loader: Loader,
  loadAddress: bigint | null,
): void {
  const { code, reason, stage, what, offset, length } = broken;
  request.log.warn(
    {
      broken: { code, reason, stage, what, offset: toLogNumber(offset), length: toLogNumber(length) },
      image: {
        size: image.size,
        class: image.identity?.class ?? null,
        byteOrder: image.identity?.byteOrder ?? null,
        type: image.identity?.type ?? null,
        machine: image.identity?.machine ?? null,
        buildId: image.buildId,
      },
      loader,
      loadAddress: loadAddress === null ? null : hex(loadAddress),
    },
    'broken ELF',
  );
}

/** A hostile offset may be beyond what a JSON number holds; such a one is logged in hex. */
function toLogNumber(value: bigint | null): number | string | null {
  if (value === null) return null;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : hex(value);
}
