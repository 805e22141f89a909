/**
 * How long planning takes, and how long a hostile image keeps all other requests waiting.
 *
 *     npm run bench:plan               a kernel of 590 MB made up here, and hostile images
 *     npm run bench:plan -- VMLINUX    the headers of this file as well
 *
 * Prints a table and, behind it, the same figures as one line of JSON. Absolute figures depend on the machine; the
 * ratios hold them against plain work on as many bytes, done in the same run.
 */
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { ELF64, PT_LOAD, SHT_NOTE, SHT_STRTAB, SHT_SYMTAB, type Struct } from '../src/elf/format.ts';
import { init } from '../src/elf/headers.ts';
import type { Headers } from '../src/elf/view.ts';
import { FileSource } from '../src/image/file.ts';
import { MemorySource } from '../src/image/memory.ts';
import type { ImageSource } from '../src/inspect/image-source.ts';
import { loadImage } from '../src/inspect/load.ts';
import { readHeaders } from '../src/inspect/read-headers.ts';
import { DEFAULT_LOADER, loadSymbols, type SymbolLoad } from '../src/xen/loaders/bsdsyms.ts';
import { findKernelRange } from '../src/xen/segments.ts';
import { planWarnings } from '../src/xen/warnings.ts';
import { buildImage, type SectionSpec, writeField } from '../test/support/elf-builder.ts';

const MAX_PLANNING_MS = 5;
const MAX_BLOCK_MS = 50;
const MAX_BLOB_BYTES = 256 * 1024 * 1024;
/** e_shnum and e_phnum have 16 bits. */
const MAX_HEADERS = 65_535;
const PLANNING_RUNS = 2000;
const HOSTILE_RUNS = 7;
const BASELINE_RUNS = 50;
/** As chunks come from a socket. */
const CHUNK_BYTES = 64 * 1024;

/** Everything that is synchronous in a request for a blob: from headers in memory to the finished plan. */
function plan(headers: Headers): SymbolLoad | null {
  const started = init(headers);
  if (!started.ok) return null;
  const { image, kernel: range } = findKernelRange(started.image);
  const options = { loader: DEFAULT_LOADER, loadAddress: range.pend, maxBlobBytes: MAX_BLOB_BYTES };
  const loaded = loadSymbols(image, options);
  if (loaded.ok) planWarnings(image, loaded.plan);
  return loaded;
}

function timed(work: () => unknown): number {
  const started = performance.now();
  work();
  return performance.now() - started;
}

/** The value that `share` of the sorted values do not exceed. */
function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

// --- Planning ---------------------------------------------------------------------------------------------------------

/** A kernel with 82 sections and 5 segments, its symbols at the end; everything but the headers is zeros. */
function kernel(size: { imageSize: number; symbols: number; strtabBytes: number }): ImageSource {
  const symtabBytes = size.symbols * ELF64.symbol.size;
  const strtabAt = size.imageSize - size.strtabBytes;
  const tables: SectionSpec[] = [
    {
      name: '.symtab',
      type: SHT_SYMTAB,
      link: '.strtab',
      entsize: ELF64.symbol.size,
      header: { sh_offset: strtabAt - symtabBytes, sh_size: symtabBytes },
    },
    { name: '.strtab', type: SHT_STRTAB, header: { sh_offset: strtabAt, sh_size: size.strtabBytes } },
  ];
  // Besides these two there are the null section and .shstrtab, which the builder adds.
  const others = Array.from({ length: 82 - 4 }, (_, index): SectionSpec => ({ name: `.section.${index}` }));
  const { bytes } = buildImage({
    segments: Array.from({ length: 5 }, (_, index) => ({ paddr: (index + 1) * 0x100_0000, memsz: 0x80_0000 })),
    sections: [...others, ...tables],
  });
  return sparse(bytes, size.imageSize);
}

/** About what a Linux kernel with debug information has. */
const VMLINUX = { imageSize: 590_000_000, symbols: 110_000, strtabBytes: 2_700_000 };

interface PlanningFigures {
  readonly image: string;
  readonly sections: number;
  readonly blobBytes: number;
  /** For the first image measured: before anything was compiled, as for the first request after a start. */
  readonly firstMs: number;
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** The median against a plain read of every header field. */
  readonly ratio: number;
}

async function measurePlanning(image: string, source: ImageSource): Promise<PlanningFigures> {
  const headers = await readHeaders(source);
  if (headers === null) throw new Error(`${image} is not an ELF image`);
  let planned: SymbolLoad | null = null;
  const firstMs = timed(() => {
    planned = plan(headers);
  });
  const runs = Array.from({ length: PLANNING_RUNS }, () => timed(() => plan(headers)));
  const baseline = Array.from({ length: PLANNING_RUNS }, () => timed(() => sumHeaders(headers)));
  const result = planned as SymbolLoad | null;
  if (result?.ok !== true) throw new Error(`${image} has no symbols that can be loaded`);
  return {
    image,
    sections: headers.sectionHeaders.count,
    blobBytes: result.plan.size,
    firstMs,
    medianMs: quantile(runs, 0.5),
    p99Ms: quantile(runs, 0.99),
    maxMs: quantile(runs, 1),
    ratio: quantile(runs, 0.5) / quantile(baseline, 0.5),
  };
}

/** The baseline of planning: every field of every header, once, without a check. */
function sumHeaders({ programHeaders, sectionHeaders }: Headers): number {
  let sum = 0;
  for (const table of [programHeaders, sectionHeaders]) {
    const fields = Object.values(table.struct.fields);
    for (let index = 0; index < table.count; index++) {
      for (const { offset, width } of fields) {
        const at = index * table.pitch + offset;
        sum += width === 8 ? Number(table.bytes.getBigUint64(at, true)) : table.bytes.getUint32(at, true);
      }
    }
  }
  return sum;
}

// --- Blocking ---------------------------------------------------------------------------------------------------------

interface HostileImage {
  readonly name: string;
  readonly source: () => ImageSource;
}

type HeaderFields = Readonly<Record<string, number | bigint>>;

/** An image with a table of 65,535 entries that all say the same, `stride` bytes apart. */
function manyHeaders(kind: 'program' | 'section', stride: number, values: HeaderFields, what = ''): HostileImage {
  const struct = kind === 'program' ? ELF64.programHeader : ELF64.sectionHeader;
  const lies =
    kind === 'program'
      ? { e_phoff: CHUNK_BYTES, e_phentsize: stride, e_phnum: MAX_HEADERS }
      : { e_shoff: CHUNK_BYTES, e_shentsize: stride, e_shnum: MAX_HEADERS };
  const source = (): ImageSource => {
    const start = buildImage({ placement: { imageSize: CHUNK_BYTES }, header: lies }).bytes;
    if (stride < struct.size) {
      const overlapping = new Uint8Array(stride * MAX_HEADERS + struct.size);
      writeHeader(overlapping, 0, struct, values);
      // Room for as many headers as are counted, or the count would be capped.
      const rest = repeat(new Uint8Array(CHUNK_BYTES), (MAX_HEADERS * struct.size) / CHUNK_BYTES);
      return new MemorySource([start, overlapping, ...rest]);
    }
    // One chunk of whole entries stands for all of them, so that 4 GiB take 64 KiB of memory.
    const entriesPerChunk = Math.max(1, Math.floor(CHUNK_BYTES / stride));
    const chunk = new Uint8Array(stride * entriesPerChunk);
    for (let entry = 0; entry < entriesPerChunk; entry++) writeHeader(chunk, entry * stride, struct, values);
    return new MemorySource([start, ...repeat(chunk, Math.ceil(MAX_HEADERS / entriesPerChunk))]);
  };
  return { name: `${MAX_HEADERS} ${kind} headers${what}, stride ${stride}`, source };
}

const repeat = (chunk: Uint8Array, times: number): Uint8Array[] => Array.from({ length: times }, () => chunk);

function writeHeader(bytes: Uint8Array, at: number, struct: Struct, values: HeaderFields): void {
  for (const [name, value] of Object.entries(values)) {
    const field = struct.fields[name];
    if (field === undefined) throw new Error(`there is no field ${name}`);
    writeField(bytes, at, field, value, true);
  }
}

/** Loadable, so that every field that the loader knows of is looked at. */
const LOADABLE = { p_type: PT_LOAD, p_flags: 7, p_paddr: 0x100_0000n, p_memsz: 0x1000n, p_align: 0x1000n };
/** No symbol table, so that the search goes to the end. */
const OTHER = { sh_type: 1, sh_offset: 4096, sh_size: 64 };
/** Each could hold the build ID. */
const NOTES = { sh_type: SHT_NOTE, sh_offset: 0, sh_size: CHUNK_BYTES };

const HOSTILE: readonly HostileImage[] = [
  manyHeaders('section', 64, OTHER),
  manyHeaders('section', 64, NOTES, ' of notes'),
  manyHeaders('section', 4096, OTHER),
  manyHeaders('section', 4097, OTHER),
  manyHeaders('section', 65_535, OTHER),
  manyHeaders('section', 1, OTHER),
  manyHeaders('section', 0, OTHER),
  manyHeaders('program', 56, LOADABLE),
  manyHeaders('program', 65_535, LOADABLE),
  manyHeaders('program', 1, LOADABLE),
  manyHeaders('program', 0, LOADABLE),
  {
    name: '10 million symbols',
    source: () => kernel({ imageSize: 300_000_000, symbols: 10_000_000, strtabBytes: 100 }),
  },
];

interface BlockingFigures {
  readonly image: string;
  readonly imageBytes: number;
  /** Everything from the first read to the finished plan. */
  readonly totalMs: number;
  /** `init`, `segments`, `parse` and `load`, which nothing interrupts. */
  readonly stagesMs: number;
  /** The longest time without a turn of the event loop: in the median run and in the worst. */
  readonly blockMs: number;
  readonly worstBlockMs: number;
  /** The median block against the baseline: 65,535 headers read by a plain loop. */
  readonly ratio: number;
}

async function measureBlocking(
  { name, source: makeSource }: HostileImage,
  baselineMs: number,
): Promise<BlockingFigures> {
  const source = makeSource();
  const totals: number[] = [];
  const stages: number[] = [];
  const blocks: number[] = [];
  for (let run = 0; run < HOSTILE_RUNS; run++) {
    const started = performance.now();
    const longest = await longestBlock(() => loadImage(source, { onBroken: 'load', maxBlobBytes: MAX_BLOB_BYTES }));
    totals.push(performance.now() - started);
    blocks.push(longest);
    const headers = await readHeaders(source);
    if (headers === null) throw new Error(`${name} is not an ELF image`);
    stages.push(timed(() => plan(headers)));
  }
  const blockMs = quantile(blocks, 0.5);
  return {
    image: name,
    imageBytes: source.size,
    totalMs: quantile(totals, 0.5),
    stagesMs: quantile(stages, 0.5),
    blockMs,
    worstBlockMs: quantile(blocks, 1),
    ratio: blockMs / baselineMs,
  };
}

/** The longest gap in ms between two turns of the event loop while `work` runs. A turn without work takes microseconds. */
async function longestBlock(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let running = true;
  let last = performance.now();
  const look = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const stopped = new Promise<void>((resolve) => {
    const turn = (): void => {
      look();
      if (running) setImmediate(turn);
      else resolve();
    };
    setImmediate(turn);
  });
  await work();
  running = false;
  await stopped;
  return longest;
}

/** The baseline of blocking: 65,535 section headers in one buffer, read once, 32 bits at a time. */
function measureBaseline(): number {
  const headers = new DataView(new ArrayBuffer(MAX_HEADERS * ELF64.sectionHeader.size));
  const read = (): number => {
    let sum = 0;
    for (let at = 0; at < headers.byteLength; at += 4) sum += headers.getUint32(at, true);
    return sum;
  };
  return quantile(
    Array.from({ length: BASELINE_RUNS }, () => timed(read)),
    0.5,
  );
}

// --- Sources ----------------------------------------------------------------------------------------------------------

/** An image that begins with `start` and is zeros from there on, without taking its size in memory. */
function sparse(start: Uint8Array, size: number): ImageSource {
  const zeros = new Uint8Array(CHUNK_BYTES);
  const chunks = [start];
  for (let at = start.length; at < size; at += CHUNK_BYTES) {
    chunks.push(zeros.subarray(0, Math.min(CHUNK_BYTES, size - at)));
  }
  return new MemorySource(chunks);
}

// --- Report -----------------------------------------------------------------------------------------------------------

const ms = (value: number): string => value.toFixed(value < 1 ? 4 : 2);
const ratio = (value: number): string => `${value.toFixed(1)} x`;

const { positionals } = parseArgs({ allowPositionals: true });
const planning: PlanningFigures[] = [];
for (const path of positionals) {
  const source = await FileSource.open(path);
  planning.push(await measurePlanning(basename(path), source));
  await source.close();
}
planning.push(await measurePlanning('made up, 590 MB', kernel(VMLINUX)));

const blocking: BlockingFigures[] = [];
const baselineMs = measureBaseline();
for (const image of HOSTILE) blocking.push(await measureBlocking(image, baselineMs));

const worst = { planningMs: 0, blockMs: 0 };
// Neither the maximum nor the worst run: whatever else the machine does takes the processor away now and then.
for (const { firstMs, p99Ms } of planning) worst.planningMs = Math.max(worst.planningMs, firstMs, p99Ms);
for (const { blockMs } of blocking) worst.blockMs = Math.max(worst.blockMs, blockMs);

const write = (text: string): unknown => process.stdout.write(`${text}\n`);
const table = (headings: readonly string[], rows: readonly (readonly string[])[]): void => {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  for (const row of [headings, ...rows]) {
    write(
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    );
  }
};

write(
  `Planning, headers in memory to finished plan, ${PLANNING_RUNS} runs, in ms (target: below ${MAX_PLANNING_MS})\n`,
);
table(
  ['image', 'sections', 'blob bytes', 'first', 'median', 'p99', 'max', 'to plain reads'],
  planning.map((row) => [
    row.image,
    String(row.sections),
    String(row.blobBytes),
    ...[row.firstMs, row.medianMs, row.p99Ms, row.maxMs].map(ms),
    ratio(row.ratio),
  ]),
);
write(
  `\nHostile images, longest block of the event loop, ${HOSTILE_RUNS} runs, in ms (target: below ${MAX_BLOCK_MS}; baseline ${ms(baselineMs)})\n`,
);
table(
  ['image', 'image bytes', 'total', 'stages', 'block', 'worst', 'to baseline'],
  blocking.map((row) => [
    row.image,
    String(row.imageBytes),
    ...[row.totalMs, row.stagesMs, row.blockMs, row.worstBlockMs].map(ms),
    ratio(row.ratio),
  ]),
);
const met = worst.planningMs < MAX_PLANNING_MS && worst.blockMs < MAX_BLOCK_MS;
write(
  `\nWorst: planning ${ms(worst.planningMs)} ms, block ${ms(worst.blockMs)} ms: targets ${met ? 'met' : 'MISSED'}\n`,
);
write(JSON.stringify({ node: process.version, baselineMs, planning, blocking, worst, met }));
