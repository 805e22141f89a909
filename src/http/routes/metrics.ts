/** `GET /metrics`: what Prometheus scrapes. */
import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';

import { Registry } from '../prometheus.ts';
import type { Tokens } from '../tokens.ts';

/**
 * Requests that arrive while metrics are collected share the result, as one piece of bytes.
 *
 * @param collect runs in the next turn of the event loop, so that all requests of one turn share it
 */
function shareCollection(collect: () => Promise<string>): () => Promise<Buffer> {
  let pending: Promise<Buffer> | null = null;
  const begin = async (): Promise<Buffer> => {
    try {
      await setImmediate();
      return Buffer.from(await collect());
    } finally {
      pending = null;
    }
  };
  return () => {
    pending ??= begin();
    return pending;
  };
}

/** Registers the route. @param tokens those that may read the metrics; null for no restriction */
export function metricsRoute(app: FastifyInstance, collect: () => Promise<string>, tokens: Tokens | null): void {
  const collectShared = shareCollection(collect);
  app.get(
    '/metrics',
    {
      onRequest: (request, _reply, done) => {
        tokens?.require(request);
        done();
      },
    },
    async (_request, reply) => reply.type(Registry.PROMETHEUS_CONTENT_TYPE).send(await collectShared()),
  );
}
