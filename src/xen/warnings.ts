/** What an operator should know about a blob that was loaded without a reason against it. */
import type { ElfImage } from '../elf/headers.ts';
import type { SymbolBlock } from '../elf/symbols.ts';
import type { PlannedTable, SymbolPlan } from './loaders/bsdsyms.ts';

/** All warnings, by code: what they mean. */
export const WARNING_KINDS = {
  'big-endian-mixed':
    'The image is big-endian, but Xen writes the header fields that it replaces little-endian: the headers of the ' +
    'blob mix both byte orders.',
  'elf32-under-reserved':
    'For ELF32 Xen reserves less than it writes: the string table ends beyond xenReservedEnd. pend is the true end.',
  'end-symbol-elsewhere':
    'The symbols do not begin at the symbol end of the kernel (Xen Test Framework: _end), where a guest looks for ' +
    'them: it will not find them.',
  'entry-size-unusual':
    'The sh_entsize of the symbol table is not the size of a symbol, which guests take for granted.',
  'load-address-unaligned':
    'The load address was rounded up; a guest that looks right behind its own end symbol will not find the symbols.',
  'size-word-negative': 'The size word is above 2^31-1; NetBSD reads it as a signed number and ignores the symbols.',
  'strtab-unterminated': 'The string table does not end with a NUL; a guest may read on behind it.',
  'symbols-not-requested':
    'The kernel has Xen notes, but none that asks for its symbols (BSD_SYMTAB): Xen itself would not load them.',
  'symbol-name-outside': 'The st_name of a symbol points behind the string table; guests do not check that.',
} as const;

/** What callers match on; stable for ever. */
export type WarningCode = keyof typeof WARNING_KINDS;

/** Something to know of a blob that was loaded. */
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
  const { symtab } = findSymbols(plan);
  if (symtab !== undefined && symtab.entrySize !== BigInt(headers.format.symbol.size)) {
    warn('entry-size-unusual', `sh_entsize is ${symtab.entrySize}, not ${headers.format.symbol.size}.`);
  }
  if (plan.pstart !== plan.loadAddress) {
    const [from, to] = [plan.loadAddress, plan.pstart].map((address) => `0x${address.toString(16)}`);
    warn('load-address-unaligned', `The load address ${from} was rounded up to ${to}.`);
  }
  if (plan.sizeWord > INT32_MAX) warn('size-word-negative', `The size word is ${plan.sizeWord}.`);
  return warnings;
}

/** The first symbol table of a blob, and the string table that it links to; there can be others. */
export function findSymbols({ tables }: SymbolPlan): {
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
