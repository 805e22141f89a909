/** The whole HTTP surface: what is registered, in which order, with which limits. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import multipart from '@fastify/multipart';
import swagger from '@fastify/swagger';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { type Config, ConfigError, SETTINGS } from '../config.ts';
import { Budget } from '../image/budget.ts';
import { ImageError } from '../image/errors.ts';
import { Spool } from '../image/spool.ts';
import { Admission } from './admission.ts';
import { answerClientError } from './client-error.ts';
import { handleExpectations } from './expectation.ts';
import { Lifecycle } from './lifecycle.ts';
import { logRequests } from './logging.ts';
import { answerOtherMethods } from './methods.ts';
import { Problem, sendProblem, toProblem } from './problem.ts';
import { problemRoutes } from './routes/problems.ts';
import { serviceRoutes } from './routes/service.ts';
import { symbolRoutes } from './routes/symbols.ts';
import { COMPONENTS } from './schemas.ts';
import type { UploadOptions } from './upload.ts';

const packageFile = new URL('../../package.json', import.meta.url);
const { version, description } = JSON.parse(readFileSync(packageFile, 'utf8')) as Record<string, string>;

/** Time for the header fields of a request to arrive. */
const HEADERS_TIMEOUT_MS = 60_000;
/** Timeouts are checked this often, so they fire at most this late. */
const TIMEOUT_CHECK_MS = 1000;
/** A request id of a caller is taken over only if it cannot do harm in a log or a header. */
const PLAIN_ID = /^[\w.:-]{1,64}$/;
/** W3C Trace Context, section 3.2. */
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

export interface App {
  readonly server: FastifyInstance;
  readonly lifecycle: Lifecycle;
  /** What uploads occupy, for tests and metrics. */
  readonly upload: UploadOptions;
}

/**
 * Builds the service without listening.
 *
 * @throws ConfigError when the spool directory cannot be used
 */
export async function buildApp(config: Config, logger: FastifyBaseLogger): Promise<App> {
  const lifecycle = new Lifecycle();
  const upload: UploadOptions = {
    store: {
      maxImageBytes: config.maxImageBytes,
      memory: new Budget(config.memoryBudgetBytes),
      spool: await openSpool(config),
    },
    admission: new Admission(config),
    stallTimeoutMs: config.stallTimeoutMs,
  };
  const server = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent, bindings, options, raw) => {
      const trace = raw.headers['traceparent'];
      const traced = typeof trace === 'string' && TRACEPARENT.test(trace) ? { traceparent: trace } : {};
      return parent.child({ ...bindings, ...traced }, options);
    },
    requestIdHeader: false,
    genReqId: ({ headers }) => {
      const given = headers['x-request-id'];
      return typeof given === 'string' && PLAIN_ID.test(given) ? given : randomUUID();
    },
    requestTimeout: config.uploadTimeoutMs,
    keepAliveTimeout: config.keepAliveTimeoutMs,
    http: {
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      // Node swaps the two timeouts when the one for headers is the longer.
      headersTimeout: Math.min(HEADERS_TIMEOUT_MS, config.uploadTimeoutMs),
      requestTimeout: config.uploadTimeoutMs,
    },
    // Refusals while shutting down come from the lifecycle, as problems.
    return503OnClosing: false,
    clientErrorHandler: answerClientError,
    frameworkErrors: (error, request, reply) => {
      sendProblem(toProblem(error), request, reply);
    },
  });

  // Before any plugin, so that their hooks and answers are covered.
  server.setErrorHandler((error, request, reply) => sendProblem(toProblem(error), request, reply));
  server.addHook('onRequest', (request, reply, done) => {
    reply.header('X-Request-Id', request.id);
    done();
  });
  logRequests(server);
  handleExpectations(server);

  server.removeAllContentTypeParsers();
  // Any other body is left in the socket for the route to read; no parser ever gathers one.
  server.addContentTypeParser('*', (_request, _body, done) => done(null));
  await server.register(multipart);
  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'bsdsyms',
        version: version ?? '',
        description: description ?? '',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      security: [],
      tags: [
        { name: 'symbols', description: 'Symbols of an image' },
        { name: 'problems', description: 'What the codes of problems mean' },
        { name: 'service', description: 'The service itself' },
      ],
    },
    refResolver: { buildLocalReference: (json) => json['$id'] as string },
  });
  for (const component of COMPONENTS) server.addSchema(component);

  const methods = answerOtherMethods(server);
  symbolRoutes(server, config, lifecycle, upload);
  problemRoutes(server);
  serviceRoutes(server, lifecycle);
  methods.close();
  server.setNotFoundHandler((request) => {
    const path = request.url.split('?', 1)[0]?.slice(0, 100);
    throw new Problem(
      'not-found',
      `There is no route ${request.method} ${path}. GET /openapi.yaml describes all routes.`,
    );
  });
  await server.ready();
  return { server, lifecycle, upload };
}

async function openSpool({ spoolDir, spoolBudgetBytes }: Config): Promise<Spool> {
  try {
    return await Spool.open(spoolDir, spoolBudgetBytes);
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const cause = error.cause instanceof Error ? error.cause.message : error.message;
    throw new ConfigError(`${SETTINGS.spoolDir.name}: ${spoolDir} cannot be used (${cause})`);
  }
}
