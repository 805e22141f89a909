/** What an operator should know about a blob that was loaded without a reason against it. */

import {
  EM_386,
  EM_AARCH64,
  EM_ARM,
  EM_X86_64,
  machineName,
  SHF_ALLOC,
  SHF_EXECINSTR,
  SHT_NOBITS,
  SHT_PROGBITS,
} from '../elf/format.ts';
import { type ElfImage, readMachine, type StagedImage } from '../elf/headers.ts';
import { hex } from '../elf/hex.ts';
import type { SymbolBlock } from '../elf/symbols.ts';
import { View } from '../elf/view.ts';
import type { SymbolPlan } from './loaders/bsdsyms.ts';
import type { PlannedTable } from './loaders/layout.ts';
import type { XenNotes } from './notes/walk.ts';
import type { KernelRange } from './segments.ts';

/** All warnings, by code: what they mean. */
export const WARNING_KINDS = {
  'big-endian-mixed':
    'The image is big-endian, but Xen writes the header fields that it replaces little-endian: the headers of the ' +
    'blob mix both byte orders.',
  'elf32-under-reserved':
    'For ELF32 Xen reserves less than it writes: the string table ends beyond xenReservedEnd. pend is the true end.',
  'end-symbol-elsewhere':
    "The symbols do not begin at the kernel's symbol end (Xen Test Framework: _end), where a guest looks for them: it " +
    'will not find them.',
  'entry-size-unusual': 'The sh_entsize of the symbol table is not the size of a symbol, which guests assume.',
  'kernel-relocatable':
    'The kernel has a PHYS32_RELOC note: Xen 4.19 and later may move it as a PVH dom0, and its symbols with it. pstart ' +
    'holds if it is not moved.',
  'load-address-unaligned':
    'The load address was rounded up; a guest that looks right after its own end symbol will not find the symbols.',
  'machine-unlikely':
    'No Xen guest runs on this machine (e_machine): Xen starts i386, x86-64, ARM and AArch64 kernels.',
  'no-xen-notes':
    'The image has no Xen notes and no __xen_guest section: Xen starts no x86 kernel without them, and loads symbols ' +
    'only on request.',
  'segments-empty':
    'The loadable segments have no bytes in the file, as in a file of debug information only: it cannot be started.',
  'size-word-negative': 'The size word is above 2^31-1; NetBSD reads it as a signed number and ignores the symbols.',
  'strtab-unterminated': 'The string table does not end with a NUL; a guest may read past its end.',
  'symbols-not-requested':
    'The kernel describes itself to Xen, but does not ask for its symbols (BSD_SYMTAB): Xen itself would not load them.',
  'xen-reads-differently':
    'The image came in a file of which Xen reads something else: a compression that Xen does not undo, more than one member, ' +
    'a size word that lies, or 16 zero bytes after the image that matter. The answer is about the whole image.',
  'symbol-name-outside': 'The st_name of a symbol points past the end of the string table; guests do not check that.',
} as const;

/** What callers match on; stable for ever. */
export type WarningCode = keyof typeof WARNING_KINDS;

/** A warning about a blob that was loaded. */
export interface Warning {
  readonly code: WarningCode;
  /** What was found in this image. */
  readonly detail: string;
}

const INT32_MAX = 2 ** 31 - 1;

/** Warnings that follow from headers and plan alone. */
export function planWarnings({ headers }: ElfImage, plan: SymbolPlan): Warning[] {
  const warnings: Warning[] = [];
  const warn = (code: WarningCode, detail: string): void => {
    warnings.push({ code, detail });
  };
  if (!headers.littleEndian) {
    warn('big-endian-mixed', 'Replaced header fields are little-endian, all others big-endian as in the image.');
  }
  if (plan.pend > plan.xenReservedEnd) {
    warn('elf32-under-reserved', `Xen writes ${plan.pend - plan.xenReservedEnd} bytes beyond the region it reserves.`);
  }
  const { symtab } = findPlannedTables(plan);
  if (symtab !== undefined && symtab.entrySize !== BigInt(headers.format.symbol.size)) {
    warn('entry-size-unusual', `sh_entsize is ${symtab.entrySize}, not ${headers.format.symbol.size}.`);
  }
  if (plan.pstart !== plan.loadAddress) {
    const [from, to] = [plan.loadAddress, plan.pstart].map(hex);
    warn('load-address-unaligned', `The load address ${from} was rounded up to ${to}.`);
  }
  if (plan.sizeWord > INT32_MAX) warn('size-word-negative', `The size word is ${plan.sizeWord}.`);
  return warnings;
}

const LIKELY_MACHINES: ReadonlySet<number> = new Set([EM_386, EM_ARM, EM_X86_64, EM_AARCH64]);

/** Warnings about the kernel as a whole, whatever becomes of its symbols. */
export function kernelWarnings({ headers, sectionCount }: ElfImage, kernel: KernelRange, notes: XenNotes): Warning[] {
  const warnings: Warning[] = [];
  const warn = (code: WarningCode, detail: string): void => {
    warnings.push({ code, detail });
  };
  const view = new View(headers);
  const machine = readMachine(headers);
  if (!LIKELY_MACHINES.has(machine)) {
    warn('machine-unlikely', `The machine is ${machineName(machine)} (e_machine ${machine}).`);
  }
  if (kernel.pend > 0n) {
    const lacking = !kernel.hasFileBytes
      ? 'The p_filesz of every loadable segment is 0.'
      : hasEmptySections({ headers, view, sectionCount })
        ? 'Its code is in sections without bytes in the file (NOBITS).'
        : null;
    if (lacking !== null) warn('segments-empty', `${lacking} Use the kernel that this debug file was made from.`);
  }
  if (notes.source === null) {
    warn('no-xen-notes', 'The image has neither a note named Xen nor a section __xen_guest.');
  } else if (!asksForSymbols(notes)) {
    warn('symbols-not-requested', NOT_REQUESTED[notes.source]);
  }
  if (notes.hvm.physReloc && notes.hvm.physEntry !== null) {
    warn('kernel-relocatable', 'The kernel has the notes PHYS32_ENTRY and PHYS32_RELOC.');
  }
  return warnings;
}

/**
 * Whether code was left out of the file: an executable section is NOBITS, and no allocated section is PROGBITS. Debug
 * files keep the program headers of their kernel, so their segments can seem to have bytes.
 */
function hasEmptySections({
  headers,
  view,
  sectionCount,
}: Pick<StagedImage, 'headers' | 'view' | 'sectionCount'>): boolean {
  const { sh_type, sh_flags } = headers.format.sectionHeader.fields;
  let hasEmptyCode = false;
  for (let index = 1; index < sectionCount; index++) {
    const type = view.number(headers.sectionHeaders, index, sh_type);
    if (type !== SHT_PROGBITS && type !== SHT_NOBITS) continue;
    const flags = view.bigint(headers.sectionHeaders, index, sh_flags);
    if ((flags & SHF_ALLOC) === 0n) continue;
    if (type === SHT_PROGBITS) return false;
    if ((flags & SHF_EXECINSTR) !== 0n) hasEmptyCode = true;
  }
  return hasEmptyCode;
}

/** Either kind of guest may ask; the notes that both read are the same. */
export const asksForSymbols = ({ pv, hvm }: XenNotes): boolean => pv.bsdSymtab || hvm.bsdSymtab;

/** How a kernel that describes itself does not ask for its symbols, by where it describes itself. */
const NOT_REQUESTED = {
  notes: 'It has no Xen note BSD_SYMTAB with the value "yes".',
  'guest-section': 'Its __xen_guest section does not name BSD_SYMTAB.',
} as const;

/** The first symbol table of a blob, and the string table that it links to; there can be others. */
export function findPlannedTables({ tables }: SymbolPlan): {
  readonly symtab: PlannedTable | undefined;
  readonly strtab: PlannedTable | undefined;
} {
  const symtab = tables.find(({ type }) => type === 'SYMTAB');
  const strtab = tables.find(({ type, index }) => type === 'STRTAB' && index === symtab?.link);
  return { symtab, strtab };
}

/** The index of the first symbol whose name begins outside the string table; -1 when there is none. */
export function findNameOutside(block: SymbolBlock, strtabSize: number): number {
  for (let at = 0; at < block.count; at++) {
    if (block.nameOffset(at) >= strtabSize) return block.first + at;
  }
  return -1;
}
