/** However many headers an image has, the work between two pauses is short. It is counted, not timed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { locateSections } from '../../../src/elf/address-search.ts';
import { locateNotes } from '../../../src/elf/build-id.ts';
import { ELF64, PT_LOAD, SHF_ALLOC, SHT_STRTAB, SHT_SYMTAB, type Struct } from '../../../src/elf/format.ts';
import { type ElfImage, initInSteps } from '../../../src/elf/headers.ts';
import { ENTRIES_PER_STEP, type Steps } from '../../../src/elf/steps.ts';
import { type Headers, View } from '../../../src/elf/view.ts';
import { comparePlans } from '../../../src/xen/compare.ts';
import { planFlatImageInSteps } from '../../../src/xen/flat-image.ts';
import { type Loader, loadSymbolsInSteps, type SymbolPlan } from '../../../src/xen/loaders/bsdsyms.ts';
import { copyExtent, overlay, type Placed } from '../../../src/xen/plan.ts';
import { groupSegmentsInSteps } from '../../../src/xen/segment-groups.ts';
import { findKernelRangeInSteps, listSegmentsInSteps } from '../../../src/xen/segments.ts';
import { kernel, writeField } from '../../support/elf-builder.ts';
import { mustReadHeaders } from '../../support/load.ts';

const HEADERS = 65_535;
/** A header is read in a dozen places at most. */
const MAX_READS_PER_STEP = 12 * ENTRIES_PER_STEP;

/** How often headers were read, and ranges of the image looked at, since it was last set to 0. */
let [reads, ranges] = [0, 0];

const COUNTED = ['number', 'bigint', 'hasEntry', 'entry', 'range'] as const satisfies readonly (keyof View)[];
type Counted = (this: View, ...args: unknown[]) => unknown;
const prototype = View.prototype as unknown as Record<(typeof COUNTED)[number], Counted>;
const originals = COUNTED.map((name) => [name, prototype[name]] as const);

// By hand: a mock would keep account of millions of calls.
beforeAll(() => {
  for (const [name, original] of originals) {
    prototype[name] = function counted(...args) {
      reads += 1;
      if (name === 'range') ranges += 1;
      return original.apply(this, args);
    };
  }
});

afterAll(() => {
  for (const [name, original] of originals) prototype[name] = original;
});

interface Run<Result> {
  readonly result: Result;
  /** Reads of headers, and what is left of them in the longest step. */
  readonly total: number;
  readonly longest: number;
  readonly steps: number;
}

function run<Result>(work: Steps<Result>): Run<Result> {
  let [total, longest, steps] = [0, 0, 0];
  for (;;) {
    reads = 0;
    const step = work.next();
    total += reads;
    longest = Math.max(longest, reads);
    steps += 1;
    if (step.done === true) return { result: step.value, total, longest, steps };
  }
}

/** As `run`, for work that reads every one of the 65,535 headers. */
function runAll<Result>(work: Steps<Result>): Result {
  const { result, total, longest } = run(work);
  expect(total).toBeGreaterThanOrEqual(HEADERS);
  expect(longest).toBeLessThanOrEqual(MAX_READS_PER_STEP);
  return result;
}

type Values = Readonly<Record<string, number | bigint>>;

function table(struct: Struct, valuesOf: (index: number) => Values): Uint8Array {
  const bytes = new Uint8Array(struct.size * HEADERS);
  for (let index = 0; index < HEADERS; index++) {
    for (const [name, value] of Object.entries(valuesOf(index))) {
      const field = struct.fields[name];
      if (field !== undefined) writeField(bytes, index * struct.size, field, value, true);
    }
  }
  return bytes;
}

/** A kernel whose program headers and section headers are others than its own, 65,535 of each. */
async function crowded(): Promise<Headers> {
  const segments = table(ELF64.programHeader, (index) => ({
    p_type: PT_LOAD,
    p_flags: 4,
    p_filesz: 1,
    p_memsz: 16,
    p_paddr: 0x10_0000 + index * 8,
  }));
  const sections = table(ELF64.sectionHeader, (index) => ({
    sh_type: index % 2 === 0 ? SHT_STRTAB : SHT_SYMTAB,
    sh_flags: SHF_ALLOC,
    sh_offset: 64,
    sh_size: 5,
    sh_link: index + 1,
  }));
  const at = 4096;
  const { bytes } = kernel({
    header: {
      e_phoff: at,
      e_phnum: HEADERS,
      e_shoff: at + segments.length,
      e_shnum: HEADERS,
    },
  });
  const image = new Uint8Array(at + segments.length + sections.length);
  image.set(bytes.subarray(0, at));
  image.set(segments, at);
  image.set(sections, at + segments.length);
  return mustReadHeaders(image);
}

const headers = await crowded();

function mustInit(): ElfImage {
  const { result } = run(initInSteps(headers));
  if (!result.ok) throw new Error(result.failure.code);
  return result.image;
}

const planOf = (image: ElfImage, loader: Loader): SymbolPlan => {
  const { result } = run(loadSymbolsInSteps(image, { loader, loadAddress: 0x20_0000n, maxBlobBytes: 2 ** 28 }));
  if (!result.ok) throw new Error(result.broken.detail);
  return result.plan;
};

describe('65,535 headers', () => {
  test('are searched for the symbol table in short steps', () => {
    const none: Headers = {
      ...headers,
      sectionHeaders: { ...headers.sectionHeaders, bytes: new DataView(new ArrayBuffer(64 * HEADERS)) },
    };
    const started = runAll(initInSteps(none));
    expect(started.ok && started.image.symbolTable.found).toBe(false);
  });

  test('are searched for notes in short steps', () => {
    expect(runAll(locateNotes(headers))).toEqual([]);
  });

  test('are the kernel, found and listed in short steps', () => {
    const image = mustInit();
    expect(runAll(findKernelRangeInSteps(image))).toMatchObject({ kernel: { pstart: 0x10_0000n } });
    const { segments, unlisted } = runAll(listSegmentsInSteps(image, 1000));
    expect([segments.length, unlisted, segments.at(-1)?.index]).toEqual([1000, HEADERS - 1000, 999]);
  });

  test('are segments that are grouped in short steps', () => {
    const { groups, count } = runAll(groupSegmentsInSteps(mustInit(), 16));
    expect([groups.length, count]).toEqual([1, HEADERS]);
  });

  test.each(['xen-4.6', 'libxc-4.6'] as const)('are tables that %s plans in short steps', (loader) => {
    const options = { loader, loadAddress: 0x20_0000n, maxBlobBytes: 2 ** 28 };
    const loaded = runAll(loadSymbolsInSteps(mustInit(), options));
    expect(loaded.ok && loaded.plan.tables.length).toBeGreaterThan(HEADERS / 2);
  });

  test('are segments that are laid into memory in short steps', () => {
    const image = mustInit();
    const located = run(findKernelRangeInSteps(image)).result;
    const flat = runAll(planFlatImageInSteps(image, { kernel: located.kernel, symbols: null, maxFlatBytes: 2 ** 32 }));
    expect(flat.ok && flat.plan.extents.length).toBeGreaterThan(HEADERS);
  });

  test('are sections that addresses are looked up in, read in short steps', () => {
    expect(runAll(locateSections(headers, HEADERS))).toHaveLength(HEADERS);
  });

  test('are compared with what another loader makes of them in short steps', () => {
    const plans = [planOf(mustInit(), 'xen-4.6'), planOf(mustInit(), 'libxc-4.6')] as const;
    const { result, steps } = run(
      comparePlans('ELF64', plans[0], 'libxc-4.6', { ok: true, plan: plans[1], recorded: null }),
    );
    expect(result).toMatchObject({ broken: null });
    // Headers and tables of both.
    expect(steps).toBeGreaterThan((3 * HEADERS) / ENTRIES_PER_STEP);
  });
});

test('a single program header that counts as 65,535 is laid into memory once', async () => {
  const { bytes } = kernel({ header: { e_phentsize: 0, e_phnum: HEADERS }, memsz: 0 });
  const { result } = run(initInSteps(await mustReadHeaders(bytes)));
  if (!result.ok) throw new Error(result.failure.code);
  ranges = 0;
  // Of no size in memory, so that they never add up to too much; each writes the bytes that it has in the file.
  const flat = run(
    planFlatImageInSteps(result.image, {
      kernel: { pstart: 0x10_0000n, pend: 0x10_1000n, align: 1n, hasFileBytes: true },
      symbols: null,
      maxFlatBytes: 2 ** 32,
    }),
  ).result;
  expect(flat.ok && flat.plan.extents.map(({ kind }) => kind)).toEqual(['copy', 'fill']);
  expect(ranges).toBe(1);
});

test('65,535 extents that lie over each other are sorted out in as many steps as they have boundaries', () => {
  const written = Array.from(
    { length: HEADERS },
    (_, index): Placed => ({
      at: (index * 7919) % HEADERS,
      extent: copyExtent({ offset: index, length: 100 }),
    }),
  );
  const { result, steps } = run(overlay(written));
  expect(result.length).toBeGreaterThan(HEADERS / 100);
  // Filling, sorting in five passes, owning and gathering.
  expect(steps).toBeGreaterThan((8 * HEADERS) / ENTRIES_PER_STEP);
});
