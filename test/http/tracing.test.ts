/** Traces of the real process, received by a collector that is a plain HTTP server. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { startTracing, wantsTracing } from '../../src/service/tracing.ts';
import { kernel } from '../support/elf-builder.ts';
import { send } from '../support/http.ts';
import { named, TestOrigin } from '../support/origin.ts';
import { Processes } from '../support/process.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

test.each([
  [{}, false],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }, true],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://127.0.0.1:4318/v1/traces' }, true],
  [{ OTEL_TRACES_EXPORTER: 'otlp' }, true],
  [{ OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }, false],
  [{ OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }, false],
])('%o asks for traces: %s', (env, expected) => {
  expect(wantsTracing(env)).toBe(expected);
});

test('without a wish nothing is started', async () => {
  expect(await startTracing({})).toBeNull();
});

/** What is used of a span in OTLP. */
interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly status: { readonly code?: number };
  readonly attributes: readonly { readonly key: string; readonly value: Readonly<Record<string, unknown>> }[];
}
interface ReceivedTraces {
  readonly resourceSpans: readonly { readonly scopeSpans: readonly { readonly spans: readonly ReceivedSpan[] }[] }[];
}

const attributesOf = ({ attributes }: ReceivedSpan): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const traceparent = `00-${TRACE_ID}-b7ad6b7169203331-01`;

/**
 * Starts the service with a collector, and ends it after `use`.
 *
 * @returns all that the collector received
 */
async function trace(
  env: Readonly<Record<string, string>>,
  use: (service: { readonly port: number }) => Promise<void>,
): Promise<readonly string[]> {
  const received: string[] = [];
  const collector = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      received.push(body);
      response.end('{}');
    });
  });
  collector.listen(0, '127.0.0.1');
  await once(collector, 'listening');
  const { port } = collector.address() as AddressInfo;
  const processes = new Processes();
  try {
    const service = processes.start({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`, ...env });
    await use(await service.listening());
    service.kill('SIGTERM');
    expect(await service.exited).toEqual({ code: 0, signal: null });
    return received;
  } finally {
    await processes.endAll();
    collector.close();
  }
}

test('a request becomes a span of the trace that its traceparent names, sent before the process ends', async () => {
  const received = await trace({}, async (service) => {
    expect((await send(service, '/readyz', { headers: { traceparent } })).status).toBe(200);
  });
  expect(received.some((body) => body.includes(TRACE_ID) && body.includes('/readyz'))).toBe(true);
});

test('requests to the origin of an image are spans below that of the request, without a query', async () => {
  const secret = 'X-Amz-Signature=a-secret-of-these-tests';
  const image = kernel({ symbols: 9 }).bytes;
  const directory = new TemporaryDirectory();
  const file = directory.write(image);
  const origin = await TestOrigin.start();
  try {
    origin.serve('/a/k', image);
    origin.misbehaviour = (request, response) => {
      if (request.url?.startsWith('/from') !== true) return false;
      response.writeHead(302, { Location: `/a/k?${secret}` }).end();
      return true;
    };
    const sources = `${origin.url}/,file://${directory.path}/`;
    const received = await trace({ BSDSYMS_IMAGE_SOURCES: sources }, async (service) => {
      const urls = [`${origin.url}/from?${secret}`, `${origin.url}/none?${secret}`, `file://${file}`];
      const statuses: number[] = [];
      for (const url of urls) {
        statuses.push((await send(service, named('/layout', url), { headers: { traceparent } })).status);
      }
      expect(statuses).toEqual([200, 424, 200]);
    });
    expect(received.join('\n')).not.toContain('a-secret-of-these-tests');
    const spans = received
      .map((body) => JSON.parse(body) as ReceivedTraces)
      .flatMap(({ resourceSpans }) => resourceSpans.flatMap(({ scopeSpans }) => scopeSpans))
      .flatMap((scope) => scope.spans);
    const ids = new Set(spans.map(({ spanId }) => spanId));
    const own = spans.filter(({ name }) => name.endsWith('image source'));
    expect(own.every(({ traceId, parentSpanId = '' }) => traceId === TRACE_ID && ids.has(parentSpanId))).toBe(true);
    // Three requests, three spans of requests above them.
    expect(new Set(own.map(({ parentSpanId }) => parentSpanId)).size).toBe(3);
    const port = origin.port;
    const http = {
      'http.request.method': 'GET',
      'url.scheme': 'http',
      'server.address': '127.0.0.1',
      'server.port': port,
    };
    const sent = (path: string, status: number, bytes: number, failure = {}) => ({
      ...http,
      'url.path': path,
      'http.response.status_code': status,
      'http.response.body.size': bytes,
      ...failure,
    });
    const read = image.length;
    expect(own.map((span) => [span.name, span.kind, span.status.code ?? 0, attributesOf(span)])).toEqual([
      // Kind and status: CLIENT, INTERNAL; unset, ERROR.
      ['GET image source', 3, 0, sent('/from', 302, 0)],
      ['GET image source', 3, 0, sent('/a/k', 206, read)],
      ['GET image source', 3, 2, sent('/none', 404, 0, { 'error.type': 'source-refused' })],
      [
        'read image source',
        1,
        0,
        { 'url.scheme': 'file', 'url.path': file, 'http.response.body.size': expect.any(Number) },
      ],
    ]);
  } finally {
    origin.close();
    directory.remove();
  }
});
