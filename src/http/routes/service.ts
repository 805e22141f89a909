/** What operators and tools ask of the service itself. None of it ever waits behind uploads. */
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Config } from '../../config.ts';
import { COMPRESSIONS } from '../../inspect/image-source.ts';
import { LOADERS } from '../../xen/loaders/bsdsyms.ts';
import { CONTENT_CODINGS } from '../coding.ts';
import type { Lifecycle } from '../lifecycle.ts';
import { JSON_TYPE, problemResponse, versionResponse } from '../schemas.ts';

const ok = (contentType: string, description: string) => ({
  description,
  content: { [contentType]: { schema: Type.String() } },
});

export function serviceRoutes(app: FastifyInstance, lifecycle: Lifecycle, config: Config, version: string): void {
  app.get(
    '/healthz',
    {
      schema: {
        operationId: 'health',
        summary: 'Whether the process is alive',
        tags: ['service'],
        response: { 200: ok('text/plain', 'It is.') },
      },
    },
    (_request, reply) => reply.type('text/plain; charset=utf-8').send('ok\n'),
  );

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'readiness',
        summary: 'Whether uploads are taken',
        tags: ['service'],
        response: { 200: ok('text/plain', 'They are.'), 503: problemResponse('The service is shutting down.') },
      },
    },
    (_request, reply) => {
      if (lifecycle.draining) throw lifecycle.refusal();
      return reply.type('text/plain; charset=utf-8').send('ready\n');
    },
  );

  app.get(
    '/version',
    {
      schema: {
        operationId: 'version',
        summary: 'What runs here, and within which limits',
        tags: ['service'],
        response: { 200: { description: 'The version.', content: { [JSON_TYPE]: { schema: versionResponse } } } },
      },
    },
    () => {
      const { maxImageBytes, maxBlobBytes, maxFlatBytes, maxUploads, uploadTimeoutMs, rateLimitPerMinute } = config;
      return {
        name: 'bsdsyms',
        version,
        node: process.versions.node,
        loaders: LOADERS,
        limits: { maxImageBytes, maxBlobBytes, maxFlatBytes, maxUploads, uploadTimeoutMs, rateLimitPerMinute },
        compressions: COMPRESSIONS,
        contentCodings: CONTENT_CODINGS,
        references: config.imageSources.length > 0,
      };
    },
  );

  // Made once, as bytes that all answers share: a string would be encoded again for each of them.
  let yaml: Buffer | undefined;
  let json: Buffer | undefined;
  app.get(
    '/openapi.yaml',
    {
      schema: {
        operationId: 'openapiYaml',
        summary: 'This document as YAML',
        tags: ['service'],
        response: { 200: ok('application/yaml', 'The document.') },
      },
    },
    (_request, reply) => {
      yaml ??= Buffer.from(app.swagger({ yaml: true }));
      return reply.type('application/yaml').send(yaml);
    },
  );

  app.get(
    '/openapi.json',
    {
      schema: {
        operationId: 'openapiJson',
        summary: 'This document as JSON',
        tags: ['service'],
        response: {
          200: {
            description: 'The document.',
            content: { 'application/json': { schema: { type: 'object', additionalProperties: true } } },
          },
        },
      },
    },
    (_request, reply) => {
      json ??= Buffer.from(JSON.stringify(app.swagger()));
      return reply.type('application/json; charset=utf-8').send(json);
    },
  );
}
