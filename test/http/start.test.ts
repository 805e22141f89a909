/** What a start costs: only what is used is loaded. */
import { expect, test } from 'vitest';
import { until } from '../support/patience.ts';
import { ServiceProcess } from '../support/process.ts';

/** What makes the document, compiles schemas, or serves settings that are not made by default. */
const UNUSED = [
  '@fastify/ajv-compiler',
  '@fastify/fast-json-stringify-compiler',
  '@fastify/otel',
  '@fastify/rate-limit',
  '@fastify/swagger',
  '@opentelemetry',
  'ajv',
  'bintrees',
  'tdigest',
  'typebox',
  'yaml',
];

async function loadedBy(env: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const service = new ServiceProcess(env, ['--import', new URL('../support/list-modules.ts', import.meta.url).href]);
  try {
    const { port } = await service.listening();
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
    service.kill('SIGUSR2');
    await until(() => service.stderr.includes(']\n'));
    return JSON.parse(service.stderr.slice(service.stderr.indexOf('["'))) as string[];
  } finally {
    await service.end();
  }
}

const packagesOf = (urls: readonly string[]): Set<string> =>
  new Set(urls.flatMap((url) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? []));

test('loads nothing that it has no use for', async () => {
  const loaded = await loadedBy({});
  const packages = packagesOf(loaded);
  expect([...packages]).toContain('fastify');
  expect([...packages].filter((name) => UNUSED.some((one) => name === one || name.startsWith(`${one}/`)))).toEqual([]);
  // An import of `node:http` brings it, see `src/http/node-http.ts`.
  expect(loaded.filter((name) => name.includes('undici'))).toEqual([]);
  const sources = loaded.filter((url) => url.includes('/src/'));
  expect(sources.filter((url) => /\/(?:schemas|operations|supervise|supervisor-link)\.ts$/.test(url))).toEqual([]);
});

test('loads what a setting asks for', async () => {
  expect([...packagesOf(await loadedBy({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '5' }))]).toContain('@fastify/rate-limit');
});
