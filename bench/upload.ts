/**
 * Uploads against baselines measured in the same run: throughput, requests per second, memory, latency.
 *
 *   node bench/upload.ts [--rounds N] [--seconds N] [--json FILE] [small|latency|throughput|memory…]
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Connection, load, multipartRequest, type Request, rawRequest, timeRequest } from './client.ts';
import { makeKernel, nameOfSymbol } from './image.ts';
import { runWriter, type Server, startServer } from './process.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);

interface Row {
  readonly what: string;
  readonly measured: number;
  readonly unit: string;
  readonly target: string;
  readonly met: boolean;
  readonly figures: Readonly<Record<string, number>>;
}
const rows: Row[] = [];
const round = (value: number): number => Math.round(value * 1000) / 1000;

function report(
  what: string,
  measured: number,
  unit: string,
  target: string,
  met: boolean,
  figures: Record<string, number>,
): void {
  const rounded = Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, round(value)]));
  rows.push({ what, measured: round(measured), unit, target, met, figures: rounded });
  process.stderr.write(`${what}: ${round(measured)} ${unit} (target ${target}) ${JSON.stringify(rounded)}\n`);
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

/** Runs all in turn, several rounds after a warm-up. @returns the median seconds of each */
async function interleave<Name extends string>(
  runs: Record<Name, () => Promise<number>>,
): Promise<Record<Name, number>> {
  const names = Object.keys(runs) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let turn = 0; turn <= rounds; turn++) {
    for (const name of names) {
      const time = await runs[name]();
      if (turn > 0) times[name].push(time);
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(times[name])])) as Record<Name, number>;
}

const spoolDir = await mkdtemp(join(tmpdir(), 'bsdsyms-bench-'));
const ROOMY = { BSDSYMS_SPOOL_DIR: spoolDir, BSDSYMS_MEMORY_BUDGET_BYTES: String(4 * GiB) };
const TIGHT = {
  BSDSYMS_SPOOL_DIR: spoolDir,
  BSDSYMS_MEMORY_BUDGET_BYTES: String(64 * MiB),
  BSDSYMS_SPOOL_BUDGET_BYTES: String(16 * GiB),
};

const send = (server: Server, request: Request) => () => timeRequest(server.port, request);

/** Who writes first pays for pages that whoever comes next finds ready, so both find them ready. */
const afterWriting = (bytes: number, run: () => Promise<number>) => async () => {
  await runWriter(spoolDir, bytes);
  return run();
};

async function throughput(): Promise<void> {
  const servers = {
    drain: await startServer('drain'),
    fastify: await startServer('fastify-drain'),
    obvious: await startServer('obvious'),
    held: await startServer('bsdsyms', ROOMY),
    spooled: await startServer('bsdsyms', TIGHT),
  };
  for (const [name, size] of [
    ['256 MiB', 256 * MiB],
    ['590 MB', 590_000_000],
  ] as const) {
    const image = makeKernel(size, 119_000);
    const raw = rawRequest(image);
    const form = multipartRequest(image);
    const time = await interleave({
      a: send(servers.drain, raw),
      heldRaw: send(servers.held, raw),
      b: send(servers.fastify, form),
      heldForm: send(servers.held, form),
      cRaw: send(servers.obvious, raw),
      cForm: send(servers.obvious, form),
      spooled: afterWriting(size, send(servers.spooled, raw)),
      e: afterWriting(size, () => runWriter(spoolDir, size)),
    });
    const ratio = (what: string, base: number, own: number, target: number, figures: Record<string, number>): void =>
      report(`${name}: ${what}`, base / own, 'x', `>= ${target}`, base / own >= target, figures);
    ratio('raw, held, against draining (a)', time.a, time.heldRaw, 0.9, { baseline: time.a, own: time.heldRaw });
    ratio('raw, spooled, against the slower of (a) and (e)', Math.max(time.a, time.e), time.spooled, 0.6, {
      a: time.a,
      e: time.e,
      own: time.spooled,
    });
    ratio('multipart, held, against (b)', time.b, time.heldForm, 0.9, { baseline: time.b, own: time.heldForm });
    ratio('raw, held, against the obvious (c)', time.cRaw, time.heldRaw, 2, { baseline: time.cRaw, own: time.heldRaw });
    ratio('multipart, held, against the obvious (c)', time.cForm, time.heldForm, 2, {
      baseline: time.cForm,
      own: time.heldForm,
    });
  }
  await Promise.all(Object.values(servers).map((server) => server.stop()));
}

/** Memory over idle, in MiB, at the peak of as many such uploads at once. */
async function peakMemory(
  name: string,
  env: Record<string, string>,
  request: Request,
  uploads: number,
): Promise<number> {
  const server = await startServer(name, env);
  // One small request first: what is loaded on first use is not the upload's.
  await timeRequest(server.port, rawRequest(makeKernel(100_000, 100)));
  const idle = await server.memory(true);
  server.resetPeak();
  await Promise.all(Array.from({ length: uploads }, () => timeRequest(server.port, request)));
  const over = server.peak() - idle;
  await server.stop();
  return over;
}

async function memory(): Promise<void> {
  const kernel = makeKernel(590_000_000, 119_000);
  const raw = rawRequest(kernel);
  for (const uploads of [1, 8]) {
    const a: number[] = [];
    const own: number[] = [];
    for (let turn = 0; turn < 3; turn++) {
      a.push(await peakMemory('drain', {}, raw, uploads));
      own.push(await peakMemory('bsdsyms', TIGHT, raw, uploads));
    }
    const allowed = 64 + median(a) + 32;
    report(
      `590 MB x ${uploads}, spooled: peak memory over idle`,
      median(own),
      'MiB',
      `<= ${round(allowed)}`,
      median(own) <= allowed,
      { a: median(a), own: median(own) },
    );
  }
  const flat = rawRequest(kernel, '/image?symbols=always');
  const a = await peakMemory('drain', {}, flat, 1);
  const own = await peakMemory('bsdsyms', TIGHT, flat, 1);
  report('590 MB, POST /image, spooled: peak memory over idle', own, 'MiB', '<= 64', own <= 64, { a, own });

  const server = await startServer('bsdsyms', ROOMY);
  await timeRequest(server.port, rawRequest(makeKernel(100_000, 100)));
  const idle = await server.memory(true);
  const large = rawRequest(makeKernel(256 * MiB, 119_000));
  for (let upload = 0; upload < 50; upload++) await timeRequest(server.port, large);
  // Memory waits a while for the next image before it is given back.
  await new Promise((resolve) => setTimeout(resolve, 6000));
  const after = await server.memory(true);
  report(
    'memory after 50 uploads of 256 MiB, held, collected, over idle',
    after - idle,
    'MiB',
    '<= 32',
    after - idle <= 32,
    { idle, after },
  );
  await server.stop();
}

async function smallImages(): Promise<void> {
  const own = await startServer('bsdsyms', ROOMY);
  const bare = await startServer('fastify-drain');
  for (const [name, size, symbols] of [
    ['4 KB', 4096, 60],
    ['100 KB', 100_000, 1500],
  ] as const) {
    const image = makeKernel(size, symbols);
    const probe = await Connection.open(own.port);
    const { bodyBytes } = await probe.send(multipartRequest(image));
    probe.close();
    const results: Record<'own' | 'bare', { perSecond: number; p50: number; p99: number }[]> = { own: [], bare: [] };
    for (let turn = 0; turn <= rounds; turn++) {
      const b = await load(bare.port, multipartRequest(image, `/bsdsyms?answer=${bodyBytes}`), 16, seconds);
      const o = await load(own.port, multipartRequest(image), 16, seconds);
      if (turn > 0) {
        results.bare.push(b);
        results.own.push(o);
      }
    }
    const mid = (of: 'own' | 'bare', what: 'perSecond' | 'p50' | 'p99'): number =>
      median(results[of].map((result) => result[what]));
    const ratio = mid('own', 'perSecond') / mid('bare', 'perSecond');
    report(`${name} images, requests per second against a bare Fastify route`, ratio, 'x', '>= 0.85', ratio >= 0.85, {
      own: mid('own', 'perSecond'),
      bare: mid('bare', 'perSecond'),
      ownP50: mid('own', 'p50'),
      ownP99: mid('own', 'p99'),
      bareP50: mid('bare', 'p50'),
      bareP99: mid('bare', 'p99'),
    });
  }
  await Promise.all([own.stop(), bare.stop()]);
}

/**
 * The last byte is held back until all others have certainly been read.
 *
 * @returns ms from the last byte received to the first byte sent
 */
async function timeFirstByte(server: Server, { head, body }: Request): Promise<number> {
  const connection = await Connection.open(server.port);
  const answered = connection.answer();
  await connection.write(head);
  for (let at = 0; at < body.length - 1; at += MiB) {
    await connection.write(body.subarray(at, Math.min(at + MiB, body.length - 1)));
  }
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const sent = performance.now();
  let time = Number.NaN;
  connection.onFirstByte = () => {
    time = performance.now() - sent;
  };
  await connection.write(body.subarray(body.length - 1));
  await answered;
  connection.close();
  return time;
}

async function firstByte(): Promise<void> {
  const symbols = 119_000;
  const kernel = makeKernel(590_000_000, symbols);
  for (const [name, env] of [
    ['held', ROOMY],
    ['spooled', TIGHT],
  ] as const) {
    const server = await startServer('bsdsyms', env);
    for (const [path, target] of [
      ['/bsdsyms', 10],
      [`/symbols?name=${nameOfSymbol(symbols / 2)}`, 30],
    ] as const) {
      const request = rawRequest(kernel, path);
      const first = await timeFirstByte(server, request);
      const times: number[] = [];
      for (let turn = 0; turn < rounds; turn++) times.push(await timeFirstByte(server, request));
      const time = median(times);
      const what = `590 MB, ${name}, POST ${path.split('?')[0]}: last byte received to first byte sent`;
      report(what, time, 'ms', `<= ${target}`, time <= target, { first, max: Math.max(...times) });
    }
    await server.stop();
  }
}

const parts = { small: smallImages, latency: firstByte, throughput, memory };
try {
  const unknown = positionals.filter((name) => !Object.hasOwn(parts, name));
  if (unknown.length > 0) throw new Error(`there is no ${unknown.join(', ')}, only ${Object.keys(parts).join(', ')}`);
  for (const [name, measure] of Object.entries(parts)) {
    if (positionals.length === 0 || positionals.includes(name)) await measure();
  }
} finally {
  await rm(spoolDir, { recursive: true, force: true });
}
process.stdout.write(
  [
    '| what | measured | target | met |',
    '|---|---|---|---|',
    ...rows.map((row) => `| ${row.what} | ${row.measured} ${row.unit} | ${row.target} | ${row.met ? 'yes' : 'no'} |`),
  ].join('\n') + '\n',
);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(rows, null, 2)}\n`);
