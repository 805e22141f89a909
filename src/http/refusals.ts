/** Counts the uploads that ended before their image was looked at: each exactly once, whatever refused it. */
import type { FastifyRequest } from 'fastify';
import type { Metrics } from './metrics.ts';
import type { ProblemCode } from './problem.ts';

/** The codes of refusals below the routes (the parser, the time limit for a request), by status. */
const CODES_BELOW_ROUTES: Readonly<Record<number, ProblemCode>> = {
  400: 'bad-request',
  408: 'request-timeout',
  431: 'header-fields-too-large',
};

/** Follows each upload from its request to the arrival of its image, or to the refusal. */
export class Refusals {
  readonly #metrics: Metrics;
  /** The uploads that have neither arrived nor been counted. */
  readonly #open = new WeakSet<FastifyRequest>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  /** A request for an upload has begun. */
  begin(request: FastifyRequest): void {
    this.#open.add(request);
  }

  /** The image has arrived whole. From now on a failure is one of the image. */
  arrived(request: FastifyRequest): void {
    this.#open.delete(request);
  }

  /** The request is answered with a problem. `client-gone` waits for `ended`: the cause may be a refusal below the routes. */
  refused(request: FastifyRequest, code: ProblemCode): void {
    if (code !== 'client-gone') this.#count(request, code);
  }

  /** The request is over. @param status of its answer; that of `client-gone` when it had none */
  ended(request: FastifyRequest, status: number): void {
    this.#count(request, CODES_BELOW_ROUTES[status] ?? 'client-gone');
  }

  #count(request: FastifyRequest, code: ProblemCode): void {
    if (this.#open.delete(request)) this.#metrics.refused(code);
  }
}
