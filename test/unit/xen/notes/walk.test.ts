import { describe, expect, test } from 'vitest';
import { PT_NOTE, SHT_NOTE } from '../../../../src/elf/format.ts';
import { BLOCK_BYTES, MAX_STRING_BYTES } from '../../../../src/elf/image-reader.ts';
import { MemorySource } from '../../../../src/image/memory.ts';
import type { ImageSource } from '../../../../src/inspect/image-source.ts';
import { readXenNotes } from '../../../../src/inspect/read-notes.ts';
import { MAX_NOTES, walkXenNotes } from '../../../../src/xen/notes/walk.ts';
import {
  buildImage,
  type ImageSpec,
  type KernelSpec,
  kernel,
  type NoteSpec,
  noteBytes,
  type SectionSpec,
} from '../../../support/elf-builder.ts';
import { mustLocate, turnsOf } from '../../../support/load.ts';
import { runWalk } from '../../../support/walk.ts';

const U64_MAX = 2n ** 64n - 1n;

/** Type numbers by name. */
const NOTE = {
  ENTRY: 1,
  HYPERCALL_PAGE: 2,
  VIRT_BASE: 3,
  PADDR_OFFSET: 4,
  XEN_VERSION: 5,
  GUEST_OS: 6,
  GUEST_VERSION: 7,
  LOADER: 8,
  PAE_MODE: 9,
  FEATURES: 10,
  BSD_SYMTAB: 11,
  HV_START_LOW: 12,
  L1_MFN_VALID: 13,
  INIT_P2M: 15,
  MOD_START_PFN: 16,
  SUPPORTED_FEATURES: 17,
  PHYS32_ENTRY: 18,
  PHYS32_RELOC: 19,
} as const;

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const note = (type: keyof typeof NOTE, desc: Uint8Array, name = 'Xen'): NoteSpec => ({ name, type: NOTE[type], desc });
const text = (type: keyof typeof NOTE, value: string): NoteSpec => note(type, ascii(`${value}\0`));

function integer(type: keyof typeof NOTE, value: bigint): NoteSpec {
  const desc = new Uint8Array(8);
  new DataView(desc.buffer).setBigUint64(0, value, true);
  return note(type, desc);
}

const LINUX: readonly NoteSpec[] = [text('GUEST_OS', 'linux'), text('XEN_VERSION', 'xen-3.0')];

async function read(bytes: Uint8Array | ImageSource) {
  const source = bytes instanceof Uint8Array ? new MemorySource([bytes]) : bytes;
  const { image, kernel: range } = await mustLocate(source);
  return { image, ...(await readXenNotes(source, image, range)) };
}
const readKernel = (spec: KernelSpec) => read(kernel(spec).bytes);
const readNotes = (...notes: readonly NoteSpec[]) => readKernel({ notes });

/** A kernel with the section that was there before notes. */
const guestSection = (content: string): KernelSpec => ({
  before: [{ name: '__xen_guest', data: ascii(`${content}\0`) }],
});

const BASED = 'LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0x1000';
const long = (count: number): string => 'q'.repeat(count);

/** Nothing but one segment of notes. */
const noteSegment = (p_offset: bigint | number, p_filesz: bigint | number): ImageSpec => ({
  segments: [{ type: PT_NOTE, header: { p_offset, p_filesz } }],
  header: { e_shnum: 0 },
});

/** Counts reads and bytes of an image that is one pattern after its first bytes. */
class Sparse implements ImageSource {
  readonly size: number;
  reads = 0;
  bytes = 0;
  readonly #start: Uint8Array;
  readonly #fill: (bytes: Uint8Array, offset: number) => void;

  /** @param fill writes what lies from an offset on; zeros are there already */
  constructor(size: number, start: Uint8Array, fill: (bytes: Uint8Array, offset: number) => void = () => {}) {
    this.size = size;
    this.#start = start;
    this.#fill = fill;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset < 0 || length < 0 || offset + length > this.size) throw new RangeError('outside');
    this.reads++;
    this.bytes += length;
    const bytes = new Uint8Array(length);
    this.#fill(bytes, offset);
    bytes.set(this.#start.subarray(offset, offset + length));
    return bytes;
  }

  async *stream(): AsyncGenerator<Uint8Array> {}

  close(): Promise<void> {
    return Promise.resolve();
  }
}

describe('where notes are found', () => {
  test('a segment decides, and sections are not looked at then', async () => {
    const inSection: SectionSpec = {
      name: '.note.more',
      type: SHT_NOTE,
      align: 4,
      data: noteBytes([text('GUEST_VERSION', '7')]),
    };
    expect((await readKernel({ notes: LINUX, after: [inSection] })).pv).toMatchObject({
      guestOs: 'linux',
      guestVersion: '',
    });
    expect((await readKernel({ notes: [], after: [inSection] })).pv.guestVersion).toBe('7');
  });

  test('sections are looked at when segments have notes of others only', async () => {
    const gnu = noteBytes([note('ENTRY', Uint8Array.of(1), 'GNU')]);
    const image = buildImage({
      sections: [
        { name: '.gnu', align: 4, data: gnu },
        { name: '.xen', type: SHT_NOTE, align: 4, data: noteBytes(LINUX) },
      ],
      segments: [{ type: PT_NOTE, section: '.gnu' }],
    });
    expect((await read(image.bytes)).pv.notes).toEqual({ GUEST_OS: 'linux', XEN_VERSION: 'xen-3.0' });
  });

  test('a segment at offset 0 is passed over', async () => {
    const spec: ImageSpec = { segments: [{ type: PT_NOTE, header: { p_offset: 0, p_filesz: 2 ** 30 } }] };
    const { pv } = await read(buildImage(spec).bytes);
    expect(pv).toMatchObject({ ok: false, broken: null, notes: {} });
    expect(pv.error).toContain('Not a Xen-ELF image');
  });

  test('an image of another machine may have none', async () => {
    const { pv, hvm } = await readKernel({ machine: 183 });
    expect([pv.ok, hvm.ok]).toEqual([true, true]);
    expect(pv).toMatchObject({ virtKstart: 0x10_0000n, virtKend: 0x10_2000n, notes: {} });
  });

  test('the image is left as it was', async () => {
    const { image, pv } = await readNotes(text('GUEST_VERSION', 'x'.repeat(MAX_STRING_BYTES + 1)));
    expect(pv.broken).toMatchObject({ code: 'string-too-long', stage: 'notes', what: 'GUEST_VERSION note' });
    expect(image.recorded).toBeNull();
  });
});

describe('notes', () => {
  test('are numbers of 1, 2, 4 and 8 bytes; any other size reads as 0', async () => {
    for (const [size, value] of [
      [0, 0n],
      [1, 0x11n],
      [2, 0x2211n],
      [3, 0n],
      [4, 0x4433_2211n],
      [8, 0x8877_6655_4433_2211n],
      [16, 0n],
    ] as const) {
      const desc = Uint8Array.from({ length: size }, (_, index) => (index + 1) * 0x11);
      expect((await readNotes(note('INIT_P2M', desc))).pv.notes).toEqual({ INIT_P2M: value });
    }
  });

  test('of all ones are unset', async () => {
    const { pv } = await readNotes(...LINUX, integer('VIRT_BASE', U64_MAX), integer('PADDR_OFFSET', U64_MAX));
    expect(pv).toMatchObject({ ok: true, virtBase: 0n, elfPaddrOffset: 0n, notes: { VIRT_BASE: U64_MAX } });
  });

  test('that are given twice count the second time', async () => {
    expect((await readNotes(...LINUX, text('GUEST_OS', 'NetBSD'))).pv.guestOs).toBe('NetBSD');
  });

  test('keep 15 characters of names and versions', async () => {
    const { pv } = await readNotes(text('GUEST_VERSION', 'a version that is long'));
    expect(pv.guestVersion).toBe('a version that ');
    expect(pv.notes.GUEST_VERSION).toBe('a version that is long');
  });

  test('are not restricted to ASCII', async () => {
    expect((await readNotes(note('GUEST_OS', Uint8Array.of(0xe9, 0xff, 0)))).pv.guestOs).toBe('\u00e9\u00ff');
  });

  test.each([
    ['yes', true],
    ['no', false],
    ['Yes', false],
    ['yes ', false],
    ['', false],
  ])('BSD_SYMTAB "%s" asks for symbols: %s', async (value, bsdSymtab) => {
    const { pv } = await readNotes(...LINUX, text('BSD_SYMTAB', value));
    expect(pv.bsdSymtab).toBe(bsdSymtab);
    expect(pv.bsdsyms === null).toBe(!bsdSymtab);
  });

  test.each([
    ['yes', 2],
    ['yes,bimodal', 3],
    ['bimodal', 3],
    ['no', 0],
  ])('PAE_MODE "%s" is %i', async (value, pae) => {
    expect((await readNotes(text('PAE_MODE', value))).pv.pae).toBe(pae);
  });

  test('FEATURES set bits, required ones both', async () => {
    const { pv } = await readNotes(text('FEATURES', '!writable_page_tables|nope|dom0|'));
    expect(pv).toMatchObject({ supportedFeatures: 0x801n, requiredFeatures: 1n });
  });

  test('an unknown required feature ends everything, without a word', async () => {
    const { pv, hvm } = await readNotes(text('FEATURES', 'dom0|!nope'), ...LINUX);
    expect(pv).toMatchObject({ ok: false, error: null, broken: null, supportedFeatures: 0x800n, guestOs: '' });
    expect(hvm).toMatchObject({ ok: false, error: null });
  });

  test('PHYS32_RELOC has up to three words', async () => {
    const words = new Uint8Array(Uint32Array.of(0x20_0000, 0x1000, 0x7fff_ffff).buffer);
    const { pv } = await readNotes(note('PHYS32_RELOC', words));
    expect(pv).toMatchObject({ physReloc: true, physAlign: 0x20_0000n, physMin: 0x1000n, physMax: 0x7fff_ffffn });
    expect((await readNotes(note('PHYS32_RELOC', words.subarray(0, 0)))).pv).toMatchObject({
      physReloc: true,
      physAlign: null,
      physMin: 0n,
      physMax: 0xffff_ffffn,
      notes: { PHYS32_RELOC: 0n },
    });
  });

  test('L1_MFN_VALID is recorded by name only, unknown types not at all', async () => {
    const { pv } = await readNotes(integer('L1_MFN_VALID', 5n), { name: 'Xen', type: 99, desc: ascii('x') });
    expect(pv.notes).toEqual({ L1_MFN_VALID: 0n });
  });
});

describe('the verdict', () => {
  test.each([
    ['generic loader', [text('LOADER', 'generic-1'), text('XEN_VERSION', 'xen-3.0-x86')], null],
    ['linux', [text('GUEST_OS', 'linux-2.6'), text('XEN_VERSION', 'xen-3.0')], null],
    ['wrong version', [text('GUEST_OS', 'linux'), text('XEN_VERSION', 'xen-4.0')], "(Not 'xen-4.0')"],
    ['wrong system', [text('GUEST_OS', 'Plan 9'), text('LOADER', 'x')], "(Not 'x' and 'Plan 9')"],
  ])('%s', async (_what, notes, error) => {
    const { pv, hvm } = await readNotes(...notes);
    for (const guest of [pv, hvm]) {
      expect(guest.ok).toBe(error === null);
      expect(guest.error ?? '').toContain(error ?? '');
    }
  });

  test('PHYS32_ENTRY is enough for HVM guests, and where they start', async () => {
    const { pv, hvm } = await readNotes(integer('PHYS32_ENTRY', 0x10_0010n), integer('ENTRY', 0x50n));
    expect(pv.ok).toBe(false);
    expect(hvm).toMatchObject({ ok: true, virtEntry: 0x10_0010n, virtBase: 0n, elfPaddrOffset: 0n });
  });

  test('PV kernels lie at their virtual base', async () => {
    const { pv, hvm } = await readNotes(
      ...LINUX,
      integer('VIRT_BASE', 0xc000_0000n),
      integer('ENTRY', 0xc010_0000n),
      text('BSD_SYMTAB', 'yes'),
    );
    const { bsdsyms } = pv;
    expect(pv).toMatchObject({ ok: true, virtKstart: 0xc010_0000n, virtKend: 0xc000_0000n + (bsdsyms?.pend ?? 0n) });
    expect(hvm).toMatchObject({ ok: true, virtKstart: 0x10_0000n, virtEntry: 0x10_0000n, bsdsyms });
  });

  test('a PADDR_OFFSET needs a VIRT_BASE', async () => {
    const { pv, hvm } = await readNotes(...LINUX, integer('PADDR_OFFSET', 0x1000n));
    expect(pv.error).toBe('ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset');
    expect(hvm.ok).toBe(true);
  });

  // A PV kernel may start at its edges, and its P->M table must lie outside.
  test.each([
    ['ENTRY', 0x0f_ffffn, false],
    ['ENTRY', 0x10_0000n, true],
    ['ENTRY', 0x10_2000n, true],
    ['ENTRY', 0x10_2001n, false],
    ['INIT_P2M', 0x0f_ffffn, true],
    ['INIT_P2M', 0x10_0000n, false],
    ['INIT_P2M', 0x10_1fffn, false],
    ['INIT_P2M', 0x10_2000n, true],
  ] as const)('the %s of a PV kernel at 0x%x: %s', async (name, address, ok) => {
    expect((await readNotes(...LINUX, integer(name, address))).pv.ok).toBe(ok);
  });

  test('symbols that are asked for and not there are recorded, no more', async () => {
    const { pv } = await readKernel({ notes: [...LINUX, text('BSD_SYMTAB', 'yes')], symtab: { type: 1 } });
    expect(pv).toMatchObject({ ok: true, bsdsyms: null, virtKend: 0x10_2000n });
    expect(pv.broken).toMatchObject({
      code: 'no-symbol-table',
      stage: 'parse',
      what: 'symbol table',
      detail: expect.stringContaining('SYMTAB'),
    });
  });

  test('symbols whose region ends at 2^64 leave the end of the kernel as it is', async () => {
    const notes = [...LINUX, text('BSD_SYMTAB', 'yes')];
    const spec = { notes, memsz: 0x1000 };
    const { pv: low } = await readKernel(spec);
    const size = (low.bsdsyms?.pend ?? 0n) - (low.bsdsyms?.pstart ?? 0n);
    const paddr = 2n ** 64n - size - 0x1000n;
    const { pv } = await readKernel({ ...spec, paddr, header: { e_entry: paddr } });
    expect(pv.bsdsyms).toEqual({ pstart: paddr + 0x1000n, pend: 0n });
    expect(pv).toMatchObject({ ok: true, virtKend: paddr + 0x1000n });
  });
});

describe('__xen_guest', () => {
  test('is for PV only', async () => {
    const { pv, hvm } = await readKernel(guestSection('GUEST_OS=linux,XEN_VER=xen-3.0,BSD_SYMTAB'));
    expect(pv).toMatchObject({ ok: true, guestOs: 'linux', xenVersion: 'xen-3.0', bsdSymtab: true, notes: {} });
    expect(hvm).toMatchObject({ ok: false, guestOs: '', bsdSymtab: false });
  });

  test('is not looked at when there are notes', async () => {
    expect((await readKernel({ ...guestSection('GUEST_OS=plan9'), notes: LINUX })).pv.guestOs).toBe('linux');
  });

  test('has virtual addresses in p_paddr unless it says otherwise', async () => {
    expect((await readKernel(guestSection(BASED))).pv).toMatchObject({
      virtBase: 0x1000n,
      elfPaddrOffset: 0x1000n,
      virtKstart: 0x10_0000n,
    });
    expect((await readKernel(guestSection(`${BASED},ELF_PADDR_OFFSET=0`))).pv).toMatchObject({
      elfPaddrOffset: 0n,
      virtKstart: 0x10_1000n,
    });
  });

  test.each([
    ['0x10', 0x10n],
    ['0X1F', 0x1fn],
    ['010', 8n],
    ['08', 0n],
    ['0', 0n],
    ['0x', 0n],
    ['12abc', 12n],
    [' +7', 7n],
    ['-1', null],
    ['-2', U64_MAX - 1n],
    ['99999999999999999999', null],
    ['x', 0n],
  ])('reads the number "%s" as C does', async (digits, value) => {
    expect((await readKernel(guestSection(`VIRT_ENTRY=${digits}`))).pv.virtEntry).toBe(value);
  });

  test.each([
    ['yes[extended-cr3]', 2],
    ['yes', 1],
    ['yes,', 1],
    ['no', 0],
  ])('PAE=%s is %i', async (value, pae) => {
    expect((await readKernel(guestSection(`PAE=${value}`))).pv.pae).toBe(pae);
  });

  test('takes long names and values in pieces', async () => {
    const { pv } = await readKernel(guestSection(`${long(31)}LOADER=a,GUEST_OS=${long(127)}XEN_VER=b,GUEST_VER=c`));
    expect(pv).toMatchObject({ loader: 'a', guestOs: long(15), xenVersion: 'b', guestVersion: 'c', broken: null });
  });

  test('ends with an unknown required feature', async () => {
    const { pv } = await readKernel(guestSection('GUEST_OS=linux,FEATURES=!nope,XEN_VER=xen-3.0'));
    expect(pv).toMatchObject({ guestOs: 'linux', xenVersion: '' });
  });

  test('adds the virtual base to the hypercall page once, wherever both stand', async () => {
    const base = 'VIRT_BASE=0xc0000000';
    const page = 'HYPERCALL_PAGE=0x10';
    for (const content of [`${base},${page}`, `${page},${base}`, `${base},${page},${base}`]) {
      expect((await readKernel(guestSection(content))).pv.virtHypercall).toBe(0xc001_0000n);
    }
    expect((await readKernel(guestSection(page))).pv.virtHypercall).toBe(0x1_0000n);
    expect((await readKernel(guestSection(base))).pv.virtHypercall).toBeNull();
  });

  test('counts besides notes of other owners, and gives the physical offset then too', async () => {
    const gnu: NoteSpec = { name: 'GNU', type: 3, desc: ascii('\u0001\u0002\u0003\u0004') };
    const { pv, source } = await readKernel({ ...guestSection(`${BASED},BSD_SYMTAB`), notes: [gnu] });
    expect(source).toBe('guest-section');
    expect(pv).toMatchObject({ ok: true, elfPaddrOffset: 0x1000n, bsdSymtab: true });
  });

  test('may run on to the end of the image, and is recorded then', async () => {
    const built = kernel({ after: [{ name: '__xen_guest', data: ascii('GUEST_OS=linux,XEN_VER=xen-3.0') }] });
    const section = built.section('__xen_guest');
    const bytes = Uint8Array.from([...built.bytes, ...section.data]);
    new DataView(bytes.buffer).setBigUint64(section.headerAt + 24, BigInt(built.bytes.length), true);
    const { pv } = await read(bytes);
    expect(pv).toMatchObject({ ok: true, guestOs: 'linux', broken: { code: 'out-of-range-access' } });
  });
});

describe('what is read of a hostile image', () => {
  test('no more than 65,536 notes', async () => {
    const start = buildImage(noteSegment(4096, 2n ** 40n)).bytes;
    const source = new Sparse(2 ** 40, start);
    const { pv } = await read(source);
    expect(pv.broken).toMatchObject({ code: 'too-many-notes', stage: 'notes' });
    expect(source.bytes).toBeLessThan(MAX_NOTES * 12 + 100_000);
  });

  test('a small window for each of the notes that lie gigabytes apart', async () => {
    const start = buildImage(noteSegment(4096, 2n ** 62n)).bytes;
    // Every word says 0x01010100: that is the size of each name and description.
    const pattern = Uint8Array.from({ length: 2 * BLOCK_BYTES }, (_, index) => (index % 4 === 0 ? 0 : 1));
    const source = new Sparse(2 ** 50, start, (bytes, offset) => {
      bytes.set(pattern.subarray(offset % 4, (offset % 4) + bytes.length));
    });
    const { pv } = await read(source);
    expect(pv.broken?.code).toBe('too-many-notes');
    // Some notes lie in two blocks.
    expect(source.reads).toBeLessThan(MAX_NOTES * 1.05);
    expect(source.bytes).toBeLessThan(MAX_NOTES * 1.05 * BLOCK_BYTES);
  });

  test('in many turns, where there are many notes to read', async () => {
    const notes = new Sparse(2 ** 40, buildImage(noteSegment(4096, 2n ** 40n)).bytes);
    expect(await turnsOf(() => read(notes))).toBeGreaterThan(MAX_NOTES / 4096);
  });

  test.each<[string, ImageSpec, number]>([
    [
      'program headers',
      { placement: { programHeaders: 4096, imageSize: 4096 + 20_000 * 56 }, header: { e_phnum: 20_000, e_shnum: 0 } },
      19,
    ],
    // Looked at for notes, and then for a __xen_guest.
    [
      'section headers',
      {
        placement: { sectionHeaders: 4096, imageSize: 4096 + 20_000 * 64 },
        header: { e_shnum: 20_000, e_shstrndx: 0 },
      },
      2 * 19,
    ],
    // Each is three words of 0.
    ['notes', { ...noteSegment(4096, 20_000 * 12), placement: { imageSize: 4096 + 20_000 * 12 } }, 19],
    ['notes fewer than that', { ...noteSegment(4096, 1000 * 12), placement: { imageSize: 4096 + 1000 * 12 } }, 0],
  ])('a pause after each 1,024 of 20,000 %s', async (_what, spec, pauses) => {
    const { bytes } = buildImage(spec);
    const { image, kernel: range } = await mustLocate(bytes);
    expect(runWalk(walkXenNotes(image, range), bytes).turns).toBe(pauses);
  });

  test('one window when a description is gigabytes long and leaves the image', async () => {
    const data = noteBytes([text('GUEST_OS', 'linux'), text('GUEST_VERSION', '1')]);
    new DataView(data.buffer).setUint32(4, 0xffff_fff0, true);
    const { bytes } = buildImage({
      sections: [{ name: '.note', align: 4, data }],
      segments: [{ type: PT_NOTE, section: '.note' }],
    });
    const { pv } = await read(bytes);
    expect(pv).toMatchObject({ notes: { GUEST_OS: 'linux' }, broken: null });
  });

  test.each([
    ['in front of the image', 2n ** 64n - 64n, 4n],
    ['far behind the image', 2n ** 62n, 2n ** 63n],
    ['with an end that wraps', 64n, U64_MAX],
  ])('nothing of a segment %s', async (_what, offset, size) => {
    const source = new Sparse(1_000_000, buildImage(noteSegment(offset, size)).bytes);
    const { image, kernel: range } = await mustLocate(source);
    const before = source.reads;
    const { pv } = await readXenNotes(source, image, range);
    expect(source.reads).toBe(before);
    expect(pv.notes).toEqual({});
  });

  test('4,096 bytes of a string', async () => {
    const fits = await readNotes(text('GUEST_OS', 'x'.repeat(MAX_STRING_BYTES)));
    expect(fits.pv).toMatchObject({ broken: null, guestOs: 'x'.repeat(15) });
    const { pv } = await readNotes(text('GUEST_OS', 'x'.repeat(MAX_STRING_BYTES + 1)));
    expect(pv).toMatchObject({ notes: {}, broken: { code: 'string-too-long' } });
  });

  test('a __xen_guest without an end: all of it once, a block at a time', async () => {
    const { bytes, section } = kernel(guestSection('GUEST_OS=linux,XEN_VER=xen-3.0,'));
    const content = section('__xen_guest');
    const at = 2 ** 40;
    const rest = 1_000_000;
    new DataView(bytes.buffer).setBigUint64(content.headerAt + 24, BigInt(at), true);
    const source = new Sparse(at + rest, bytes, (window, offset) => {
      if (offset < at) return;
      window.fill(0x78);
      window.set(content.data.subarray(0, -1).subarray(offset - at, offset - at + window.length));
    });
    const { image, kernel: range } = await mustLocate(source);
    const before = source.bytes;
    const { pv } = await readXenNotes(source, image, range);
    expect(pv).toMatchObject({ ok: true, guestOs: 'linux', broken: { code: 'string-too-long', what: '__xen_guest' } });
    expect(source.bytes - before).toBeLessThan(rest + 4 * BLOCK_BYTES);
    expect(await turnsOf(() => readXenNotes(source, image, range))).toBeGreaterThan(2);
  });
});
