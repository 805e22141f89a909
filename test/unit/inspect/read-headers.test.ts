import { describe, expect, test } from 'vitest';
import { SHT_SYMTAB } from '../../../src/elf/format.ts';
import { Recorder } from '../../../src/elf/recorder.ts';
import { View } from '../../../src/elf/view.ts';
import { MemorySource } from '../../../src/image/memory.ts';
import { readHeaders } from '../../../src/inspect/read-headers.ts';
import { buildImage, kernel, type Placement, writeField } from '../../support/elf-builder.ts';
import { mustReadHeaders } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';

describe('a file that is not an ELF image', () => {
  test.each([
    ['nothing', ''],
    ['a short text', 'hello'],
    ['a long text', 'x'.repeat(1000)],
    ['the magic alone', '\x7fELF'],
  ])('has no headers: %s', async (_what, text) => {
    expect(await readHeaders(new MemorySource([new TextEncoder().encode(text)]))).toBeNull();
  });
});

describe('the headers of an image', () => {
  test('are read in three reads', async () => {
    const { bytes, format, programHeadersAt } = kernel();
    const source = new CountingSource(bytes);
    await readHeaders(source);
    const sections = 5 * format.sectionHeader.size;
    expect(source.reads).toEqual([
      { offset: 0, length: 64 },
      { offset: programHeadersAt, length: format.programHeader.size },
      { offset: bytes.length - sections, length: sections },
    ]);
  });

  test('of an image that is shorter than an ELF64 header', async () => {
    const source = new CountingSource(buildImage({ class: 'ELF32' }).bytes.subarray(0, 52));
    const headers = await mustReadHeaders(source);
    expect(headers).toMatchObject({ imageSize: 52, programHeaders: { count: 0 }, sectionHeaders: { count: 0 } });
    expect(source.reads).toEqual([{ offset: 0, length: 52 }]);
  });

  const placements: [string, Placement][] = [
    ['at their native size', {}],
    ['with room between them', { sectionHeaderStride: 100 }],
    ['further apart than is read in one run', { sectionHeaderStride: 5000 }],
    ['packed', { sectionHeaders: 1000, sectionHeaderStride: 64, imageSize: 1000 + 5 * 64 }],
  ];
  test.each(placements)('are the same %s', async (_what, placement) => {
    const { bytes, section } = kernel({ placement });
    const { sectionHeaders } = await mustReadHeaders(bytes);
    const recorder = new Recorder('init');
    const view = new View({ imageSize: bytes.length, littleEndian: true }, recorder);
    const { sh_type, sh_offset } = kernel().format.sectionHeader.fields;
    expect(view.number(sectionHeaders, 2, sh_type)).toBe(SHT_SYMTAB);
    expect(view.bigint(sectionHeaders, 2, sh_offset)).toBe(BigInt(section('.symtab').offset));
    expect(recorder.recorded).toBeNull();
  });

  test('that lie over one another keep their bytes', async () => {
    const { bytes } = kernel({ header: { e_shoff: 0, e_shentsize: 1, e_shnum: 20 } });
    const { sectionHeaders } = await mustReadHeaders(bytes);
    const recorder = new Recorder('init');
    const view = new View({ imageSize: bytes.length, littleEndian: true }, recorder);
    const entries = Array.from({ length: sectionHeaders.count }, (_, index) => view.entry(sectionHeaders, index));
    expect(entries.length).toBeGreaterThan(10);
    expect(entries).toEqual(entries.map((_, index) => bytes.slice(index, index + 64)));
  });

  test('that are cut by the end of the image are read as far as they go', async () => {
    const { bytes } = kernel({ placement: { imageSize: 1000 }, header: { e_shoff: 984, e_shentsize: 0, e_shnum: 2 } });
    bytes.fill(0x11, 984);
    const source = new CountingSource(bytes);
    const { sectionHeaders } = await mustReadHeaders(source);
    const recorder = new Recorder('init');
    const view = new View({ imageSize: 1000, littleEndian: true }, recorder);
    const { sh_type, sh_flags, sh_addr } = kernel().format.sectionHeader.fields;
    expect(view.number(sectionHeaders, 1, sh_type)).toBe(0x1111_1111);
    expect(view.bigint(sectionHeaders, 1, sh_flags)).toBe(0x1111_1111_1111_1111n);
    expect(recorder.recorded).toBeNull();
    expect(view.bigint(sectionHeaders, 1, sh_addr)).toBe(0n);
    expect(recorder.recorded?.what).toBe('sh_addr of section header 1');
  });

  test.each([0, 1, 55])(
    'that begin close to its end and are said to be 65,535, %i bytes apart, take a read',
    async (stride) => {
      const { bytes } = kernel({ header: { e_phentsize: stride, e_phnum: 65_535, e_shnum: 0 } });
      const size = 65_535 * 55 + 1000;
      // The table ends inside, but its last headers do not.
      writeField(bytes, 0, kernel().format.elfHeader.fields.e_phoff, size - 65_535 * stride - 10, true);
      const source = new CountingSource(bytes, size);
      const { programHeaders } = await mustReadHeaders(source);
      expect(programHeaders.count).toBe(65_535);
      expect(source.reads).toHaveLength(2);
    },
  );

  test('that wrap into the image are read in runs', async () => {
    const { bytes } = kernel({ header: { e_phentsize: 64, e_phnum: 65_535, e_shnum: 0 } });
    const size = 60_000 * 64;
    writeField(bytes, 0, kernel().format.elfHeader.fields.e_phoff, 2n ** 64n - 64n * 5535n, true);
    const source = new CountingSource(bytes, size);
    const { programHeaders } = await mustReadHeaders(source);
    expect(programHeaders.count).toBe(65_535);
    expect(source.reads.length).toBeLessThanOrEqual(1 + Math.ceil((65_535 * 64) / 2 ** 20));
    // From the first header that is inside on.
    const recorder = new Recorder('init');
    const view = new View({ imageSize: size, littleEndian: true }, recorder);
    expect(view.entry(programHeaders, 5535)).toEqual(bytes.slice(0, 56));
    expect(recorder.recorded).toBeNull();
  });
});
