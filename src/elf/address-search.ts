/** The symbol that a debugger would name for an address; source: docs/symbols.md. */
import { SHF_ALLOC } from './format.ts';
import { lowerBound } from './lower-bound.ts';
import { isStepEnd, type Steps } from './steps.ts';
import {
  SHN_LORESERVE,
  SHN_UNDEF,
  SHN_XINDEX,
  STB_GLOBAL,
  STB_GNU_UNIQUE,
  STB_WEAK,
  STT_FUNC,
  STT_GNU_IFUNC,
  STT_NOTYPE,
  STT_OBJECT,
  type SymbolBlock,
  type SymbolEntry,
} from './symbols.ts';
import { type Headers, View } from './view.ts';

/** A symbol that may stand for an address. */
export interface AddressedSymbol extends SymbolEntry {
  /** Index in the symbol table. */
  readonly index: number;
}

/** Where a section begins and ends in memory. */
interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

/** Where sections lie in memory, by their index; null for those that occupy none. */
type SectionRanges = readonly (Range | null)[];

/** A symbol of a block; its other fields are read when they matter. */
interface Candidate {
  readonly block: SymbolBlock;
  readonly at: number;
  readonly value: bigint;
  readonly index: number;
}

/** The nodes of a segment tree over the addresses, each with the best symbol that claims all of its addresses. */
type Claims = (AddressedSymbol | undefined)[];

/**
 * Finds the symbols of many addresses in one pass over the table.
 *
 * The addresses are sorted, so a symbol claims a run of them. Each kind of claim is kept in a segment tree over the
 * addresses: a symbol costs the logarithm of their number, and memory grows with the addresses only.
 */
export class AddressSearch {
  readonly #addresses: readonly bigint[];
  readonly #highest: bigint;
  readonly #sections: SectionRanges;
  /** Claims on the addresses from a symbol's value to value + size. */
  readonly #holding: Claims = [];
  /** Claims on the addresses from a symbol's value to the end of its section. */
  readonly #preceding: Claims = [];

  /**
   * @param addresses in any order, with or without repetitions
   * @param sections those of the image, as `locateSections` finds them
   */
  constructor(addresses: readonly bigint[], sections: SectionRanges) {
    this.#addresses = [...new Set(addresses)].sort((a, b) => (a < b ? -1 : 1));
    this.#highest = this.#addresses.at(-1) ?? -1n;
    this.#sections = sections;
  }

  /** Whether the symbol may stand for any of the addresses, whatever its name. */
  considers(block: SymbolBlock, at: number): boolean {
    const section = block.section(at);
    // Undefined, absolute and common symbols have no address, nor have those in a section that occupies no memory.
    if (section === SHN_UNDEF || (section >= SHN_LORESERVE && section !== SHN_XINDEX)) return false;
    if (this.#sections[section] === null) return false;
    const type = block.type(at);
    if (type !== STT_FUNC && type !== STT_OBJECT && type !== STT_NOTYPE && type !== STT_GNU_IFUNC) return false;
    return block.nameOffset(at) !== 0 && block.value(at) <= this.#highest;
  }

  /** Adds a symbol for which `considers` is true. */
  offer(block: SymbolBlock, at: number): void {
    const value = block.value(at);
    const from = this.#lowerBound(value);
    const candidate: Candidate = { block, at, value, index: block.first + at };
    const size = block.size(at);
    if (size > 0n) this.#claim(this.#holding, candidate, from, this.#lowerBound(value + size));
    const range = this.#sections[block.section(at)];
    // A value below its own section claims nothing there.
    if (range && value >= range.start) this.#claim(this.#preceding, candidate, from, this.#lowerBound(range.end));
  }

  /** The best of the offered symbols for one of the addresses. */
  find(address: bigint): AddressedSymbol | null {
    const at = this.#lowerBound(address);
    if (this.#addresses[at] !== address) return null;
    return this.#best(this.#holding, at) ?? this.#best(this.#preceding, at) ?? null;
  }

  /** Index of the first address that is not lower. */
  #lowerBound(value: bigint): number {
    return lowerBound(this.#addresses.length, (index) => (this.#addresses[index] ?? 0n) < value);
  }

  #claim(claims: Claims, candidate: Candidate, from: number, to: number): void {
    const count = this.#addresses.length;
    for (let [low, high] = [from + count, to + count]; low < high; low >>>= 1, high >>>= 1) {
      if ((low & 1) === 1) improve(claims, low++, candidate);
      if ((high & 1) === 1) improve(claims, --high, candidate);
    }
  }

  #best(claims: Claims, at: number): AddressedSymbol | undefined {
    let best: AddressedSymbol | undefined;
    for (let node = at + this.#addresses.length; node > 0; node >>>= 1) {
      const held = claims[node];
      if (held !== undefined && (best === undefined || isBetter(held, best))) best = held;
    }
    return best;
  }
}

function improve(claims: Claims, node: number, candidate: Candidate): void {
  const held = claims[node];
  if (held !== undefined && candidate.value < held.value) return;
  const { block, at, index } = candidate;
  const symbol: AddressedSymbol = { ...block.entry(at), index };
  if (held === undefined || isBetter(symbol, held)) claims[node] = symbol;
}

/** The nearest start first, then the symbol that a person more likely means. */
function isBetter(a: AddressedSymbol, b: AddressedSymbol): boolean {
  if (a.value !== b.value) return a.value > b.value;
  const [rankA, rankB] = [rank(a), rank(b)];
  return rankA === rankB ? a.index < b.index : rankA > rankB;
}

function rank({ type, bind }: SymbolEntry): number {
  const typed = type === STT_NOTYPE ? 0 : 4;
  if (bind === STB_GLOBAL || bind === STB_GNU_UNIQUE) return typed + 2;
  return bind === STB_WEAK ? typed + 1 : typed;
}

/** Reads where the sections lie. @param count how many section headers are read */
export function* locateSections(headers: Headers, count: number): Steps<SectionRanges> {
  const { format, sectionHeaders } = headers;
  const view = new View(headers);
  const { sh_flags, sh_addr, sh_size } = format.sectionHeader.fields;
  const ranges: (Range | null)[] = [];
  for (let index = 0; index < count; index++) {
    if (isStepEnd(index)) yield null;
    if ((view.bigint(sectionHeaders, index, sh_flags) & SHF_ALLOC) === 0n) {
      ranges.push(null);
      continue;
    }
    const start = view.bigint(sectionHeaders, index, sh_addr);
    ranges.push({ start, end: start + view.bigint(sectionHeaders, index, sh_size) });
  }
  return ranges;
}
