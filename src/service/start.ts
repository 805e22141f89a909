/** Starts with the settings, then serves in one process or several. */
import cluster from 'node:cluster';
import { availableParallelism } from 'node:os';
import { pino } from 'pino';
import { AUTO, type Config, ConfigError, EXIT_BAD_CONFIG, loadConfig, SETTINGS } from '../config.ts';
import { openLogOutput } from './log-output.ts';
import { serve } from './serve.ts';
import type { Shutdown } from './shutdown.ts';

/** Starts the service. A setting that cannot be used ends the process with `EXIT_BAD_CONFIG` and one line on standard error. */
export async function start(shutdown: Shutdown): Promise<void> {
  try {
    const config = loadConfig(process.env);
    checkPermissions(config);
    const output = openLogOutput(process.stdout);
    const logger = pino({ level: config.logLevel }, output);
    output.onGap = (dropped) => logger.warn({ dropped }, 'log lines were dropped, as nobody read them');
    const log = { logger, output };
    shutdown.log = log;
    if (cluster.isWorker) {
      const [{ shareConfig }, { SupervisorLink }] = [
        await import('./supervise.ts'),
        await import('./supervisor-link.ts'),
      ];
      return await serve(shareConfig(config), shutdown, log, new SupervisorLink());
    }
    if (process.env[SETTINGS.workers.name] === AUTO && config.workers < availableParallelism()) {
      const { workers } = config;
      logger.warn({ workers }, 'fewer workers than cores: each needs room for an image of BSDSYMS_MAX_IMAGE_BYTES');
    }
    if (config.workers > 1) (await import('./supervise.ts')).supervise(config, shutdown, log);
    else await serve(config, shutdown, log, null);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`bsdsyms: ${error.message}\n`);
    process.exit(EXIT_BAD_CONFIG);
  }
}

/** @throws ConfigError when Node's permission model denies what the settings need */
function checkPermissions({ workers }: Config): void {
  // Undefined without --permission, which the types do not say.
  const permission: typeof process.permission | undefined = process.permission;
  if (permission === undefined) return;
  // Node 24 does not restrict the network.
  if (process.allowedNodeEnvironmentFlags.has('--allow-net') && !permission.has('net')) {
    throw new ConfigError(`${SETTINGS.port.name}: Node was started with --permission, so it needs --allow-net as well`);
  }
  if (!permission.has('worker')) {
    throw new ConfigError(
      `${SETTINGS.maxImageBytes.name}: Node was started with --permission, so it needs --allow-worker as well, for threads that unpack images`,
    );
  }
  if (workers > 1 && !permission.has('child')) {
    throw new ConfigError(
      `${SETTINGS.workers.name}: Node was started with --permission, so ${workers} workers need --allow-child-process as well`,
    );
  }
}
