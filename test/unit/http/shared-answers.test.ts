/** Answers that are the same for everybody are made once, and all responses share their bytes. */
import Fastify, { type FastifyInstance } from 'fastify';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { loadConfig } from '../../../src/config.ts';
import { Lifecycle } from '../../../src/http/lifecycle.ts';
import { metricsRoute } from '../../../src/http/routes/metrics.ts';
import { problemRoutes } from '../../../src/http/routes/problems.ts';
import { serviceRoutes } from '../../../src/http/routes/service.ts';
import { Gate } from '../../support/uploads.ts';

let app: FastifyInstance;
/** What the routes sent, before anything makes bytes of it. */
let payloads: unknown[];
beforeEach(() => {
  app = Fastify();
  payloads = [];
  app.addHook('onSend', (_request, _reply, payload, done) => {
    payloads.push(payload);
    done();
  });
});
afterEach(() => app.close());

async function get(url: string): Promise<string> {
  const { statusCode, payload } = await app.inject({ url });
  expect(statusCode).toBe(200);
  return payload;
}

test.each(['/problems', '/problems/not-elf'])('%s', async (url) => {
  problemRoutes(app);
  expect(await get(url)).toBe(await get(url));
  expect(payloads[0]).toBeInstanceOf(Buffer);
  expect(payloads[1]).toBe(payloads[0]);
});

test.each(['/openapi.yaml', '/openapi.json'])('%s', async (url) => {
  serviceRoutes(app, new Lifecycle(), loadConfig({}), '');
  expect(await get(url)).toBe(await get(url));
  expect(payloads[0]).toBeInstanceOf(Buffer);
  expect(payloads[1]).toBe(payloads[0]);
});

describe('/metrics', () => {
  test('is collected once for requests that overlap, and again for later ones', async () => {
    const gates = [new Gate(), new Gate()];
    let collections = 0;
    const collect = async (): Promise<string> => {
      const at = collections;
      collections += 1;
      await gates[at]?.pass();
      return `collection ${at}`;
    };
    metricsRoute(app, collect, null);
    const first = Array.from({ length: 10 }, () => get('/metrics'));
    await vi.waitUntil(() => collections === 1);
    const meanwhile = get('/metrics');
    gates[0]?.open();
    expect(new Set(await Promise.all([...first, meanwhile]))).toEqual(new Set(['collection 0']));
    expect(new Set(payloads).size).toBe(1);

    gates[1]?.open();
    expect(await get('/metrics')).toBe('collection 1');
  });

  test('is collected again after a failure', async () => {
    const collect = vi
      .fn<() => Promise<string>>(() => Promise.resolve('metrics'))
      .mockRejectedValueOnce(new Error('not now'));
    metricsRoute(app, collect, null);
    const failed = await Promise.all([app.inject('/metrics'), app.inject('/metrics')]);
    expect(failed.map(({ statusCode }) => statusCode)).toEqual([500, 500]);
    expect(collect).toHaveBeenCalledOnce();
    expect(await get('/metrics')).toBe('metrics');
  });
});
