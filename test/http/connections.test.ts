/** How many connections there are at once. */
import { afterEach, expect, test } from 'vitest';
import { head, RawConnection } from '../support/raw-http.ts';
import { type Service, startService } from '../support/service.ts';

const SOON = { timeout: 8000, interval: 10 };
const GET = head('GET', '/healthz');

let service: Service;
afterEach(() => service.close());

const open = (): Promise<RawConnection> => RawConnection.open(service.port);

/** Sends the beginning of a request, so that the connection is not idle. */
async function openBusy(): Promise<RawConnection> {
  const connection = await open();
  await connection.send(GET);
  expect((await connection.answer()).status).toBe(200);
  await connection.send(GET.slice(0, 10));
  return connection;
}

/** @returns whether a new connection is served */
async function isServed(): Promise<boolean> {
  const connection = await open();
  await connection.send(head('GET', '/healthz', { Connection: 'close' }));
  return (await connection.ended()).startsWith('HTTP/1.1 200 ');
}

test('connections beyond BSDSYMS_MAX_CONNECTIONS are closed, and accepted again when there is room', async () => {
  service = await startService({ BSDSYMS_MAX_CONNECTIONS: '2' });
  const busy = [await openBusy(), await openBusy()];
  expect(await isServed()).toBe(false);
  expect(await isServed()).toBe(false);
  // Once for many.
  expect(service.logs().filter(({ level }) => Number(level) > 30)).toMatchObject([
    { level: 40, maxConnections: 2, msg: 'all connections are taken; idle ones were closed' },
  ]);
  await busy[0]?.send(GET.slice(10));
  expect((await busy[0]?.answer())?.status).toBe(200);
  busy[0]?.destroy();
  await expect.poll(isServed, SOON).toBe(true);
  busy[1]?.destroy();
});

test('idle ones make room', async () => {
  service = await startService({ BSDSYMS_MAX_CONNECTIONS: '2' });
  const busy = await openBusy();
  const idle = await open();
  await idle.send(GET);
  expect((await idle.answer()).status).toBe(200);
  expect(await isServed()).toBe(false);
  expect(await idle.ended()).toBe('');
  await expect.poll(isServed, SOON).toBe(true);
  await busy.send(GET.slice(10));
  expect((await busy.answer()).status).toBe(200);
  busy.destroy();
});
