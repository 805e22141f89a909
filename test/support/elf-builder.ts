/**
 * Builds ELF images for tests: well-formed by default, and as dishonest as a test asks for.
 *
 * A test says what its image is about and leaves out the rest:
 *
 *     kernel({ class: 'ELF32', symbols: 10 });
 *     kernel({ header: { e_shoff: 2n ** 64n - 1n } });
 *     kernel({ symtab: { header: { sh_link: 0 } } });
 *
 * `header` overrides a field of a header after everything was laid out, so it lies without moving anything.
 * Values are cut to the width of their field.
 */
import {
  ELF_MAGIC,
  ELF32,
  ELF64,
  type ElfClass,
  type ElfFormat,
  type ElfHeaderField,
  EV_CURRENT,
  type Field,
  type ProgramHeaderField,
  PT_LOAD,
  PT_NOTE,
  type SectionHeaderField,
  SHT_NOTE,
  SHT_STRTAB,
  SHT_SYMTAB,
  type Struct,
} from '../../src/elf/format.ts';

export type Value = number | bigint;
type ByteOrder = 'little' | 'big';
/** Field values that replace what the builder would have written. */
export type Lies<Name extends string> = Readonly<Partial<Record<Name, Value>>>;

export const SHT_PROGBITS = 1;
const ET_EXEC = 2;
const EM_386 = 3;
const EM_X86_64 = 62;
const PF_RX = 5;
/** The kernel of `kernel()` starts here, as on a PC. */
export const KERNEL_PSTART = 0x10_0000n;
export const KERNEL_MEMORY_BYTES = 0x2000n;

export interface SymbolSpec {
  readonly name: string;
  readonly value?: Value;
  readonly size?: Value;
  readonly info?: number;
  /** `st_other`. Default: 0. */
  readonly other?: number;
  /** Default: section 1. */
  readonly shndx?: number;
  /** Replaces the `st_name` that leads to the name. */
  readonly nameOffset?: number;
}

export interface SectionSpec {
  readonly name: string;
  /** Default: PROGBITS. */
  readonly type?: number;
  readonly flags?: Value;
  readonly addr?: Value;
  /** A section index, or the name of a section. Default: 0. */
  readonly link?: number | string;
  readonly info?: number;
  readonly align?: number;
  readonly entsize?: Value;
  readonly data?: Uint8Array;
  /** Where in the file the data goes. Default: behind what was placed before it. */
  readonly offset?: number;
  readonly header?: Lies<SectionHeaderField>;
}

export interface SegmentSpec {
  /** Default: LOAD. */
  readonly type?: number;
  /** Default: readable and executable. */
  readonly flags?: number;
  readonly paddr?: Value;
  /** Default: as `paddr`. */
  readonly vaddr?: Value;
  /** Default: the bytes it has in the file. */
  readonly memsz?: Value;
  readonly align?: Value;
  /** The section whose bytes it holds. Default: none, so that it is empty in the file. */
  readonly section?: string;
  readonly header?: Lies<ProgramHeaderField>;
}

export interface ImageSpec {
  /** Default: ELF64. */
  readonly class?: ElfClass;
  /** Default: little. */
  readonly byteOrder?: ByteOrder;
  /** Default: EXEC. */
  readonly type?: number;
  /** Default: x86-64 or i386. */
  readonly machine?: number;
  readonly entry?: Value;
  readonly segments?: readonly SegmentSpec[];
  /** Sections from index 1 on. A `.shstrtab` is appended unless there is one; its data is made by the builder. */
  readonly sections?: readonly SectionSpec[];
  /** Fields of section header 0, which is otherwise all zeros. */
  readonly nullSection?: Lies<SectionHeaderField>;
  readonly header?: Lies<ElfHeaderField>;
  /** Bytes of `e_ident` by their index. */
  readonly ident?: Readonly<Record<number, number>>;
  readonly placement?: Placement;
}

/** Where things go in the file. Tables may overlap anything: what is written later wins, the ELF header last. */
export interface Placement {
  /** Default: behind the ELF header. */
  readonly programHeaders?: number;
  readonly programHeaderStride?: number;
  /** Default: behind everything else. */
  readonly sectionHeaders?: number;
  readonly sectionHeaderStride?: number;
  /** Zeros are appended up to this size, or the end is cut off. */
  readonly imageSize?: number;
}

interface BuiltSection {
  readonly name: string;
  readonly index: number;
  /** File offset of its section header. */
  readonly headerAt: number;
  /** File offset of its data; what `sh_offset` says unless that was overridden. */
  readonly offset: number;
  readonly data: Uint8Array;
}

export interface BuiltImage {
  readonly bytes: Uint8Array;
  readonly format: ElfFormat;
  readonly littleEndian: boolean;
  readonly sections: readonly BuiltSection[];
  readonly programHeadersAt: number;
  readonly programHeaderCount: number;
  /** @throws when there is no section of this name */
  readonly section: (name: string) => BuiltSection;
}

/** Lays out and writes an image: ELF header, program headers, section data, section headers. */
export function buildImage(spec: ImageSpec = {}): BuiltImage {
  const format = formatOf(spec);
  const littleEndian = isLittleEndian(spec);
  const { placement = {}, segments = [] } = spec;
  const wordBytes = format.class === 'ELF64' ? 8 : 4;

  const specs = withNameTable(spec.sections ?? []);
  const names = nameTable(['', ...specs.map(({ name }) => name)]);
  const indexOf = (link: number | string): number => (typeof link === 'number' ? link : findIndex(specs, link) + 1);

  const phStride = placement.programHeaderStride ?? format.programHeader.size;
  const programHeadersAt = placement.programHeaders ?? format.elfHeader.size;
  let end = Math.max(
    format.elfHeader.size,
    programHeadersAt + tableBytes(segments.length, phStride, format.programHeader.size),
  );
  const placed = specs.map((section) => {
    const data = section.name === '.shstrtab' ? names.bytes : (section.data ?? new Uint8Array());
    const offset = section.offset ?? alignUp(end, section.align ?? 1);
    end = Math.max(end, offset + data.length);
    return { ...section, data, offset };
  });

  const shStride = placement.sectionHeaderStride ?? format.sectionHeader.size;
  const sectionHeadersAt = placement.sectionHeaders ?? alignUp(end, wordBytes);
  const sectionCount = placed.length + 1;
  const tablesEnd = Math.max(
    end,
    programHeadersAt + tableBytes(segments.length, phStride, format.programHeader.size),
    sectionHeadersAt + tableBytes(sectionCount, shStride, format.sectionHeader.size),
  );
  const whole = new Uint8Array(Math.max(tablesEnd, placement.imageSize ?? 0));
  const write = <Name extends string>(struct: Struct<Name>, at: number, values: Lies<Name>): void =>
    writeStruct(whole, struct, at, values, littleEndian);

  for (const { offset, data } of placed) whole.set(data, offset);

  segments.forEach((segment, index) => {
    const section = segment.section === undefined ? undefined : placed[findIndex(specs, segment.section)];
    const fileBytes = section?.data.length ?? 0;
    const paddr = segment.paddr ?? 0;
    write(format.programHeader, programHeadersAt + phStride * index, {
      p_type: segment.type ?? PT_LOAD,
      p_flags: segment.flags ?? PF_RX,
      p_offset: section?.offset ?? 0,
      p_vaddr: segment.vaddr ?? paddr,
      p_paddr: paddr,
      p_filesz: fileBytes,
      p_memsz: segment.memsz ?? fileBytes,
      p_align: segment.align ?? 1,
      ...segment.header,
    });
  });

  write(format.sectionHeader, sectionHeadersAt, spec.nullSection ?? {});
  placed.forEach((section, index) => {
    write(format.sectionHeader, sectionHeadersAt + shStride * (index + 1), {
      sh_name: names.offsets[index + 1] ?? 0,
      sh_type: section.type ?? SHT_PROGBITS,
      sh_flags: section.flags ?? 0,
      sh_addr: section.addr ?? 0,
      sh_offset: section.offset,
      sh_size: section.data.length,
      sh_link: indexOf(section.link ?? 0),
      sh_info: section.info ?? 0,
      sh_addralign: section.align ?? 1,
      sh_entsize: section.entsize ?? 0,
      ...section.header,
    });
  });

  write(format.elfHeader, 0, {
    e_type: spec.type ?? ET_EXEC,
    e_machine: spec.machine ?? (format.class === 'ELF64' ? EM_X86_64 : EM_386),
    e_version: EV_CURRENT,
    e_entry: spec.entry ?? KERNEL_PSTART,
    e_phoff: segments.length === 0 ? 0 : programHeadersAt,
    e_shoff: sectionHeadersAt,
    e_flags: 0,
    e_ehsize: format.elfHeader.size,
    e_phentsize: phStride,
    e_phnum: segments.length,
    e_shentsize: shStride,
    e_shnum: sectionCount,
    e_shstrndx: findIndex(specs, '.shstrtab') + 1,
    ...spec.header,
  });
  const ident = [...ELF_MAGIC, format.class === 'ELF64' ? 2 : 1, littleEndian ? 1 : 2, EV_CURRENT];
  whole.set(ident, 0);
  for (const [index, byte] of Object.entries(spec.ident ?? {})) whole[Number(index)] = byte;

  const bytes = whole.slice(0, placement.imageSize ?? tablesEnd);
  const sections = placed.map(({ name, offset, data }, index) => ({
    name,
    index: index + 1,
    headerAt: sectionHeadersAt + shStride * (index + 1),
    offset,
    data,
  }));
  return {
    bytes,
    format,
    littleEndian,
    sections,
    programHeadersAt,
    programHeaderCount: segments.length,
    section: (name) => {
      const section = sections.find((candidate) => candidate.name === name);
      if (section === undefined) throw new Error(`the image has no section ${name}`);
      return section;
    },
  };
}

export interface KernelSpec extends Omit<ImageSpec, 'sections' | 'segments'> {
  /** How many symbols besides the null symbol, or the symbols themselves. Default: 3. */
  readonly symbols?: number | readonly SymbolSpec[];
  readonly paddr?: Value;
  readonly memsz?: Value;
  /** Overrides for the section of the kernel's code. */
  readonly text?: Partial<SectionSpec>;
  /** Overrides for the kernel's own segment. */
  readonly segment?: SegmentSpec;
  /** Overrides for the sections of the symbols. */
  readonly symtab?: Partial<SectionSpec>;
  readonly strtab?: Partial<SectionSpec>;
  /** Sections in front of `.symtab`, from index 2 on. */
  readonly before?: readonly SectionSpec[];
  /** Sections behind `.strtab`. */
  readonly after?: readonly SectionSpec[];
  /** Segments behind the kernel's own. */
  readonly segments?: readonly SegmentSpec[];
  readonly notes?: readonly NoteSpec[];
}

/** A well-formed small kernel: one loadable segment (`.text`, section 1), `.symtab`, `.strtab`, `.shstrtab`. */
export function kernel(spec: KernelSpec = {}): BuiltImage {
  const { symbols = 3, paddr = KERNEL_PSTART, memsz = KERNEL_MEMORY_BYTES, before = [], after = [], notes = [] } = spec;
  const format = formatOf(spec);
  const tables = symbolTables(typeof symbols === 'number' ? makeSymbols(symbols) : symbols, format, spec);
  const noteSections: SectionSpec[] =
    notes.length === 0 ? [] : [{ name: '.note', type: SHT_NOTE, align: 4, data: noteBytes(notes, spec) }];
  const noteSegments: SegmentSpec[] = noteSections.map(({ name }) => ({ type: PT_NOTE, section: name }));
  return buildImage({
    ...spec,
    segments: [
      { section: '.text', paddr, memsz, align: 0x1000, ...spec.segment },
      ...noteSegments,
      ...(spec.segments ?? []),
    ],
    sections: [
      { name: '.text', data: new Uint8Array(32).fill(0xcc), addr: paddr, ...spec.text },
      ...noteSections,
      ...before,
      {
        name: '.symtab',
        type: SHT_SYMTAB,
        link: '.strtab',
        info: 1,
        align: format.class === 'ELF64' ? 8 : 4,
        entsize: format.symbol.size,
        data: tables.symtab,
        ...spec.symtab,
      },
      { name: '.strtab', type: SHT_STRTAB, data: tables.strtab, ...spec.strtab },
      ...after,
    ],
  });
}

/** Names of growing length, so that string tables come in all alignments. */
export function makeSymbols(count: number): SymbolSpec[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `sym_${index.toString(36)}${'x'.repeat(index % 5)}`,
    value: KERNEL_PSTART + BigInt(index) * 16n,
    size: index,
    info: 0x12,
  }));
}

/** The bytes of a symbol table, null symbol first, and of its string table. */
export function symbolTables(
  symbols: readonly SymbolSpec[],
  format: ElfFormat,
  { byteOrder }: Pick<ImageSpec, 'byteOrder'> = {},
): { readonly symtab: Uint8Array; readonly strtab: Uint8Array } {
  const names = nameTable(['', ...symbols.map(({ name }) => name)]);
  const symtab = new Uint8Array(format.symbol.size * (symbols.length + 1));
  symbols.forEach((symbol, index) => {
    const values = {
      st_name: symbol.nameOffset ?? names.offsets[index + 1] ?? 0,
      st_value: symbol.value ?? 0,
      st_size: symbol.size ?? 0,
      st_info: symbol.info ?? 0x12,
      st_other: symbol.other ?? 0,
      st_shndx: symbol.shndx ?? 1,
    };
    writeStruct(symtab, format.symbol, format.symbol.size * (index + 1), values, byteOrder !== 'big');
  });
  return { symtab, strtab: names.bytes };
}

export interface NoteSpec {
  readonly name: string;
  readonly type: number;
  readonly desc: Uint8Array;
}

export const xenString = (type: number, text: string): NoteSpec => ({
  name: 'Xen',
  type,
  desc: new TextEncoder().encode(`${text}\0`),
});
/** A note whose description is a number of 64 bits, little-endian. */
export function xenNumber(type: number, value: bigint): NoteSpec {
  const desc = new Uint8Array(8);
  new DataView(desc.buffer).setBigUint64(0, value, true);
  return { name: 'Xen', type, desc };
}

/** The notes of a PV kernel that asks for its symbols: LOADER, XEN_VERSION, BSD_SYMTAB. */
export const ASKING_NOTES: readonly NoteSpec[] = [
  xenString(8, 'generic'),
  xenString(5, 'xen-3.0'),
  xenString(11, 'yes'),
];

/** Notes one behind the other, name and description padded to 4 bytes. */
export function noteBytes(notes: readonly NoteSpec[], { byteOrder }: Pick<ImageSpec, 'byteOrder'> = {}): Uint8Array {
  const bytes = notes.flatMap(({ name, type, desc }) => {
    const nameBytes = new TextEncoder().encode(`${name}\0`);
    const note = new Uint8Array(12 + alignUp(nameBytes.length, 4) + alignUp(desc.length, 4));
    const data = new DataView(note.buffer);
    [nameBytes.length, desc.length, type].forEach((word, index) => {
      data.setUint32(index * 4, word, byteOrder !== 'big');
    });
    note.set(nameBytes, 12);
    note.set(desc, 12 + alignUp(nameBytes.length, 4));
    return [...note];
  });
  return Uint8Array.from(bytes);
}

/** Writes `value` into a field of the structure at `at`, cut to the field's width. */
export function writeField(bytes: Uint8Array, at: number, field: Field, value: Value, littleEndian: boolean): void {
  let rest = BigInt(value);
  for (let index = 0; index < field.width; index++) {
    bytes[at + field.offset + (littleEndian ? index : field.width - 1 - index)] = Number(rest & 0xffn);
    rest >>= 8n;
  }
}

/** A field of the structure at `at`. */
export function readField(bytes: Uint8Array, at: number, field: Field, littleEndian: boolean): bigint {
  const raw = bytes.subarray(at + field.offset, at + field.offset + field.width);
  return (littleEndian ? raw.toReversed() : raw).reduce((value, byte) => value * 256n + BigInt(byte), 0n);
}

function writeStruct<Name extends string>(
  bytes: Uint8Array,
  { fields }: Struct<Name>,
  at: number,
  values: Lies<Name>,
  littleEndian: boolean,
): void {
  for (const [name, value] of Object.entries(values) as [Name, Value][]) {
    writeField(bytes, at, fields[name], value, littleEndian);
  }
}

const formatOf = (spec: Pick<ImageSpec, 'class'>): ElfFormat => (spec.class === 'ELF32' ? ELF32 : ELF64);
const isLittleEndian = (spec: Pick<ImageSpec, 'byteOrder'>): boolean => spec.byteOrder !== 'big';
/** What a table takes: the loader counts whole strides, and the last header may be longer than one. */
const tableBytes = (count: number, stride: number, entrySize: number): number =>
  count === 0 ? 0 : Math.max(stride * count, stride * (count - 1) + entrySize);
const alignUp = (value: number, align: number): number => Math.ceil(value / align) * align;

const withNameTable = (sections: readonly SectionSpec[]): readonly SectionSpec[] =>
  sections.some(({ name }) => name === '.shstrtab') ? sections : [...sections, { name: '.shstrtab', type: SHT_STRTAB }];

function findIndex(sections: readonly SectionSpec[], name: string): number {
  const index = sections.findIndex((section) => section.name === name);
  if (index === -1) throw new Error(`the image has no section ${name}`);
  return index;
}

/** A string table that holds the names in order, and where each begins. */
function nameTable(names: readonly string[]): { readonly bytes: Uint8Array; readonly offsets: readonly number[] } {
  const encoded = names.map((name) => new TextEncoder().encode(`${name}\0`));
  const offsets: number[] = [];
  let size = 0;
  for (const { length } of encoded) {
    offsets.push(size);
    size += length;
  }
  const bytes = new Uint8Array(size);
  encoded.forEach((name, index) => {
    bytes.set(name, offsets[index]);
  });
  return { bytes, offsets };
}
