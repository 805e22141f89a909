/** One serving process: listens, and on a signal finishes what it has accepted. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { buildApp } from '../http/app.ts';
import type { Lifecycle } from '../http/lifecycle.ts';
import { isLoopback } from './loopback.ts';
import { countDroppedLines } from './process-metrics.ts';
import type { Log, Shutdown } from './shutdown.ts';
import type { SupervisorLink } from './supervisor-link.ts';
import { startTracing, type Tracing } from './tracing.ts';
import { within } from './within.ts';

/** Time for the last answers to arrive. */
const LINGER_MS = 200;
/** How long closing the server may take once all connections are closed. */
const CLOSE_MS = 500;
/** How long sending the last traces may take. */
const TRACES_MS = 1000;
/** How long a stop may take beyond the delay and the grace, the last lines of the log included. */
export const STOP_MARGIN_MS = 2000;

/**
 * Starts the service, and stops it when `shutdown` says so.
 *
 * @param supervisor the link of a worker to its supervisor; null for a process on its own
 * @throws ConfigError when a setting turns out to be unusable
 */
export async function serve(
  config: Config,
  shutdown: Shutdown,
  { logger, output }: Log,
  supervisor: SupervisorLink | null,
): Promise<void> {
  const tracing = await startTracing(process.env);
  const shared = supervisor && {
    collectMetrics: () => supervisor.collectMetrics(),
    admission: supervisor.admission(config),
    rateLimitStore: supervisor.rateLimitStore(),
  };
  const { server, lifecycle, metrics } = await buildApp(config, logger, { tracing, shared });
  countDroppedLines(metrics.registry, output);
  if (supervisor !== null) supervisor.snapshot = () => metrics.registry.getMetricsAsJSON();

  if (!isLoopback(config.host) && config.tokensFile === null && config.oidcFile === null) {
    logger.warn({ host: config.host }, 'listening on a public address without BSDSYMS_TOKENS_FILE: anyone may upload');
  }
  const listening = server.listen({ port: config.port, host: config.host });
  const listened = listening.then(
    () => true,
    () => false,
  );
  shutdown.running = {
    async stop(signal) {
      logger.info({ signal }, 'shutting down');
      lifecycle.drain();
      const finished = !(await listened) || (await stopServing(config, server, lifecycle, logger, supervisor !== null));
      await stopTracing(tracing, logger);
      if (finished) logger.info('stopped');
      return finished;
    },
  };
  try {
    await listening;
  } catch (error) {
    logger.fatal({ err: error }, 'cannot listen');
    await shutdown.exit(1);
  }
}

/** @returns whether all requests were finished within the grace */
async function stopServing(
  config: Config,
  server: FastifyInstance,
  lifecycle: Lifecycle,
  logger: Logger,
  supervised: boolean,
): Promise<boolean> {
  // Until the listener closes, new clients get an answer that sends them elsewhere.
  await sleep(config.shutdownDelayMs);
  let closed: Promise<void> | undefined;
  const closeOnce = (): Promise<void> => {
    closed ??= close(server, logger);
    return closed;
  };
  const finish = async (): Promise<void> => {
    // A worker listens until its requests are finished: when none listens, the supervisor keeps new connections, and their
    // clients wait as long as any worker lives.
    if (supervised) await lifecycle.finished();
    void closeOnce();
    do {
      await lifecycle.finished();
      server.server.closeIdleConnections();
      // A client that has its answer and still sends would lose the answer if it were cut off at once.
      await within(LINGER_MS, closeOnce());
      // Meanwhile more requests may have come over kept connections.
    } while (!lifecycle.idle);
  };
  await within(config.shutdownGraceMs, finish());
  const finished = lifecycle.idle;
  if (!finished) logger.error({ graceMs: config.shutdownGraceMs }, 'requests were cut off');
  server.server.closeAllConnections();
  await within(CLOSE_MS, closeOnce());
  return finished;
}

async function close(server: FastifyInstance, logger: Logger): Promise<void> {
  try {
    await server.close();
  } catch (error) {
    logger.error({ err: error }, 'the server could not be closed');
  }
}

async function stopTracing(tracing: Tracing | null, logger: Logger): Promise<void> {
  if (tracing === null) return;
  try {
    const sent = tracing.stop().then(() => true);
    if ((await within(TRACES_MS, sent)) === null) logger.warn('the last traces could not be sent in time');
  } catch (error) {
    logger.warn({ err: error }, 'the last traces could not be sent');
  }
}
