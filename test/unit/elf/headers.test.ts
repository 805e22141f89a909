import { describe, expect, test } from 'vitest';
import { SHT_DYNSYM, SHT_STRTAB, SHT_SYMTAB } from '../../../src/elf/format.ts';
import { identify, init, locateHeaders, type SymbolTableRef } from '../../../src/elf/headers.ts';
import { buildImage, kernel, type SectionSpec } from '../../support/elf-builder.ts';
import { mustFailInit, mustInit, mustReadHeaders } from '../../support/load.ts';

/** Section tables end the image in these tests, so the sizes of both are known. */
const endOf = ({ bytes }: { readonly bytes: Uint8Array }): bigint => BigInt(bytes.length);

describe('an ELF image', () => {
  test('is at least 52 bytes long', () => {
    const { bytes } = buildImage({ class: 'ELF32', header: { e_shnum: 0, e_shoff: 0 } });
    expect(locateHeaders(bytes.subarray(0, 51), 51)).toBeNull();
    expect(locateHeaders(bytes.subarray(0, 52), 52)).not.toBeNull();
  });

  test('begins with the magic', () => {
    const { bytes } = buildImage({ ident: { 3: 0x47 } });
    expect(locateHeaders(bytes.subarray(0, 64), bytes.length)).toBeNull();
  });

  test.each([
    [0, 'ELF32'],
    [1, 'ELF32'],
    [2, 'ELF64'],
    [3, 'ELF32'],
    [255, 'ELF32'],
  ])('with EI_CLASS %i is read as %s', (byte, expected) => {
    const { bytes } = buildImage({ ident: { 4: byte } });
    expect(locateHeaders(bytes, bytes.length)?.format.class).toBe(expected);
  });

  test.each([
    [0, false],
    [1, true],
    [2, false],
    [255, false],
  ])('with EI_DATA %i is little-endian: %s', (byte, expected) => {
    const { bytes } = buildImage({ ident: { 5: byte } });
    expect(locateHeaders(bytes, bytes.length)?.littleEndian).toBe(expected);
  });

  test('of class ELF64 that ends in its header reads the missing fields as 0', async () => {
    const { bytes } = buildImage({ header: { e_phoff: 0, e_shoff: 0, e_phnum: 9, e_phentsize: 9 } });
    const image = await mustInit(bytes.subarray(0, 52));
    expect(image.sectionCount).toBe(0);
    expect(image.recorded).toMatchObject({
      code: 'out-of-range-access',
      stage: 'init',
      what: 'e_phentsize of the ELF header',
      offset: 54n,
      length: 2n,
    });
  });
});

describe('the identity', () => {
  test('is what the ELF header says', async () => {
    const { bytes } = kernel({ class: 'ELF32', byteOrder: 'big', type: 3, machine: 20, entry: 0xdead_beefn });
    expect(identify(await mustReadHeaders(bytes))).toEqual({
      class: 'ELF32',
      byteOrder: 'big-endian',
      type: 'DYN',
      machine: 'powerpc',
      entry: 0xdead_beefn,
    });
  });

  test('records no reason when the header is cut', async () => {
    const headers = await mustReadHeaders(buildImage({ header: { e_shoff: 0, e_shnum: 0 } }).bytes.subarray(0, 60));
    identify(headers);
    const started = init(headers);
    expect(started.ok && started.image.recorded?.what).toBe('e_shnum of the ELF header');
  });
});

describe('the program header table', () => {
  test('may end at the end of the image', async () => {
    const size = endOf(kernel());
    const { bytes } = kernel({ header: { e_phoff: size - 56n } });
    expect((await mustInit(bytes)).recorded).toBeNull();
  });

  test('one byte further is phdr-overflow', async () => {
    const size = endOf(kernel());
    expect(await mustFailInit(kernel({ header: { e_phoff: size - 55n } }).bytes)).toEqual({
      code: 'phdr-overflow',
      offset: size - 55n,
      length: 56n,
      recorded: null,
    });
  });

  test('may begin anywhere when its end wraps into the image', async () => {
    const { bytes } = kernel({ header: { e_phoff: 2n ** 64n - 56n } });
    expect((await mustInit(bytes)).recorded).toBeNull();
  });

  test('is looked at before the section header table', async () => {
    const { bytes } = kernel({ header: { e_phoff: 2n ** 40n, e_shoff: 2n ** 40n } });
    expect((await mustFailInit(bytes)).code).toBe('phdr-overflow');
  });

  test('counts with an e_phentsize of its own', async () => {
    const failure = await mustFailInit(kernel({ header: { e_phentsize: 0xffff } }).bytes);
    expect(failure).toMatchObject({ code: 'phdr-overflow', offset: 64n, length: 0xffffn });
  });
});

describe('the section header table', () => {
  test('may end at the end of the image', async () => {
    expect((await mustInit(kernel().bytes)).sectionCount).toBe(5);
  });

  test('one byte further is shdr-overflow', async () => {
    const { bytes } = kernel();
    expect(await mustFailInit(bytes.subarray(0, -1))).toEqual({
      code: 'shdr-overflow',
      offset: endOf({ bytes }) - 5n * 64n,
      length: 5n * 64n,
      recorded: null,
    });
  });

  test('may begin anywhere when its end wraps into the image', async () => {
    const { bytes } = kernel({ header: { e_shoff: 2n ** 64n - 5n * 64n } });
    const image = await mustInit(bytes);
    expect(image.symbolTable).toEqual({ found: false, why: 'headers-cut', index: 1 });
  });

  test('holds no more headers than the image has room for at 40 bytes each', async () => {
    const { bytes } = kernel({ header: { e_shoff: 0, e_shentsize: 0, e_shnum: 0xffff } });
    const room = Math.floor(bytes.length / 40);
    const image = await mustInit(bytes);
    expect(image.sectionCount).toBe(room);
    expect(image.recorded).toMatchObject({
      code: 'too-many-section-headers',
      stage: 'init',
      what: 'e_shnum of the ELF header',
      offset: 60n,
      length: 2n,
      detail:
        `The ELF header counts 65535 section headers, but an image of ${bytes.length} bytes has room for ${room} at ` +
        'most. The file is probably cut short or its header damaged.',
    });
  });

  test('may hold exactly as many', async () => {
    const { bytes } = kernel({ placement: { imageSize: 4000 }, header: { e_shoff: 0, e_shentsize: 0, e_shnum: 100 } });
    const image = await mustInit(bytes);
    expect([image.sectionCount, image.recorded]).toEqual([100, null]);
  });

  test('that is too long and does not fit keeps both reasons', async () => {
    const failure = await mustFailInit(kernel({ header: { e_shnum: 0xffff } }).bytes);
    expect(failure).toMatchObject({ code: 'shdr-overflow', recorded: { code: 'too-many-section-headers' } });
  });
});

/** Headers 16 bytes apart: the later ones are cut by the end of the image, which is where the table ends. */
const initCut = (e_shstrndx: number) => {
  const { bytes } = kernel({
    placement: { imageSize: 1000 },
    header: { e_shoff: 1000 - 80, e_shentsize: 16, e_shstrndx },
  });
  return mustInit(bytes);
};

describe('the header of the section names', () => {
  test('is read, and recorded when its sh_offset is outside', async () => {
    expect((await initCut(4)).recorded).toMatchObject({
      code: 'out-of-range-access',
      stage: 'init',
      what: 'sh_offset of section header 4',
      offset: 1008n,
      length: 8n,
    });
  });

  test('is not read when e_shstrndx is not below the count', async () => {
    expect((await initCut(5)).recorded).toBeNull();
    expect((await initCut(0xffff)).recorded).toBeNull();
  });

  test('is read at index 0 too', async () => {
    const { bytes } = kernel({
      placement: { imageSize: 1000 },
      header: { e_shoff: 999, e_shentsize: 0, e_shnum: 1, e_shstrndx: 0 },
    });
    expect((await mustInit(bytes)).recorded?.what).toBe('sh_offset of section header 0');
  });
});

const strtab: SectionSpec = { name: '.strtab', type: SHT_STRTAB };
const symtab = (name: string, link: number | string): SectionSpec => ({ name, type: SHT_SYMTAB, link });
const find = async (...sections: SectionSpec[]) => (await mustInit(buildImage({ sections }).bytes)).symbolTable;

describe('the symbol table', () => {
  test('is the first SYMTAB, with its link', async () => {
    const expected: SymbolTableRef = { found: true, index: 2, link: 1 };
    expect(await find(strtab, symtab('.symtab', 1), symtab('.symtab2', 4))).toEqual(expected);
  });

  test('is not section 0, whatever that says', async () => {
    const { bytes } = buildImage({ nullSection: { sh_type: SHT_SYMTAB, sh_link: 1 }, sections: [strtab] });
    expect((await mustInit(bytes)).symbolTable).toEqual({ found: false, why: 'none', hasDynamicSymbols: false });
  });

  test.each([
    ['is 0', 0],
    ['is the count', 5],
    ['is huge', 0xffff_ffff],
  ])('is not found, even in later sections, when the first link %s', async (_what, link) => {
    const search = await find(symtab('.bad', link), symtab('.good', '.strtab'), strtab);
    expect(search).toEqual({ found: false, why: 'bad-link', index: 1, link });
  });

  test('may link to the last section', async () => {
    expect(await find(symtab('.symtab', 3), strtab)).toEqual({ found: true, index: 1, link: 3 });
  });

  test('may link to a section of any type; that is looked at later', async () => {
    const text: SectionSpec = { name: '.text', type: 1 };
    expect(await find(symtab('.symtab', '.text'), text)).toMatchObject({ found: true, link: 2 });
    expect(await find(symtab('.symtab', '.symtab'))).toMatchObject({ found: true, index: 1, link: 1 });
  });

  test('is not one of dynamic symbols, which is only mentioned', async () => {
    const dynsym: SectionSpec = { name: '.dynsym', type: SHT_DYNSYM, link: '.strtab' };
    expect(await find(dynsym, strtab)).toEqual({ found: false, why: 'none', hasDynamicSymbols: true });
  });

  test('is not sought after a header that begins outside the image', async () => {
    const { bytes } = kernel({ header: { e_shoff: endOf(kernel()), e_shentsize: 0, e_shstrndx: 0xffff } });
    const image = await mustInit(bytes);
    expect(image.symbolTable).toEqual({ found: false, why: 'headers-cut', index: 1 });
    expect(image.recorded).toMatchObject({ code: 'out-of-range-access', what: 'section header 1' });
  });

  test("has its string table's sh_offset read, which is recorded when it is outside", async () => {
    // Headers 24 bytes apart: the last is cut behind its sh_addr, which is also the sh_link of the one before.
    const { bytes } = buildImage({
      sections: [{ name: '.shstrtab', type: SHT_STRTAB }, symtab('.symtab', 3), { ...strtab, addr: 3 }],
      placement: { sectionHeaders: 512, sectionHeaderStride: 24, imageSize: 512 + 4 * 24 },
    });
    const image = await mustInit(bytes);
    expect(image.symbolTable).toEqual({ found: true, index: 2, link: 3 });
    expect(image.recorded).toMatchObject({ stage: 'init', what: 'sh_offset of section header 3', offset: 608n });
  });
});
