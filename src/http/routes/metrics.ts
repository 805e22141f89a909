/** `GET /metrics`: what Prometheus scrapes. */
import type { FastifyInstance } from 'fastify';
import { Registry } from 'prom-client';
import { Type } from 'typebox';
import { problemResponse } from '../schemas.ts';
import type { Tokens } from '../tokens.ts';

/** @param tokens who may read them; null for everyone */
export function metricsRoute(app: FastifyInstance, collect: () => Promise<string>, tokens: Tokens | null): void {
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'metrics',
        summary: 'Metrics in the text format of Prometheus',
        tags: ['service'],
        security: [{}, { token: [] }],
        response: {
          200: { description: 'The metrics.', content: { 'text/plain': { schema: Type.String() } } },
          401: problemResponse('The service wants a bearer token.'),
        },
      },
      onRequest: (request, _reply, done) => {
        tokens?.require(request);
        done();
      },
    },
    async (_request, reply) => reply.type(Registry.PROMETHEUS_CONTENT_TYPE).send(await collect()),
  );
}
