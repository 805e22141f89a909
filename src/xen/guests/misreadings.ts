/** What a guest misreads in the tables that it finds. */

import type { ByteWalk } from '../../elf/byte-walk.ts';
import { type ElfFormat, SHT_STRTAB } from '../../elf/format.ts';
import type { EndSymbol } from '../end-symbol.ts';
import { SIZE_WORD_BYTES } from '../loaders/bsdsyms.ts';
import { roundUp } from '../loaders/layout.ts';
import type { Blob, GuestTables } from './blob.ts';
import type { GuestMemory } from './memory.ts';
import type { GuestWarningCode } from './verdict.ts';

/** What is known about the place of a blob in memory. */
export interface Placement {
  /** Guest-physical; null when unknown. */
  readonly address: bigint | null;
  /** The end symbols of the kernel that are somewhere else. */
  readonly elsewhere: ReadonlySet<EndSymbol>;
}

/** Warnings of any guest. @param endSymbol where it looks */
export function findMisplacement(
  { header }: Blob,
  format: ElfFormat,
  { address, elsewhere }: Placement,
  endSymbol: EndSymbol,
): GuestWarningCode[] {
  const warnings: GuestWarningCode[] = [];
  if (address !== null && roundUp(address, format) !== address) warnings.push('address-unaligned');
  if (elsewhere.has(endSymbol)) warnings.push('end-symbol-elsewhere');
  if (!header.saysLittleEndian) warnings.push('byte-order-ignored');
  return warnings;
}

/** Warnings of a guest that reads tables. */
export function findTableMisreadings(
  { memory, header, sizeWord }: Blob,
  format: ElfFormat,
  { symtab, strtab, link, linkedType }: GuestTables,
): GuestWarningCode[] {
  const warnings: GuestWarningCode[] = [];
  if (header.number(format, 'e_shentsize') !== format.sectionHeader.size) warnings.push('header-size-ignored');
  if (link < 0 || link >= header.number(format, 'e_shnum')) warnings.push('link-outside');
  if (linkedType !== null && linkedType !== SHT_STRTAB) warnings.push('link-not-strtab');
  for (const { at, offset, size } of [symtab, strtab]) {
    if (size === null) continue;
    if (offset + size > BigInt(SIZE_WORD_BYTES + (sizeWord ?? 0))) warnings.push('table-outside-size');
    if (!memory.isInside(at, Number(size))) warnings.push('table-cut');
  }
  return warnings;
}

/** Whether names lie in the string table, which no guest checks. */
export class NameCheck {
  /** Bytes in the string table. */
  readonly #size: number;
  /** A name that begins after it has no end in the string table. */
  readonly #lastNul: number;
  #outside = false;
  #unterminated = false;

  private constructor(size: number, lastNul: number) {
    this.#size = size;
    this.#lastNul = lastNul;
  }

  static *of(memory: GuestMemory, { strtab }: GuestTables): ByteWalk<NameCheck> {
    const from = Math.max(0, strtab.at);
    const size = Number(strtab.size ?? 0n);
    const end = Math.min(strtab.at + size, memory.size);
    const lastNul = from < end ? yield* memory.findLastNul(from, end) : -1;
    return new NameCheck(size, lastNul === -1 ? -1 : lastNul - strtab.at);
  }

  /** Checks the `st_name` of one symbol. */
  check(name: number): void {
    if (name <= this.#lastNul) return;
    if (name >= this.#size) this.#outside = true;
    else this.#unterminated = true;
  }

  /** Whether nothing more can be found. */
  get isDone(): boolean {
    return this.#outside && this.#unterminated;
  }

  get warnings(): GuestWarningCode[] {
    const warnings: GuestWarningCode[] = [];
    if (this.#outside) warnings.push('name-outside-table');
    if (this.#unterminated) warnings.push('name-unterminated');
    return warnings;
  }
}
