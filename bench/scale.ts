/**
 * What more processes bring: two workers in one service, and two instances behind a balancer, against one of each.
 *
 *   node bench/scale.ts [--rounds N] [--seconds N] [--json FILE]
 *
 * The client shares the machine with them, so what it takes itself stands beside: on two cores nothing can reach 2.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BALANCERS, type Balancer, freePort, startBalancer } from '../scripts/balancers.ts';
import { ServiceProcess } from '../test/support/process.ts';
import { load, type Request, rawRequest } from './client.ts';
import { makeKernel } from './image.ts';

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
  /** The one it is held against; null for what the others are held against. */
  readonly base: string | null;
}

interface Load {
  readonly name: string;
  readonly request: Request;
  readonly connections: number;
}
const LOADS: readonly Load[] = [
  { name: '100 KB', request: rawRequest(makeKernel(100_000, 1500)), connections: 16 },
  { name: '16 MiB', request: rawRequest(makeKernel(16 * MiB, 50_000)), connections: 8 },
];

const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-scale-'));
const running: ServiceProcess[] = [];
const balancers: { kill(): unknown }[] = [];

async function startService(env: Record<string, string> = {}, processes = 1): Promise<number> {
  const service = new ServiceProcess({ LOG_LEVEL: 'info', ...env });
  running.push(service);
  return (await service.listening(processes)).port;
}

async function startBehind(balancer: Balancer, instances: number): Promise<number> {
  const front = await freePort();
  const first = await startService();
  // The committed configurations name two; a port that nobody listens on is an instance that is down.
  const second = instances > 1 ? await startService() : await freePort();
  const child = await startBalancer(
    { ...balancer, name: `${balancer.name}-${instances}` },
    [front, first, second],
    directory,
  );
  balancers.push(child);
  return front;
}

async function startAll(): Promise<Arrangement[]> {
  const sets: Arrangement[] = [
    { name: 'one process', port: await startService(), base: null },
    { name: 'two workers', port: await startService({ BSDSYMS_WORKERS: '2' }, 2), base: 'one process' },
  ];
  for (const balancer of BALANCERS) {
    const one = `one instance behind ${balancer.name}`;
    try {
      sets.push({ name: one, port: await startBehind(balancer, 1), base: 'one process' });
      sets.push({ name: `two instances behind ${balancer.name}`, port: await startBehind(balancer, 2), base: one });
    } catch (error) {
      process.stderr.write(`without ${balancer.name}: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  return sets;
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

interface Row {
  readonly set: string;
  readonly image: string;
  readonly perSecond: number;
  readonly clientCores: number;
  readonly base: string | null;
  readonly ratio: number | null;
}
const rows: Row[] = [];

try {
  const sets = await startAll();
  for (const { name: image, request, connections } of LOADS) {
    const measured = new Map<string, { perSecond: number[]; cores: number[] }>(
      sets.map(({ name }) => [name, { perSecond: [], cores: [] }]),
    );
    for (let round = 0; round <= rounds; round++) {
      for (const { name, port } of sets) {
        const used = process.cpuUsage();
        const started = performance.now();
        const { perSecond } = await load(port, request, connections, seconds);
        const { user, system } = process.cpuUsage(used);
        if (round === 0) continue;
        measured.get(name)?.perSecond.push(perSecond);
        measured.get(name)?.cores.push((user + system) / 1000 / (performance.now() - started));
      }
    }
    for (const { name, base } of sets) {
      const own = measured.get(name);
      const other = base === null ? undefined : measured.get(base);
      const perSecond = median(own?.perSecond ?? []);
      const ratio = other === undefined ? null : perSecond / median(other.perSecond);
      rows.push({ set: name, image, perSecond, clientCores: median(own?.cores ?? []), base, ratio });
    }
  }
} finally {
  for (const balancer of balancers) balancer.kill();
  await Promise.all(running.map((service) => service.end()));
  rmSync(directory, { recursive: true, force: true });
}
process.stdout.write(
  [
    '| what | image | uploads a second | cores taken by the client | ratio to |',
    '|---|---|---|---|---|',
    ...rows.map(
      ({ set, image, perSecond, clientCores, base, ratio }) =>
        `| ${set} | ${image} | ${perSecond.toFixed(0)} | ${clientCores.toFixed(2)} | ` +
        `${ratio === null ? '–' : `${ratio.toFixed(2)} (${base})`} |`,
    ),
  ].join('\n') + '\n',
);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(rows, null, 2)}\n`);
