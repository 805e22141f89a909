/**
 * A bare service of the same packages and the same log: it reads a raw body, or the file part of a form, to its end, and answers
 * with as many bytes as the query `answer` says. `bench/bare.ts` runs it as JavaScript, as the compiled service is.
 */
import multipart from '@fastify/multipart';
import Fastify, { LogController } from 'fastify';
import { pino } from 'pino';

const read = (stream: NodeJS.ReadableStream): Promise<void> =>
  new Promise((resolve) => {
    stream.on('data', () => {});
    stream.once('end', resolve);
  });

const app = Fastify({
  requestTimeout: 0,
  loggerInstance: pino({ level: 'info' }),
  logController: new LogController({ disableRequestLogging: true }),
});
app.addHook('onResponse', (request, reply, done) => {
  const { method, url } = request;
  request.log.info({ method, url, status: reply.statusCode, durationMs: reply.elapsedTime }, 'request');
  done();
});
app.removeAllContentTypeParsers();
app.addContentTypeParser('*', (_request, _body, done) => done(null));
await app.register(multipart, { limits: { fileSize: Number.POSITIVE_INFINITY } });
app.get('/healthz', (_request, reply) => reply.send('ok\n'));
app.post<{ Querystring: { readonly answer: string } }>('/bsdsyms', async (request, reply) => {
  if (request.isMultipart()) {
    for await (const part of request.parts()) {
      if (part.type === 'file') await read(part.file);
    }
  } else {
    await read(request.raw);
  }
  return reply.type('application/octet-stream').send(Buffer.alloc(Number(request.query.answer)));
});
await app.listen({ port: Number(process.env['PORT']), host: '127.0.0.1' });
