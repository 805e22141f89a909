/** The closed list of reasons why an image has no usable symbols. Codes are stable for ever. */
import type { InitFailure } from '../elf/headers.ts';
import type { Finding, Recorded, RecordedCode, Stage } from '../elf/recorder.ts';

/** What callers match on. */
export type BrokenCode =
  | 'not-elf'
  | InitFailure['code']
  | RecordedCode
  | 'strtab-link-invalid'
  | 'load-address-unusable'
  | 'region-too-large'
  | 'no-loadable-segments'
  | 'loader-unsupported-class'
  | 'loader-unsupported-byte-order';

/** Why an image is refused, or what is wrong with one that was loaded anyway. */
export interface Broken extends Finding {
  readonly code: BrokenCode;
  /** The reference's own words; null where it reports nothing. */
  readonly reason: string | null;
  readonly stage: Stage;
}

/** What a code stands for. */
export interface BrokenKind {
  /** The reference's own words; null where it reports nothing. */
  readonly reason: string | null;
  readonly title: string;
  /** For people: what it means and what to do. */
  readonly explanation: string;
}

/** All reasons, by code. */
export const BROKEN_KINDS: Readonly<Record<BrokenCode, BrokenKind>> = {
  'not-elf': {
    reason: 'not an ELF binary',
    title: 'The image is not an ELF file',
    explanation:
      'An ELF image begins with the bytes 7f 45 4c 46 and has at least 52 bytes. Check with `file` what it is. ' +
      'Typical causes are an error page saved under the name of a kernel, a ' +
      'bzImage instead of a vmlinux, or a disk or package image with the kernel inside.',
  },
  'phdr-overflow': {
    reason: 'phdr overflow',
    title: 'The program headers do not fit into the image',
    explanation:
      'The ELF header places the program header table (e_phoff, e_phentsize, e_phnum) beyond the end of the file. ' +
      'The file is usually cut short; compare its size with the original.',
  },
  'shdr-overflow': {
    reason: 'shdr overflow',
    title: 'The section headers do not fit into the image',
    explanation:
      'The ELF header places the section header table (e_shoff, e_shentsize, e_shnum) beyond the end of the file. ' +
      'Linkers write that table last, so a file that was cut short fails here first; compare its size with the original.',
  },
  'out-of-range-access': {
    reason: 'out of range access',
    title: 'A field or table lies outside the image',
    explanation:
      'A header field or a table points beyond the end of the file. The detail names it. The reference reads such a ' +
      'field as 0 and skips such a copy; with onBroken=load the same is done here, and the result is what Xen would load.',
  },
  'too-many-section-headers': {
    reason: 'far too many section headers',
    title: 'The image claims more section headers than it has room for',
    explanation:
      'e_shnum is larger than the image size divided by 40, the size of the smallest section header. ' +
      'The file is cut short or its ELF header is damaged.',
  },
  'no-symbol-table': {
    reason: 'invalid ELF handle for symtab section',
    title: 'The image has no symbol table',
    explanation:
      'No section of type SYMTAB could be used. Most often the kernel was stripped: use the file that the linker ' +
      'wrote (FreeBSD: kernel.debug or kernel before strip; NetBSD: netbsd.gdb or netbsd; Linux: vmlinux), or do not ' +
      'strip it. Dynamic symbols (DYNSYM) do not count. The first SYMTAB decides: if its sh_link is unusable, later ' +
      'ones are not considered.',
  },
  'strtab-not-found': {
    reason: 'strtab not found',
    title: 'The string table could not be loaded',
    explanation:
      'Part of the section header of the string table was readable when the region was reserved, but the whole could ' +
      'not be copied when the symbols were loaded. The section header table is damaged or cut short.',
  },
  'strtab-link-invalid': {
    reason: null,
    title: "The symbol table's string table is missing",
    explanation:
      'The sh_link of the symbol table leads to a section header that is not a string table (STRTAB) or cannot be ' +
      'read. The reference then loads no symbols and reports nothing. Relink the kernel, or look for the tool ' +
      'that rewrote its section headers.',
  },
  'load-address-unusable': {
    reason: null,
    title: 'The symbols cannot be placed at this load address',
    explanation:
      'The load address, rounded up to the alignment of the class, is 0, or the region would run past 2^64. Without ' +
      'the parameter loadAddress the end of the kernel (its highest p_paddr + p_memsz) is used, which is 0 for a file ' +
      'without loadable segments, such as an object file: link it, or give a loadAddress.',
  },
  'region-too-large': {
    reason: null,
    title: 'The symbols are larger than is allowed',
    explanation:
      'The region or one of its tables is larger than the limit. If the sizes in the detail are plausible, the limit has ' +
      'to be raised; otherwise a section header is damaged.',
  },
  'no-loadable-segments': {
    reason: null,
    title: 'The image has no loadable segments',
    explanation:
      'No program header is of type PT_LOAD with a permission bit, so the image has no place in guest memory and no flat ' +
      'image. Most often it is an object file (.o) or a module (.ko): use the linked kernel.',
  },
  'string-too-long': {
    reason: 'excessively long string',
    title: 'A string in the notes is too long',
    explanation: 'A string in a Xen note or in __xen_guest has more than 4,096 bytes without a NUL.',
  },
  'too-many-notes': {
    reason: 'too many ELF notes',
    title: 'The image has too many notes',
    explanation: 'The note segments or sections hold more than 65,536 notes.',
  },
  'segments-too-large': {
    reason: 'program segments total to more than the input image size',
    title: 'The segments of the kernel are too large',
    explanation: 'The loadable segments add up to more than twice the memory that the kernel spans.',
  },
  'loader-unsupported-class': {
    reason: null,
    title: 'This loader cannot load an image of this class',
    explanation:
      'The loader xen-4.7 wrote corrupt symbols for ELF32 images: its section headers were 64 bytes apart while ' +
      'e_shentsize said 40, with hypervisor stack between them. Use another loader.',
  },
  'loader-unsupported-byte-order': {
    reason: null,
    title: 'This loader cannot load an image of this byte order',
    explanation: 'The loaders before xen-4.8 support little-endian images only. Use the loader xen-4.8.',
  },
};

/** A recorded reason as it is reported; null when nothing was recorded. */
export function reportRecorded(recorded: Recorded): Broken;
export function reportRecorded(recorded: Recorded | null): Broken | null;
export function reportRecorded(recorded: Recorded | null): Broken | null {
  return recorded === null ? null : broken(recorded.code, recorded.stage, recorded);
}

/** Turns a finding into a reported reason. */
export function broken(code: BrokenCode, stage: Stage, finding: Finding): Broken {
  const { what, offset, length, detail } = finding;
  return { code, reason: BROKEN_KINDS[code].reason, stage, what, offset, length, detail };
}
