import { describe, expect, test } from 'vitest';
import { PT_LOAD, PT_NOTE } from '../../../src/elf/format.ts';
import { listSegments } from '../../../src/xen/segments.ts';
import { buildImage, type ImageSpec, type SegmentSpec } from '../../support/elf-builder.ts';
import { mustInit, mustLocate } from '../../support/load.ts';

const MAX_U64 = 2n ** 64n - 1n;

const examine = async (spec: ImageSpec) => {
  const { image, kernel } = await mustLocate(buildImage(spec).bytes);
  return { range: kernel, recorded: image.recorded };
};
const rangeOf = async (...segments: SegmentSpec[]) => (await examine({ segments })).range;

describe('the kernel', () => {
  test('reaches from the lowest p_paddr to the highest p_paddr + p_memsz, in any order', async () => {
    const range = await rangeOf(
      { paddr: 0x3000, memsz: 0x10 },
      { paddr: 0x1000, memsz: 0x3000 },
      { paddr: 0x2000, memsz: 0x20 },
    );
    expect(range).toMatchObject({ pstart: 0x1000n, pend: 0x4000n });
  });

  test('is made of physical addresses', async () => {
    const range = await rangeOf({ paddr: 0x1000, vaddr: 0xffff_ffff_8000_0000n, memsz: 1 });
    expect(range).toMatchObject({ pstart: 0x1000n, pend: 0x1001n });
  });

  test('counts segments that have no bytes', async () => {
    expect(await rangeOf({ paddr: 0x1000, memsz: 0x1000 }, { paddr: 0x8000, memsz: 0 })).toMatchObject({
      pstart: 0x1000n,
      pend: 0x8000n,
    });
  });

  test.each([
    ['is of another type', { type: PT_NOTE }],
    ['has no permission at all', { flags: 0 }],
    ['has other flags than permissions only', { flags: 0xfff0_0008 }],
  ])('leaves out a segment that %s', async (_what, segment) => {
    const range = await rangeOf(
      { paddr: 0x5000, memsz: 0x10 },
      { paddr: 0x1000, memsz: 0x9000, align: 64, ...segment },
    );
    expect(range).toMatchObject({ pstart: 0x5000n, pend: 0x5010n, align: 1n });
  });

  test.each([1, 2, 4])('takes a segment with permission %i alone', async (flags) => {
    expect(await rangeOf({ flags, paddr: 0x1000, memsz: 2 })).toMatchObject({ pstart: 0x1000n, pend: 0x1002n });
  });

  test('has the largest alignment of its segments', async () => {
    const range = await rangeOf({ align: 16 }, { align: 0x20_0000 }, { align: 4096 });
    expect(range.align).toBe(0x20_0000n);
  });

  test('without a loadable segment begins at 2^64-1 and ends at 0', async () => {
    expect(await rangeOf()).toMatchObject({ pstart: MAX_U64, pend: 0n, align: 0n });
  });

  test('wraps at 2^64', async () => {
    expect(await rangeOf({ paddr: MAX_U64 - 15n, memsz: 0x20 })).toMatchObject({ pstart: MAX_U64 - 15n, pend: 0x10n });
  });

  test('of class ELF32 does not wrap at 2^32', async () => {
    const { range } = await examine({ class: 'ELF32', segments: [{ paddr: 0xffff_fff0, memsz: 0x20 }] });
    expect(range).toMatchObject({ pstart: 0xffff_fff0n, pend: 0x1_0000_0010n });
  });
});

describe('the program headers', () => {
  test('are e_phentsize apart', async () => {
    const { range } = await examine({
      segments: [
        { paddr: 0x1000, memsz: 1 },
        { paddr: 0x2000, memsz: 1 },
      ],
      placement: { programHeaderStride: 100 },
    });
    expect(range).toMatchObject({ pstart: 0x1000n, pend: 0x2001n });
  });

  test('end at the first that begins outside the image', async () => {
    const { bytes } = buildImage();
    const { range, recorded } = await examine({ header: { e_phoff: bytes.length, e_phentsize: 0, e_phnum: 3 } });
    expect(range).toMatchObject({ pstart: MAX_U64, pend: 0n, align: 0n });
    expect(recorded).toMatchObject({
      code: 'out-of-range-access',
      stage: 'segments',
      what: 'program header 0',
      offset: BigInt(bytes.length),
      length: 56n,
    });
  });

  test('are read as far as they go when one is cut', async () => {
    // Headers 28 bytes apart fit into the image, but the second is cut in front of its p_align.
    const { range, recorded } = await examine({
      class: 'ELF32',
      segments: [{ type: PT_NOTE }, { paddr: 0x1000, memsz: 0x10, align: 32 }],
      placement: { programHeaders: 600, programHeaderStride: 28, imageSize: 600 + 2 * 28 },
      header: { e_shoff: 0, e_shnum: 0 },
    });
    expect(range).toMatchObject({ pstart: 0x1000n, pend: 0x1010n, align: 0n });
    expect(recorded).toMatchObject({ stage: 'segments', what: 'p_align of program header 1', offset: 656n });
  });

  test('count in full, as e_phnum is not capped', async () => {
    const { range } = await examine({
      segments: [{ type: PT_LOAD, paddr: 0x1000, memsz: 1 }],
      header: { e_phentsize: 0, e_phnum: 0xffff },
    });
    expect(range).toMatchObject({ pstart: 0x1000n, pend: 0x1001n });
  });
});

test('all loadable segments are listed as the table has them', async () => {
  const built = buildImage({
    segments: [
      { type: PT_NOTE },
      { paddr: 0x3000, vaddr: 0xffff_3000n, memsz: 0x20, flags: 5, align: 0x1000 },
      { paddr: 0x1000, vaddr: 0xffff_1000n, memsz: 0x10, flags: 6, align: 8 },
    ],
  });
  const segments = listSegments(await mustInit(built.bytes));
  expect(segments).toMatchObject([
    { index: 1, paddr: 0x3000n, vaddr: 0xffff_3000n, memsz: 0x20n, flags: 5, align: 0x1000n },
    { index: 2, paddr: 0x1000n, vaddr: 0xffff_1000n, memsz: 0x10n, flags: 6, align: 8n },
  ]);
});
