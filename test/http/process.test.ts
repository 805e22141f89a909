/** The process itself: how it starts, refuses to start, and stops. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { type LogLine, post, send } from '../support/http.ts';
import { head, RawConnection } from '../support/raw-http.ts';

const MAIN = fileURLToPath(new URL('../../src/service/main.ts', import.meta.url));
const image = kernel().bytes;

interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** The service in a process of its own. */
class Process {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly exited: Promise<Exit>;
  stdout = '';
  stderr = '';

  constructor(env: Readonly<Record<string, string>>) {
    this.#child = spawn(process.execPath, [MAIN], { env });
    this.#child.stdout.on('data', (data: Buffer) => {
      this.stdout += data.toString();
    });
    this.#child.stderr.on('data', (data: Buffer) => {
      this.stderr += data.toString();
    });
    // `close` comes after all output, `exit` may not.
    this.exited = once(this.#child, 'close').then(([code, signal]) => ({ code, signal }));
  }

  logs(): LogLine[] {
    const lines = this.stdout.split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as LogLine);
  }

  /** Waits for the first line whose message matches. */
  async logged(pattern: RegExp): Promise<LogLine> {
    for (;;) {
      const line = this.logs().find(({ msg }) => pattern.test(String(msg)));
      if (line !== undefined) return line;
      const ended = await Promise.race([
        once(this.#child.stdout, 'data').then(() => false),
        this.exited.then(() => true),
      ]);
      if (ended) throw new Error(`the process ended: ${this.stdout}${this.stderr}`);
    }
  }

  /** The port it listens on, as its log tells. */
  async port(): Promise<number> {
    const { msg } = await this.logged(/listening at/);
    return Number(/:(\d+)$/.exec(String(msg))?.[1]);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

const started: Process[] = [];
function start(env: Readonly<Record<string, string>> = {}): Process {
  const child = new Process({ PORT: '0', ...env });
  started.push(child);
  return child;
}
afterEach(async () => {
  for (const child of started.splice(0)) {
    child.kill('SIGKILL');
    await child.exited;
  }
});

describe('the start', () => {
  test('listens on a free port of the loopback and says so', async () => {
    const child = start();
    const port = await child.port();
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
    const child = start({ [name]: value });
    expect(await child.exited).toEqual({ code: 2, signal: null });
    expect(child.stdout).toBe('');
    // One line, which names the setting.
    expect(child.stderr).toMatch(new RegExp(`^bsdsyms: ${name}: [^\\n]+\\n$`));
  });

  test('fails on a port that is taken', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const address = holder.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const child = start({ PORT: String(port) });
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(child.logs().at(-1)).toMatchObject({ level: 60, msg: 'cannot listen', err: { code: 'EADDRINUSE' } });
    holder.close();
  });
});

describe('the end', () => {
  test.each<NodeJS.Signals>(['SIGTERM', 'SIGINT'])('comes with %s, and with status 0', async (signal) => {
    const child = start();
    const port = await child.port();
    expect((await post({ port }, '/bsdsyms', image)).status).toBe(200);
    child.kill(signal);
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(child.logs()).toContainEqual(expect.objectContaining({ msg: 'shutting down', signal }));
    expect(child.stderr).toBe('');
  });

  test('waits for an upload that is under way', async () => {
    const child = start();
    const connection = await RawConnection.open(await child.port());
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length, Expect: '100-continue' }));
    expect((await connection.answer()).status).toBe(100);
    child.kill('SIGTERM');
    await child.logged(/shutting down/);
    await connection.send(image);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect(child.logs()).toContainEqual(expect.objectContaining({ msg: 'request', route: '/bsdsyms', status: 200 }));
  });
});

describe('LOG_LEVEL', () => {
  test('silent says nothing at all', async () => {
    // The port cannot be read from the log.
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const address = probe.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    probe.close();
    await once(probe, 'close');

    const child = start({ PORT: String(port), LOG_LEVEL: 'silent' });
    expect(await answers(port)).toBe(true);
    expect((await post({ port }, '/bsdsyms', 'no image')).status).toBe(422);
    child.kill('SIGTERM');
    expect(await child.exited).toEqual({ code: 0, signal: null });
    expect([child.stdout, child.stderr]).toEqual(['', '']);
  });

  test('info has requests and broken images', async () => {
    const child = start({ LOG_LEVEL: 'info' });
    const port = await child.port();
    expect((await post({ port }, '/bsdsyms', 'no image')).status).toBe(422);
    await child.logged(/^broken ELF$/);
    await child.logged(/^request$/);
    expect(child.logs().map(({ level, msg }) => [level, msg])).toEqual([
      [30, expect.stringContaining('listening')],
      [40, 'broken ELF'],
      [30, 'request'],
    ]);
  });
});

/** Whether the service comes up on a port, given time. */
async function answers(port: number): Promise<boolean> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const up = await send({ port }, '/healthz').then(
      () => true,
      () => false,
    );
    if (up) return true;
    await new Promise((resolve) => {
      setTimeout(resolve, 20);
    });
  }
  return false;
}
