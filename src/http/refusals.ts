/** Counts the uploads whose image was not looked at: each exactly once, whatever refuses it. */
import type { FastifyRequest } from 'fastify';
import type { Metrics } from './metrics.ts';
import type { ProblemCode } from './problem.ts';

/** What an upload is refused with below the routes, by status: by the parser, by the time limit for a request. */
const CODES_BELOW_ROUTES: Readonly<Record<number, ProblemCode>> = {
  400: 'bad-request',
  408: 'request-timeout',
  431: 'header-fields-too-large',
};

export class Refusals {
  readonly #metrics: Metrics;
  /** The requests for uploads of which is not known yet what becomes of them. */
  readonly #open = new WeakSet<FastifyRequest>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  /** An upload is asked for. */
  begin(request: FastifyRequest): void {
    this.#open.add(request);
  }

  /** The image has arrived whole. What is wrong from now on is wrong with the image. */
  arrived(request: FastifyRequest): void {
    this.#open.delete(request);
  }

  /** The request is answered with a problem. Only the end tells whether a client that has gone was refused below the routes. */
  refused(request: FastifyRequest, code: ProblemCode): void {
    if (code !== 'client-gone') this.#count(request, code);
  }

  /** The request is over. @param status of its answer; that of client-gone when it had none */
  ended(request: FastifyRequest, status: number): void {
    this.#count(request, CODES_BELOW_ROUTES[status] ?? 'client-gone');
  }

  #count(request: FastifyRequest, code: ProblemCode): void {
    if (this.#open.delete(request)) this.#metrics.refused(code);
  }
}
