/**
 * The decoders against the tools themselves: `npm run bench:unpack -- [file]`. xz, bzip2, lz4 and lzop have to be installed.
 * One thread each; both read the packed file and drop what comes out. Then a service in a process of its own gets the packed
 * file a few times at once: the longest block of its event loop, in processor time, is how long health has to wait for it.
 * Ends with status 1 when a target is missed.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Input } from '../src/image/unpack/decoder.ts';
import { DECODERS, type DecodedFormat } from '../src/image/unpack/formats.ts';
import { type Server, startServer } from './process.ts';

const MIB = 1024 * 1024;
const ROUNDS = 3;
const CHUNK_BYTES = 64 * 1024;
const UPLOADS = 3;
const MAX_BLOCK_MS = 50;

interface Case {
  readonly format: DecodedFormat;
  /** At least this part of the speed of the tool. */
  readonly goal: number;
  readonly pack: readonly string[];
  readonly unpack: readonly string[];
}

const CASES: readonly Case[] = [
  { format: 'xz', goal: 0.3, pack: ['xz', '-T1', '-1'], unpack: ['xz', '-dc', '-T1'] },
  {
    format: 'xz',
    goal: 0.3,
    pack: ['xz', '-T1', '--x86', '--lzma2=preset=1', '--check=crc32'],
    unpack: ['xz', '-dc', '-T1'],
  },
  { format: 'lzma', goal: 0.3, pack: ['xz', '--format=lzma', '-1'], unpack: ['xz', '-dc', '--format=lzma'] },
  { format: 'bzip2', goal: 0.3, pack: ['bzip2', '-9'], unpack: ['bzip2', '-dc'] },
  { format: 'lz4', goal: 0.5, pack: ['lz4', '-q', '-9'], unpack: ['lz4', '-dcq'] },
  { format: 'lz4', goal: 0.5, pack: ['lz4', '-q', '-l', '-9'], unpack: ['lz4', '-dcq'] },
  { format: 'lzo', goal: 0.3, pack: ['lzop', '-3'], unpack: ['lzop', '-dcq'] },
];

/** Milliseconds, the least of a few rounds. */
function time(work: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    work();
    least = Math.min(least, performance.now() - started);
  }
  return least;
}

function decode(format: DecodedFormat, packed: Uint8Array): void {
  const input = new Input();
  let at = 0;
  for (const event of DECODERS[format](input, { maxWindowBytes: 128 * MIB, ignoreTrailing: false })) {
    if (event.kind !== 'input') continue;
    if (at < packed.length) input.feed(packed.subarray(at, at + CHUNK_BYTES));
    else input.finish();
    at += CHUNK_BYTES;
  }
}

/** @returns the longest block of the event loop in ms */
async function upload(server: Server, packed: Uint8Array): Promise<number> {
  const post = async (): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${server.port}/kernel`, { method: 'POST', body: packed });
    await answer.text();
    // What was cut out of a program is an image with a fault; anything else is a fault of this benchmark.
    if (answer.status !== 200 && answer.status !== 422) throw new Error(`the service answered ${answer.status}`);
  };
  await post();
  await server.loop();
  await Promise.all(Array.from({ length: UPLOADS }, post));
  return (await server.loop()).blockMs;
}

const given = process.argv[2];
const image = given === undefined ? readFileSync(process.execPath).subarray(0, 24 * MIB) : readFileSync(given);
const directory = mkdtempSync(join(tmpdir(), 'bsdsyms-bench-'));
const watch = new URL('./servers/watch-loop.ts', import.meta.url).href;
const service = await startServer('bsdsyms', { LOG_LEVEL: 'warn' }, ['--import', watch]);
let missed = false;
const mark = (isMet: boolean): string => {
  missed ||= !isMet;
  return isMet ? '' : ' (!)';
};
try {
  process.stdout.write(
    `| packed with | tool | here | of the tool | longest block of the loop, ${UPLOADS} uploads |\n|---|---|---|---|---|\n`,
  );
  for (const { format, goal, pack, unpack } of CASES) {
    const [packer = '', ...packArguments] = pack;
    const packed = spawnSync(packer, [...packArguments, '-c'], {
      input: image,
      maxBuffer: 2 * image.length + MIB,
    }).stdout;
    const file = join(directory, 'packed');
    writeFileSync(file, packed);
    const [tool = '', ...toolArguments] = unpack;
    const toolMs = time(() => {
      spawnSync('sh', ['-c', `exec ${tool} ${toolArguments.join(' ')} <'${file}' >/dev/null`]);
    });
    const ownMs = time(() => decode(format, packed));
    const rate = (ms: number): string => `${(image.length / 1e3 / ms).toFixed(0)} MB/s`;
    const part = toolMs / ownMs;
    const blockMs = await upload(service, packed);
    const speeds = `${rate(toolMs)} | ${rate(ownMs)} | ${part.toFixed(2)}${mark(part >= goal)}`;
    const block = `${blockMs.toFixed(0)} ms${mark(blockMs <= MAX_BLOCK_MS)}`;
    process.stdout.write(`| \`${pack.join(' ')}\` | ${speeds} | ${block} |\n`);
  }
} finally {
  await service.stop();
  rmSync(directory, { recursive: true });
}
process.exitCode = missed ? 1 : 0;
