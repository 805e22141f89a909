/** What is done with every input, and what must hold of it: the work of each route, without HTTP. */
import { MemorySource } from '../../src/image/memory.ts';
import type { ImageSource } from '../../src/inspect/image-source.ts';
import {
  flattenImage,
  inspectKernel,
  type LoadRequest,
  loadImage,
  openSymbols,
  type RefusedImage,
} from '../../src/inspect/load.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import { verifyBlob } from '../../src/inspect/verify.ts';
import { toFlatLayout, toKernelReport } from '../../src/report/kernel.ts';
import { toLayout } from '../../src/report/layout.ts';
import { toProblemDocument } from '../../src/report/problem.ts';
import { type SymbolQuery, writeSymbolLines, writeSymbols } from '../../src/report/symbols.ts';
import { toVerifyReport } from '../../src/report/verify.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import { LOADERS, type Loader } from '../../src/xen/loaders/bsdsyms.ts';
import type { Extent } from '../../src/xen/plan.ts';

const MIB = 1024 * 1024;
/** Slabs of an image in memory have this size. */
const PIECE_BYTES = 256 * 1024;
/** Of planned bytes no more is made: what comes after is more of the same. */
const MAX_STREAMED_BYTES = 4 * MIB;

/** An image in memory that counts what is read of it. */
class CountedSource extends MemorySource {
  reads = 0;
  bytesRead = 0;

  constructor(bytes: Uint8Array) {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) pieces.push(bytes.subarray(at, at + PIECE_BYTES));
    super(pieces);
  }

  override async read(offset: number, length: number): Promise<Uint8Array> {
    this.reads += 1;
    this.bytesRead += length;
    return super.read(offset, length);
  }
}

/** The work of a route. @returns the bytes of the answer. @throws for what must not be */
export type Target = (source: ImageSource) => Promise<number>;

class Broken extends Error {
  override readonly name = 'Broken';
}

function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Broken(what);
}

const json = (document: unknown): number => JSON.stringify(document).length;

function refusal(refused: RefusedImage): number {
  const { code, detail, reason } = refused.broken;
  check(Object.hasOwn(BROKEN_KINDS, code), `unknown code ${code}`);
  check(reason === BROKEN_KINDS[code].reason, `reason ${reason} of ${code}`);
  check(detail !== '' && detail.length < 4000, `detail of ${detail.length} characters`);
  return json(toProblemDocument(refused));
}

/** The bytes of a plan, which must be as many as it says, and of the image where they are copies. */
async function stream(source: ImageSource, extents: readonly Extent[], size: number): Promise<number> {
  let planned = 0;
  for (const { kind, length, ...extent } of extents) {
    check(length > 0, `an empty ${kind}`);
    if ('offset' in extent) check(extent.offset >= 0 && extent.offset + length <= source.size, 'a copy outside');
    planned += length;
  }
  check(planned === size, `extents of ${planned} bytes, a plan of ${size}`);
  let streamed = 0;
  for await (const piece of streamExtents(source, extents)) {
    streamed += piece.length;
    if (streamed >= MAX_STREAMED_BYTES) return streamed;
  }
  check(streamed === size, `${streamed} bytes of ${size}`);
  return streamed;
}

const load =
  (request: LoadRequest): Target =>
  async (source) => {
    const loaded = await loadImage(source, request);
    if (!loaded.ok) return refusal(loaded);
    const { plan } = loaded;
    check(plan.pend === plan.pstart + BigInt(plan.size), 'pend');
    return json(toLayout(loaded, null)) + (await stream(source, plan.extents, plan.size));
  };

const flatten =
  (loader: Loader): Target =>
  async (source) => {
    const flat = await flattenImage(source, { loader, symbols: 'always', onBroken: 'load' });
    if (!flat.ok) return refusal(flat);
    return json(toFlatLayout(flat, null)) + (await stream(source, flat.plan.extents, flat.plan.size));
  };

const symbols =
  (query: SymbolQuery, asLines = false): Target =>
  async (source) => {
    const opened = await openSymbols(source);
    if (!opened.ok) return refusal(opened);
    let text = '';
    let length = 0;
    for await (const piece of asLines ? writeSymbolLines(opened, query) : writeSymbols(opened, query, null)) {
      length += piece.length;
      if (length < MIB) text += piece;
    }
    if (length < MIB) {
      if (asLines) for (const line of text.split('\n').slice(0, -1)) JSON.parse(line);
      else JSON.parse(text);
    }
    return length;
  };

const page = { after: 0, limit: null, types: [], binds: [], prefix: '' };
const many = (nameOf: (index: number) => string): string[] => Array.from({ length: 100 }, (_, index) => nameOf(index));

const ofLoaders = (targetsOf: (loader: Loader) => Readonly<Record<string, Target>>): Readonly<Record<string, Target>> =>
  Object.assign({}, ...LOADERS.map(targetsOf)) as Readonly<Record<string, Target>>;

/** By what a route and its parameters would be; the first word is that of a group. */
export const TARGETS: Readonly<Record<string, Target>> = {
  ...ofLoaders((loader) => ({
    [`bsdsyms ${loader}`]: load({ loader }),
    [`bsdsyms ${loader} load`]: load({ loader, onBroken: 'load', loadAddress: 0x123_4567n }),
    [`image ${loader}`]: flatten(loader),
  })),
  ...ofLoaders((loader) =>
    ofLoaders((other) => ({
      [`layout ${loader} ${other}`]: load({
        loader,
        compareWith: other,
        onBroken: 'load',
        maxBlobBytes: 64 * MIB,
      }),
    })),
  ),
  kernel: async (source) => {
    const inspected = await inspectKernel(source);
    return inspected.ok ? json(toKernelReport(inspected, null)) : refusal(inspected);
  },
  'symbols all': symbols({ page }),
  'symbols lines': symbols({ page: { ...page, binds: [0, 1, 2, 10] } }, true),
  'symbols prefix': symbols({ page: { ...page, prefix: 's' } }),
  'symbols names': symbols({ names: ['a', 'sym_0', 'in', ...many((index) => `${'a'.repeat(index)}b`)] }),
  'symbols addresses': symbols({ addresses: many(String).map((index) => 0x10_0000n + BigInt(index) * 8n) }),
  verify: async (source) => json(toVerifyReport(await verifyBlob(source, 0x10_0000n))),
};

export interface Cost {
  readonly cpuMs: number;
  /** The longest time without a turn of the event loop, in ms of processor time. */
  readonly blockMs: number;
  /** What memory grew by at most, what is waiting to be collected included. */
  readonly memoryBytes: number;
  readonly reads: number;
  readonly bytesRead: number;
  readonly answerBytes: number;
}

function memoryInUse(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const ms = (since: NodeJS.CpuUsage): number => {
  const now = process.threadCpuUsage();
  return (now.user - since.user + now.system - since.system) / 1000;
};

/** Runs a target. @throws what it throws, which is a finding */
async function runTarget(target: Target, bytes: Uint8Array): Promise<Cost> {
  const source = new CountedSource(bytes);
  let longest = 0;
  let running = true;
  const before = memoryInUse();
  let most = before;
  const started = process.threadCpuUsage();
  let turn = started;
  const look = (): void => {
    longest = Math.max(longest, ms(turn));
    most = Math.max(most, memoryInUse());
    turn = process.threadCpuUsage();
    if (running) setImmediate(look);
  };
  const immediate = setImmediate(look);
  try {
    const answerBytes = await target(source);
    longest = Math.max(longest, ms(turn));
    most = Math.max(most, memoryInUse());
    const { reads, bytesRead } = source;
    return { cpuMs: ms(started), blockMs: longest, memoryBytes: most - before, reads, bytesRead, answerBytes };
  } finally {
    running = false;
    clearImmediate(immediate);
  }
}

const BASE_CPU_MS = 50;
const CPU_MS_PER_MIB = 100;
const MAX_BLOCK_MS = 50;
/** Garbage is collected when the heap has grown by about as much. */
const BASE_MEMORY_BYTES = 128 * MIB;
const MEMORY_OF_IMAGE = 24;
const BASE_READ_BYTES = 64 * MIB;
const READS_OF_IMAGE = 24;
const BASE_ANSWER_BYTES = 2 * MIB;
const ANSWERS_OF_IMAGE = 40;

/** Runs a target and says what is wrong with what it does; null for nothing. */
export async function findFault(name: string, bytes: Uint8Array): Promise<string | null> {
  const target = TARGETS[name];
  if (target === undefined) throw new Error(`there is no target ${name}`);
  try {
    return findExcess(await runTarget(target, bytes), bytes.length);
  } catch (error) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
}

/** What of a cost is more than an image of this size may cause; null for none. */
function findExcess(cost: Cost, imageBytes: number): string | null {
  const { cpuMs, blockMs, memoryBytes, bytesRead, answerBytes } = cost;
  const mib = Math.max(imageBytes, answerBytes) / MIB;
  if (cpuMs > BASE_CPU_MS + CPU_MS_PER_MIB * mib) return `${cpuMs.toFixed(0)} ms of processor time`;
  if (blockMs > MAX_BLOCK_MS) return `${blockMs.toFixed(0)} ms without a turn of the event loop`;
  if (memoryBytes > BASE_MEMORY_BYTES + MEMORY_OF_IMAGE * imageBytes) return `${memoryBytes} bytes of memory`;
  if (bytesRead > BASE_READ_BYTES + READS_OF_IMAGE * imageBytes) return `${bytesRead} bytes read`;
  // Planned bytes are cut off; all else is in proportion to the image.
  if (answerBytes > BASE_ANSWER_BYTES + MAX_STREAMED_BYTES + ANSWERS_OF_IMAGE * imageBytes)
    return `${answerBytes} bytes of answer`;
  return null;
}
