/** Why no symbols can be loaded, in sentences that say what was found where and what to do about it. */

import { type ElfClass, SHT_STRTAB, sectionTypeName } from '../../elf/format.ts';
import type { ElfImage, NoSymbolTable, SymbolTableRef, SymbolTableSearch } from '../../elf/headers.ts';
import { hex } from '../../elf/hex.ts';
import type { Finding, Recorded, Stage } from '../../elf/recorder.ts';
import { type Broken, type BrokenCode, broken } from '../broken.ts';

/** A reason, before it is known in which stage and after which other reason it is reported. */
export interface Failure {
  readonly code: BrokenCode;
  readonly finding: Finding;
}

/** Tables that the detail of `regionTooLarge` names; an image can have 65,535 of them. */
export const MAX_NAMED_TABLES = 4;

const finding = (what: string, detail: string, length: bigint | null = null): Finding => ({
  what,
  offset: null,
  length,
  detail,
});

/** The first reason recorded gives the code; the detail then adds what ended the work. */
export function reported(failure: Failure, recorded: Recorded | null, stage: Stage = 'parse'): Broken {
  if (recorded === null || recorded.code === failure.code) {
    return broken(failure.code, recorded?.stage ?? stage, failure.finding);
  }
  return broken(recorded.code, recorded.stage, {
    ...recorded,
    detail: `${recorded.detail} Besides, no symbols can be loaded (${failure.code}): ${failure.finding.detail}`,
  });
}

export function noSymbolTable(
  { sectionCount }: ElfImage,
  result: NoSymbolTable,
  { lowestLink, firstDecides }: SymbolTableSearch,
): Failure {
  const detail = (): string => {
    switch (result.why) {
      case 'headers-cut':
        return `Section header ${result.index} of ${sectionCount} lies outside the image, and no symbol table came before it.`;
      case 'bad-link':
        return (
          `Section ${result.index} (SYMTAB) links to section ${result.link}, but its string table must be one of the ` +
          `sections ${lowestLink} to ${sectionCount - 1}.` +
          (firstDecides ? ' The loader looks no further than the first symbol table.' : '')
        );
      case 'none':
        return (
          (sectionCount === 0
            ? 'The image has no section headers'
            : `None of the ${sectionCount} sections is a symbol table (SYMTAB)`) +
          (result.hasDynamicSymbols ? ', only dynamic symbols (DYNSYM), which do not count' : '') +
          '.'
        );
    }
  };
  return { code: 'no-symbol-table', finding: finding('symbol table', detail()) };
}

/** @param type the `sh_type` found, or null when the header cannot be read */
export function strtabLinkInvalid({ index, link }: SymbolTableRef, type: number | null): Failure {
  const found =
    type === null
      ? 'whose header lies outside the image'
      : `whose type is ${type} (${sectionTypeName(type)}), not ${SHT_STRTAB} (STRTAB)`;
  return {
    code: 'strtab-link-invalid',
    finding: finding(
      `section ${link}`,
      `Section ${index} (SYMTAB) links to section ${link}, ${found}. Without its string table Xen loads no symbols.`,
    ),
  };
}

export function noSegments(): Failure {
  return {
    code: 'no-loadable-segments',
    finding: finding('loadable segments', 'The image has no loadable segments (PT_LOAD): it has no place in memory.'),
  };
}

export function noPlace(loadAddress: bigint): Failure {
  const detail =
    loadAddress === 0n
      ? 'The load address is 0, where Xen loads no symbols. Without the parameter loadAddress it is the end of the ' +
        'kernel, which is 0 when the image has no loadable segments. Give a loadAddress, or use an image with segments.'
      : `The load address ${hex(loadAddress)} wraps to 0 when it is rounded up. Give a lower loadAddress.`;
  return { code: 'load-address-unusable', finding: finding('load address', detail) };
}

export function regionWraps(pstart: bigint, size: bigint): Failure {
  return {
    code: 'load-address-unusable',
    finding: finding(
      'load address',
      `The symbols are ${size} bytes; from ${hex(pstart)} on they would run past 2^64. Give a lower loadAddress.`,
    ),
  };
}

export function regionTooLow(pstart: bigint, kernelStart: bigint): Failure {
  return {
    code: 'load-address-unusable',
    finding: finding(
      'load address',
      `The symbols would begin at ${hex(pstart)}, below the kernel at ${hex(kernelStart)}. ` +
        'Give a higher loadAddress.',
    ),
  };
}

/** @param first the first tables, of `count` */
export function regionTooLarge(
  first: readonly { readonly type: string; readonly size: bigint }[],
  count: number,
  size: bigint,
  maxBlobBytes: number,
): Failure {
  const named = first.slice(0, MAX_NAMED_TABLES).map((table) => `${table.type} ${table.size}`);
  if (count > named.length) named.push(`and ${count - named.length} more`);
  return {
    code: 'region-too-large',
    finding: finding(
      'symbol region',
      `The symbols would take ${size} bytes (${named.join(', ')}); at most ${maxBlobBytes} are allowed. ` +
        'If the image is not damaged, this limit has to be raised.',
      size,
    ),
  };
}

export function unsupportedClass(elfClass: ElfClass, loader: string): Failure {
  return {
    code: 'loader-unsupported-class',
    finding: finding(
      'EI_CLASS of the ELF header',
      `The image is ${elfClass}, for which the loader ${loader} wrote corrupt symbols: its section headers were 64 ` +
        'bytes apart while e_shentsize said 40, with hypervisor stack between them. Use another loader.',
    ),
  };
}

export function unsupportedByteOrder(loader: string): Failure {
  return {
    code: 'loader-unsupported-byte-order',
    finding: finding(
      'EI_DATA of the ELF header',
      `The image is big-endian, but the loader ${loader} supports little-endian images only. ` +
        'Use the loader xen-4.8.',
    ),
  };
}
