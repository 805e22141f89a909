/** Routes about the service itself, for operators and tools. They never wait for uploads. */
import { readFile } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';
import type { Config } from '../../config.ts';
import { COMPRESSIONS } from '../../inspect/image-source.ts';
import { LOADERS } from '../../xen/loaders/bsdsyms.ts';
import { CONTENT_CODINGS } from '../coding.ts';
import type { Lifecycle } from '../lifecycle.ts';

/** The document in its two forms, as `npm run openapi` writes them. */
const DOCUMENTS = [
  { url: '/openapi.yaml', file: new URL('../../../openapi.yaml', import.meta.url), type: 'application/yaml' },
  {
    url: '/openapi.json',
    file: new URL('../../../openapi.json', import.meta.url),
    type: 'application/json; charset=utf-8',
  },
] as const;

export function serviceRoutes(app: FastifyInstance, lifecycle: Lifecycle, config: Config, version: string): void {
  app.get('/healthz', (_request, reply) => reply.type('text/plain; charset=utf-8').send('ok\n'));

  app.get('/readyz', (_request, reply) => {
    if (lifecycle.draining) throw lifecycle.refusal();
    return reply.type('text/plain; charset=utf-8').send('ready\n');
  });

  app.get('/version', () => {
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
  });

  for (const { url, file, type } of DOCUMENTS) {
    const read = readOnce(file);
    app.get(url, async (_request, reply) => reply.type(type).send(await read()));
  }
}

/** Reads a file on the first request, as bytes that all answers share. After a failure the next request reads it again. */
function readOnce(file: URL): () => Promise<Buffer> {
  let bytes: Promise<Buffer> | null = null;
  const read = async (): Promise<Buffer> => {
    try {
      return await readFile(file);
    } catch (error) {
      bytes = null;
      throw error;
    }
  };
  return () => {
    bytes ??= read();
    return bytes;
  };
}
