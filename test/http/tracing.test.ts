/** Traces of the real process, received by a collector that is a plain HTTP server. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { startTracing, wantsTracing } from '../../src/service/tracing.ts';

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

test('a request becomes a span of the trace that its traceparent names, sent before the process ends', async () => {
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

  const service = spawn(process.execPath, ['src/service/main.ts'], {
    env: { ...process.env, PORT: '0', OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    for await (const line of createInterface(service.stdout)) {
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
      if (url === undefined) continue;
      const traceparent = `00-${traceId}-b7ad6b7169203331-01`;
      const response = await fetch(`${url}/readyz`, { headers: { traceparent } });
      expect(response.status).toBe(200);
      break;
    }
    const exited = once(service, 'exit');
    service.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
    expect(received.some((body) => body.includes(traceId) && body.includes('/readyz'))).toBe(true);
  } finally {
    service.kill('SIGKILL');
    collector.close();
  }
});
