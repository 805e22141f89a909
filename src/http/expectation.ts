/** `Expect: 100-continue` (RFC 9110, section 10.1.1): uploads are refused before, or invited when, there is room. */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

/** Requests that were told to send their body. */
const continued = new WeakSet<IncomingMessage>();

/** Routes requests with an Expect header like all others; without this Node would invite every body at once. */
export function handleExpectations(server: FastifyInstance): void {
  const route = (request: IncomingMessage, response: Parameters<FastifyInstance['routing']>[1]): void =>
    server.routing(request, response);
  server.server.on('checkContinue', route);
  // Other expectations may be ignored.
  server.server.on('checkExpectation', route);
}

/** Invites the body, where the client waits for that. */
export function continueUpload(request: FastifyRequest, reply: FastifyReply): void {
  if (!isWaiting(request)) return;
  continued.add(request.raw);
  reply.raw.writeContinue();
}

/** Whether the client has not sent its body yet and waits for word. */
export function isWaiting(request: FastifyRequest): boolean {
  return request.headers.expect?.toLowerCase() === '100-continue' && !continued.has(request.raw);
}
