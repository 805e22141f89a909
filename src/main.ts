/** Starts the service: settings, listening, signals. */
import './heap.ts';
import closeWithGrace from 'close-with-grace';
import { pino } from 'pino';
import { ConfigError, loadConfig } from './config.ts';
import { buildApp } from './http/app.ts';

/** Runs a step of the start; a setting that cannot be used ends it with one line that names the setting. */
async function start<T>(step: () => T | Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`bsdsyms: ${error.message}\n`);
    process.exit(2);
  }
}

const config = await start(() => loadConfig(process.env));
const logger = pino({ level: config.logLevel });
const { server, lifecycle } = await start(() => buildApp(config, logger));

closeWithGrace({ delay: config.shutdownGraceMs, logger }, async ({ signal, err }) => {
  if (err) logger.fatal({ err }, 'stopping after an error');
  else logger.info({ signal }, 'shutting down');
  lifecycle.drain();
  await server.close();
});

try {
  await server.listen({ port: config.port, host: config.host });
} catch (error) {
  logger.fatal({ err: error }, 'cannot listen');
  process.exit(1);
}
