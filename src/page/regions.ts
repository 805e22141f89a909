/** What a region of the picture is: the rule that places it, and its fields. */
import { readBigint } from '../elf/fields.ts';
import { ELF32, ELF64, type Struct } from '../elf/format.ts';
import { hex } from '../elf/hex.ts';
import type { KernelReport, Layout } from '../report/schemas.ts';
import type { BytesOf } from './messages.ts';

/** How many bytes of a region are shown. */
export const SHOWN_BYTES = 256;

/** A region that was picked. */
export interface RegionInfo {
  readonly rules: readonly string[];
  /** Where its bytes are; null when it has none. */
  readonly bytes: { readonly of: BytesOf; readonly offset: number; readonly size: number } | null;
  /** What its bytes are read as, and from which of them on. */
  readonly struct: {
    readonly of: Struct;
    readonly name: string;
    readonly at: number;
    readonly replaced: ReadonlySet<string>;
  } | null;
  /** Values that are no bytes of a blob. */
  readonly facts: readonly (readonly [name: string, value: string])[];
}

export interface FieldValue {
  readonly name: string;
  /** From the beginning of the region. */
  readonly offset: number;
  readonly width: number;
  readonly value: string;
  /** Whether Xen writes it instead of copying it. */
  readonly replaced: boolean;
}

/** Of xen-4.8: docs/loader.md, stage load. */
const REPLACED_IN_ELF_HEADER = new Set([
  'e_version',
  'e_phoff',
  'e_shoff',
  'e_ehsize',
  'e_phentsize',
  'e_phnum',
  'e_shentsize',
  'e_shnum',
  'e_shstrndx',
]);
const REPLACED_IN_SECTION_HEADER = new Set(['sh_offset', 'sh_link']);
const NONE: ReadonlySet<string> = new Set();

/**
 * @param name of the region, as the picture has it
 * @param range of a region of a blob: its offset and size
 */
export function explainRegion(
  name: string,
  range: { readonly offset: number; readonly size: number } | null,
  layout: Layout,
  kernel: KernelReport | null,
): RegionInfo {
  const isOther = name.startsWith('other-');
  const region = isOther ? name.slice('other-'.length) : name;
  const loader = isOther ? layout.comparison?.loader : layout.bsdsyms.loader;
  const bytes = range === null ? null : ({ of: isOther ? 'other' : 'own', ...range } as const);
  const base = { bytes, struct: null, facts: [] };
  const format = layout.image.class === 'ELF64' ? ELF64 : ELF32;
  const isCurrent = loader === 'xen-4.8';
  if (region === 'size-word') {
    return {
      ...base,
      rules: [
        'The first four bytes of the blob: how many bytes follow, from the ELF header on, as a little-endian number of 32 bits. A guest reads it first.',
      ],
    };
  }
  if (region === 'elf-header') {
    const replaced = isCurrent ? REPLACED_IN_ELF_HEADER : NONE;
    return {
      ...base,
      struct: { of: format.elfHeader, name: 'ELF header', at: 0, replaced },
      rules: [
        'A copy of the ELF header of the kernel. Fields that make no sense here are replaced, so that it describes a file of symbols and nothing else.',
        'Every sh_offset in the blob counts from its first byte, which is byte 4 of the blob.',
      ],
    };
  }
  if (region === 'section-header-0' || region === 'section-headers' || region.startsWith('section-header-')) {
    const rules: Readonly<Record<string, string>> = {
      'section-header-0': 'Section header 0 of an ELF file is always empty: zeros.',
      'section-header-1':
        'A copy of the section header of the symbol table. Its sh_offset says where the table is in the blob, and its sh_link names section 2.',
      'section-header-2':
        'A copy of the section header of the string table, to which the symbol table links. Its sh_offset says where the table is in the blob.',
      'section-headers': `${loader ?? ''} copies all section headers of the kernel.`,
    };
    const first = region === 'section-header-0' || region === 'section-headers';
    return {
      ...base,
      struct: {
        of: format.sectionHeader,
        name: 'Section header',
        at: 0,
        replaced: isCurrent && !first ? REPLACED_IN_SECTION_HEADER : NONE,
      },
      rules: [rules[region] ?? 'A copy of a section header of the kernel.'],
    };
  }
  if (region.startsWith('section-')) return { ...base, ...explainTable(region, isOther, layout) };
  if (region === 'tables')
    return { ...base, rules: ['Further tables, drawn as one. All of them are copied from the kernel.'] };
  if (region.startsWith('padding-') || region === 'tail') {
    return {
      ...base,
      rules: [
        region === 'tail'
          ? 'The blob is rounded up to a multiple of 8 bytes (ELF64) or 4 (ELF32). Nothing is written here: the bytes are zero.'
          : 'Room that Xen reserves and writes nothing to: the bytes are zero. Versions of Xen before 4.8 could leave bytes of the hypervisor’s stack here (CVE-2016-9384).',
      ],
    };
  }
  if (region === 'symbols') {
    const { size, loadAddress, xenReservedEnd } = layout.bsdsyms;
    return {
      bytes: { of: isOther ? 'other' : 'own', offset: 0, size },
      struct: null,
      facts: [
        ['load address', loadAddress],
        ['end of the region that Xen reserves', xenReservedEnd],
      ],
      rules: [
        'The symbol blob. It begins at the load address, by default the end of the kernel, rounded up to a multiple of 8 (ELF64) or 4 (ELF32).',
      ],
    };
  }
  if (region.startsWith('segment')) return explainSegment(region, kernel);
  const rules = region.startsWith('gap-') ? ['No segment takes this memory, and Xen writes nothing here.'] : [];
  return { ...base, bytes: null, rules };
}

function explainTable(
  region: string,
  isOther: boolean,
  layout: Layout,
): Pick<RegionInfo, 'rules' | 'struct' | 'facts'> {
  const index = Number(region.slice('section-'.length));
  const section = isOther ? undefined : layout.bsdsyms.sections.find((one) => one.index === index);
  const facts: RegionInfo['facts'] =
    section?.shOffset === undefined
      ? []
      : [
          ['sh_offset', `${section.shOffset}`],
          [
            'offset in the kernel’s file',
            section.fileOffset === null || section.fileOffset === undefined ? 'not copied' : hex(section.fileOffset),
          ],
          ...(section.entries === undefined ? [] : ([['entries', `${section.entries}`]] as const)),
          ...(section.firstGlobal === undefined ? [] : ([['first global symbol', `${section.firstGlobal}`]] as const)),
        ];
  const { symbol } = layout.image.class === 'ELF64' ? ELF64 : ELF32;
  if (section?.type === 'SYMTAB') {
    return {
      facts,
      // Entry 0 is always empty.
      struct: { of: symbol, name: 'Symbol 1', at: symbol.size, replaced: NONE },
      rules: [
        `The symbol table, copied unchanged from the kernel: ${symbol.size} bytes for each symbol. st_name is an offset in the string table.`,
      ],
    };
  }
  return {
    facts,
    struct: null,
    rules: [
      section === undefined
        ? 'A table, copied unchanged from the kernel.'
        : 'The names of the symbols, each ended by a zero byte, copied unchanged from the kernel.',
    ],
  };
}

function explainSegment(region: string, kernel: KernelReport | null): RegionInfo {
  const index = Number(region.replace(/^segments?-/, ''));
  const segment = kernel?.segments.find((one) => one.index === index);
  const size = segment === undefined ? 0 : Number(BigInt(segment.filesz));
  const offset = segment === undefined ? 0 : Number(BigInt(segment.offset));
  return {
    bytes: size > 0 && Number.isSafeInteger(offset + size) ? { of: 'image', offset, size } : null,
    struct: null,
    facts:
      segment === undefined
        ? []
        : [
            ['p_offset', segment.offset],
            ['p_vaddr', segment.vaddr],
            ['p_paddr', segment.paddr],
            ['p_filesz', segment.filesz],
            ['p_memsz', segment.memsz],
            ['p_flags', segment.flags],
            ['p_align', segment.align],
          ],
    rules: [
      region.startsWith('segments-')
        ? 'Several segments that are drawn as one; the fields are those of the first.'
        : 'A loadable segment of the kernel: p_filesz bytes of the file are copied to p_paddr, and zeros fill it up to p_memsz.',
    ],
  };
}

/** @param bytes from the first byte of the region on @param littleEndian whether the image is; what Xen replaces always is */
export function readFields(
  bytes: Uint8Array,
  { of, at, replaced }: NonNullable<RegionInfo['struct']>,
  littleEndian: boolean,
): readonly FieldValue[] {
  if (bytes.length < at + of.size) return [];
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, of.size);
  return Object.values(of.fields).map(({ name, offset, width }) => {
    const isReplaced = replaced.has(name);
    const value =
      width > 8
        ? Array.from(bytes.subarray(at + offset, at + offset + width), (byte) =>
            byte.toString(16).padStart(2, '0'),
          ).join(' ')
        : hex(readBigint(view, offset, width, isReplaced || littleEndian));
    return { name, offset: at + offset, width, value, replaced: isReplaced };
  });
}
