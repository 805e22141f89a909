/** Writes openapi.yaml from the routes; with --check only tells whether it is up to date. */
import { readFile, writeFile } from 'node:fs/promises';
import { pino } from 'pino';
import { loadConfig } from '../src/config.ts';
import { buildApp } from '../src/http/app.ts';

const file = new URL('../openapi.yaml', import.meta.url);
const { server } = await buildApp(loadConfig({}), pino({ level: 'silent' }));
const document = server.swagger({ yaml: true });
await server.close();

if (process.argv.includes('--check')) {
  const committed = await readFile(file, 'utf8').catch(() => '');
  if (committed !== document) {
    process.stderr.write('openapi.yaml is not what the routes say; run `npm run openapi` and commit it.\n');
    process.exit(1);
  }
} else {
  await writeFile(file, document);
}
