/**
 * The compiled service against a bare one of the same packages: start, memory at rest, small images a second, and processor time.
 *
 *   npm run bench:bare -- [--rounds N] [--seconds N] [--json FILE] [start|raw|form…]
 *
 * It needs `npm run build` before, and wrk (Debian has it) as the client: it takes a tenth of what a client in Node would.
 * Both services are measured in turns, and ratios are those of the medians. On a machine that others use as well, the ratio
 * of processor time says more than that of the rates.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { freePort } from '../scripts/balancers.ts';
import { multipartRequest, type Request, rawRequest } from './client.ts';
import { makeKernel } from './image.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    json: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const wants = (part: string): boolean => positionals.length === 0 || positionals.includes(part);

const CONNECTIONS = 8;
/** After the start, until memory is looked at. */
const REST_MS = 1000;
const POLL_MS = 3;

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-bare-'));
const MAINS = { service: path('../dist/service/main.js'), bare: path('../dist/bench-bare.mjs') };
type Name = keyof typeof MAINS;
const NAMES = Object.keys(MAINS) as Name[];
// Packages are found from there, and Node takes no types off.
writeFileSync(MAINS.bare, stripTypeScriptTypes(readFileSync(path('servers/bare.ts'), 'utf8')));

interface Running {
  readonly port: number;
  readonly pid: number;
  readonly startMs: number;
  /** Processor time so far, of all threads. */
  readonly cpuMs: () => number;
  stop(): Promise<void>;
}

/** Starts one of them and waits for its first answer. */
async function start(name: Name): Promise<Running> {
  const port = await freePort();
  const began = performance.now();
  const child = spawn(process.execPath, [MAINS[name]], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, PORT: String(port), LOG_LEVEL: 'info', BSDSYMS_SPOOL_DIR: directory },
  });
  const pid = child.pid ?? 0;
  while (!(await isAlive(port))) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}: was it built?`);
    await sleep(POLL_MS);
  }
  return {
    port,
    pid,
    startMs: performance.now() - began,
    cpuMs: () =>
      readdirSync(`/proc/${pid}/task`)
        .map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ', 1)[0]) / 1e6)
        .reduce((sum, ms) => sum + ms, 0),
    async stop() {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

const isAlive = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n'));
    socket.once('error', () => resolve(false));
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
  });

const run = promisify(execFile);

/** @returns answers a second, and the processor time that the service takes for each */
async function load({ port, cpuMs }: Running, script: string): Promise<{ perSecond: number; cpuUs: number }> {
  const before = cpuMs();
  const { stdout } = await run('wrk', [
    '-t1',
    `-c${CONNECTIONS}`,
    `-d${seconds}s`,
    '-s',
    script,
    `http://127.0.0.1:${port}`,
  ]);
  const used = cpuMs() - before;
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  if (/Non-2xx|Socket errors/.test(stdout) || !(requests > 0)) throw new Error(stdout);
  return { perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]), cpuUs: (used * 1000) / requests };
}

/** A script of wrk that sends the request; its body comes from a file, as Lua's strings would have to be escaped. */
function writeScript(name: string, { head, body, tail }: Request, answerBytes: number): string {
  const end = head.indexOf('\r\n\r\n');
  const type = /content-type: (.*)/i.exec(head.toString('latin1', 0, end))?.[1] ?? '';
  const file = join(directory, `${name}.body`);
  writeFileSync(file, Buffer.concat([head.subarray(end + 4), body, tail]));
  const script = join(directory, `${name}.lua`);
  writeFileSync(
    script,
    `local file = io.open("${file}", "rb")
wrk.method = "POST"
wrk.path = "/bsdsyms${answerBytes > 0 ? `?answer=${answerBytes}` : ''}"
wrk.headers["Content-Type"] = "${type}"
wrk.body = file:read("*a")
`,
  );
  return script;
}

async function sizeOfBlob(port: number, image: Buffer): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/bsdsyms`, { method: 'POST', body: new Uint8Array(image) });
  return (await answer.bytes()).length;
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

interface Row {
  readonly what: string;
  readonly service: number;
  readonly bare: number;
  readonly ratio: number;
  readonly target: string;
}
const rows: Row[] = [];
type Samples = Record<Name, number[]>;
const samples = (): Samples => ({ service: [], bare: [] });
function report(what: string, { service, bare }: Samples, target: string): void {
  const [own, other] = [median(service), median(bare)];
  rows.push({ what, service: own, bare: other, ratio: own / other, target });
}

async function measureStart(): Promise<void> {
  const [startMs, cpu, memory] = [samples(), samples(), samples()];
  for (let round = 0; round <= rounds; round++) {
    for (const name of NAMES) {
      const running = await start(name);
      const cpuMs = running.cpuMs();
      await sleep(REST_MS);
      const kB = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${running.pid}/status`, 'utf8'))?.[1]);
      await running.stop();
      // The first finds no file in the page cache.
      if (round === 0) continue;
      startMs[name].push(running.startMs);
      cpu[name].push(cpuMs);
      memory[name].push(kB / 1024);
    }
  }
  report('start to the first /healthz, ms', startMs, 'at most 2.0');
  report('processor time of a start, ms', cpu, '');
  report('resident memory at rest, MiB', memory, 'at most 1.35');
}

async function measureRequests(kind: 'raw' | 'form', make: (image: Buffer) => Request, target: string): Promise<void> {
  const running = { service: await start('service'), bare: await start('bare') };
  try {
    for (const [size, image] of [
      ['4 KB', makeKernel(4_000, 40)],
      ['100 KB', makeKernel(100_000, 1500)],
    ] as const) {
      const answerBytes = await sizeOfBlob(running.service.port, image);
      const scripts = {
        service: writeScript('service', make(image), 0),
        bare: writeScript('bare', make(image), answerBytes),
      };
      const [rate, cpu] = [samples(), samples()];
      for (let round = 0; round <= rounds; round++) {
        for (const name of NAMES) {
          const { perSecond, cpuUs } = await load(running[name], scripts[name]);
          if (round === 0) continue;
          rate[name].push(perSecond);
          cpu[name].push(cpuUs);
        }
      }
      report(`${size}, ${kind}: requests a second`, rate, target);
      report(`${size}, ${kind}: processor time of a request, µs`, cpu, '');
    }
  } finally {
    for (const name of NAMES) await running[name].stop();
  }
}

try {
  if (wants('start')) await measureStart();
  if (wants('raw')) await measureRequests('raw', rawRequest, 'at least 0.65');
  if (wants('form')) await measureRequests('form', multipartRequest, 'at least 0.75');
} finally {
  rmSync(directory, { recursive: true, force: true });
  rmSync(MAINS.bare);
}
process.stdout.write(
  [
    '| what | service | bare | ratio | target |',
    '|---|---|---|---|---|',
    ...rows.map(
      ({ what, service, bare, ratio, target }) =>
        `| ${what} | ${service.toFixed(0)} | ${bare.toFixed(0)} | ${ratio.toFixed(2)} | ${target} |`,
    ),
  ].join('\n') + '\n',
);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
