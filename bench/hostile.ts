/**
 * What hostile images cost, on every route that takes one, at a service in a process of its own.
 *
 *     npm run bench:hostile                     all images, all routes
 *     npm run bench:hostile -- symbols kernel   images and routes whose name contains one of the words
 *
 * For each image and route: the longest block of the event loop, and the processor time of the whole process. Both are
 * processor time, not time on the wall, so that other work on the machine does not count. Prints tables, and the same
 * figures as one line of JSON. Ends with status 1 when a target is missed.
 */
import { request as sendRequest } from 'node:http';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { REQUIREMENTS } from '../src/inspect/check.ts';
import { HOSTILE_IMAGES } from './hostile-images.ts';
import { makeKernel } from './image.ts';
import { startServer } from './process.ts';

const MAX_BLOCK_MS = 50;
/** What a request may cost besides for each MiB of its image or its answer, whichever is more. */
const BASE_MS = 50;
const MS_PER_MIB = 100;
const RUNS = 3;
const WARM_UP_RUNS = 30;
const MIB = 1024 * 1024;
/** Answers are read no further: what comes after is more of the same. */
const MAX_READ_BYTES = 256 * MIB;

interface Route {
  readonly name: string;
  readonly path: string;
  readonly accept?: string;
  readonly digest?: boolean;
  /** For a blob: the image behind a size word. */
  readonly asBlob?: boolean;
}

const repeated = (name: string, valueOf: (index: number) => string): string =>
  Array.from({ length: 100 }, (_, index) => `${name}=${valueOf(index)}`).join('&');

const JSON_TYPE = 'application/json';
const NDJSON_TYPE = 'application/x-ndjson';
const ROUTES: readonly Route[] = [
  { name: 'bsdsyms', path: '/bsdsyms?onBroken=load', digest: true },
  { name: 'bsdsyms, xen-4.6', path: '/bsdsyms?loader=xen-4.6', digest: true },
  { name: 'layout, xen-4.8 and xen-4.7', path: '/layout?onBroken=load&compareWith=xen-4.7' },
  { name: 'layout, xen-4.8 and xen-4.6', path: '/layout?onBroken=load&compareWith=xen-4.6' },
  { name: 'layout, xen-4.6 and libxc-4.6', path: '/layout?loader=xen-4.6&compareWith=libxc-4.6' },
  { name: 'layout, libxc-4.6 and xen-4.8', path: '/layout?loader=libxc-4.6&compareWith=xen-4.8' },
  {
    name: 'picture, xen-4.6 and libxc-4.6',
    path: '/layout?loader=xen-4.6&compareWith=libxc-4.6',
    accept: 'image/svg+xml',
  },
  { name: 'kernel', path: '/kernel' },
  { name: 'image', path: '/image?onBroken=load&symbols=always', digest: true },
  { name: 'image, libxc-4.6', path: '/image?onBroken=load&symbols=always&loader=libxc-4.6' },
  { name: 'image as JSON', path: '/image?onBroken=load&symbols=never', accept: JSON_TYPE },
  { name: 'symbols, all', path: '/symbols', accept: NDJSON_TYPE },
  { name: 'symbols, prefix', path: '/symbols?prefix=zz' },
  { name: 'symbols, 100 names', path: `/symbols?${repeated('name', (index) => (index === 0 ? 'n' : `n${index}`))}` },
  { name: 'symbols, 100 addresses', path: `/symbols?${repeated('address', (index) => String(index * 4096))}` },
  { name: 'verify', path: '/verify', asBlob: true },
  { name: 'check', path: '/check?onBroken=load' },
  {
    name: 'check, xen-4.6, all requirements',
    path: `/check?onBroken=load&loader=xen-4.6&${REQUIREMENTS.map((name) => `require=${name}`).join('&')}`,
  },
];

interface Figures {
  readonly status: number;
  readonly answerBytes: number;
  readonly blockMs: number;
  readonly cpuMs: number;
}

const { positionals } = parseArgs({ allowPositionals: true });
const isChosen = (names: readonly string[]): boolean =>
  positionals.length === 0 || positionals.some((word) => names.some((name) => name.includes(word)));

const watch = new URL('./servers/watch-loop.ts', import.meta.url).href;
const server = await startServer('bsdsyms', { LOG_LEVEL: 'warn' }, ['--import', watch]);

function post(route: Route, body: Buffer): Promise<{ status: number; answerBytes: number }> {
  return new Promise((resolve, reject) => {
    const request = sendRequest({
      host: '127.0.0.1',
      port: server.port,
      path: route.path,
      method: 'POST',
      agent: false,
      headers: {
        'content-length': body.length,
        ...(route.accept === undefined ? {} : { accept: route.accept }),
        ...(route.digest === true ? { 'want-repr-digest': 'sha-256=1' } : {}),
      },
    });
    request.on('error', reject);
    request.on('response', (response) => {
      let answerBytes = 0;
      const done = (): void => resolve({ status: response.statusCode ?? 0, answerBytes });
      response.on('data', (chunk: Buffer) => {
        answerBytes += chunk.length;
        if (answerBytes >= MAX_READ_BYTES) response.destroy();
      });
      response.on('close', done);
      response.on('error', done);
    });
    request.end(body);
  });
}

async function measure(route: Route, image: Buffer): Promise<Figures> {
  const body = route.asBlob === true ? Buffer.concat([Buffer.from([4, 0, 0, 0]), image]) : image;
  const runs: Figures[] = [];
  for (let run = 0; run < RUNS; run++) {
    await server.loop();
    const answer = await post(route, body);
    runs.push({ ...answer, ...(await server.loop()) });
  }
  const median = (of: (figures: Figures) => number): number => runs.map(of).sort((a, b) => a - b)[RUNS >> 1] ?? 0;
  const { status = 0, answerBytes = 0 } = runs[0] ?? {};
  return { status, answerBytes, blockMs: median(({ blockMs }) => blockMs), cpuMs: median(({ cpuMs }) => cpuMs) };
}

const write = (text: string): unknown => process.stdout.write(`${text}\n`);
const kernel = makeKernel(100 * 1024, 500);
for (const route of ROUTES) for (let run = 0; run < WARM_UP_RUNS; run++) await post(route, kernel);

interface Row extends Figures {
  readonly image: string;
  readonly route: string;
  readonly imageBytes: number;
  readonly coding: 'raw' | 'gzip';
  /** Processor time against what the image, or an answer that is larger, allows. */
  readonly share: number;
}

const rows: Row[] = [];
for (const { name: image, make } of HOSTILE_IMAGES) {
  const routes = ROUTES.filter(({ name }) => isChosen([image, name]));
  if (routes.length === 0) continue;
  const raw = make();
  const zipped = gzipSync(raw, { level: 1 });
  write(`\n${image}, ${raw.length} bytes, ${zipped.length} as gzip`);
  for (const route of routes) {
    for (const coding of ['raw', 'gzip'] as const) {
      // A blob is taken as it is.
      if (coding === 'gzip' && route.asBlob === true) continue;
      const figures = await measure(route, coding === 'raw' ? raw : zipped);
      const mib = Math.max(raw.length, Math.min(figures.answerBytes, MAX_READ_BYTES)) / MIB;
      const share = figures.cpuMs / (BASE_MS + MS_PER_MIB * mib);
      rows.push({ image, route: route.name, imageBytes: raw.length, coding, share, ...figures });
      const { status, answerBytes, blockMs, cpuMs } = figures;
      write(
        `  ${route.name.padEnd(32)} ${coding.padEnd(4)} ${status} ${String(answerBytes).padStart(10)} B  ` +
          `block ${blockMs.toFixed(1).padStart(6)} ms  cpu ${cpuMs.toFixed(0).padStart(6)} ms  ${(100 * share).toFixed(0).padStart(4)} %` +
          (blockMs > MAX_BLOCK_MS || share > 1 ? '  <<<' : ''),
      );
    }
  }
}
await server.stop();

write('\nLongest block of the event loop in ms, raw and gzip, whichever is longer\n');
const images = [...new Set(rows.map(({ image }) => image))];
const columns = [...new Set(rows.map(({ route }) => route))];
write(`| image | ${columns.join(' | ')} |`);
write(`|---|${columns.map(() => '---:').join('|')}|`);
for (const image of images) {
  const cells = columns.map((column) => {
    const found = rows.filter((row) => row.image === image && row.route === column);
    return found.length === 0 ? '' : Math.max(...found.map(({ blockMs }) => blockMs)).toFixed(0);
  });
  write(`| ${image} | ${cells.join(' | ')} |`);
}
const worstBlock = rows.reduce((worst, row) => (row.blockMs > worst.blockMs ? row : worst));
const worstShare = rows.reduce((worst, row) => (row.share > worst.share ? row : worst));
write(
  `\nWorst block: ${worstBlock.blockMs.toFixed(1)} ms (${worstBlock.image}, ${worstBlock.route}, ${worstBlock.coding})`,
);
write(
  `Worst processor time: ${worstShare.cpuMs.toFixed(0)} ms, ${(100 * worstShare.share).toFixed(0)} % of ${BASE_MS} ms and ` +
    `${MS_PER_MIB} ms for each MiB (${worstShare.image}, ${worstShare.route}, ${worstShare.coding})`,
);
write(JSON.stringify({ rows }));
process.exitCode = worstBlock.blockMs <= MAX_BLOCK_MS && worstShare.share <= 1 ? 0 : 1;
