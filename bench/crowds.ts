/**
 * What many hostile clients do at once, to a service in a process of its own.
 *
 *     npm run bench:crowds
 *
 * Floods: connections that each send a read full of pipelined requests, or one request, at the same moment; the longest
 * block of the event loop, in processor time, against what one connection with such a read costs a bare `node:http`, as Node
 * parses a read without a stop. Windows: 16 uploads of each coding that ask for as much memory as their
 * format can and then stop; the peak of resident memory over idle. Needs xz, lz4, lzop, bzip2 and zstd. Ends with status 1
 * when a target is missed.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { type Server, startServer } from './process.ts';

const MIB = 1024 * 1024;
/** Against one read at a bare server. */
const MAX_BLOCK_RATIO = 2;
const BUDGET_BYTES = 256 * MIB;
const MAX_OVER_BUDGET_BYTES = 64 * MIB;
const READ_BYTES = 64 * 1024;
const UPLOADS = 16;
const ROUNDS = 5;
/** How long the uploads hold what they were given. */
const HOLD_MS = 1500;
/** Memory for images goes back to the system five seconds after the last of them. */
const IDLE_MS = 6000;

const write = (text: string): unknown => process.stdout.write(`${text}\n`);
let missed = false;
const verdict = (isMet: boolean): string => {
  missed ||= !isMet;
  return isMet ? '' : '  <<<';
};

async function openAll(port: number, count: number): Promise<Socket[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connect(port, '127.0.0.1');
      // The service may close any of them.
      socket.on('error', () => {});
      socket.resume();
      await once(socket, 'connect');
      return socket;
    }),
  );
}

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
const fill = (request: string): string => request.repeat(Math.floor(READ_BYTES / request.length));

interface Flood {
  readonly name: string;
  readonly connections: number;
  readonly bytes: string;
}

const FLOODS: readonly Flood[] = [
  { name: '30 connections, a read of GET /healthz each', connections: 30, bytes: fill(get('/healthz')) },
  { name: '30 connections, a read of GET /metrics each', connections: 30, bytes: fill(get('/metrics')) },
  { name: '30 connections, a read of GET /nowhere each', connections: 30, bytes: fill(get('/nowhere')) },
  { name: '30 connections, a read of GET /openapi.json each', connections: 30, bytes: fill(get('/openapi.json')) },
  { name: '1000 connections, one GET /metrics each', connections: 1000, bytes: get('/metrics') },
  { name: '1000 connections, a read of GET /healthz each', connections: 1000, bytes: fill(get('/healthz')) },
];

/** @returns the longest block of the event loop in ms, a median */
async function flood(server: Server, { connections, bytes }: Omit<Flood, 'name'>): Promise<number> {
  const blocks: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const sockets = await openAll(server.port, connections);
    await server.loop();
    for (const socket of sockets) socket.write(bytes);
    await sleep(HOLD_MS);
    // Answered when the flood has let it through.
    await (await fetch(`http://127.0.0.1:${server.port}/healthz`)).text();
    blocks.push((await server.loop()).blockMs);
    for (const socket of sockets) socket.destroy();
  }
  return blocks.sort((one, other) => one - other)[ROUNDS >> 1] ?? 0;
}

async function measureFloods(): Promise<void> {
  const watch = new URL('./servers/watch-loop.ts', import.meta.url).href;
  const start = (name: string): Promise<Server> => startServer(name, { LOG_LEVEL: 'warn' }, ['--import', watch]);
  const bare = await start('drain');
  const baseMs = await flood(bare, { connections: 1, bytes: fill(get('/healthz')) });
  await bare.stop();
  const server = await start('bsdsyms');
  // So that what is measured is compiled.
  for (let round = 0; round < 200; round++) await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  write('| flood | longest block, ms | against one read at node:http |\n|---|---:|---:|');
  write(`| node:http, 1 connection, a read of GET /healthz | ${baseMs.toFixed(1)} | 1 |`);
  for (const { name, ...one } of FLOODS) {
    const ms = await flood(server, one);
    const ratio = ms / baseMs;
    write(`| ${name} | ${ms.toFixed(1)} | ${ratio.toFixed(2)}${verdict(ratio <= MAX_BLOCK_RATIO)} |`);
  }
  await server.stop();
}

/** What a tool makes of bytes that hardly compress, cut off in the middle. */
function packWith(command: string, ...options: readonly string[]): Buffer {
  const { status, stdout, stderr } = spawnSync(command, options, { input: CONTENT, maxBuffer: 64 * MIB });
  if (status !== 0) throw new Error(`${command}: ${stderr.toString()}`);
  return stdout.subarray(0, stdout.length >> 1);
}

/** An ELF identification, and what hardly compresses. */
const CONTENT = Buffer.concat([Buffer.from('7f454c4602010100', 'hex'), randomBytes(2 * MIB)]);
const half = (bytes: Buffer): Buffer => bytes.subarray(0, bytes.length >> 1);
const WIDE_ZSTD = { params: { [constants.ZSTD_c_windowLog]: 27, [constants.ZSTD_c_compressionLevel]: 1 } };
const WIDE_BROTLI = { params: { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_QUALITY]: 1 } };

interface Upload {
  readonly name: string;
  readonly coding?: string;
  readonly bytes: Buffer;
}

const makeUploads = (): Upload[] => [
  { name: 'gzip', bytes: half(gzipSync(CONTENT)) },
  { name: 'zstd, window 128 MiB', bytes: half(zstdCompressSync(CONTENT, WIDE_ZSTD)) },
  { name: 'xz, dictionary 128 MiB', bytes: packWith('xz', '-c', '--lzma2=preset=0,dict=128MiB') },
  { name: 'lzma, dictionary 128 MiB', bytes: packWith('xz', '-c', '--format=lzma', '--lzma1=preset=0,dict=128MiB') },
  { name: 'bzip2, blocks of 900 KB', bytes: packWith('bzip2', '-c9') },
  { name: 'lz4, blocks of 4 MB', bytes: packWith('lz4', '-c', '-B7') },
  { name: 'lz4, legacy', bytes: packWith('lz4', '-c', '-l') },
  { name: 'lzop', bytes: packWith('lzop', '-c') },
  { name: 'Content-Encoding: gzip', coding: 'gzip', bytes: half(gzipSync(CONTENT)) },
  { name: 'Content-Encoding: deflate', coding: 'deflate', bytes: half(deflateSync(CONTENT)) },
  { name: 'Content-Encoding: br', coding: 'br', bytes: half(brotliCompressSync(CONTENT, WIDE_BROTLI)) },
  { name: 'Content-Encoding: zstd', coding: 'zstd', bytes: half(zstdCompressSync(CONTENT)) },
  {
    name: 'Content-Encoding: zstd of zstd, window 128 MiB',
    coding: 'zstd',
    bytes: half(zstdCompressSync(zstdCompressSync(CONTENT, WIDE_ZSTD))),
  },
  {
    name: 'Content-Encoding: zstd of xz, dictionary 128 MiB',
    coding: 'zstd',
    bytes: half(zstdCompressSync(packWith('xz', '-c', '--lzma2=preset=0,dict=128MiB'))),
  },
];

async function measureWindows(): Promise<void> {
  const server = await startServer('bsdsyms', {
    LOG_LEVEL: 'error',
    BSDSYMS_MEMORY_BUDGET_BYTES: String(BUDGET_BYTES),
    BSDSYMS_MAX_UPLOADS: String(UPLOADS),
  });
  write(`\n| ${UPLOADS} uploads that stop halfway | peak over idle, MiB |\n|---|---:|`);
  for (const { name, coding, bytes } of makeUploads()) {
    await sleep(IDLE_MS);
    const idle = await server.memory(true);
    server.resetPeak();
    const sockets = await openAll(server.port, UPLOADS);
    const fields = [
      'POST /kernel HTTP/1.1',
      'Host: x',
      `Content-Length: ${2 * bytes.length}`,
      ...(coding === undefined ? [] : [`Content-Encoding: ${coding}`]),
    ];
    for (const socket of sockets) socket.write(Buffer.concat([Buffer.from(`${fields.join('\r\n')}\r\n\r\n`), bytes]));
    await sleep(HOLD_MS);
    const over = server.peak() - idle;
    for (const socket of sockets) socket.destroy();
    write(`| ${name} | ${over.toFixed(0)}${verdict(over * MIB <= BUDGET_BYTES + MAX_OVER_BUDGET_BYTES)} |`);
  }
  await server.stop();
}

await measureFloods();
await measureWindows();
process.exitCode = missed ? 1 : 0;
