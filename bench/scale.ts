/**
 * What more processes bring: two workers in one service, and two instances behind a balancer, against one of each.
 *
 *   npm run bench:scale -- [--rounds N] [--seconds N] [--json FILE]
 *
 * It needs `npm run build` before. The client is wrk with one thread. It shares the machine with them, so what it takes itself
 * stands beside: on two cores nothing can reach 2. The share of the busiest worker says how evenly connections are spread.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BALANCERS, type Balancer, freePort, startBalancer } from '../scripts/balancers.ts';
import { rawRequest } from './client.ts';
import { makeKernel } from './image.ts';
import { COMPILED_SERVICE, type Program, startProgram } from './program.ts';
import { median, runWrk, writeScript } from './wrk.ts';

const MiB = 1024 * 1024;
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);

interface Arrangement {
  readonly name: string;
  readonly port: number;
  readonly programs: readonly Program[];
  /** The one it is held against; null for what the others are held against. */
  readonly base: string | null;
}

const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-scale-'));
const running: Program[] = [];
const balancers: { kill(): unknown }[] = [];

interface Load {
  readonly name: string;
  readonly script: string;
  readonly connections: number;
}
const makeLoad = (name: string, bytes: number, symbols: number, connections: number): Load => {
  const request = rawRequest(makeKernel(bytes, symbols));
  return { name, script: writeScript(directory, name.replaceAll(' ', ''), request, '/bsdsyms'), connections };
};
const LOADS: readonly Load[] = [makeLoad('100 KB', 100_000, 1500, 16), makeLoad('16 MiB', 16 * MiB, 50_000, 8)];

async function startService(env: Readonly<Record<string, string>> = {}): Promise<Program> {
  const program = await startProgram(COMPILED_SERVICE, { BSDSYMS_SPOOL_DIR: directory, ...env });
  running.push(program);
  return program;
}

async function startBehind(balancer: Balancer, instances: number): Promise<Omit<Arrangement, 'name' | 'base'>> {
  const port = await freePort();
  const programs: Program[] = [];
  for (let instance = 0; instance < instances; instance++) programs.push(await startService());
  // The committed configurations name two; a port that nobody listens on is an instance that is down.
  const backends = [programs[0]?.port ?? 0, programs[1]?.port ?? (await freePort())];
  const child = await startBalancer(
    { ...balancer, name: `${balancer.name}-${instances}` },
    [port, ...backends],
    directory,
  );
  balancers.push(child);
  return { port, programs };
}

async function startAll(): Promise<Arrangement[]> {
  const one = await startService();
  const two = await startService({ BSDSYMS_WORKERS: '2' });
  const sets: Arrangement[] = [
    { name: 'one process', port: one.port, programs: [one], base: null },
    { name: 'two workers', port: two.port, programs: [two], base: 'one process' },
  ];
  for (const balancer of BALANCERS) {
    const first = `one instance behind ${balancer.name}`;
    try {
      sets.push({ name: first, base: 'one process', ...(await startBehind(balancer, 1)) });
      sets.push({ name: `two instances behind ${balancer.name}`, base: first, ...(await startBehind(balancer, 2)) });
    } catch (error) {
      process.stderr.write(`without ${balancer.name}: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  return sets;
}

interface Row {
  readonly set: string;
  readonly image: string;
  readonly perSecond: number;
  readonly clientCores: number;
  /** Of the processor time of all workers or instances: 0.5 when two do the same. */
  readonly busiest: number;
  readonly base: string | null;
  readonly ratio: number | null;
}
const rows: Row[] = [];

try {
  const sets = await startAll();
  for (const { name: image, script, connections } of LOADS) {
    const measured = new Map<string, { perSecond: number[]; cores: number[]; busiest: number[] }>(
      sets.map(({ name }) => [name, { perSecond: [], cores: [], busiest: [] }]),
    );
    for (let round = 0; round <= rounds; round++) {
      for (const { name, port, programs } of sets) {
        const before = programs.flatMap((program) => program.cpuMs());
        const { perSecond, clientCores } = await runWrk(port, script, connections, seconds);
        const used = programs.flatMap((program) => program.cpuMs()).map((ms, index) => ms - (before[index] ?? 0));
        if (round === 0) continue;
        const own = measured.get(name);
        own?.perSecond.push(perSecond);
        own?.cores.push(clientCores);
        own?.busiest.push(Math.max(...used) / used.reduce((sum, ms) => sum + ms));
      }
    }
    for (const { name, base } of sets) {
      const own = measured.get(name);
      const other = base === null ? undefined : measured.get(base);
      const perSecond = median(own?.perSecond ?? []);
      const ratio = other === undefined ? null : perSecond / median(other.perSecond);
      const [clientCores, busiest] = [median(own?.cores ?? []), median(own?.busiest ?? [])];
      rows.push({ set: name, image, perSecond, clientCores, busiest, base, ratio });
    }
  }
} finally {
  for (const balancer of balancers) balancer.kill();
  await Promise.all(running.map((program) => program.stop()));
  rmSync(directory, { recursive: true, force: true });
}
process.stdout.write(
  [
    '| what | image | uploads a second | cores taken by the client | share of the busiest | ratio to |',
    '|---|---|---|---|---|---|',
    ...rows.map(
      ({ set, image, perSecond, clientCores, busiest, base, ratio }) =>
        `| ${set} | ${image} | ${perSecond.toFixed(0)} | ${clientCores.toFixed(2)} | ${busiest.toFixed(2)} | ` +
        `${ratio === null ? '–' : `${ratio.toFixed(2)} (${base})`} |`,
    ),
  ].join('\n') + '\n',
);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(rows, null, 2)}\n`);
