/** Starts the service: settings, then one serving process or several. */
import cluster from 'node:cluster';
import { pino } from 'pino';
import { ConfigError, EXIT_BAD_CONFIG, loadConfig } from '../config.ts';
import { tuneHeap } from './heap.ts';
import { serve } from './serve.ts';
import { shareConfig, supervise } from './supervise.ts';

tuneHeap();
try {
  const config = loadConfig(process.env);
  const logger = pino({ level: config.logLevel });
  if (config.workers === 1) await serve(config, logger);
  else if (cluster.isWorker) await serve(shareConfig(config), logger);
  else supervise(config, logger);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`bsdsyms: ${error.message}\n`);
  process.exit(EXIT_BAD_CONFIG);
}
