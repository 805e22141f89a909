/** One serving process: listens, and on a signal finishes what it has accepted. */
import cluster from 'node:cluster';
import { setTimeout } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { buildApp } from '../http/app.ts';
import { isLoopback } from './loopback.ts';
import { askSupervisor, SHUTDOWN } from './supervise.ts';
import { startTracing } from './tracing.ts';

/** What a terminal or a service manager sends to all processes of a group. */
const TERMINAL_SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;
/** For the last answers to arrive. */
const LINGER_MS = 200;

/** @throws ConfigError when a setting turns out to be unusable */
export async function serve(config: Config, logger: Logger): Promise<void> {
  const supervised = cluster.isWorker;
  const tracing = await startTracing(process.env);
  const collectMetrics = supervised ? askSupervisor : undefined;
  const { server, lifecycle, metrics } = await buildApp(config, logger, { collectMetrics, tracing });

  const grace = closeWithGrace(
    { delay: config.shutdownDelayMs + config.shutdownGraceMs, logger, skip: supervised ? [...TERMINAL_SIGNALS] : [] },
    async ({ signal, err }) => {
      if (err) logger.fatal({ err }, 'stopping after an error');
      else logger.info({ signal }, 'shutting down');
      lifecycle.drain();
      // Until the listener closes, whoever comes is told in words to go elsewhere.
      await setTimeout(config.shutdownDelayMs);
      const closed = server.close();
      do {
        await lifecycle.finished();
        server.server.closeIdleConnections();
        // Cutting off a client that has its answer and still sends would take the answer back.
        await setTimeout(LINGER_MS);
        // Meanwhile more may have come over connections that were kept.
      } while (!lifecycle.idle);
      server.server.closeAllConnections();
      await closed;
      await tracing?.stop();
      logger.info('stopped');
    },
  );
  if (supervised) {
    metrics.share();
    // With the word of the supervisor, who has had the same signal, it would count as the second one.
    for (const signal of TERMINAL_SIGNALS) process.on(signal, () => {});
    process.on('message', (message) => {
      if (message === SHUTDOWN) grace.close();
    });
  }

  if (!isLoopback(config.host) && config.tokensFile === null) {
    logger.warn({ host: config.host }, 'listening on a public address without BSDSYMS_TOKENS_FILE: anyone may upload');
  }
  try {
    await server.listen({ port: config.port, host: config.host });
  } catch (error) {
    logger.fatal({ err: error }, 'cannot listen');
    process.exit(1);
  }
}
