/** Images that are made to be expensive: they stay within every limit of the service, and mean as much work as they can. */
import { ELF64, type Field, PT_LOAD, PT_NOTE, SHT_STRTAB, SHT_SYMTAB, type Struct } from '../src/elf/format.ts';
import { buildImage, type KernelSpec, kernel } from '../test/support/elf-builder.ts';

/** e_phnum and e_shnum have 16 bits. */
const MAX_HEADERS = 65_535;
const MIB = 1024 * 1024;
const { programHeader, sectionHeader, symbol } = ELF64;

export interface HostileImage {
  readonly name: string;
  readonly make: () => Buffer;
}

type Values = Readonly<Record<string, number | bigint>>;

/** Entries of a table, one behind the other. */
function table(struct: Struct, count: number, valuesOf: (index: number) => Values): Buffer {
  const bytes = Buffer.alloc(struct.size * count);
  for (let index = 0; index < count; index++) {
    for (const [name, value] of Object.entries(valuesOf(index))) put(bytes, index * struct.size, struct, name, value);
  }
  return bytes;
}

function put(bytes: Buffer, at: number, { fields }: Struct, name: string, value: number | bigint): void {
  const field: Field | undefined = fields[name];
  if (field === undefined) throw new Error(`there is no field ${name}`);
  if (field.width === 8) bytes.writeBigUInt64LE(BigInt(value), at + field.offset);
  else bytes.writeUIntLE(Number(value), at + field.offset, field.width);
}

const TAIL_AT = Math.ceil(kernel().bytes.length / 8) * 8;

/** A small kernel, and behind it the bytes that its ELF header leads to. @param header gets where they begin */
function withTail(tail: Buffer, header: (at: number) => NonNullable<KernelSpec['header']>): Buffer {
  const { bytes } = kernel({ header: header(TAIL_AT) });
  return Buffer.concat([bytes, Buffer.alloc(TAIL_AT - bytes.length), tail]);
}

const programHeaders = (headers: Buffer): Buffer =>
  withTail(headers, (at) => ({ e_phoff: at, e_phnum: headers.length / programHeader.size }));

const sectionHeaders = (headers: Buffer): Buffer =>
  withTail(headers, (at) => ({ e_shoff: at, e_shnum: headers.length / sectionHeader.size, e_shstrndx: 2 }));

/** A LOAD segment as small as most, in a row with others. */
const load = (index: number): Values => ({
  p_type: PT_LOAD,
  p_flags: 5,
  p_filesz: 32,
  p_memsz: 0x2000,
  p_paddr: 0x10_0000 + index * 0x1000,
});

/** A kernel with a symbol for each offset into its string table. */
function withSymbols(
  count: number,
  nameOffset: (index: number) => number,
  strtab: Buffer,
  values: Values = {},
): Buffer {
  const symtab = table(symbol, count + 1, (index) =>
    index === 0 ? {} : { st_name: nameOffset(index - 1), st_info: 0x12, st_shndx: 1, ...values },
  );
  return Buffer.from(
    buildImage({
      segments: [{ paddr: 0x10_0000, memsz: 0x1000 }],
      sections: [
        { name: '.text', flags: 2, addr: 0x10_0000, header: { sh_size: 0x1000 } },
        { name: '.symtab', type: SHT_SYMTAB, link: '.strtab', entsize: symbol.size, data: symtab },
        { name: '.strtab', type: SHT_STRTAB, data: strtab },
      ],
    }).bytes,
  );
}

/** Symbol tables, each with the string table behind it; all of the same bytes. */
const tables = (count: number): Buffer =>
  table(sectionHeader, count, (index) =>
    index === 0
      ? {}
      : {
          sh_type: index % 2 === 1 ? SHT_SYMTAB : SHT_STRTAB,
          sh_flags: 2,
          sh_addr: index * 4096,
          sh_offset: 64,
          sh_size: 61,
          sh_link: index + 1,
          sh_entsize: symbol.size,
        },
  );

/** Notes of 12 bytes: no name, no description. */
const emptyNotes = Buffer.alloc(12 * MAX_HEADERS);

export const HOSTILE_IMAGES: readonly HostileImage[] = [
  { name: '65,535 LOAD segments', make: () => programHeaders(table(programHeader, MAX_HEADERS, load)) },
  {
    name: '65,535 LOAD segments over each other',
    make: () =>
      programHeaders(
        table(programHeader, MAX_HEADERS, (index) => ({
          ...load((index * 7919) % MAX_HEADERS),
          p_filesz: 1 + (index % 60),
          p_memsz: 0x1000 + (index % 0x1000),
        })),
      ),
  },
  {
    name: '65,535 LOAD segments, e_phentsize 0',
    make: () =>
      withTail(table(programHeader, 1, load), (at) => ({ e_phoff: at, e_phentsize: 0, e_phnum: MAX_HEADERS })),
  },
  {
    name: '65,535 segments, e_phentsize 1',
    make: () =>
      withTail(Buffer.alloc(MAX_HEADERS + 56, 1), (at) => ({ e_phoff: at, e_phentsize: 1, e_phnum: MAX_HEADERS })),
  },
  {
    name: '65,535 segments, e_phentsize 4096',
    make: () => {
      const bytes = Buffer.alloc(4096 * MAX_HEADERS);
      const one = table(programHeader, 1, load);
      for (let at = 0; at < bytes.length; at += 4096) one.copy(bytes, at);
      return withTail(bytes, (at) => ({ e_phoff: at, e_phentsize: 4096, e_phnum: MAX_HEADERS }));
    },
  },
  { name: '65,000 tables of symbols', make: () => sectionHeaders(tables(65_000)) },
  {
    name: '65,535 tables, e_shentsize 0',
    make: () =>
      // The count of section headers is capped at the size of the image divided by 40.
      withTail(Buffer.concat([tables(2).subarray(sectionHeader.size), Buffer.alloc(40 * MAX_HEADERS)]), (at) => ({
        e_shoff: at,
        e_shentsize: 0,
        e_shnum: MAX_HEADERS,
      })),
  },
  {
    name: '65,535 segments and 65,000 tables',
    make: () => {
      const segments = table(programHeader, MAX_HEADERS, load);
      const sections = tables(65_000);
      return withTail(Buffer.concat([segments, sections]), (at) => ({
        e_phoff: at,
        e_phnum: MAX_HEADERS,
        e_shoff: at + segments.length,
        e_shnum: 65_000,
        e_shstrndx: 2,
      }));
    },
  },
  {
    name: '65,535 empty notes',
    make: () =>
      Buffer.from(
        kernel({ before: [{ name: '.notes', data: emptyNotes }], segments: [{ type: PT_NOTE, section: '.notes' }] })
          .bytes,
      ),
  },
  {
    name: '65,535 long notes, e_phentsize 0',
    make: () => {
      const note = Buffer.alloc(12 + 4096, 'n');
      note.writeUInt32LE(4096, 0);
      note.writeUInt32LE(0, 4);
      note.writeUInt32LE(0, note.length - 4);
      const header = table(programHeader, 1, () => ({
        p_type: PT_NOTE,
        p_offset: TAIL_AT + programHeader.size,
        p_filesz: note.length,
      }));
      const lies = { e_phentsize: 0, e_phnum: MAX_HEADERS };
      return withTail(Buffer.concat([header, note]), (at) => ({ e_phoff: at, ...lies }));
    },
  },
  {
    name: '2 million symbols',
    make: () => withSymbols(2_000_000, (index) => (index * 8) % 16_000_000, Buffer.alloc(16_000_000, 'symbol_\0')),
  },
  {
    name: '1 million symbols, names jump in 32 MiB',
    make: () =>
      withSymbols(1_000_000, (index) => (index * 7919 * 16) % (32 * MIB), Buffer.alloc(32 * MIB, 'abcdefghijklmno\0')),
  },
  {
    name: '1 million symbols of one string of 64 MiB',
    make: () => withSymbols(1_000_000, (index) => (index * 64) % (64 * MIB), Buffer.alloc(64 * MIB, 'a')),
  },
  {
    name: '1 million symbols that claim all addresses',
    make: () => withSymbols(1_000_000, () => 1, Buffer.from('\0a\0'), { st_value: 0x1000, st_size: 2n ** 40n }),
  },
  {
    name: '4 million repeated names',
    make: () => withSymbols(500_000, (index) => (index * 7919 * 2) % 8_000_000, Buffer.alloc(8_000_000, 'n\0')),
  },
  {
    name: '3.9 GiB of zeros',
    make: () => Buffer.from(kernel({ memsz: 0xf900_0000 }).bytes),
  },
];
