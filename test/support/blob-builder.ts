/** Builds blobs for tests of what guests make of them: well-formed by default, and as dishonest as a test asks for. */
import { ELF32, ELF64, type ElfClass, type ElfHeaderField, type SectionHeaderField } from '../../src/elf/format.ts';
import { type Lies, type SymbolSpec, symbolTables, writeField } from './elf-builder.ts';

/** Section headers come here with every loader since 4.7. */
export const HEADERS_AT = 68;

export interface BlobSpec {
  /** Default: ELF64. */
  readonly class?: ElfClass;
  readonly sizeWord?: number;
  readonly header?: Lies<ElfHeaderField>;
  /** Default: null, SYMTAB, STRTAB. Those that are given replace or follow them, by index. */
  readonly sections?: Readonly<Record<number, Lies<SectionHeaderField>>>;
  /** Default: two. The null symbol comes first. */
  readonly symbols?: readonly SymbolSpec[];
  /** Replaces the strings that the symbols need. */
  readonly strtab?: Uint8Array;
  /** Where the tables begin. Default: right after the section headers. */
  readonly symtabAt?: number;
  readonly strtabAt?: number;
  /** What the bytes are that nothing else says. Default: 0. */
  readonly filler?: number;
  /** Default: up to the end of the string table. */
  readonly size?: number;
}

/** The bytes of a blob, and where its tables lie. */
interface BuiltBlob {
  readonly bytes: Uint8Array;
  readonly symtabAt: number;
  readonly strtabAt: number;
}

export function buildBlob(spec: BlobSpec = {}): BuiltBlob {
  const format = spec.class === 'ELF32' ? ELF32 : ELF64;
  const symbols = spec.symbols ?? [
    { name: 'one', value: 0x1000 },
    { name: 'two', value: 0x2000 },
  ];
  const { symtab, strtab: strings } = symbolTables(symbols, format);
  const strtab = spec.strtab ?? strings;
  const count = Math.max(3, ...Object.keys(spec.sections ?? {}).map((index) => Number(index) + 1));
  const symtabAt = spec.symtabAt ?? HEADERS_AT + count * format.sectionHeader.size;
  const strtabAt = spec.strtabAt ?? symtabAt + symtab.length;
  const end = Math.max(symtabAt + symtab.length, strtabAt + strtab.length);
  const whole = new Uint8Array(Math.max(end, spec.size ?? 0)).fill(spec.filler ?? 0);
  whole.fill(0, 0, HEADERS_AT);
  whole.set(strtab, strtabAt);
  whole.set(symtab, symtabAt);
  const write = (at: number, fields: (typeof format)['symbol']['fields'] | object, values: object): void => {
    for (const [name, value] of Object.entries(values)) {
      const field = (fields as Readonly<Record<string, Parameters<typeof writeField>[2]>>)[name];
      if (field !== undefined) writeField(whole, at, field, value as number | bigint, true);
    }
  };
  new DataView(whole.buffer).setUint32(0, spec.sizeWord ?? end - 4, true);
  whole.set([0x7f, 0x45, 0x4c, 0x46, format === ELF64 ? 2 : 1, 1, 1], 4);
  write(4, format.elfHeader.fields, {
    e_version: 1,
    e_shoff: HEADERS_AT - 4,
    e_ehsize: format.elfHeader.size,
    e_shentsize: format.sectionHeader.size,
    e_shnum: count,
    ...spec.header,
  });
  const sections: Readonly<Record<number, object>> = {
    1: { sh_type: 2, sh_offset: symtabAt - 4, sh_size: symtab.length, sh_link: 2 },
    2: { sh_type: 3, sh_offset: strtabAt - 4, sh_size: strtab.length },
  };
  for (let index = 0; index < count; index++) {
    const at = HEADERS_AT + index * format.sectionHeader.size;
    whole.fill(0, at, at + format.sectionHeader.size);
    write(at, format.sectionHeader.fields, { ...sections[index], ...spec.sections?.[index] });
  }
  return { bytes: whole.slice(0, spec.size ?? whole.length), symtabAt, strtabAt };
}
