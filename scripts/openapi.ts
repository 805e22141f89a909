/** Writes openapi.yaml and openapi.json from the routes; with --check only tells whether they are up to date. */
import { readFile, writeFile } from 'node:fs/promises';
import { pino } from 'pino';
import { loadConfig } from '../src/config.ts';
import { buildApp } from '../src/http/app.ts';
import { describeRoutes } from '../src/http/operations.ts';

const root = new URL('../', import.meta.url);
const packageText = await readFile(new URL('package.json', root), 'utf8');
const { version, description } = JSON.parse(packageText) as { readonly version: string; readonly description: string };
const { server } = await buildApp(loadConfig({}), pino({ level: 'silent' }), {
  describe: (app) => describeRoutes(app, { version, description }),
});
const documents = {
  'openapi.yaml': server.swagger({ yaml: true }),
  'openapi.json': JSON.stringify(server.swagger()),
};
await server.close();

for (const [name, document] of Object.entries(documents)) {
  const file = new URL(name, root);
  if (!process.argv.includes('--check')) {
    await writeFile(file, document);
    continue;
  }
  const committed = await readFile(file, 'utf8').catch(() => '');
  if (committed !== document) {
    process.stderr.write(`${name} is not what the routes say; run \`npm run openapi\` and commit it.\n`);
    process.exitCode = 1;
  }
}
