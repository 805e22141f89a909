/**
 * Baseline (b): Fastify and @fastify/multipart, reading the file part to its end.
 * It answers with as many bytes as the query `answer` says, which also makes it the baseline for small images.
 */
import multipart from '@fastify/multipart';
import Fastify from 'fastify';
import { announce } from './announce.ts';

const app = Fastify({ requestTimeout: 0 });
await app.register(multipart, { limits: { fileSize: Number.POSITIVE_INFINITY } });
app.post<{ Querystring: { answer?: string } }>('/bsdsyms', async (request, reply) => {
  for await (const part of request.parts()) {
    if (part.type === 'file') {
      part.file.on('data', () => {});
      await new Promise((resolve) => part.file.once('end', resolve));
    }
  }
  return reply.type('application/octet-stream').send(Buffer.alloc(Number(request.query.answer ?? 2)));
});
await app.ready();
announce(app.server);
