/** `GET /metrics`: what Prometheus scrapes. */
import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';

import { Registry } from '../prometheus.ts';
import type { Tokens } from '../tokens.ts';

/**
 * Lets all who ask while metrics are being collected share them, as one piece of bytes.
 *
 * @param collect begins in the next turn of the event loop, so that all requests of one turn are in time for it
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

/** @param tokens who may read them; null for everyone */
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
