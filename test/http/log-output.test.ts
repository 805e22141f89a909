/** A log that is not read, or cannot be written: the service serves on, says what is missing, and stops as always. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import { send } from '../support/http.ts';
import { LONG_MS, PATIENCE_MS, SOON } from '../support/patience.ts';
import { Processes, type ServiceProcess, unusedPort } from '../support/process.ts';
import { scrape } from '../support/prometheus.ts';
import { head } from '../support/raw-http.ts';
import type { LogLine } from '../support/service.ts';
import { SlowUpload } from '../support/slow-upload.ts';

/** More lines than a pipe holds. */
const MANY = 2000;
/** More than pipes and service hold together. */
const TOO_MANY = 8000;
const BATCH = 200;
/** The longest that is taken over, for a long line. */
const REQUEST_ID = 'x'.repeat(64);
const DROPPED = 'log lines were dropped, as nobody read them';

const processes = new Processes();
afterAll(() => processes.endAll());

/** Sends requests over one connection and waits for all of their answers. */
async function sendMany(port: number, count: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  let answers = 0;
  socket.setEncoding('latin1');
  for (let sent = 0; sent < count; sent += BATCH) {
    socket.write(head('GET', '/healthz', { 'X-Request-Id': REQUEST_ID }).repeat(BATCH));
    while (answers < sent + BATCH) {
      const [text] = (await once(socket, 'data')) as [string];
      answers += text.split('ok\n').length - 1;
    }
  }
  socket.destroy();
}

const droppedLines = async (port: number): Promise<number> =>
  (await scrape({ port })).sum('bsdsyms_log_lines_dropped_total');
const isRequest = ({ msg, route }: LogLine): boolean => msg === 'request' && route === '/healthz';
const start = async (env: Readonly<Record<string, string>>): Promise<{ child: ServiceProcess; port: number }> => {
  const child = processes.start({ BSDSYMS_SHUTDOWN_GRACE_MS: String(PATIENCE_MS), ...env });
  const { port } = await child.listening(Number(env['BSDSYMS_WORKERS'] ?? 1));
  return { child, port };
};

describe.concurrent.each(['1', '2'])('with %s workers', (workers) => {
  const env = { BSDSYMS_WORKERS: workers };

  test('a log that is not read loses lines, counts them, and reports them when it is read again', async ({
    expect: own,
  }) => {
    const { child, port } = await start(env);
    child.stopReading();
    await sendMany(port, TOO_MANY);
    await own.poll(() => droppedLines(port), SOON).toBeGreaterThan(0);
    child.readAgain();
    const counted = (): number => {
      const dropped = child.logs({ msg: DROPPED }).reduce((sum, line) => sum + Number(line['dropped']), 0);
      return child.logs().filter(isRequest).length + dropped;
    };
    // The scrapes are requests too, and a line of theirs may be among those that were dropped.
    await own.poll(counted, SOON).toBeGreaterThanOrEqual(TOO_MANY);
    expect(await droppedLines(port)).toBeGreaterThanOrEqual(TOO_MANY - child.logs().filter(isRequest).length);
    expect(child.logs({ msg: DROPPED })[0]).toMatchObject({ level: 40 });
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
  });

  test('SIGTERM ends the service while the log is not read', async () => {
    const { child, port } = await start(env);
    child.stopReading();
    await sendMany(port, MANY);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
  });

  test('a second signal ends the service at once while the log is not read', async ({ expect: own }) => {
    const { child, port } = await start({ ...env, BSDSYMS_SHUTDOWN_GRACE_MS: LONG_MS });
    child.stopReading();
    await sendMany(port, MANY);
    const upload = await SlowUpload.begin({ port });
    child.kill('SIGTERM');
    await own.poll(async () => (await readiness(port)) !== 200, SOON).toBe(true);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(await upload.outcome).toBe('cut off');
  });

  test('it serves on when the reader of its log is gone, and stops in order', async ({ expect: own }) => {
    const { child, port } = await start(env);
    child.closeLog();
    await sendMany(port, TOO_MANY);
    expect((await send({ port }, '/readyz')).status).toBe(200);
    await own.poll(() => droppedLines(port), SOON).toBeGreaterThan(0);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
  });
});

/** The status, or 0 when no connection is taken. */
const readiness = (port: number): Promise<number> =>
  send({ port }, '/readyz', { headers: { connection: 'close' } }).then(
    ({ status }) => status,
    () => 0,
  );

test.skipIf(!existsSync('/dev/full'))('it serves on when the log cannot be written, as the disk is full', async () => {
  // It cannot be read from the log.
  const port = unusedPort();
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, ['src/service/main.ts'], {
    env: { PORT: String(port) },
    stdio: ['ignore', full, 'pipe'],
  });
  try {
    const ended = once(child, 'exit');
    await expect.poll(() => readiness(port), SOON).toBe(200);
    await sendMany(port, TOO_MANY);
    await expect.poll(() => droppedLines(port), SOON).toBeGreaterThan(0);
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  } finally {
    child.kill('SIGKILL');
    closeSync(full);
  }
});
