/**
 * The compiled service against a bare one of the same packages: start, memory at rest, small images a second, and processor time.
 *
 *   npm run bench:bare -- [--rounds N] [--seconds N] [--json FILE] [start|raw|form…]
 *
 * It needs `npm run build` before, and wrk (Debian has it) as the client: it takes a tenth of what a client in Node would.
 * Both services are measured in turns, and ratios are those of the medians. On a machine that others use as well, the ratio
 * of processor time says more than that of the rates.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { multipartRequest, type Request, rawRequest } from './client.ts';
import { makeKernel } from './image.ts';
import { COMPILED_SERVICE, type Program, startProgram } from './program.ts';
import { median, runWrk, writeScript } from './wrk.ts';

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
/** V8 goes on optimising the code of the service for about twelve seconds of load. */
const WARM_SECONDS = 15;
/** After the start, until memory is looked at. */
const REST_MS = 1000;

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-bare-'));
const MAINS = { service: COMPILED_SERVICE, bare: path('../dist/bench-bare.mjs') };
type Name = keyof typeof MAINS;
const NAMES = Object.keys(MAINS) as Name[];
// Packages are found from there, and Node takes no types off.
writeFileSync(MAINS.bare, stripTypeScriptTypes(readFileSync(path('servers/bare.ts'), 'utf8')));

const start = (name: Name): Promise<Program> => startProgram(MAINS[name], { BSDSYMS_SPOOL_DIR: directory });

/** @returns answers a second, and the processor time that the service takes for each */
async function load(
  program: Program,
  script: string,
  forSeconds: number,
): Promise<{ perSecond: number; cpuUs: number }> {
  const [before = 0] = program.cpuMs();
  const { requests, perSecond } = await runWrk(program.port, script, CONNECTIONS, forSeconds);
  const [after = 0] = program.cpuMs();
  return { perSecond, cpuUs: ((after - before) * 1000) / requests };
}

async function sizeOfBlob(port: number, image: Buffer): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/bsdsyms`, { method: 'POST', body: new Uint8Array(image) });
  return (await answer.bytes()).length;
}

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
      const [cpuMs = 0] = running.cpuMs();
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
        service: writeScript(directory, 'service', make(image), '/bsdsyms'),
        bare: writeScript(directory, 'bare', make(image), `/bsdsyms?answer=${answerBytes}`),
      };
      const [rate, cpu] = [samples(), samples()];
      for (let round = 0; round <= rounds; round++) {
        for (const name of NAMES) {
          const { perSecond, cpuUs } = await load(running[name], scripts[name], round === 0 ? WARM_SECONDS : seconds);
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
