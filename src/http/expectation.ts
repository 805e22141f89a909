/** `Expect: 100-continue` (RFC 9110, section 10.1.1): uploads are refused before, or invited when, there is room. */
import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Requests that were told to send their body. */
const continued = new WeakSet<IncomingMessage>();

/** Invites the body, where the client waits for that. */
export function continueUpload(request: FastifyRequest, reply: FastifyReply): void {
  if (!isWaiting(request)) return;
  continued.add(request.raw);
  reply.raw.writeContinue();
}

/** Whether the client has not sent its body yet and waits for word. */
export function isWaiting({ raw }: FastifyRequest): boolean {
  // An HTTP/1.0 client does not know the interim answer; its expectation must be ignored.
  return raw.httpVersion === '1.1' && expectsContinue(raw.headers.expect ?? '') && !continued.has(raw);
}

/** Other expectations may be ignored; with or without them the client waits for the one that is known. */
function expectsContinue(expect: string): boolean {
  return expect.split(',').some((expectation) => /^\s*100-continue\s*(?:[;=]|$)/i.test(expectation));
}
