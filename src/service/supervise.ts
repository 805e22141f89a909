/** Several serving processes on one port: starts them, replaces those that die, sums their metrics, stops them. */
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';
import { AggregatorRegistry } from 'prom-client';
import { type Config, EXIT_BAD_CONFIG } from '../config.ts';

/** What the supervisor sends a worker that is to finish. Signals do not tell it so: on Ctrl-C it would get two. */
export const SHUTDOWN = 'shutdown';

const MIN_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 30_000;
/** A worker that lived this long starts the backoff anew. */
const HEALTHY_MS = 10_000;
/** What the workers get beyond their own limits before they are killed. */
const MARGIN_MS = 1000;

interface MetricsRequest {
  readonly metricsOf: number;
}
interface MetricsAnswer extends MetricsRequest {
  readonly text: string | null;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
const isMetricsRequest = (message: unknown): message is MetricsRequest =>
  isRecord(message) && typeof message['metricsOf'] === 'number' && !('text' in message);
const isMetricsAnswer = (message: unknown): message is MetricsAnswer =>
  isRecord(message) && typeof message['metricsOf'] === 'number' && 'text' in message;

/** Each worker's part of the budgets, so that together they keep to what the operator set. */
export function shareConfig(config: Config): Config {
  const part = (total: number): number => Math.floor(total / config.workers);
  const places = (total: number): number => Math.ceil(total / config.workers);
  return {
    ...config,
    memoryBudgetBytes: part(config.memoryBudgetBytes),
    spoolBudgetBytes: part(config.spoolBudgetBytes),
    maxConnections: places(config.maxConnections),
    maxUploads: places(config.maxUploads),
    maxQueuedUploads: places(config.maxQueuedUploads),
    rateLimitPerMinute: places(config.rateLimitPerMinute),
  };
}

const liveWorkers = (): Worker[] => Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);

const killAll = (): void => {
  for (const worker of liveWorkers()) worker.process.kill('SIGKILL');
};

/** Runs in the first process and never serves itself. */
export function supervise(config: Config, logger: Logger): void {
  const metrics = new AggregatorRegistry();
  let stopping = false;
  let everListened = false;
  let failures = 0;

  const start = (): void => {
    const worker = cluster.fork();
    const started = performance.now();
    worker.on('message', (message: unknown) => {
      if (isMetricsRequest(message)) void answerMetrics(worker, message);
    });
    worker.once('listening', () => {
      if (everListened) return;
      everListened = true;
      for (let count = 1; count < config.workers; count++) start();
    });
    worker.once('exit', (code, signal) => {
      if (stopping) return;
      // At the start: it has said why, and the next one would say the same. Later on a file may be mended.
      if (code === EXIT_BAD_CONFIG && !everListened) process.exit(EXIT_BAD_CONFIG);
      failures = performance.now() - started < HEALTHY_MS ? failures + 1 : 1;
      const delayMs = Math.min(MIN_BACKOFF_MS * 2 ** (failures - 1), MAX_BACKOFF_MS);
      logger.error({ worker: worker.process.pid, code, signal, delayMs }, 'a worker died; it is replaced');
      setTimeout(() => {
        if (!stopping) start();
      }, delayMs);
    });
  };

  const answerMetrics = async (worker: Worker, { metricsOf }: MetricsRequest): Promise<void> => {
    let text: string | null = null;
    try {
      text = await metrics.clusterMetrics();
    } catch (error) {
      logger.error({ err: error }, 'the metrics of the workers could not be summed');
    }
    if (worker.isConnected()) worker.send({ metricsOf, text } satisfies MetricsAnswer);
  };

  closeWithGrace(
    {
      delay: config.shutdownDelayMs + config.shutdownGraceMs + MARGIN_MS,
      logger,
      onSecondSignal: killAll,
      onTimeout: killAll,
    },
    async ({ signal, err }) => {
      if (err) logger.fatal({ err }, 'stopping after an error');
      stopping = true;
      logger.info({ signal, workers: liveWorkers().length }, 'stopping the workers');
      const exits = liveWorkers().map(async (worker): Promise<unknown> => {
        const exited = once(worker, 'exit');
        if (worker.isConnected()) worker.send(SHUTDOWN);
        const [code] = await exited;
        return code;
      });
      const failed = (await Promise.all(exits)).filter((code) => code !== 0);
      if (failed.length > 0) throw new Error(`${failed.length} workers did not end in order`);
    },
  );
  // The others follow when it listens, so that what keeps the service from starting is told once.
  start();
}

let lastRequest = 0;

/** In a worker: the metrics of all workers, from the supervisor. */
export function askSupervisor(): Promise<string> {
  lastRequest += 1;
  const request: MetricsRequest = { metricsOf: lastRequest };
  return new Promise((resolve, reject) => {
    const onMessage = (message: unknown): void => {
      if (!isMetricsAnswer(message) || message.metricsOf !== request.metricsOf) return;
      process.off('message', onMessage);
      if (message.text === null) reject(new Error('the supervisor has no metrics'));
      else resolve(message.text);
    };
    process.on('message', onMessage);
    process.send?.(request);
  });
}
