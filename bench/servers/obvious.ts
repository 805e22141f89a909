/** Baseline (c): the obvious implementation, which gathers the image in one buffer before it looks at it. */
import multipart from '@fastify/multipart';
import Fastify from 'fastify';
import { announce } from './announce.ts';

const LIMIT = 2 ** 31;
const app = Fastify({ requestTimeout: 0, bodyLimit: LIMIT });
app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
await app.register(multipart, { limits: { fileSize: LIMIT } });
app.post('/bsdsyms', async (request, reply) => {
  let image = request.body;
  if (request.isMultipart()) {
    const part = await request.file();
    image = await part?.toBuffer();
  }
  const bytes = Buffer.isBuffer(image) ? image : Buffer.alloc(0);
  return reply.type('application/octet-stream').send(bytes.subarray(0, Math.min(bytes.length, 5_000_000)));
});
await app.ready();
announce(app.server);
