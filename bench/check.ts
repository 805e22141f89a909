/**
 * What a verdict costs, against the routes that it is composed of: processor time of the service for one request.
 *
 *     npm run bench:check               kernels made up here
 *     npm run bench:check -- VMLINUX    this file as well
 *
 * All routes get the same image, in turns; `POST /verify` gets its blob. Prints a table, and the same figures as one line of JSON.
 * Ends with status 1 when `/check` costs more than the dearest of the others, by more than equal measurements differ.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { REQUIREMENTS } from '../src/inspect/check.ts';
import { ASKING_NOTES, kernel, xenString } from '../test/support/elf-builder.ts';
import { post } from '../test/support/http.ts';
import { startServer } from './process.ts';
import { median } from './wrk.ts';

const WARM_UP_ROUNDS = 20;
const ROUNDS = 25;
/** Several small images are sent for one figure, as the clock of processor time is coarse. */
const BYTES_PER_FIGURE = 8 * 1024 * 1024;
/** What the medians of two equal measurements differ by. */
const TOLERANCE = 1.1;

const SINGLE = ['/bsdsyms', '/layout', '/kernel', '/image', '/verify'];
const CHECKS = ['/check', `/check?${REQUIREMENTS.map((name) => `require=${name}`).join('&')}`];

const notes = [...ASKING_NOTES, xenString(6, 'NetBSD')];
const made = (symbols: number, codeBytes: number): Uint8Array =>
  kernel({ notes, symbols, text: { data: new Uint8Array(codeBytes) }, memsz: codeBytes + 0x1000 }).bytes;
const images: (readonly [name: string, bytes: Uint8Array])[] = [
  ['500 symbols, 100 KB of code', made(500, 100_000)],
  ['12,000 symbols, 2 MB of code', made(12_000, 2_000_000)],
  ['100,000 symbols, 20 MB of code', made(100_000, 20_000_000)],
  ...parseArgs({ allowPositionals: true }).positionals.map((path) => [basename(path), readFileSync(path)] as const),
];

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map((value) => [Math.random(), value] as const)
    .sort(([a], [b]) => a - b)
    .map(([, value]) => value);
}

const watch = new URL('./servers/watch-loop.ts', import.meta.url).href;
const server = await startServer('bsdsyms', { LOG_LEVEL: 'warn' }, ['--import', watch]);

async function measure(name: string, image: Uint8Array): Promise<{ image: string; dearest: string; ratios: number[] }> {
  const blob = (await post(server, '/bsdsyms', image)).body;
  const times = new Map([...SINGLE, ...CHECKS].map((path) => [path, [] as number[]]));
  const requests = Math.max(1, Math.floor(BYTES_PER_FIGURE / image.length));
  for (let round = image.length > BYTES_PER_FIGURE ? 0 : -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    // In another order each time: the collector comes for what the request before has left.
    for (const [path, values] of shuffled([...times])) {
      await server.loop();
      for (let sent = 0; sent < requests; sent++) await post(server, path, path === '/verify' ? blob : image);
      const { cpuMs } = await server.loop();
      if (round >= 0) values.push(cpuMs / requests);
    }
  }
  const medians = new Map(Array.from(times, ([path, values]) => [path, median(values)]));
  const of = (path: string): number => medians.get(path) ?? Number.NaN;
  const dearest = SINGLE.reduce((most, path) => (of(path) > of(most) ? path : most));
  const cells = [...SINGLE, ...CHECKS].map((path) => of(path).toFixed(2));
  const ratios = CHECKS.map((path) => of(path) / of(dearest));
  process.stdout.write(`| ${name} | ${cells.join(' | ')} | ${ratios.map((ratio) => ratio.toFixed(2)).join(', ')} |\n`);
  return { image: name, dearest, ratios };
}

process.stdout.write('Processor time of one request in ms\n\n');
process.stdout.write(`| image | ${SINGLE.join(' | ')} | /check | /check, all requirements | against the dearest |\n`);
process.stdout.write(`|---|${'---:|'.repeat(SINGLE.length + 3)}\n`);
const rows: { image: string; dearest: string; ratios: number[] }[] = [];
for (const [name, image] of images) rows.push(await measure(name, image));
await server.stop();
process.stdout.write(`\n${JSON.stringify({ rows })}\n`);
process.exitCode = rows.every(({ ratios: [byDefault = Number.NaN] }) => byDefault <= TOLERANCE) ? 0 : 1;
