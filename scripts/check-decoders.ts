/**
 * Holds the decoders of src/image/unpack to the real tools: xz, bzip2, lz4 and lzop have to be installed.
 *
 *   npm run test:tools [-- --mutations N] [--megabytes N] [--huge N] [--seed N] [--record FILE]
 *
 * Every way in which the tools compress has to come back byte by byte, split at random; of files with `--huge` megabytes, one
 * way for each format. Damaged and cut files have to end with what the tool makes of them, within a limit. `--record` writes
 * small files of the tools as test vectors.
 */
import { spawnSync } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { DecodeError, Input } from '../src/image/unpack/decoder.ts';
import { DECODERS, type DecodedFormat } from '../src/image/unpack/formats.ts';

const { values } = parseArgs({
  options: {
    mutations: { type: 'string', default: '2000' },
    megabytes: { type: 'string', default: '1' },
    huge: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    record: { type: 'string' },
  },
});

const MIB = 1024 * 1024;
/** Output beyond this is a bomb, or a fault. */
const LIMIT_BYTES = 256 * MIB;

let state = Number(values.seed) >>> 0 || 1;
/** xorshift32: a whole number below `limit`. */
function random(limit: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  state >>>= 0;
  return state % limit;
}

const noise = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, () => random(256)));
/** Much noise, at once. */
const hugeNoise = (bytes: number): Buffer =>
  createCipheriv('aes-128-ctr', noise(16), noise(16)).update(Buffer.alloc(bytes));

/** Words, tables with counters, code, zeros and noise, as a kernel has them. */
function structured(bytes: number): Buffer {
  const program = readFileSync(process.execPath);
  const parts: Buffer[] = [];
  let length = 0;
  while (length < bytes) {
    const size = 1 + random(Math.min(64 * 1024, bytes));
    const kind = random(5);
    const part =
      kind === 0
        ? Buffer.from(Array.from({ length: size >>> 4 }, (_, index) => `symbol_${index % 97}\0`).join(''))
        : kind === 1
          ? program.subarray(random(program.length - size)).subarray(0, size)
          : kind === 2
            ? Buffer.alloc(size, random(3))
            : kind === 3
              ? Buffer.from(Float64Array.from({ length: size >>> 3 }, (_, index) => index).buffer)
              : noise(size >>> 4);
    parts.push(part);
    length += part.length;
  }
  return Buffer.concat(parts).subarray(0, bytes);
}

/** The first bytes, or the last one, of what filters take for jumps and calls. */
const JUMPS = [
  0xe8, 0xe9, 0xeb, 0x94, 0x97, 0x90, 0xb0, 0x48, 0x4b, 0x40, 0x7f, 0xf0, 0xf8, 0xef, 0x17, 0x10, 0x00, 0xff,
];
/** Noise in which every filter finds much to do. */
function jumps(bytes: number): Buffer {
  const data = noise(bytes);
  for (let at = 0; at < bytes; at += 1 + random(4)) data[at] = JUMPS[random(JUMPS.length)] ?? 0;
  return data;
}

/** One way to compress. */
interface Way {
  readonly format: DecodedFormat;
  readonly command: readonly string[];
}

const ways: Way[] = [];
const add = (format: DecodedFormat, ...command: string[]): void => void ways.push({ format, command });
for (let level = 0; level <= 9; level++) {
  add('xz', 'xz', `-${level}`, '-T1');
  add('lzma', 'xz', '--format=lzma', `-${level}`);
}
for (const check of ['none', 'crc32', 'crc64', 'sha256']) add('xz', 'xz', '-1', `--check=${check}`);
// Since xz 5.6.
const hasRiscv = spawnSync('xz', ['-c', '--riscv', '--lzma2'], { input: '' }).status === 0;
for (const filter of ['x86', 'powerpc', 'ia64', 'arm', 'armthumb', 'arm64', 'sparc', ...(hasRiscv ? ['riscv'] : [])]) {
  add('xz', 'xz', `--${filter}`, '--lzma2=preset=1');
  add('xz', 'xz', `--${filter}=start=4096`, '--lzma2=preset=1');
}
add('xz', 'xz', '--delta=dist=4', '--lzma2=preset=1');
add('xz', 'xz', '--x86', '--delta=dist=256', '--lzma2=preset=1');
add('xz', 'xz', '-1', '-T1', '--block-size=10000');
add('xz', 'xz', '-1', '-T2', '--block-size=30000');
add('xz', 'xz', '--lzma2=preset=6,lc=0,lp=2,pb=4');
add('xz', 'xz', '--lzma2=preset=6,lc=4,lp=0,pb=0,dict=4KiB');
add('xz', 'xz', '--x86', '--lzma2=dict=128MiB');
add('lzma', 'xz', '--format=lzma', '--lzma1=preset=6,lc=1,lp=3,pb=1,dict=4KiB');
for (let level = 1; level <= 9; level++) {
  add('bzip2', 'bzip2', `-${level}`);
  add('lzo', 'lzop', `-${level}`);
}
for (const check of ['--checksum', '--crc32', '-F']) add('lzo', 'lzop', check);
for (const level of ['-1', '-5', '-9', '-12', '--fast=5']) {
  add('lz4', 'lz4', '-q', level);
  add('lz4', 'lz4', '-q', '-l', ...(level === '--fast=5' ? [] : [level]));
}
for (const block of ['-B4', '-B5', '-B6', '-B7']) {
  add('lz4', 'lz4', '-q', block, '-BD');
  add('lz4', 'lz4', '-q', block, '-BX', '--content-size');
}
add('lz4', 'lz4', '-q', '--no-frame-crc');

const UNPACK: Readonly<Record<DecodedFormat, readonly string[]>> = {
  xz: ['xz', '-dc'],
  lzma: ['xz', '-dc', '--format=lzma'],
  bzip2: ['bzip2', '-dc'],
  lz4: ['lz4', '-dcq'],
  lzo: ['lzop', '-dcq'],
};

function run(
  [name = '', ...args]: readonly string[],
  input: Uint8Array,
): { readonly ok: boolean; readonly bytes: Buffer } {
  const { status, stdout, error } = spawnSync(name, args, { input, maxBuffer: 2 * LIMIT_BYTES });
  if (error !== undefined && 'code' in error && error.code === 'ENOENT') throw new Error(`${name} is not installed`);
  return { ok: status === 0, bytes: stdout };
}

const compress = ({ command }: Way, bytes: Uint8Array): Buffer => {
  const { ok, bytes: packed } = run([...command, '-c'], bytes);
  if (!ok) throw new Error(`${command.join(' ')} failed`);
  return packed;
};

/** @throws DecodeError */
function unpack(format: DecodedFormat, packed: Uint8Array, splits: () => number): Buffer {
  const pieces: Buffer[] = [];
  unpackInto(format, packed, splits, (piece) => void pieces.push(Buffer.from(piece)));
  return Buffer.concat(pieces);
}

/** Whether a file unpacks to these bytes. */
function unpacksTo(format: DecodedFormat, packed: Uint8Array, splits: () => number, bytes: Buffer): string {
  let at = 0;
  let isSame = true;
  try {
    unpackInto(format, packed, splits, (piece) => {
      isSame &&= bytes.subarray(at, at + piece.length).equals(piece);
      at += piece.length;
    });
  } catch (error) {
    return String(error);
  }
  return isSame && at === bytes.length ? 'right' : 'other bytes';
}

/** @throws DecodeError */
function unpackInto(
  format: DecodedFormat,
  packed: Uint8Array,
  splits: () => number,
  take: (piece: Uint8Array) => void,
): void {
  const input = new Input();
  let at = 0;
  let length = 0;
  for (const event of DECODERS[format](input, { maxWindowBytes: 128 * MIB, ignoreTrailing: false })) {
    if (event.kind === 'input') {
      const end = Math.min(packed.length, at + splits());
      // A copy, whose end is the end of the memory: reading beyond it would show.
      if (at < packed.length) input.feed(packed.slice(at, end));
      else input.finish();
      at = end;
    } else if (event.kind === 'piece') {
      length += event.bytes.length;
      if (length > LIMIT_BYTES) throw new Error('more came out than was allowed');
      take(event.bytes);
    }
  }
}

const kinds: [string, Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['one byte', Buffer.from('x')],
  ['noise', noise(100_000)],
  ['zeros', Buffer.alloc(300_000)],
  ['jumps', jumps(300_000)],
  ['structured', structured(400_000)],
];
const large = structured(Number(values.megabytes) * MIB);

let failures = 0;
let checked = 0;
function expectThat(what: string, isRight: boolean): void {
  checked += 1;
  if (isRight) return;
  failures += 1;
  process.stderr.write(`${what}\n`);
}

for (const way of ways) {
  for (const [name, bytes] of [...kinds, ['large', large] as const]) {
    const packed = compress(way, bytes);
    const splits = name === 'large' ? () => 1 + random(200_000) : () => 1 + random(3000);
    const found = unpacksTo(way.format, packed, splits, bytes);
    expectThat(`${way.command.join(' ')} of ${name}: ${found}`, found === 'right');
  }
}
process.stdout.write(`${checked} files of the tools: ${failures} wrong\n`);

const HUGE: readonly Way[] = [
  { format: 'xz', command: ['xz', '-0', '-T1', '--x86', '--lzma2=preset=0'] },
  { format: 'lzma', command: ['xz', '-0', '--format=lzma'] },
  { format: 'bzip2', command: ['bzip2', '-9'] },
  { format: 'lz4', command: ['lz4', '-q', '-1'] },
  { format: 'lzo', command: ['lzop', '-1'] },
];
const huge = Number(values.huge) * 1e6;
if (huge > 0) {
  const bytes = Buffer.concat([structured(huge / 2), hugeNoise(huge / 2)]);
  for (const way of HUGE) {
    const found = unpacksTo(way.format, compress(way, bytes), () => 1 + random(1_000_000), bytes);
    expectThat(`${way.command.join(' ')} of ${values.huge} MB: ${found}`, found === 'right');
  }
  process.stdout.write(`${HUGE.length} files of ${values.huge} MB, half of it noise\n`);
}

// Members one after another, and what the tools accept after them.
const small = structured(20_000);
for (const way of ways.filter(({ command }) =>
  ['xz -1 --check=crc32', 'bzip2 -3', 'lzop -3', 'lz4 -q -5'].includes(command.join(' ')),
)) {
  const packed = compress(way, small);
  expectThat(
    `two members of ${way.format}`,
    unpack(way.format, Buffer.concat([packed, packed]), () => 1000).equals(Buffer.concat([small, small])),
  );
}

const base = Buffer.concat([structured(5000), jumps(1000)]);
/** The tool takes these, against the format, and what comes out depends on what was in its memory. */
const KNOWN = new Set(['DecodeError: damaged: a block has a match of the distance 0']);
const seeds = ways
  .filter(({ command }) => !command.some((word) => word.includes('128MiB') || /^-[789]$/.test(word)))
  .map((way) => ({ way, packed: compress(way, base) }));
/**
 * xz(1) guesses whether a file is one of lzma, and takes no dictionary but of 2^n or 2^n + 2^(n - 1) bytes. The format allows
 * any, and the library below xz takes it.
 */
function hasOddDictionary(packed: Buffer): boolean {
  const bytes = packed.readUInt32LE(1);
  const highest = 2 ** (31 - Math.clz32(bytes));
  return ![highest, highest * 1.5].includes(bytes);
}

let known = 0;
let slowest = 0;
for (let count = 0; count < Number(values.mutations); count++) {
  const { way, packed } = seeds[random(seeds.length)] ?? { way: ways[0] as Way, packed: Buffer.alloc(0) };
  let bytes = Buffer.from(packed);
  const kind = random(4);
  if (kind === 0) bytes = bytes.subarray(0, random(bytes.length));
  else if (kind === 1)
    bytes = Buffer.concat([
      bytes.subarray(0, random(bytes.length)),
      noise(1 + random(8)),
      bytes.subarray(random(bytes.length)),
    ]);
  else for (let flips = 1 + random(3); flips > 0; flips--) bytes[random(bytes.length)] = random(256);
  const tool = run(UNPACK[way.format], bytes);
  const started = performance.now();
  let own: Buffer | null = null;
  let fault = 'none';
  try {
    own = unpack(way.format, bytes, () => 1 + random(4000));
  } catch (error) {
    fault = String(error);
    if (!(error instanceof DecodeError)) expectThat(`${way.command.join(' ')}: ${String(error)}`, false);
  }
  slowest = Math.max(slowest, performance.now() - started);
  if (own !== null && tool.ok)
    expectThat(`${way.command.join(' ')}: other bytes than the tool`, own.equals(tool.bytes));
  else if (tool.ok ? KNOWN.has(fault) : own !== null && way.format === 'lzma' && hasOddDictionary(bytes)) known += 1;
  else {
    const file = bytes.toString('base64');
    const what = tool.ok ? `the tool takes it, this says ${fault}` : 'this takes it, the tool does not';
    expectThat(`${way.command.join(' ')}: ${what}: ${file}`, (own !== null) === tool.ok);
  }
}
process.stdout.write(`${values.mutations} damaged files, the slowest took ${slowest.toFixed(0)} ms\n`);
if (known > 0) process.stdout.write(`  in which the tool is known to differ from the format: ${known}\n`);

if (values.record !== undefined) {
  const lines = seeds.map(({ way, packed }) =>
    JSON.stringify({
      name: way.command.join(' '),
      format: way.format,
      file: packed.toString('base64'),
      expect: { length: base.length, sha256: createHash('sha256').update(base).digest('hex') },
    }),
  );
  writeFileSync(values.record, gzipSync(`${lines.join('\n')}\n`, { level: 9 }));
}
process.exitCode = failures > 0 ? 1 : 0;
