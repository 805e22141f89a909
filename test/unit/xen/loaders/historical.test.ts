import { describe, expect, test } from 'vitest';
import { SHT_STRTAB, SHT_SYMTAB } from '../../../../src/elf/format.ts';
import { type Loader, loadSymbols } from '../../../../src/xen/loaders/bsdsyms.ts';
import { buildImage, type ImageSpec, kernel, readField, type SectionSpec } from '../../../support/elf-builder.ts';
import { MIB, mustInit, mustLoad, mustRefuse } from '../../../support/load.ts';

const HISTORICAL = ['xen-4.7', 'xen-4.6', 'libxc-4.6'] as const;
const ALL_HEADERS = ['xen-4.6', 'libxc-4.6'] as const;
const loadAddress = 0x10_0000n;

/** Sections: null, .text, .dynstr, .symtab, .strtab, .shstrtab; only .strtab is linked to. */
const DYNSTR: SectionSpec = { name: '.dynstr', type: SHT_STRTAB, data: Uint8Array.of(0, 1, 2) };
const IMAGE = kernel({ before: [DYNSTR] });
const elf64 = IMAGE.format;

/** Reads a blob the way a guest does, offsets counting from the ELF header. */
function guestView(blob: Uint8Array) {
  const header = (name: keyof typeof elf64.elfHeader.fields) => readField(blob, 4, elf64.elfHeader.fields[name], true);
  const section = (index: number, name: keyof typeof elf64.sectionHeader.fields) =>
    readField(
      blob,
      4 + Number(header('e_shoff')) + index * elf64.sectionHeader.size,
      elf64.sectionHeader.fields[name],
      true,
    );
  return { header, section };
}

describe('what no loader before 4.8 can load', () => {
  test.each(HISTORICAL)('%s: big-endian images', async (loader) => {
    const { broken } = await mustRefuse(kernel({ byteOrder: 'big' }).bytes, { loader });
    expect(broken).toMatchObject({ code: 'loader-unsupported-byte-order', reason: null, stage: 'parse' });
    expect(broken.detail).toContain(loader);
  });

  test('xen-4.7: ELF32, of either byte order', async () => {
    for (const byteOrder of ['little', 'big'] as const) {
      const { broken } = await mustRefuse(kernel({ class: 'ELF32', byteOrder }).bytes, { loader: 'xen-4.7' });
      expect(broken).toMatchObject({ code: 'loader-unsupported-class', reason: null, stage: 'parse' });
    }
  });

  test.each(ALL_HEADERS)('%s: but ELF32 it can', async (loader) => {
    expect((await mustLoad(kernel({ class: 'ELF32' }).bytes, { loader })).plan.loader).toBe(loader);
  });

  test('is reported before anything that is wrong with the image', async () => {
    const { bytes } = buildImage({ byteOrder: 'big', header: { e_shnum: 0xffff, e_shentsize: 0 } });
    const { broken, recorded } = await mustRefuse(bytes, { loader: 'xen-4.6' });
    expect(recorded?.code).toBe('too-many-section-headers');
    expect(broken.code).toBe('loader-unsupported-byte-order');
  });

  test.each(HISTORICAL)('%s: an image with a reason recorded against it', async (loader) => {
    const { bytes } = kernel({ symtab: { header: { sh_offset: 2n ** 40n } } });
    const { broken } = await mustRefuse(bytes, { loader });
    expect(broken).toMatchObject({ code: 'out-of-range-access', stage: 'load', what: 'section 2 (SYMTAB)' });
  });

  test.each(HISTORICAL)('%s: load address 0, and a region that wraps', async (loader) => {
    for (const address of [0n, 2n ** 64n - 1n, 2n ** 64n - 16n]) {
      const { broken } = await mustRefuse(IMAGE.bytes, { loader, loadAddress: address });
      expect(broken.code).toBe('load-address-unusable');
    }
  });

  test.each(HISTORICAL)('%s: an image without symbols', async (loader) => {
    const { broken } = await mustRefuse(buildImage().bytes, { loader });
    expect(broken).toMatchObject({ code: 'no-symbol-table', stage: 'parse' });
  });

  test.each(HISTORICAL)('%s: more than the limit', async (loader) => {
    const { size } = (await mustLoad(IMAGE.bytes, { loader, loadAddress })).plan;
    const { broken } = await mustRefuse(IMAGE.bytes, { loader, loadAddress, maxBlobBytes: size - 1 });
    expect(broken.code).toBe('region-too-large');
    expect((await mustLoad(IMAGE.bytes, { loader, loadAddress, maxBlobBytes: size })).blob).toHaveLength(size);
  });
});

describe('xen-4.7', () => {
  const LYING = { e_shstrndx: 5, e_ehsize: 64, e_shentsize: 64, e_version: 7 };

  test('keeps fields that 4.8 replaces', async () => {
    const { bytes } = kernel({ header: LYING });
    const now = guestView((await mustLoad(bytes, { loadAddress })).blob);
    const then = guestView((await mustLoad(bytes, { loadAddress, loader: 'xen-4.7' })).blob);
    expect([then.header('e_version'), then.header('e_shstrndx')]).toEqual([7n, 5n]);
    expect([now.header('e_version'), now.header('e_shstrndx')]).toEqual([1n, 0n]);
    expect([then.header('e_shoff'), then.header('e_shnum'), then.header('e_phnum')]).toEqual([64n, 3n, 0n]);
  });

  test('reserves what the ELF header says of its headers', async () => {
    const { plan } = await mustLoad(kernel({ header: { e_ehsize: 65 } }).bytes, { loadAddress, loader: 'xen-4.7' });
    const honest = await mustLoad(kernel().bytes, { loadAddress, loader: 'xen-4.7' });
    expect(plan.xenReservedEnd - honest.plan.xenReservedEnd).toBe(0n);
    const wide = await mustLoad(kernel({ header: { e_ehsize: 69 } }).bytes, { loadAddress, loader: 'xen-4.7' });
    expect(wide.plan.xenReservedEnd - honest.plan.xenReservedEnd).toBe(8n);
    expect(wide.plan.tables).toEqual(honest.plan.tables);
  });

  test('considers section 0, but not a string table there', async () => {
    const { symtab, strtab } = { symtab: IMAGE.section('.symtab'), strtab: IMAGE.section('.strtab') };
    const nullSection = {
      sh_type: SHT_SYMTAB,
      sh_offset: symtab.offset,
      sh_size: symtab.data.length,
      sh_link: strtab.index,
    };
    const { bytes } = kernel({ before: [DYNSTR], symtab: { type: 1 }, nullSection });
    expect((await mustRefuse(bytes)).broken.code).toBe('no-symbol-table');
    expect((await mustLoad(bytes, { loader: 'xen-4.7' })).plan.tables).toHaveLength(2);
    const linked = kernel({ nullSection: { sh_type: SHT_STRTAB }, symtab: { header: { sh_link: 0 } } });
    expect((await mustRefuse(linked.bytes, { loader: 'xen-4.7' })).broken.code).toBe('no-symbol-table');
  });

  test('needs the linked section to be a string table', async () => {
    const { bytes } = kernel({ symtab: { link: 1 } });
    expect((await mustRefuse(bytes, { loader: 'xen-4.7' })).broken.code).toBe('strtab-link-invalid');
  });
});

describe.each(ALL_HEADERS)('%s', (loader) => {
  test('copies all section headers and passes the size of the region on', async () => {
    const { blob, plan } = await mustLoad(IMAGE.bytes, { loader, loadAddress });
    const { header, section } = guestView(blob);
    expect(header('e_shoff')).toBe(64n);
    expect(header('e_shnum')).toBe(6n);
    expect([header('e_phoff'), header('e_phentsize'), header('e_phnum')]).toEqual([0n, 0n, 0n]);
    expect(section(1, 'sh_type')).toBe(1n);
    expect(section(1, 'sh_offset')).toBe(BigInt(IMAGE.section('.text').offset));
    expect(section(3, 'sh_link')).toBe(4n);
    expect(plan).toMatchObject({
      loader,
      size: blob.length,
      sizeWord: blob.length - 4,
      headers: { elfHeaderSize: 64 },
    });
    expect(plan.pend).toBe(plan.xenReservedEnd);
    expect(new DataView(blob.buffer).getUint32(0, true)).toBe(plan.sizeWord);
  });

  test('has the bytes of a table where its header says', async () => {
    const { blob, plan } = await mustLoad(IMAGE.bytes, { loader, loadAddress });
    const { section } = guestView(blob);
    expect(plan.tables[0]?.offset).toBe(456);
    for (const table of plan.tables) {
      const { data } = IMAGE.sections[table.index - 1] ?? { data: null };
      expect(section(table.index, 'sh_offset')).toBe(BigInt(table.shOffset));
      expect(table.offset % 8).toBe(0);
      expect(blob.subarray(table.offset, table.offset + table.size)).toEqual(data);
    }
  });

  test('passes over a symbol table whose link leads nowhere', async () => {
    const before: SectionSpec[] = [{ name: '.bad', type: SHT_SYMTAB, link: 77 }];
    expect((await mustRefuse(kernel({ before }).bytes)).broken.code).toBe('no-symbol-table');
    const { plan } = await mustLoad(kernel({ before }).bytes, { loader });
    expect(plan.tables.map(({ index, type }) => `${index} ${type}`)).toContain('2 SYMTAB');
    const { broken } = await mustRefuse(kernel({ symtab: { link: 77 } }).bytes, { loader });
    expect(broken.code).toBe('no-symbol-table');
    expect(broken.detail).toBe(
      'Section 2 (SYMTAB) links to section 77, but its string table must be one of the sections 0 to 4.',
    );
  });

  test('does not look at the type of the linked section', async () => {
    expect((await mustLoad(kernel({ symtab: { link: 1 } }).bytes, { loader })).plan.tables[0]?.link).toBe(1);
  });

  test('names a few of very many tables that are too large', async () => {
    const after = Array.from({ length: 50 }, (_, index) => ({
      name: `.s${index}`,
      type: SHT_SYMTAB,
      header: { sh_size: 1000 },
    }));
    const { bytes } = kernel({ after, placement: { imageSize: 20_000 } });
    const { broken } = await mustRefuse(bytes, { loader, maxBlobBytes: 10_000 });
    expect(broken.code).toBe('region-too-large');
    expect(broken.detail).toMatch(/\(SYMTAB 96, STRTAB 22, [^,]*, [^,]*, and \d+ more\)/);
  });

  test('plans as many tables as an image can have', async () => {
    const { image } = await hostile(65_535);
    const loaded = loadSymbols(image, { loader, loadAddress, maxBlobBytes: 64 * MIB });
    expect(loaded).toMatchObject({ ok: true, plan: { size: 72 + 65_535 * 64 + 65_534 * 8 } });
    const { extents, tables } = loaded.ok ? loaded.plan : { extents: [], tables: [] };
    expect([tables.length, extents.length]).toEqual([65_534, 3 + 1 + 65_534]);
  });

  test('refuses the sum of very many tables before it is planned', async () => {
    const { image } = await hostile(65_535, 4096);
    const loaded = loadSymbols(image, { loader, loadAddress, maxBlobBytes: 64 * MIB });
    expect(loaded).toMatchObject({ ok: false, broken: { code: 'region-too-large' } });
  });
});

describe('xen-4.6', () => {
  test('copies every string table and keeps the names', async () => {
    const { blob, plan } = await mustLoad(IMAGE.bytes, { loader: 'xen-4.6', loadAddress });
    expect(plan.tables.map(({ index, type }) => `${index} ${type}`)).toEqual([
      '2 STRTAB',
      '3 SYMTAB',
      '4 STRTAB',
      '5 STRTAB',
    ]);
    const { header, section } = guestView(blob);
    expect(header('e_shstrndx')).toBe(5n);
    expect(section(3, 'sh_name')).not.toBe(0n);
  });

  test.each([
    ['longer headers with what follows them in the image', 72, 80],
    ['shorter headers cut', 60, 56],
  ])('copies %s', async (_what, ehsize, stride) => {
    const spec: ImageSpec = { header: { e_ehsize: ehsize } };
    const image = kernel({ ...spec, placement: { sectionHeaderStride: Math.max(stride, 64) } });
    const { blob, plan } = await mustLoad(image.bytes, { loader: 'xen-4.6', loadAddress });
    expect(plan.headers?.elfHeaderSize).toBe(ehsize);
    expect(plan.size).toBe(blob.length);
    const slot = Math.max(stride, 64);
    for (const index of [1, 2]) {
      const at = 4 + ehsize + index * slot;
      const from = image.sections[index - 1]?.headerAt ?? 0;
      expect(blob.subarray(at, at + 16)).toEqual(image.bytes.subarray(from, from + 16));
      expect(blob.subarray(at + 32, at + slot)).toEqual(image.bytes.subarray(from + 32, from + slot));
    }
  });
});

describe('libxc-4.6', () => {
  test('leaves out names, and string tables without a link to them', async () => {
    const { blob, plan } = await mustLoad(IMAGE.bytes, { loader: 'libxc-4.6', loadAddress });
    const whole = await mustLoad(IMAGE.bytes, { loader: 'xen-4.6', loadAddress });
    expect(plan.tables.map(({ index, type }) => `${index} ${type}`)).toEqual(['3 SYMTAB', '4 STRTAB']);
    const { header, section } = guestView(blob);
    expect(header('e_shstrndx')).toBe(0n);
    expect([1, 3, 4].map((index) => section(index, 'sh_name'))).toEqual([0n, 0n, 0n]);
    expect([2, 5].map((index) => section(index, 'sh_offset'))).toEqual([0n, 0n]);
    expect(section(2, 'sh_name')).not.toBe(0n);
    // The region has room for them all the same.
    expect(plan.size).toBe(whole.plan.size);
    const last = plan.tables.at(-1);
    expect(blob.subarray((last?.offset ?? 0) + (last?.size ?? 0)).every((byte) => byte === 0)).toBe(true);
  });

  test('gives every header the size of the class', async () => {
    const image = kernel({ header: { e_ehsize: 72 }, placement: { sectionHeaderStride: 80 } });
    const { blob, plan } = await mustLoad(image.bytes, { loader: 'libxc-4.6', loadAddress });
    expect(plan.headers?.elfHeaderSize).toBe(64);
    expect(guestView(blob).section(2, 'sh_type')).toBe(BigInt(SHT_SYMTAB));
  });

  test('does not mind an unlinked string table that was cut off', async () => {
    const before: SectionSpec[] = [{ ...DYNSTR, header: { sh_offset: 2n ** 40n } }];
    const { bytes } = kernel({ before });
    expect((await mustRefuse(bytes, { loader: 'xen-4.6' })).broken.code).toBe('out-of-range-access');
    expect((await mustLoad(bytes, { loader: 'libxc-4.6' })).plan.tables).toHaveLength(2);
  });
});

/** Section headers that are all symbol tables over the same bytes. */
async function hostile(count: number, size = 8) {
  const { sectionHeader, elfHeader } = elf64;
  const bytes = new Uint8Array(elfHeader.size + count * sectionHeader.size);
  bytes.set(buildImage({ header: { e_shnum: count, e_shoff: elfHeader.size } }).bytes.subarray(0, elfHeader.size));
  const data = new DataView(bytes.buffer);
  for (let index = 1; index < count; index++) {
    const at = elfHeader.size + index * sectionHeader.size;
    data.setUint32(at + sectionHeader.fields.sh_type.offset, SHT_SYMTAB, true);
    data.setUint32(at + sectionHeader.fields.sh_link.offset, 1, true);
    data.setBigUint64(at + sectionHeader.fields.sh_size.offset, BigInt(size), true);
  }
  return { image: await mustInit(bytes), loader: 'xen-4.6' satisfies Loader };
}
