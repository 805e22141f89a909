/**
 * An image by reference from nginx on the same machine: bytes moved, requests, time against curl, memory.
 *
 *   node bench/reference.ts [--rounds N] [--image FILE]
 *
 * Needs nginx and curl. Without an image it makes one of 590 MB with 100,000 symbols.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { makeKernel } from './image.ts';
import { type Server, startServer } from './process.ts';

const MiB = 1024 * 1024;
const IMAGE_BYTES = 590_000_000;
const SYMBOLS = 100_000;
const AT_ONCE = 50;

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '9' }, image: { type: 'string' } } });
const rounds = Number(values.rounds);
const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-reference-'));
const root = join(directory, 'root');
let failed = false;

const show = (value: number): string => String(Math.round(value * 100) / 100);

function report(what: string, measured: number, unit: string, limit: number): void {
  const met = measured <= limit;
  failed ||= !met;
  process.stdout.write(
    `| ${what} | ${show(measured)} ${unit} | at most ${show(limit)} ${unit} | ${met ? 'met' : 'MISSED'} |\n`,
  );
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Serves the files in `root`, and logs what each request was sent. */
async function startNginx(port: number): Promise<ChildProcess> {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(directory, name)};`,
  );
  writeFileSync(
    join(directory, 'nginx.conf'),
    `daemon off; worker_processes 1; pid ${join(directory, 'pid')}; error_log ${join(directory, 'error.log')};
events { worker_connections 512; }
http {
  ${temporary.join('\n  ')}
  log_format bytes '$body_bytes_sent';
  access_log ${join(directory, 'access.log')} bytes;
  sendfile on;
  server { listen 127.0.0.1:${port}; root ${root}; }
}
`,
  );
  const child = spawn('nginx', ['-e', join(directory, 'error.log'), '-c', join(directory, 'nginx.conf')], {
    stdio: 'inherit',
  });
  for (let attempt = 0; attempt < 100; attempt++) {
    await sleep(100);
    if (await answers(port)) return child;
  }
  throw new Error('nginx does not answer');
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolved) => {
    get({ host: '127.0.0.1', port, path: '/' }, (response) => {
      response.resume();
      resolved(true);
    }).on('error', () => resolved(false));
  });

/** What nginx has sent since it was last asked. */
function sent(): readonly number[] {
  const path = join(directory, 'access.log');
  const lines = readFileSync(path, 'utf8').trim().split('\n').filter(Boolean).map(Number);
  writeFileSync(path, '');
  return lines;
}

/** @returns the bytes of the answer, and the seconds until its end */
function fetchBlob(server: Server, url: string): Promise<{ readonly bytes: number; readonly seconds: number }> {
  const started = performance.now();
  return new Promise((resolved, reject) => {
    const path = `/bsdsyms?imageUrl=${encodeURIComponent(url)}`;
    get({ host: '127.0.0.1', port: server.port, path }, (response) => {
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === 200) resolved({ bytes, seconds: (performance.now() - started) / 1000 });
        else reject(new Error(`the answer is ${response.statusCode}`));
      });
    }).on('error', reject);
  });
}

/** Where the two tables are, by the layout that the service itself gives. */
async function findTables(server: Server, url: string): Promise<readonly string[]> {
  const response = await fetch(`http://127.0.0.1:${server.port}/layout?imageUrl=${encodeURIComponent(url)}`);
  const { bsdsyms } = (await response.json()) as {
    readonly bsdsyms: { readonly sections: readonly { readonly fileOffset?: number; readonly size: number }[] };
  };
  return bsdsyms.sections.flatMap(({ fileOffset, size }) =>
    fileOffset === undefined ? [] : [`${fileOffset}-${fileOffset + size - 1}`],
  );
}

let nginx: ChildProcess | null = null;
let server: Server | null = null;
try {
  // nginx gives up the rights of root.
  chmodSync(directory, 0o755);
  mkdirSync(root);
  const image = join(root, 'vmlinux');
  if (values.image === undefined) writeFileSync(image, makeKernel(IMAGE_BYTES, SYMBOLS));
  else {
    try {
      linkSync(resolve(values.image), image);
    } catch {
      copyFileSync(resolve(values.image), image);
    }
  }
  const port = await freePort();
  nginx = await startNginx(port);
  const url = `http://127.0.0.1:${port}/vmlinux`;
  const settings = {
    BSDSYMS_IMAGE_SOURCES: `http://127.0.0.1:${port}/`,
    BSDSYMS_MAX_UPLOADS: String(AT_ONCE),
    BSDSYMS_MEMORY_BUDGET_BYTES: String(1024 * MiB),
  };
  server = await startServer('bsdsyms', settings);
  const tables = await findTables(server, url);
  await fetchBlob(server, url);
  sent();

  const { bytes } = await fetchBlob(server, url);
  // nginx logs an answer when it has been sent.
  await sleep(200);
  const requests = sent();
  process.stdout.write(
    `\nImage: ${values.image ?? 'made here'}, blob: ${bytes} bytes.\n\n| what | measured | target | |\n|---|---|---|---|\n`,
  );
  report(
    'bytes moved',
    requests.reduce((sum, one) => sum + one, 0),
    'bytes',
    1.05 * bytes + 512 * 1024,
  );
  report('range requests', requests.length, '', 24);

  const ours: number[] = [];
  const curls: number[] = [];
  for (let round = 0; round < rounds; round++) {
    ours.push((await fetchBlob(server, url)).seconds);
    const started = performance.now();
    for (const range of tables) execFileSync('curl', ['-sS', '-o', '/dev/null', '-r', range, url]);
    curls.push((performance.now() - started) / 1000);
  }
  report(
    `time (${tables.length} times curl -r: ${Math.round(median(curls) * 1000)} ms)`,
    median(ours) * 1000,
    'ms',
    2 * median(curls) * 1000 + 15,
  );

  for (const count of [1, AT_ONCE]) {
    // In processes of their own: what the rounds before have left to the collector is not what these take.
    await server.stop();
    server = await startServer('bsdsyms', settings);
    const idle = await server.memory(true);
    server.resetPeak();
    const one = server;
    await Promise.all(Array.from({ length: count }, () => fetchBlob(one, url)));
    const what = count === 1 ? 'one' : `${count} at once`;
    const limit = count === 1 ? 24 : (count * 2 * bytes) / MiB + 24;
    report(`memory over idle, ${what}`, server.peak() - idle, 'MiB', limit);
  }
} finally {
  await server?.stop();
  nginx?.kill();
  rmSync(directory, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;
