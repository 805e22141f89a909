/** Starts the service: settings, listening, signals. */
import closeWithGrace from 'close-with-grace';
import { pino } from 'pino';
import { type Config, ConfigError, loadConfig } from './config.ts';
import { buildApp } from './http/app.ts';

function readConfig(): Config {
  try {
    return loadConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`bsdsyms: ${error.message}\n`);
    process.exit(2);
  }
}

const config = readConfig();
const logger = pino({ level: config.logLevel });
const { server, lifecycle } = await buildApp(config, logger);

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
