/** The whole HTTP surface: what is registered, in which order, with which limits. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import multipart from '@fastify/multipart';
import type { FastifyRateLimitStoreCtor } from '@fastify/rate-limit';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginCallback,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController,
} from 'fastify';
import { type Config, ConfigError, nameFailure, SETTINGS } from '../config.ts';
import { Budget } from '../image/budget.ts';
import type { Resolve } from '../image/remote/origin.ts';
import { Spool } from '../image/spool.ts';
import { ImageError } from '../inspect/image-error.ts';
import { Access } from './access.ts';
import { Admission, type AdmissionControl } from './admission.ts';
import { clientKey, trustAddresses } from './client-address.ts';
import { answerClientError } from './client-error.ts';
import { whenOver } from './exchange.ts';
import { checkFraming } from './framing.ts';
import { Lifecycle } from './lifecycle.ts';
import { createListener } from './listener.ts';
import { observeRequest } from './logging.ts';
import { adviseOnPath, answerOptionsOfAll, answerOtherMethods } from './methods.ts';
import { Metrics } from './metrics.ts';
import { Oidc } from './oidc.ts';
import { Problem, sendProblem, toProblem } from './problem.ts';
import { openReferences } from './reference.ts';
import { Refusals } from './refusals.ts';
import { bsdsymsRoutes } from './routes/bsdsyms.ts';
import { checkRoute } from './routes/check.ts';
import { kernelRoutes } from './routes/kernel.ts';
import { metricsRoute } from './routes/metrics.ts';
import { pageRoutes } from './routes/page.ts';
import { problemRoutes } from './routes/problems.ts';
import { serviceRoutes } from './routes/service.ts';
import { symbolsRoute } from './routes/symbols.ts';
import { verifyRoute } from './routes/verify.ts';
import { ReaderWatch } from './slow-readers.ts';
import { Tokens } from './tokens.ts';
import type { UploadOptions } from './upload.ts';
import type { Guard, UploadServices } from './upload-route.ts';

const packageFile = new URL('../../package.json', import.meta.url);
const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { readonly version: string };

export const RATE_WINDOW_MS = 60_000;
/** A request id of a caller is taken over only if it cannot do harm in a log or a header. */
const PLAIN_ID = /^[\w.:-]{1,64}$/;
/** W3C Trace Context, section 3.2. */
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

type SchemaCompilers = NonNullable<NonNullable<FastifyServerOptions['schemaController']>['compilersFactory']>;

/** Routes have no schemas, and those of the document check and write nothing. By default Fastify loads compilers for them. */
const NO_SCHEMAS = {
  buildValidator: () => () => () => true,
  buildSerializer: () => () => JSON.stringify,
} as unknown as Required<SchemaCompilers>;

export interface App {
  readonly server: FastifyInstance;
  readonly lifecycle: Lifecycle;
  /** What uploads occupy, for tests and metrics. */
  readonly upload: UploadOptions;
  readonly metrics: Metrics;
}

export interface AppOptions {
  readonly tracing?: { readonly plugin: FastifyPluginCallback } | null;
  /** How the hosts of images by reference are resolved. Default: the system's resolver. */
  readonly resolve?: Resolve;
  /** What this process shares with others that serve with it: the text of /metrics, slots for uploads, and their rate. */
  readonly shared?: {
    readonly collectMetrics: () => Promise<string>;
    readonly admission: AdmissionControl;
    readonly rateLimitStore: FastifyRateLimitStoreCtor;
  } | null;
  /** Called before the routes are registered, to describe them. */
  readonly describe?: (server: FastifyInstance) => Promise<void>;
}

/**
 * Builds the service without listening.
 *
 * @throws ConfigError when the spool directory, a token file or the certificate cannot be used
 */
export async function buildApp(
  config: Config,
  logger: FastifyBaseLogger,
  { tracing, shared, resolve, describe }: AppOptions = {},
): Promise<App> {
  const lifecycle = new Lifecycle();
  const upload: UploadOptions = {
    store: {
      maxImageBytes: config.maxImageBytes,
      memory: new Budget(config.memoryBudgetBytes),
      spool: await openSpool(config),
    },
    admission: shared?.admission ?? new Admission(config),
    stallTimeoutMs: config.stallTimeoutMs,
    unpack: true,
    references: openReferences(config, logger, version, resolve),
  };
  const metrics = new Metrics(upload);
  const refusals = new Refusals(metrics);
  const readers = new ReaderWatch(config);
  const begin = (request: FastifyRequest, reply: FastifyReply): void => {
    reply.header('X-Request-Id', request.id).header('X-Content-Type-Options', 'nosniff');
    // Node's parser drops the bytes after such a request. Closing tells the client that they were not read.
    if (request.headers.upgrade !== undefined) reply.header('Connection', 'close');
    observeRequest(request, reply, metrics, refusals);
    readers.watch(reply.raw);
    const running = lifecycle.begin();
    whenOver(request.raw, reply.raw, () => running.end());
  };
  const server = Fastify({
    loggerInstance: logger,
    schemaController: { compilersFactory: NO_SCHEMAS },
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (parent, bindings, options, raw) => {
      const trace = raw.headers['traceparent'];
      const isTraced = typeof trace === 'string' && TRACEPARENT.test(trace);
      return parent.child(isTraced ? { ...bindings, traceparent: trace } : bindings, options);
    },
    requestIdHeader: false,
    genReqId: ({ headers }) => {
      const given = headers['x-request-id'];
      return typeof given === 'string' && PLAIN_ID.test(given) ? given : randomUUID();
    },
    trustProxy: config.trustProxy.length > 0 ? trustAddresses(config.trustProxy) : false,
    serverFactory: (handler) => createListener(config, logger, handler),
    // Refusals while shutting down come from the lifecycle, as problems.
    return503OnClosing: false,
    clientErrorHandler: answerClientError,
    // Requests that no hook sees.
    frameworkErrors: (error, request, reply) => {
      begin(request, reply);
      sendProblem(toProblem(error), request, reply);
    },
  });

  // Before any plugin, so that their hooks and answers are covered.
  server.setErrorHandler((error, request, reply) => sendProblem(toProblem(error, reply), request, reply));
  server.addHook('onRequest', (request, reply, done) => {
    begin(request, reply);
    checkFraming(request.raw);
    done();
  });
  server.addHook('onSend', (request, reply, _payload, done) => {
    // Not under a sender: it would see a reset instead of the answer.
    if (lifecycle.draining && request.raw.complete) reply.header('connection', 'close');
    done();
  });

  if (tracing) await server.register(tracing.plugin);
  server.removeAllContentTypeParsers();
  // Any other body is left in the socket for the route to read; no parser ever gathers one.
  server.addContentTypeParser('*', (_request, _body, done) => done(null));
  await server.register(multipart);
  await describe?.(server);

  const guard = await guardUploads(server, config, metrics, shared?.rateLimitStore);

  const methods = answerOtherMethods(server);
  const services: UploadServices = { config, lifecycle, upload, metrics, refusals, guard, version };
  bsdsymsRoutes(server, services);
  kernelRoutes(server, services);
  symbolsRoute(server, services);
  verifyRoute(server, services);
  checkRoute(server, services);
  problemRoutes(server);
  serviceRoutes(server, lifecycle, config, version);
  pageRoutes(server, config.page === 'on', version);
  metricsRoute(
    server,
    shared?.collectMetrics ?? (() => metrics.registry.metrics()),
    openTokens(config, 'metricsTokensFile', logger),
  );
  for (const [url, taken] of methods.taken) metrics.expect(url, taken);
  methods.close();
  server.setNotFoundHandler((request, reply) => {
    if (answerOptionsOfAll(request, reply)) return;
    const path = request.url.split('?', 1)[0]?.slice(0, 100);
    throw new Problem(
      'not-found',
      `There is no route ${request.method} ${path}. ${adviseOnPath(request.method, path ?? '', methods.taken)}`,
    );
  });
  await server.ready();
  return { server, lifecycle, upload, metrics };
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

function openTokens(config: Config, key: 'tokensFile' | 'metricsTokensFile', logger: FastifyBaseLogger): Tokens | null {
  const path = config[key];
  return path === null ? null : nameFailure(SETTINGS[key], () => Tokens.open(path, logger));
}

async function openOidc({ oidcFile }: Config, logger: FastifyBaseLogger): Promise<Oidc | null> {
  if (oidcFile === null) return null;
  try {
    return await Oidc.open(oidcFile, logger);
  } catch (error) {
    return nameFailure(SETTINGS.oidcFile, () => {
      throw error;
    });
  }
}

/** What an upload passes before anything else: the rate limit of its client, then the tokens. */
async function guardUploads(
  server: FastifyInstance,
  config: Config,
  metrics: Metrics,
  store: FastifyRateLimitStoreCtor | undefined,
): Promise<Guard[]> {
  const tokens = openTokens(config, 'tokensFile', server.log);
  const oidc = await openOidc(config, server.log);
  const guards: Guard[] = [];
  if (config.rateLimitPerMinute > 0) {
    const { default: rateLimit } = await import('@fastify/rate-limit');
    await server.register(rateLimit, {
      global: false,
      max: config.rateLimitPerMinute,
      timeWindow: RATE_WINDOW_MS,
      enableDraftSpec: true,
      ...(store === undefined ? {} : { store }),
      // The limit is fairness among clients; without a count they are served.
      skipOnError: true,
      keyGenerator: clientKey,
      errorResponseBuilder: (_request, { max, ttl }) =>
        new Problem('rate-limited', `This address may start ${max} uploads a minute. Wait ${Math.ceil(ttl / 1000)} s.`),
    });
    guards.push(server.rateLimit());
  }
  if (tokens !== null || oidc !== null) {
    const access = new Access(tokens, oidc);
    access.watchNames((names) => metrics.expectClients(names));
    guards.push((request: FastifyRequest) => access.require(request));
  }
  return guards;
}
