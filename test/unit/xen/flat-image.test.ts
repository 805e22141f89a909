import { describe, expect, test } from 'vitest';
import { PT_NOTE } from '../../../src/elf/format.ts';
import { MemorySource } from '../../../src/image/memory.ts';
import { streamExtents } from '../../../src/inspect/stream-extents.ts';
import { planFlatImage } from '../../../src/xen/flat-image.ts';
import { DEFAULT_LOADER, loadSymbols } from '../../../src/xen/loaders/bsdsyms.ts';
import { type BuiltImage, buildImage, kernel, type SectionSpec, type SegmentSpec } from '../../support/elf-builder.ts';
import { collect, MIB, mustInit, mustLocate } from '../../support/load.ts';

const U64_END = 2n ** 64n;

interface Options {
  readonly maxFlatBytes?: number;
  /** Default: no symbols. */
  readonly symbolsAt?: bigint;
}

async function plan({ bytes }: Pick<BuiltImage, 'bytes'>, options: Options = {}) {
  const { image, kernel: range } = await mustLocate(bytes);
  const { symbolsAt, maxFlatBytes = MIB } = options;
  const symbols =
    symbolsAt === undefined
      ? null
      : loadSymbols(image, { loader: DEFAULT_LOADER, loadAddress: symbolsAt, maxBlobBytes: MIB });
  if (symbols?.ok === false) throw new Error(symbols.broken.detail);
  return planFlatImage(image, { kernel: range, symbols, maxFlatBytes });
}

async function flatten(built: Pick<BuiltImage, 'bytes'>, options: Options = {}) {
  const flat = await plan(built, options);
  if (!flat.ok) throw new Error(flat.broken.detail);
  const bytes = await collect(streamExtents(new MemorySource([built.bytes]), flat.plan.extents));
  return { ...flat.plan, recorded: flat.recorded, bytes };
}

async function refuse(built: Pick<BuiltImage, 'bytes'>, options: Options = {}) {
  const flat = await plan(built, options);
  if (flat.ok) throw new Error('the image was not refused');
  return flat.broken;
}

/** One section of data for each segment. */
function segments(...specs: (SegmentSpec & { readonly data?: readonly number[] })[]): BuiltImage {
  const sections = specs.map(
    ({ data = [] }, index): SectionSpec => ({ name: `s${index}`, data: Uint8Array.from(data) }),
  );
  const placed = specs.map((spec, index): SegmentSpec => Object.assign({ section: `s${index}` }, spec));
  return buildImage({ sections, segments: placed });
}

describe('segments', () => {
  test('lie at p_paddr, with zeros after them and between them', async () => {
    const flat = await flatten(
      segments({ data: [1, 2], paddr: 0x1000, memsz: 4 }, { data: [3], paddr: 0x1006, memsz: 1 }),
    );
    expect([...flat.bytes]).toEqual([1, 2, 0, 0, 0, 0, 3]);
    expect(flat).toMatchObject({ pstart: 0x1000n, pend: 0x1007n, size: 7, recorded: null });
  });

  test('later ones are written over earlier ones, their zeros too', async () => {
    const flat = await flatten(
      segments({ data: [1, 2, 3, 4, 5, 6], paddr: 0x1000 }, { data: [9], paddr: 0x1002, memsz: 3 }),
    );
    expect([...flat.bytes]).toEqual([1, 2, 9, 0, 0, 6]);
  });

  test('in any order of addresses', async () => {
    const flat = await flatten(segments({ data: [2], paddr: 0x1001 }, { data: [1], paddr: 0x1000 }));
    expect([...flat.bytes]).toEqual([1, 2]);
  });

  test('that are not loadable stay out', async () => {
    const flat = await flatten(
      segments(
        { data: [1], paddr: 0x1000 },
        { data: [7], paddr: 0x1000, type: PT_NOTE },
        { data: [8], paddr: 0x1000, flags: 0 },
      ),
    );
    expect([...flat.bytes]).toEqual([1]);
  });

  test('whose bytes are not in the file leave zeros, and that is recorded', async () => {
    const flat = await flatten(segments({ data: [1, 2], paddr: 0x1000, memsz: 4, header: { p_offset: U64_END - 1n } }));
    expect([...flat.bytes]).toEqual([0, 0, 0, 0]);
    expect(flat.recorded).toMatchObject({ code: 'out-of-range-access', stage: 'load', what: 'segment 0' });
  });

  test('that have more in the file than in memory are copied as far as that fits, and it is recorded', async () => {
    const small = { data: [1, 2, 3], paddr: 0x1000, memsz: 1 };
    const alone = await flatten(segments(small));
    expect([...alone.bytes]).toEqual([0]);
    expect(alone.recorded).toMatchObject({ code: 'out-of-range-access', stage: 'load', what: 'segment 0' });
    const inFront = await flatten(segments(small, { data: [9], paddr: 0x1004 }));
    expect([...inFront.bytes]).toEqual([1, 2, 3, 0, 9]);
    expect(inFront.recorded).toMatchObject({ code: 'out-of-range-access' });
  });

  test('that have more in the file than there is room after them are skipped, wherever they lie', async () => {
    const first = { data: [1, 2, 3, 4], paddr: 0x1000 };
    const flat = await flatten(segments(first, { data: [5, 6, 7, 8], paddr: 0x1004, memsz: 2 }));
    expect([...flat.bytes]).toEqual([1, 2, 3, 4, 0, 0]);
    expect(flat.recorded).toMatchObject({ code: 'out-of-range-access', what: 'segment 1', length: 4n });
  });

  test('of no bytes make an image of no bytes', async () => {
    const flat = await flatten(segments({ paddr: 0x1000, memsz: 0 }));
    expect(flat).toMatchObject({ pstart: 0x1000n, pend: 0x1000n, size: 0, extents: [], recorded: null });
  });

  test('stop where they add up to more than twice the memory', async () => {
    const same = { data: [1, 1], paddr: 0x1000 };
    const flat = await flatten(segments(same, same, { data: [2, 2], paddr: 0x1000 }));
    expect([...flat.bytes]).toEqual([1, 1]);
    expect(flat.recorded).toMatchObject({ code: 'segments-too-large', stage: 'load', what: 'segment 2' });
    expect((await flatten(segments(same, same))).recorded).toBeNull();
  });

  test('may have gigabytes between them', async () => {
    const built = segments({ data: [1], paddr: 0x1000 }, { data: [2], paddr: 0x1000n + 2n ** 40n });
    const flat = await plan(built, { maxFlatBytes: 2 ** 41 });
    expect(flat).toMatchObject({
      ok: true,
      plan: {
        size: 2 ** 40 + 1,
        extents: [{ length: 1 }, { kind: 'fill', length: 2 ** 40 - 1 }, { length: 1 }],
      },
    });
  });
});

describe('symbols', () => {
  test('lie after the kernel, in their region', async () => {
    const built = kernel({ memsz: 100 });
    const flat = await flatten(built, { symbolsAt: 0x10_0000n + 100n });
    expect(flat.bytes.subarray(0, 32)).toEqual(built.section('.text').data);
    expect(flat.bytes.subarray(32, 104)).toEqual(new Uint8Array(72));
    expect([...flat.bytes.subarray(108, 112)]).toEqual([0x7f, 0x45, 0x4c, 0x46]);
    expect(flat.pend).toBe(0x10_0000n + BigInt(flat.size));
  });

  test('end where they truly end for ELF32', async () => {
    const built = kernel({ class: 'ELF32', memsz: 100 });
    const image = await mustInit(built.bytes);
    const loaded = loadSymbols(image, { loader: DEFAULT_LOADER, loadAddress: 0x10_0064n, maxBlobBytes: MIB });
    const flat = await flatten(built, { symbolsAt: 0x10_0064n });
    expect(loaded).toMatchObject({ ok: true, plan: { pend: flat.pend } });
  });

  test('are written over the kernel when they are placed there', async () => {
    const flat = await flatten(kernel(), { symbolsAt: 0x10_0000n });
    expect(flat.size).toBe(0x2000);
    expect([...flat.bytes.subarray(4, 8)]).toEqual([0x7f, 0x45, 0x4c, 0x46]);
  });

  test('cannot begin in front of the kernel', async () => {
    const broken = await refuse(kernel(), { symbolsAt: 0xf_0000n });
    expect(broken.code).toBe('load-address-unusable');
    expect(broken.detail).toContain('0xf0000');
  });
});

describe('an image that is refused', () => {
  test('is larger than allowed', async () => {
    const built = segments({ data: [1], paddr: 0x1000, memsz: 101 });
    const broken = await refuse(built, { maxFlatBytes: 100 });
    expect(broken).toMatchObject({ code: 'segments-too-large', stage: 'load', length: 101n });
    expect((await flatten(built, { maxFlatBytes: 101 })).bytes).toHaveLength(101);
  });

  test('has no loadable segments', async () => {
    const broken = await refuse(buildImage());
    expect(broken).toMatchObject({ code: 'no-loadable-segments', stage: 'segments' });
    expect(broken.detail).toContain('no loadable segments');
  });

  test('wraps', async () => {
    const broken = await refuse(segments({ data: [1], paddr: U64_END - 16n, memsz: 32 }));
    expect(broken.code).toBe('segments-too-large');
    expect(broken.detail).toContain('0xfffffffffffffff0');
  });
});
