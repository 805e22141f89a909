import { describe, expect, test } from 'vitest';
import { ELF32, ELF64, SHT_DYNSYM, SHT_STRTAB, SHT_SYMTAB } from '../../../../src/elf/format.ts';
import { loadSymbols } from '../../../../src/xen/loaders/bsdsyms.ts';
import { roundUp } from '../../../../src/xen/loaders/layout.ts';
import { buildImage, type ImageSpec, type KernelSpec, kernel, readField } from '../../../support/elf-builder.ts';
import { MIB, mustInit, mustLoad, mustRefuse } from '../../../support/load.ts';

const U64_END = 2n ** 64n;
const AT = { loadAddress: 0x10_0000n };

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** An image without program headers that fits anywhere: symbols of 24 and 5 bytes. */
const SMALL: KernelSpec = { symtab: { data: new Uint8Array(24).fill(0x51) }, strtab: { data: ascii('\0abc\0') } };

describe('rounding up', () => {
  test.each([
    [0n, 0n, 0n],
    [1n, 4n, 8n],
    [4n, 4n, 8n],
    [5n, 8n, 8n],
    [8n, 8n, 8n],
    [U64_END - 1n, U64_END, U64_END],
  ])('0x%s goes to 4 for ELF32 and to 8 for ELF64', (value, to32, to64) => {
    expect([roundUp(value, ELF32), roundUp(value, ELF64)]).toEqual([to32, to64]);
  });
});

test('that there is no symbol table is recorded with what was found', async () => {
  const { recorded, broken } = await mustRefuse(kernel({ symtab: { type: 1 } }).bytes);
  expect(recorded).toMatchObject({ code: 'no-symbol-table', stage: 'parse', detail: broken.detail });
  expect(broken.detail).toContain('is a symbol table');
});

describe('the region', () => {
  test.each([
    ['of ELF64 is 264 bytes and both tables, each rounded up to 8', 'ELF64', 296, 296],
    ['of ELF32 is reserved for 192 bytes and the tables, but written to after that', 'ELF32', 224, 292],
  ] as const)('%s', async (_rule, elfClass, reserved, size) => {
    const { plan } = await mustLoad(kernel({ ...SMALL, class: elfClass }).bytes, AT);
    expect(plan).toMatchObject({
      pstart: 0x10_0000n,
      xenReservedEnd: 0x10_0000n + BigInt(reserved),
      size,
      pend: 0x10_0000n + BigInt(size),
    });
  });

  test('begins at the end of the kernel, rounded up to the class', async () => {
    expect((await mustLoad(kernel({ memsz: 0x1001 }).bytes)).plan).toMatchObject({
      loadAddress: 0x10_1001n,
      pstart: 0x10_1008n,
    });
    expect((await mustLoad(kernel({ class: 'ELF32', memsz: 0x1001 }).bytes)).plan.pstart).toBe(0x10_1004n);
  });

  test('keeps what is recorded before it from ending the work', async () => {
    const { bytes } = kernel({ header: { e_phentsize: 0, e_phoff: kernel().bytes.length } });
    const { recorded, plan } = await mustLoad(bytes, AT);
    expect(recorded).toMatchObject({ code: 'out-of-range-access', stage: 'segments' });
    expect(plan.tables).toHaveLength(2);
  });
});

describe('the blob', () => {
  test('opens with the size word: from the ELF header to the end of the strtab', async () => {
    const { blob, plan } = await mustLoad(kernel(SMALL).bytes, AT);
    expect(plan.sizeWord).toBe(288 + 5 - 4);
    expect(new DataView(blob.buffer).getUint32(0, true)).toBe(plan.sizeWord);
  });

  test.each([
    ['ELF64', { e_ehsize: 64, e_shentsize: 64 }],
    ['ELF32', { e_ehsize: 52, e_shentsize: 40 }],
  ] as const)('of %s has the ELF header of the image with some fields replaced', async (elfClass, sizes) => {
    const { bytes, format } = kernel({
      ...SMALL,
      class: elfClass,
      type: 3,
      machine: 183,
      entry: 0x12_3456,
      ident: { 7: 9 },
      header: { e_flags: 0xabcd, e_version: 7, e_ehsize: 99 },
    });
    const { blob } = await mustLoad(bytes, AT);
    const fields = Object.values(format.elfHeader.fields).filter(({ name }) => name !== 'e_ident');
    expect(blob.subarray(4, 20)).toEqual(bytes.subarray(0, 16));
    expect(Object.fromEntries(fields.map((field) => [field.name, Number(readField(blob, 4, field, true))]))).toEqual({
      e_type: 3,
      e_machine: 183,
      e_version: 1,
      e_entry: 0x12_3456,
      e_phoff: 0,
      e_shoff: 64,
      e_flags: 0xabcd,
      e_phentsize: 0,
      e_phnum: 0,
      e_shnum: 3,
      e_shstrndx: 0,
      ...sizes,
    });
  });

  test.each([
    ['ELF64', 264, 288],
    ['ELF32', 260, 284],
  ] as const)('of %s has three section headers and both tables behind them', async (elfClass, symtabAt, strtabAt) => {
    const image = kernel({
      ...SMALL,
      class: elfClass,
      symtab: { ...SMALL.symtab, info: 7, flags: 3, addr: 5, align: 1 },
    });
    const { blob, plan } = await mustLoad(image.bytes, AT);
    const { size, fields } = image.format.sectionHeader;
    const section = (index: number) =>
      Object.fromEntries(
        Object.values(fields).map((field) => [field.name, Number(readField(blob, 68 + index * size, field, true))]),
      );
    expect(blob.subarray(68, 68 + size)).toEqual(new Uint8Array(size));
    expect(section(1)).toMatchObject({ sh_type: 2, sh_offset: symtabAt - 4, sh_link: 2, sh_size: 24 });
    expect(section(1)).toMatchObject({ sh_flags: 3, sh_addr: 5, sh_info: 7, sh_entsize: image.format.symbol.size });
    expect(section(2)).toMatchObject({ sh_type: 3, sh_offset: strtabAt - 4, sh_link: 0, sh_size: 5 });
    expect(blob.subarray(symtabAt, symtabAt + 24)).toEqual(image.section('.symtab').data);
    expect(blob.subarray(strtabAt, strtabAt + 5)).toEqual(image.section('.strtab').data);

    const from = { symtab: image.section('.symtab').offset, strtab: image.section('.strtab').offset };
    const entrySize = BigInt(image.format.symbol.size);
    expect(plan.headers?.elfHeaderSize).toBe(image.format.elfHeader.size);
    expect(plan.tables).toEqual([
      {
        index: 1,
        section: image.section('.symtab').index,
        type: 'SYMTAB',
        offset: symtabAt,
        size: 24,
        shOffset: symtabAt - 4,
        fileOffset: from.symtab,
        link: 2,
        info: 7,
        entrySize,
      },
      {
        index: 2,
        section: image.section('.strtab').index,
        type: 'STRTAB',
        offset: strtabAt,
        size: 5,
        shOffset: strtabAt - 4,
        fileOffset: from.strtab,
        link: 0,
        info: 0,
        entrySize: 0n,
      },
    ]);
  });

  test('leaves zeros where the reference writes nothing (CVE-2016-9384)', async () => {
    const { bytes } = kernel({ ...SMALL, class: 'ELF32', symbols: 50, symtab: {}, strtab: {} });
    const { blob } = await mustLoad(bytes, AT);
    expect(blob.subarray(56, 68)).toEqual(new Uint8Array(12));
    expect(blob.subarray(188, 260)).toEqual(new Uint8Array(72));
  });

  test('leaves zeros beyond the reserved region too, in a small ELF32 image', async () => {
    const tiny = { symtab: { data: new Uint8Array(6) }, strtab: { data: ascii('\0') } };
    const { blob } = await mustLoad(kernel({ class: 'ELF32', ...tiny }).bytes, AT);
    // Reserved are 192 + 6 bytes, rounded up, + 1, rounded up: 204. The symtab is at 260, the strtab at 268.
    expect(blob).toHaveLength(272);
    expect(blob.subarray(188)).toEqual(new Uint8Array(84));
  });

  test('of a big-endian image mixes both orders: replaced fields are little-endian', async () => {
    const { bytes } = kernel({ ...SMALL, byteOrder: 'big', machine: 43 });
    const { blob } = await mustLoad(bytes, AT);
    const data = new DataView(blob.buffer);
    const { elfHeader, sectionHeader } = ELF64;
    const symtab = 68 + sectionHeader.size;
    expect(data.getUint16(4 + elfHeader.fields.e_machine.offset, false)).toBe(43);
    expect(data.getUint16(4 + elfHeader.fields.e_shnum.offset, true)).toBe(3);
    expect(data.getUint32(4 + elfHeader.fields.e_version.offset, true)).toBe(1);
    expect(data.getBigUint64(4 + elfHeader.fields.e_shoff.offset, true)).toBe(64n);
    expect(data.getUint32(symtab + sectionHeader.fields.sh_type.offset, false)).toBe(2);
    expect(data.getBigUint64(symtab + sectionHeader.fields.sh_size.offset, false)).toBe(24n);
    expect(data.getBigUint64(symtab + sectionHeader.fields.sh_offset.offset, true)).toBe(260n);
    expect(data.getUint32(symtab + sectionHeader.fields.sh_link.offset, true)).toBe(2);
    expect(data.getUint32(0, true)).toBe(289);
  });

  test('keeps an EI_CLASS that is neither of the classes', async () => {
    const { bytes } = kernel({ ...SMALL, class: 'ELF32', ident: { 4: 77 } });
    expect((await mustLoad(bytes, AT)).blob[4 + 4]).toBe(77);
  });

  test('has a size word of 32 bits, whatever the sizes', async () => {
    const image = await mustInit(kernel({ ...SMALL, strtab: { header: { sh_size: 2n ** 32n + 16n } } }).bytes);
    const loaded = loadSymbols(image, { ...AT, loader: 'xen-4.8', maxBlobBytes: 2 ** 40 });
    expect(loaded).toMatchObject({ ok: true, plan: { sizeWord: 288 + 16 - 4, size: 2 ** 32 + 304 } });
  });
});

describe('a copy that is not wholly inside the image', () => {
  const size = kernel(SMALL).bytes.length;

  test.each([
    ['SYMTAB', { symtab: { header: { sh_offset: size - 23 } } }, 2, size - 23, 24],
    ['STRTAB', { strtab: { header: { sh_offset: size - 4 } } }, 3, size - 4, 5],
  ])('is skipped, never cut short: %s', async (name, override, index, offset, length) => {
    const spec = {
      ...SMALL,
      symtab: { ...SMALL.symtab, ...('symtab' in override ? override.symtab : {}) },
      strtab: { ...SMALL.strtab, ...('strtab' in override ? override.strtab : {}) },
    };
    const { blob, plan, recorded } = await mustLoad(kernel(spec).bytes, AT);
    expect(recorded).toMatchObject({
      code: 'out-of-range-access',
      stage: 'load',
      what: `section ${index} (${name})`,
      offset: BigInt(offset),
      length: BigInt(length),
      detail:
        `Section ${index} (${name}) would be ${length} bytes at offset ${offset}, but the image ends at ${size}. ` +
        'The file is probably cut short: compare its size with the original.',
    });
    const table = plan.tables[index - 2];
    expect(table).toMatchObject({ type: name, fileOffset: null, size: length });
    const at = table?.offset ?? 0;
    expect(blob.subarray(at, at + length)).toEqual(new Uint8Array(length));
    expect(blob).toHaveLength(296);
  });

  test.each([
    [size, null],
    [size + 1, { code: 'out-of-range-access', what: 'section 3 (STRTAB)', offset: BigInt(size + 1), length: 0n }],
  ])('is not there either when it is empty, beyond the end: at %i', async (sh_offset, recorded) => {
    const { bytes } = kernel({ ...SMALL, strtab: { ...SMALL.strtab, header: { sh_size: 0, sh_offset } } });
    const loaded = await mustLoad(bytes, AT);
    expect({ recorded: loaded.recorded }).toMatchObject({ recorded });
  });
});

/** Headers 48 bytes apart, so that the last is 16 bytes short although its table fits into the image. */
const cutHeaders = (...sections: NonNullable<ImageSpec['sections']>) => {
  const placement = { sectionHeaders: 800, sectionHeaderStride: 48, imageSize: 800 + (sections.length + 1) * 48 };
  return buildImage({ sections, placement }).bytes;
};

describe('a section header that is cut', () => {
  const names = { name: '.shstrtab', type: SHT_STRTAB };
  const symtab = { name: '.symtab', type: SHT_SYMTAB, link: '.strtab', data: new Uint8Array(24).fill(0x51) };
  const strtab = { name: '.strtab', type: SHT_STRTAB, data: ascii('\0abc\0') };

  test.each([
    ['of the strtab ends loading after the symtab', [symtab, strtab], symtab.data],
    ['of the symtab is as if it were all zeros', [strtab, symtab], new Uint8Array()],
  ])('%s', async (_what, sections, copied) => {
    const { blob, plan, recorded } = await mustLoad(cutHeaders(names, ...sections), AT);
    expect(recorded).toMatchObject({ code: 'out-of-range-access', stage: 'load', what: 'section header 3' });
    expect(plan).toMatchObject({ sizeWord: 0, headers: null, tables: [{ type: 'SYMTAB', size: copied.length }] });
    const expected = new Uint8Array(296);
    expected.set(copied, 264);
    expect(blob).toEqual(expected);
  });
});

describe('no-symbol-table', () => {
  test.each<[string, Uint8Array, string]>([
    [
      'a stripped image',
      buildImage({ sections: [{ name: '.text' }] }).bytes,
      'None of the 3 sections is a symbol table (SYMTAB).',
    ],
    [
      'dynamic symbols only',
      buildImage({ sections: [{ name: '.dynsym', type: SHT_DYNSYM }] }).bytes,
      'None of the 3 sections is a symbol table (SYMTAB), only dynamic symbols (DYNSYM), which do not count.',
    ],
    ['no section headers', buildImage({ header: { e_shnum: 0 } }).bytes, 'The image has no section headers.'],
    [
      'a bad link',
      kernel({ symtab: { header: { sh_link: 5 } } }).bytes,
      'Section 2 (SYMTAB) links to section 5, but its string table must be one of the sections 1 to 4. ' +
        'The loader looks no further than the first symbol table.',
    ],
  ])('names %s', async (_what, image, detail) => {
    expect((await mustRefuse(image, AT)).broken).toEqual({
      code: 'no-symbol-table',
      reason: 'invalid ELF handle for symtab section',
      stage: 'parse',
      what: 'symbol table',
      offset: null,
      length: null,
      detail,
    });
  });

  test('is what is recorded, too', async () => {
    const { recorded } = await mustRefuse(buildImage().bytes, AT);
    expect(recorded).toMatchObject({ code: 'no-symbol-table', stage: 'parse' });
  });

  test('yields to the reason that was recorded before, whose detail then names it', async () => {
    const { bytes } = kernel();
    const image = kernel({ header: { e_shoff: bytes.length, e_shentsize: 0, e_shstrndx: 0xffff } }).bytes;
    const { broken } = await mustRefuse(image, AT);
    expect(broken).toMatchObject({ code: 'out-of-range-access', reason: 'out of range access', stage: 'init' });
    expect(broken.what).toBe('section header 1');
    expect(broken.detail).toContain(
      'Besides, no symbols can be loaded (no-symbol-table): ' +
        'Section header 1 of 5 lies outside the image, and no symbol table came before it.',
    );
  });
});

describe('strtab-link-invalid', () => {
  test('names the type of a section that is not a string table, and records nothing', async () => {
    const { broken, recorded } = await mustRefuse(kernel({ symtab: { link: 1 } }).bytes, AT);
    expect(recorded).toBeNull();
    expect(broken).toEqual({
      code: 'strtab-link-invalid',
      reason: null,
      stage: 'parse',
      what: 'section 1',
      offset: null,
      length: null,
      detail:
        'Section 2 (SYMTAB) links to section 1, whose type is 1 (PROGBITS), not 3 (STRTAB). ' +
        'Without its string table Xen loads no symbols.',
    });
  });

  test('is also the answer to a symbol table that links to itself', async () => {
    const { broken } = await mustRefuse(kernel({ symtab: { link: '.symtab' } }).bytes, AT);
    expect(broken).toMatchObject({ code: 'strtab-link-invalid', what: 'section 2' });
  });

  test('gives way to what was recorded before', async () => {
    const { bytes } = kernel();
    const image = kernel({ symtab: { link: 1 }, header: { e_phoff: bytes.length, e_phentsize: 0 } }).bytes;
    const { broken } = await mustRefuse(image, AT);
    expect(broken).toMatchObject({ code: 'out-of-range-access', stage: 'segments', what: 'program header 0' });
    expect(broken.detail).toContain(
      'Besides, no symbols can be loaded (strtab-link-invalid): Section 2 (SYMTAB) links',
    );
  });

  test('comes before the load address', async () => {
    const { broken } = await mustRefuse(kernel({ symtab: { link: 1 } }).bytes, { loadAddress: 0n });
    expect(broken.code).toBe('strtab-link-invalid');
  });
});

const refusal = async (spec: KernelSpec, loadAddress: bigint | null) =>
  (await mustRefuse(kernel(spec).bytes, { loadAddress })).broken;

describe('load-address-unusable', () => {
  test('is the answer to 0', async () => {
    const broken = await refusal(SMALL, 0n);
    expect(broken).toMatchObject({ code: 'load-address-unusable', reason: null, stage: 'parse', what: 'load address' });
    expect(broken.detail).toMatch(/^The load address is 0, where Xen loads no symbols\./);
  });

  test('is the answer to an image without loadable segments', async () => {
    const { bytes } = kernel({ ...SMALL, header: { e_phnum: 0 } });
    expect((await mustRefuse(bytes)).broken.code).toBe('load-address-unusable');
  });

  test('is the answer to what wraps to 0 when rounded up', async () => {
    expect((await refusal(SMALL, U64_END - 7n)).detail).toBe(
      'The load address 0xfffffffffffffff9 wraps to 0 when it is rounded up. Give a lower loadAddress.',
    );
    expect((await refusal({ ...SMALL, class: 'ELF32' }, U64_END - 3n)).code).toBe('load-address-unusable');
  });

  test('is the answer to a region that runs past 2^64', async () => {
    expect((await refusal(SMALL, U64_END - 288n)).detail).toBe(
      'The symbols are 296 bytes; from 0xfffffffffffffee0 on they would run past 2^64. Give a lower loadAddress.',
    );
  });

  test('is not the answer to a region that ends at 2^64, where the reference wraps to 0', async () => {
    const { plan } = await mustLoad(kernel(SMALL).bytes, { loadAddress: U64_END - 296n });
    expect(plan).toMatchObject({ pstart: U64_END - 296n, pend: U64_END, xenReservedEnd: 0n });
  });

  test('goes by the true end of ELF32, not by what is reserved', async () => {
    expect((await refusal({ ...SMALL, class: 'ELF32' }, U64_END - 224n)).code).toBe('load-address-unusable');
  });
});

describe('region-too-large', () => {
  test('names the sizes and the limit', async () => {
    const { broken } = await mustRefuse(kernel(SMALL).bytes, { ...AT, maxBlobBytes: 295 });
    expect(broken).toEqual({
      code: 'region-too-large',
      reason: null,
      stage: 'parse',
      what: 'symbol region',
      offset: null,
      length: 296n,
      detail:
        'The symbols would take 296 bytes (SYMTAB 24, STRTAB 5); at most 295 are allowed. ' +
        'If the image is not damaged, this limit has to be raised.',
    });
  });

  test('is not the answer to a region as large as the limit', async () => {
    expect((await mustLoad(kernel(SMALL).bytes, { ...AT, maxBlobBytes: 296 })).blob).toHaveLength(296);
  });

  test('goes by the true size of ELF32, not by what is reserved', async () => {
    const { bytes } = kernel({ ...SMALL, class: 'ELF32' });
    expect((await mustRefuse(bytes, { ...AT, maxBlobBytes: 291 })).broken.code).toBe('region-too-large');
  });

  test('comes before the end of the address space', async () => {
    const { bytes } = kernel(SMALL);
    const { broken } = await mustRefuse(bytes, { loadAddress: U64_END - 8n, maxBlobBytes: 100 });
    expect(broken.code).toBe('region-too-large');
  });

  test.each([2n ** 31n, 2n ** 63n, U64_END - 1n, U64_END - 264n])(
    'does not let a size of %d wrap the region to something small',
    async (sh_size) => {
      const { bytes } = kernel({ ...SMALL, symtab: { ...SMALL.symtab, header: { sh_size } } });
      const { broken } = await mustRefuse(bytes, { ...AT, maxBlobBytes: MIB });
      // Such a table cannot lie in the image either, and that is what is recorded first.
      expect(broken).toMatchObject({ code: 'out-of-range-access', stage: 'load', what: 'section 2 (SYMTAB)' });
      expect(broken.detail).toContain('Besides, no symbols can be loaded (region-too-large): ');
    },
  );
});
