/**
 * The symbols of an image: pages of them, symbols by name, symbols of addresses. The table is read in blocks, as it may
 * be of any size, and other work gets its turns.
 */
import { type AddressedSymbol, AddressSearch, locateSections } from '../elf/address-search.ts';
import { type ElfImage, readMachine } from '../elf/headers.ts';
import { NameSearch } from '../elf/name-search.ts';
import { isStepEnd } from '../elf/steps.ts';
import {
  hasMappingSymbols,
  isMappingName,
  STB_LOCAL,
  STT_NOTYPE,
  SymbolBlock,
  type SymbolEntry,
} from '../elf/symbols.ts';

import type { SymbolTables } from '../xen/locate-symbols.ts';
import type { ImageSource } from './image-source.ts';
import { type JudgedBlock, judgeNames, type NameQuestion } from './judge-names.ts';
import { TextDecoder, TextEncoder } from './platform.ts';
import { MAX_NAME_BYTES, StringTable, type SymbolName } from './string-table.ts';
import { readPieces, readSymbols } from './symbol-blocks.ts';
import { isTurnOver, nextTurn, runInSteps } from './turn.ts';

/** Limits of a batch: symbols, and roughly the bytes of their names. */
const BATCH_SYMBOLS = 256;
const BATCH_NAME_BYTES = 64 * 1024;
/** Offsets of found names that are kept. Linkers write a string once; some repeat those of local symbols. */
const MAX_FOUND_OFFSETS = 65_536;
/** For up to this many names, `String.includes` rules pieces out first: it takes a tenth of the time for each. */
const MAX_QUICK_NAMES = 4;

/** A symbol with its index and its name. */
export interface TableSymbol extends SymbolEntry {
  /** Index in the symbol table. */
  readonly index: number;
  /** Null when `st_name` lies outside the string table. */
  readonly name: SymbolName | null;
}

/** The symbols of an image, and where its sections lie. */
export class SymbolTable {
  readonly tables: SymbolTables;
  /** Entries of the table, the null symbol included. */
  readonly entries: number;
  readonly strings: StringTable;
  readonly #source: ImageSource;
  readonly #image: ElfImage;

  constructor(source: ImageSource, image: ElfImage, tables: SymbolTables) {
    this.#source = source;
    this.#image = image;
    this.tables = tables;
    this.entries = Math.floor(tables.symtab.length / image.headers.format.symbol.size);
    this.strings = new StringTable(source, tables.strtab);
  }

  get image(): ElfImage {
    return this.#image;
  }

  /** The symbols from an index on. */
  blocks(from: number): AsyncGenerator<SymbolBlock, void> {
    const { headers } = this.#image;
    const offset = this.tables.symtab.offset + from * headers.format.symbol.size;
    return readSymbols(this.#source, headers, { offset, first: from, count: this.entries - from });
  }

  /** Judges the names of symbols that come in blocks. */
  judge(blocks: AsyncIterable<SymbolBlock>, question: NameQuestion): AsyncGenerator<JudgedBlock, void> {
    return judgeNames(this.#source, this.tables.strtab, blocks, question);
  }

  /** Searches the string table for names, until they are found at more offsets than are kept. */
  async searchNames(names: readonly Uint8Array[]): Promise<NameSearch> {
    const { offset, length } = this.tables.strtab;
    const search = new NameSearch(names, MAX_FOUND_OFFSETS);
    const strings = names.length <= MAX_QUICK_NAMES ? names.map((name) => `${decodeBytes(name)}\0`) : null;
    for await (const piece of readPieces(this.#source, offset, length)) {
      if (strings !== null && !holdsAny(decodeBytes(piece), strings)) search.skip(piece);
      else search.scan(piece);
      if (search.overflowed) return search;
    }
    search.end();
    return search;
  }
}

/** Which symbols are listed. */
export interface Page {
  /** The index of the symbol before the first one; 0 for the start of the table. */
  readonly after: number;
  /** The most symbols on the page; null for all. */
  readonly limit: number | null;
  /** Symbols of any of these types, as numbers; all when there are none. The same for `binds`. */
  readonly types: readonly number[];
  readonly binds: readonly number[];
  /** The beginning of their names. */
  readonly prefix: string;
}

/**
 * The symbols of a page in table order, in batches, without the null symbol.
 *
 * @returns the index of the last one when others follow, otherwise null
 */
export async function* listSymbols(table: SymbolTable, page: Page): AsyncGenerator<TableSymbol[], number | null> {
  const { limit, types, binds } = page;
  const prefix = new TextEncoder().encode(page.prefix);
  const isAsked = (block: SymbolBlock, at: number): boolean =>
    (types.length === 0 || types.includes(block.type(at))) && (binds.length === 0 || binds.includes(block.bind(at)));
  const blocks = table.blocks(page.after + 1);
  const judged =
    prefix.length === 0
      ? withoutNames(blocks, isAsked)
      : table.judge(blocks, { isAsked, judge: (bytes, at) => (beginsWith(bytes, at, prefix) ? 1 : 0) });
  const names = new NameAllowance(table.image.headers.imageSize);
  const batch = new Batch();
  let listed = 0;
  let last = page.after;
  for await (const { block, verdicts } of judged) {
    for (let at = 0; at < block.count; at++) {
      if (verdicts[at] === 0) continue;
      if (listed === limit) {
        if (batch.filled) yield batch.take();
        return last;
      }
      listed += 1;
      last = block.first + at;
      const nameOffset = block.nameOffset(at);
      const known = table.strings.peek(nameOffset);
      const name = known === undefined ? await table.strings.read(nameOffset) : known;
      batch.add({ ...block.entry(at), index: last, name: names.take(name) });
      if (batch.full) {
        yield batch.take();
        await nextTurn();
      }
    }
  }
  if (batch.filled) yield batch.take();
  return null;
}

/** Judges symbols by their entries alone. */
async function* withoutNames(
  blocks: AsyncIterable<SymbolBlock>,
  isAsked: NameQuestion['isAsked'],
): AsyncGenerator<JudgedBlock, void> {
  for await (const block of blocks) {
    const verdicts = new Uint32Array(block.count);
    for (let at = 0; at < block.count; at++) verdicts[at] = isAsked(block, at) ? 1 : 0;
    yield { block, verdicts };
  }
}

/**
 * All symbols with one of the names, in table order, in batches.
 *
 * @param wanted not empty, and without a NUL
 * @returns the names that no symbol has
 */
export async function* findSymbols(
  table: SymbolTable,
  wanted: readonly string[],
): AsyncGenerator<TableSymbol[], readonly string[]> {
  const names = [...new Set(wanted)];
  const encoded = names.map((name) => new TextEncoder().encode(name));
  const search = await table.searchNames(encoded);
  const missing = new Set(names.keys());
  if (search.found.size > 0) {
    await nextTurn();
    const blocks = table.blocks(1);
    const judged = search.overflowed
      ? table.judge(blocks, { isAsked: () => true, judge: matchNames(encoded) })
      : matchOffsets(blocks, search);
    const allowance = new NameAllowance(table.image.headers.imageSize);
    const batch = new Batch();
    for await (const { block, verdicts } of judged) {
      for (let at = 0; at < block.count; at++) {
        const match = (verdicts[at] ?? 0) - 1;
        const bytes = encoded[match];
        if (bytes === undefined) continue;
        missing.delete(match);
        const name = allowance.take({ bytes, cut: false });
        batch.add({ ...block.entry(at), index: block.first + at, name });
        if (batch.full) {
          yield batch.take();
          await nextTurn();
        }
      }
    }
    if (batch.filled) yield batch.take();
  }
  return [...missing].map((index) => names[index] ?? '');
}

/** Matches symbols by the offsets where names were found. A verdict is the index of the name plus 1, or 0. */
async function* matchOffsets(
  blocks: AsyncIterable<SymbolBlock>,
  search: NameSearch,
): AsyncGenerator<JudgedBlock, void> {
  for await (const block of blocks) {
    const verdicts = new Uint32Array(block.count);
    for (let at = 0; at < block.count; at++) verdicts[at] = (search.at(block.nameOffset(at)) ?? -1) + 1;
    yield { block, verdicts };
  }
}

/**
 * Compares names one by one, for tables that repeat them at more offsets than are kept. A verdict is the index of the
 * name plus 1.
 */
function matchNames(names: readonly Uint8Array[]): NameQuestion['judge'] {
  const lengths = new Set(names.map(({ length }) => length).filter((length) => length <= MAX_NAME_BYTES));
  const longest = Math.max(...lengths);
  const verdicts = new Map(names.map((name, index) => [decodeBytes(name), index + 1]));
  return (bytes, at) => {
    const start = bytes.subarray(at, at + longest + 1);
    const nul = start.indexOf(0);
    const name = nul === -1 ? start : start.subarray(0, nul);
    return lengths.has(name.length) ? (verdicts.get(decodeBytes(name)) ?? 0) : 0;
  };
}

/** An address and the symbol that stands for it. */
export interface ResolvedAddress {
  readonly address: bigint;
  /** Null when no symbol stands for the address. */
  readonly symbol: TableSymbol | null;
}

/** The symbols of addresses, in their order. Source of the rule: docs/symbols.md. */
export async function resolveAddresses(
  table: SymbolTable,
  addresses: readonly bigint[],
): Promise<readonly ResolvedAddress[]> {
  const { headers, sectionCount } = table.image;
  const search = new AddressSearch(addresses, await runInSteps(locateSections(headers, sectionCount)));
  const considers = (block: SymbolBlock, at: number): boolean => search.considers(block, at);
  const blocks = table.blocks(1);
  if (hasMappingSymbols(readMachine(headers))) {
    const isAsked = (block: SymbolBlock, at: number): boolean =>
      block.type(at) === STT_NOTYPE && block.bind(at) === STB_LOCAL && considers(block, at);
    for await (const { block, verdicts } of table.judge(blocks, { isAsked, judge: judgeMapping })) {
      await offer(search, block, (at) => verdicts[at] === 0 && considers(block, at));
    }
  } else {
    for await (const block of blocks) await offer(search, block, (at) => considers(block, at));
  }
  const withName = async (symbol: AddressedSymbol): Promise<TableSymbol> => ({
    ...symbol,
    name: await table.strings.read(symbol.nameOffset),
  });
  const resolved: ResolvedAddress[] = [];
  for (const address of addresses) {
    const symbol = search.find(address);
    resolved.push({ address, symbol: symbol === null ? null : await withName(symbol) });
  }
  return resolved;
}

/** 1 for the name of a mapping symbol. */
const judgeMapping: NameQuestion['judge'] = (bytes, at) => (isMappingName(bytes.subarray(at)) ? 1 : 0);

async function offer(search: AddressSearch, block: SymbolBlock, isOffered: (at: number) => boolean): Promise<void> {
  for (let at = 0; at < block.count; at++) {
    if (isStepEnd(at) && isTurnOver()) await nextTurn();
    if (isOffered(at)) search.offer(block, at);
  }
}

/** The names in an answer may have this many bytes, plus twice the size of the image, before long ones are cut. */
const FREE_NAME_BYTES = 1024 * 1024;
const MAX_CUT_NAME_BYTES = 64;

/**
 * Bounds the names in an answer. They usually add up to less than the string table, but a million symbols can share a
 * string of 4 KB.
 */
class NameAllowance {
  #bytesLeft: number;

  constructor(imageSize: number) {
    this.#bytesLeft = FREE_NAME_BYTES + 2 * imageSize;
  }

  /** The name, cut when it is long and the allowance is used up. */
  take(name: SymbolName | null): SymbolName | null {
    if (name === null) return null;
    this.#bytesLeft -= name.bytes.length;
    if (this.#bytesLeft >= 0 || name.bytes.length <= MAX_CUT_NAME_BYTES) return name;
    return { bytes: name.bytes.subarray(0, MAX_CUT_NAME_BYTES), cut: true };
  }
}

/** Gathers symbols into a batch. */
class Batch {
  #symbols: TableSymbol[] = [];
  #nameBytes = 0;

  get filled(): boolean {
    return this.#symbols.length > 0;
  }

  get full(): boolean {
    return this.#symbols.length >= BATCH_SYMBOLS || this.#nameBytes >= BATCH_NAME_BYTES;
  }

  add(symbol: TableSymbol): void {
    this.#symbols.push(symbol);
    this.#nameBytes += symbol.name?.bytes.length ?? 0;
  }

  take(): TableSymbol[] {
    const symbols = this.#symbols;
    this.#symbols = [];
    this.#nameBytes = 0;
    return symbols;
  }
}

const byteDecoder = new TextDecoder('latin1');
/** One character for each byte, different for different bytes. */
const decodeBytes = (bytes: Uint8Array): string => byteDecoder.decode(bytes);
const holdsAny = (text: string, strings: readonly string[]): boolean => strings.some((string) => text.includes(string));

function beginsWith(bytes: Uint8Array, at: number, prefix: Uint8Array): boolean {
  for (let index = 0; index < prefix.length; index++) {
    if (bytes[at + index] !== prefix[index]) return false;
  }
  return true;
}
