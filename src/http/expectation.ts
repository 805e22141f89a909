/** `Expect: 100-continue` (RFC 9110, section 10.1.1): the body is invited when there is a slot for the upload. */
import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Requests whose body was invited. */
const continued = new WeakSet<IncomingMessage>();

/** Invites the body if the client waits for that. */
export function continueUpload(request: FastifyRequest, reply: FastifyReply): void {
  if (!isWaiting(request)) return;
  continued.add(request.raw);
  reply.raw.writeContinue();
}

/** Whether the client holds its body back until it is invited. */
export function isWaiting({ raw }: FastifyRequest): boolean {
  // An HTTP/1.0 client does not know the interim answer; its expectation must be ignored.
  return raw.httpVersion === '1.1' && expectsContinue(raw.headers.expect ?? '') && !continued.has(raw);
}

/** Other expectations may be ignored; the client waits for this one all the same. */
function expectsContinue(expect: string): boolean {
  return expect.split(',').some((expectation) => /^\s*100-continue\s*(?:[;=]|$)/i.test(expectation));
}
