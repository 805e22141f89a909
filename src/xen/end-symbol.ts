/**
 * The linker's end symbols, where guests look for the blob.
 *
 * Xen places the blob at the end of the loadable segments. A guest looks for it at its own end symbol, which is the same
 * place only when nothing is loaded after that symbol.
 */

import { ELF64, ET_REL } from '../elf/format.ts';
import type { ElfImage } from '../elf/headers.ts';
import { hex } from '../elf/hex.ts';
import { isStepEnd, type Steps } from '../elf/steps.ts';
import {
  SHN_COMMON,
  SHN_UNDEF,
  STB_LOCAL,
  STT_FILE,
  STT_SECTION,
  STT_TLS,
  STV_HIDDEN,
  STV_INTERNAL,
  type SymbolEntry,
} from '../elf/symbols.ts';
import { View } from '../elf/view.ts';
import { alignedWords } from '../elf/words.ts';
import type { SymbolPlan } from './loaders/bsdsyms.ts';
import { roundUp } from './loaders/layout.ts';
import { segmentsOf } from './segments.ts';
import type { Warning } from './warnings.ts';

/** FreeBSD and NetBSD look at `end`, the Xen Test Framework at `_end`. */
export type EndSymbol = 'end' | '_end';

/** The end symbols that a guest may look for; none where symbols have no addresses, as in object files. */
export function endSymbolsOf(image: ElfImage): readonly EndSymbol[] {
  const { headers } = image;
  const { format, elfHeader } = headers;
  const view = new View(headers);
  if (view.number(elfHeader, 0, format.elfHeader.fields.e_type) === ET_REL) return [];
  if (!hasLoadableSegment(image)) return [];
  // The Xen Test Framework is ELF32 only.
  return format === ELF64 ? ['end'] : ['end', '_end'];
}

function hasLoadableSegment(image: ElfImage): boolean {
  const segments = segmentsOf(image);
  for (let index = 0; segments.has(index); index += segments.countSame(index)) {
    if (segments.isLoadable(index)) return true;
  }
  return false;
}

/** As bytes; `_end` ends like `end`, and linkers let the two share a string. */
const END = [0x65, 0x6e, 0x64] as const;
const UNDERSCORE = 0x5f;
/** Strings that end like an end symbol; kernels have a few thousand. Later ones are ignored. */
const MAX_FOUND_OFFSETS = 65_536;
/** Bytes in the longest name, without its NUL. */
const LONGEST = 4;
const LOW_BITS = 0xffff;
/** With fewer offsets, looking them up costs less than the memory for hints. */
const MIN_HINTED = 64;

/** Four bytes as a word of this machine. */
const wordOf = (...bytes: readonly [number, number, number, number]): number =>
  new Int32Array(Uint8Array.from(bytes).buffer)[0] ?? 0;
/** Words that hold `end` and its NUL, or their first or last bytes, with masks. */
const WORDS = {
  whole: wordOf(...END, 0),
  last3: wordOf(0, ...END),
  last3Mask: wordOf(0, 0xff, 0xff, 0xff),
  first3: wordOf(END[1], END[2], 0, 0),
  first3Mask: wordOf(0xff, 0xff, 0xff, 0),
  first2: wordOf(END[2], 0, 0, 0),
  first2Mask: wordOf(0xff, 0xff, 0, 0),
} as const;

/** Searches a string table for the names of end symbols: whole strings, and the ends of longer ones. */
export class EndStringSearch {
  readonly #names: ReadonlySet<EndSymbol>;
  readonly #found = new Map<number, EndSymbol>();
  /** 1 for the low bits of each offset found: rules out most offsets quickly. Null while few are found. */
  #hints: Uint8Array | null = null;
  /** Where in the table the next piece begins. */
  #offset = 0;
  /** The last bytes before it. */
  readonly #before = new Uint8Array(LONGEST);

  constructor(names: readonly EndSymbol[]) {
    this.#names = new Set(names);
  }

  /** Whether no name was found. */
  get isEmpty(): boolean {
    return this.#found.size === 0;
  }

  /** The name that begins there. */
  at(offset: number): EndSymbol | undefined {
    return this.#hints?.[offset & LOW_BITS] === 0 ? undefined : this.#found.get(offset);
  }

  /** Scans the next piece of the table. Pieces come in order and are not kept. */
  scan(piece: Uint8Array): void {
    const { lead, words } = alignedWords(piece);
    this.#scanBytes(piece, 0, Math.min(lead + 1, piece.length));
    // Words instead of bytes, and locals, for speed: hardly any word is a hit.
    const { whole, last3, last3Mask, first3, first3Mask, first2, first2Mask } = WORDS;
    for (let index = 0; index < words.length; index++) {
      const word = words[index] ?? 0;
      if (
        word === whole ||
        (word & last3Mask) === last3 ||
        (word & first3Mask) === first3 ||
        (word & first2Mask) === first2
      ) {
        const at = lead + index * 4;
        this.#scanBytes(piece, at, Math.min(at + 5, piece.length));
      }
    }
    this.#scanBytes(piece, lead + words.length * 4, piece.length);
    this.#offset += piece.length;
    this.#before.copyWithin(0, piece.length);
    const tail = piece.subarray(Math.max(0, piece.length - LONGEST));
    this.#before.set(tail, LONGEST - tail.length);
  }

  #scanBytes(piece: Uint8Array, from: number, to: number): void {
    for (let end = from; end < to; end++) {
      if (piece[end] !== 0) continue;
      if ((end === 0 ? this.#before[LONGEST - 1] : piece[end - 1]) === END[2]) this.#see(piece, end);
    }
  }

  /** @param end of a string whose last byte matches */
  #see(piece: Uint8Array, end: number): void {
    if (this.#byte(piece, end - 2) !== END[1] || this.#byte(piece, end - 3) !== END[0]) return;
    const offset = this.#offset + end - END.length;
    this.#add(offset, 'end');
    if (this.#byte(piece, end - 4) === UNDERSCORE) this.#add(offset - 1, '_end');
  }

  #add(offset: number, name: EndSymbol): void {
    if (!this.#names.has(name) || this.#found.size === MAX_FOUND_OFFSETS) return;
    this.#found.set(offset, name);
    if (this.#hints !== null) this.#hints[offset & LOW_BITS] = 1;
    else if (this.#found.size === MIN_HINTED) {
      this.#hints = new Uint8Array(LOW_BITS + 1);
      for (const known of this.#found.keys()) this.#hints[known & LOW_BITS] = 1;
    }
  }

  /** A byte of the piece, or before it. */
  #byte(piece: Uint8Array, at: number): number {
    return (at >= 0 ? piece[at] : this.#before[LONGEST + at]) ?? 0;
  }
}

/** Picks the linker's end symbols among all symbols with their names. */
export class EndSymbolSearch {
  readonly #global = new Map<EndSymbol, bigint>();
  readonly #hidden = new Map<EndSymbol, bigint>();

  /** Adds a symbol of that name. Symbols come in table order; the first one counts. */
  offer(name: EndSymbol, { value, type, bind, visibility, section }: SymbolEntry): void {
    if (section === SHN_UNDEF || section === SHN_COMMON) return;
    if (type === STT_SECTION || type === STT_FILE || type === STT_TLS) return;
    if (bind !== STB_LOCAL) setOnce(this.#global, name, value);
    // Linkers make a hidden symbol local. Any other local symbol belongs to one source file.
    else if (visibility === STV_HIDDEN || visibility === STV_INTERNAL) setOnce(this.#hidden, name, value);
  }

  get values(): ReadonlyMap<EndSymbol, bigint> {
    return new Map([...this.#hidden, ...this.#global]);
  }
}

function setOnce<Key, Value>(map: Map<Key, Value>, key: Key, value: Value): void {
  if (!map.has(key)) map.set(key, value);
}

/** An end symbol at which no blob begins. */
interface Misplaced {
  readonly name: EndSymbol;
  readonly value: bigint;
  /** Guest-physical. */
  readonly paddr: bigint;
}

/**
 * The end symbols that are not where the blob begins. Their guest-physical addresses follow from their segments.
 *
 * @param values of the symbols, by name
 */
export function* findMisplaced(
  image: ElfImage,
  { pstart }: SymbolPlan,
  values: ReadonlyMap<EndSymbol, bigint>,
): Steps<Misplaced[]> {
  const segments = segmentsOf(image);
  const places = [...values].map(([name, value]) => ({ name, value, nearest: new NearestSegment(value) }));
  for (let index = 0; places.length > 0 && segments.has(index); index += segments.countSame(index)) {
    if (isStepEnd(index)) yield null;
    if (!segments.isLoadable(index)) continue;
    const vaddr = segments.vaddr(index);
    const end = vaddr + segments.memsz(index);
    for (const { nearest } of places) nearest.offer(vaddr, end, () => segments.paddr(index));
  }
  return places.flatMap(({ name, value, nearest: { paddr } }) =>
    paddr === null || BigInt.asUintN(64, roundUp(paddr, image.headers.format)) === pstart
      ? []
      : [{ name, value, paddr }],
  );
}

/** Finds the segment of an address: the one that holds it, else one that ends there, else the last one before it. */
class NearestSegment {
  readonly #value: bigint;
  /** How far before the address the best segment ends; -1 when it holds the address. */
  #distance: bigint | null = null;
  #paddr = 0n;

  constructor(value: bigint) {
    this.#value = value;
  }

  offer(vaddr: bigint, end: bigint, paddr: () => bigint): void {
    if (vaddr > this.#value) return;
    const distance = this.#value < end ? -1n : this.#value - end;
    if (this.#distance !== null && this.#distance <= distance) return;
    this.#distance = distance;
    this.#paddr = paddr() + this.#value - vaddr;
  }

  /** Guest-physical; null when every segment begins after the address. */
  get paddr(): bigint | null {
    return this.#distance === null ? null : BigInt.asUintN(64, this.#paddr);
  }
}

const GUESTS_OF: Readonly<Record<EndSymbol, string>> = {
  end: 'FreeBSD and NetBSD look',
  _end: 'The Xen Test Framework looks',
};

/** One warning for all misplaced end symbols; null when there are none. */
export function describeMisplaced(misplaced: readonly Misplaced[], plan: SymbolPlan): Warning | null {
  if (misplaced.length === 0) return null;
  const symbols = misplaced.map(
    ({ name, value, paddr }) =>
      `${GUESTS_OF[name]} at the kernel's symbol ${name}, which is at ${hex(value)}, guest-physical ${hex(paddr)}.`,
  );
  return {
    code: 'end-symbol-elsewhere',
    detail:
      `${symbols.join(' ')} The symbols begin at ${hex(plan.pstart)}. Either the image continues after that symbol, ` +
      'which the linker script must place last, or the load address is not the one that the guest expects.',
  };
}
