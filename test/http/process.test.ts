/** The process itself: how it starts, refuses to start, and stops. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { post, send } from '../support/http.ts';
import { SOON } from '../support/patience.ts';
import { Processes, unusedPort } from '../support/process.ts';
import { head, RawConnection } from '../support/raw-http.ts';

const image = kernel().bytes;

const processes = new Processes();
afterEach(() => processes.endAll());

describe('the start', () => {
  test('listens on a free port of the loopback and says so', async () => {
    const child = processes.start();
    const { port } = await child.listening();
    expect((await send({ port }, '/healthz')).text).toBe('ok\n');
    expect((await post({ port }, '/bsdsyms', image)).status).toBe(200);
    expect(String(child.logs().find(({ msg }) => /listening/.test(String(msg)))?.['msg'])).toContain('127.0.0.1');
    expect(child.stderr).toBe('');
  });

  test.each([
    ['PORT', '70000'],
    ['PORT', 'http'],
    ['HOST', 'a b'],
    ['LOG_LEVEL', 'loud'],
    ['BSDSYMS_MAX_IMAGE_BYTES', '2GiB'],
    ['BSDSYMS_MAX_IMAGE_BYTES', '0'],
    ['BSDSYMS_UPLOAD_TIMEOUT_MS', '-1'],
    ['BSDSYMS_SPOOL_DIR', 'relative/path'],
    ['BSDSYMS_SPOOL_DIR', '/nowhere/at/all'],
    ['BSDSYMS_NO_SUCH_SETTING', '1'],
  ])('is refused with %s=%s', async (name, value) => {
    const child = processes.start({ [name]: value });
    expect(await child.exited).toEqual({ code: 2, signal: null });
    expect(child.stdout).toBe('');
    // One line, which names the setting.
    expect(child.stderr).toMatch(new RegExp(`^bsdsyms: ${name}: [^\\n]+\\n$`));
  });

  test('fails on a port in use', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const address = holder.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const child = processes.start({ PORT: String(port) });
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(child.logs().at(-1)).toMatchObject({ level: 60, msg: 'cannot listen', err: { code: 'EADDRINUSE' } });
    holder.close();
  });
});

describe('the end', () => {
  test.each<NodeJS.Signals>(['SIGTERM', 'SIGINT'])('comes with %s, and with status 0', async (signal) => {
    const child = processes.start();
    const { port } = await child.listening();
    expect((await post({ port }, '/bsdsyms', image)).status).toBe(200);
    child.kill(signal);
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(child.logs()).toContainEqual(expect.objectContaining({ msg: 'shutting down', signal }));
    expect(child.stderr).toBe('');
  });

  test('waits for an upload that is under way', async () => {
    const child = processes.start();
    const connection = await RawConnection.open((await child.listening()).port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length, Expect: '100-continue' }));
    expect((await connection.answer()).status).toBe(100);
    child.kill('SIGTERM');
    await child.message('shutting down');
    await connection.send(image);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(child.logs()).toContainEqual(expect.objectContaining({ msg: 'request', route: '/bsdsyms', status: 200 }));
  });
});

describe('LOG_LEVEL', () => {
  test('silent writes nothing', async () => {
    // It cannot be read from the log.
    const port = unusedPort();
    const child = processes.start({ PORT: String(port), LOG_LEVEL: 'silent' });
    await expect.poll(() => statusOf(port), SOON).toBe(200);
    expect((await post({ port }, '/bsdsyms', 'no image')).status).toBe(422);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect([child.stdout, child.stderr]).toEqual(['', '']);
  });

  test('info has requests and broken images', async () => {
    const child = processes.start({ LOG_LEVEL: 'info' });
    const { port } = await child.listening();
    expect((await post({ port }, '/bsdsyms', 'no image')).status).toBe(422);
    await child.message('broken ELF');
    await child.message('request');
    expect(child.logs().map(({ level, msg }) => [level, msg])).toEqual([
      [30, expect.stringContaining('listening')],
      [40, 'broken ELF'],
      [30, 'request'],
    ]);
  });
});

/** The status of a service, or 0 while there is none. */
const statusOf = (port: number): Promise<number> =>
  send({ port }, '/healthz').then(
    ({ status }) => status,
    () => 0,
  );
