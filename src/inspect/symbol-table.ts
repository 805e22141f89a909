/** Passes over the symbol table of an image, in blocks: tables may be of any size, and others have their turns. */
import { type AddressedSymbol, AddressSearch } from '../elf/address-search.ts';
import type { ElfImage } from '../elf/headers.ts';
import { NameSearch } from '../elf/name-search.ts';
import {
  hasMappingSymbols,
  isMappingName,
  STB_LOCAL,
  STT_NOTYPE,
  SymbolBlock,
  type SymbolEntry,
} from '../elf/symbols.ts';
import type { Headers } from '../elf/view.ts';
import { View } from '../elf/view.ts';
import type { SymbolTables } from '../xen/locate-symbols.ts';
import type { ImageSource } from './image-source.ts';
import { StringTable, type SymbolName } from './string-table.ts';
import { nextTurn } from './turn.ts';

/** Tables are looked at in blocks of about this size, so that none of them holds up other requests. */
const BLOCK_BYTES = 256 * 1024;
/** Symbols that are handed over at once: so many, or so few that their names have about this many bytes. */
const BATCH_SYMBOLS = 256;
const BATCH_NAME_BYTES = 64 * 1024;
/** Places of the names looked for that are kept. Linkers write a string once; some repeat those of local symbols. */
const MAX_PLACES = 65_536;
/** So few names are first looked for by the system's means, which take a tenth of the time for each. */
const MAX_QUICK_NAMES = 4;
const NUL = Uint8Array.of(0);

/** A symbol with its place in the table and its name. */
export interface TableSymbol extends SymbolEntry {
  /** Index in the symbol table. */
  readonly index: number;
  /** Null when `st_name` lies outside of the string table. */
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

  /** The symbols from an index on, uncopied as far as the image is in whole pieces. */
  async *blocks(from: number): AsyncGenerator<SymbolBlock, void> {
    const { format, littleEndian } = this.#image.headers;
    const { size } = format.symbol;
    const { offset } = this.tables.symtab;
    let first = from;
    // A symbol that two pieces share, as far as it has come.
    const shared = new Uint8Array(size);
    let sharedBytes = 0;
    for await (const piece of readPieces(this.#source, offset + from * size, (this.entries - from) * size)) {
      let rest = piece;
      if (sharedBytes > 0) {
        const missing = rest.subarray(0, size - sharedBytes);
        shared.set(missing, sharedBytes);
        sharedBytes += missing.length;
        rest = rest.subarray(missing.length);
        if (sharedBytes < size) continue;
        yield new SymbolBlock(shared, first, format, littleEndian);
        first += 1;
      }
      const block = new SymbolBlock(rest, first, format, littleEndian);
      yield block;
      first += block.count;
      const left = rest.subarray(block.count * size);
      shared.set(left);
      sharedBytes = left.length;
    }
  }

  /** Looks for names in the string table, until there are more places than are kept. */
  async searchNames(names: readonly Uint8Array[]): Promise<NameSearch> {
    const { offset, length } = this.tables.strtab;
    const search = new NameSearch(names, MAX_PLACES);
    const strings = names.length <= MAX_QUICK_NAMES ? names.map((name) => Buffer.concat([name, NUL])) : null;
    for await (const piece of readPieces(this.#source, offset, length)) {
      if (strings !== null && !strings.some((string) => asBuffer(piece).includes(string))) search.skip(piece);
      else search.scan(piece);
      if (search.overflowed) return search;
    }
    search.end();
    return search;
  }
}

/** The bytes of a range in pieces of at most a block. After every block or so others have their turn. */
async function* readPieces(source: ImageSource, offset: number, length: number): AsyncGenerator<Uint8Array, void> {
  if (length <= 0) return;
  let sinceTurn = 0;
  for await (const chunk of source.stream(offset, length)) {
    for (let at = 0; at < chunk.length; at += BLOCK_BYTES) {
      if (sinceTurn >= BLOCK_BYTES) {
        await nextTurn();
        sinceTurn = 0;
      }
      const piece = chunk.subarray(at, at + BLOCK_BYTES);
      sinceTurn += piece.length;
      yield piece;
    }
  }
}

/** Which symbols are listed, and where the list goes on. */
export interface Page {
  /** The index of the symbol before the first one; 0 for the start of the table. */
  readonly after: number;
  /** How many symbols; null for all. */
  readonly limit: number | null;
  /** Symbols of any of these types, as numbers; all when there are none. The same for `binds`. */
  readonly types: readonly number[];
  readonly binds: readonly number[];
  /** What names begin with. */
  readonly prefix: string;
}

/**
 * The symbols of a page in table order, in batches. The null symbol is none of them.
 *
 * @returns the index of the last one when others follow, otherwise null
 */
export async function* listSymbols(table: SymbolTable, page: Page): AsyncGenerator<TableSymbol[], number | null> {
  const { limit, types, binds } = page;
  const prefix = new TextEncoder().encode(page.prefix);
  const batch = new Batch();
  let listed = 0;
  let last = page.after;
  for await (const block of table.blocks(page.after + 1)) {
    for (let at = 0; at < block.count; at++) {
      if (types.length > 0 && !types.includes(block.type(at))) continue;
      if (binds.length > 0 && !binds.includes(block.bind(at))) continue;
      const place = block.nameOffset(at);
      const known = table.strings.peek(place);
      const name = known === undefined ? await table.strings.read(place) : known;
      if (prefix.length > 0 && !beginsWith(name, prefix)) continue;
      if (listed === limit) {
        if (batch.filled) yield batch.take();
        return last;
      }
      listed += 1;
      last = block.first + at;
      batch.add({ ...block.entry(at), index: last, name });
      if (batch.full) {
        yield batch.take();
        await nextTurn();
      }
    }
  }
  if (batch.filled) yield batch.take();
  return null;
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
    const matcher = search.overflowed ? new NameMatcher(encoded) : null;
    const batch = new Batch();
    for await (const block of table.blocks(1)) {
      for (let at = 0; at < block.count; at++) {
        const place = block.nameOffset(at);
        const match =
          matcher === null
            ? search.at(place)
            : matcher.match(table.strings.peek(place) ?? (await table.strings.read(place)));
        const bytes = match === undefined ? undefined : encoded[match];
        if (match === undefined || bytes === undefined) continue;
        missing.delete(match);
        batch.add({ ...block.entry(at), index: block.first + at, name: { bytes, cut: false } });
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

/** Compares names one by one: for tables that repeat the names looked for more often than their places are kept. */
class NameMatcher {
  readonly #indices: ReadonlyMap<string, number>;
  readonly #lengths: ReadonlySet<number>;

  constructor(names: readonly Uint8Array[]) {
    this.#lengths = new Set(names.map(({ length }) => length));
    this.#indices = new Map(names.map((name, index) => [bytesKey(name), index]));
  }

  match(name: SymbolName | null): number | undefined {
    if (name === null || name.cut || !this.#lengths.has(name.bytes.length)) return undefined;
    return this.#indices.get(bytesKey(name.bytes));
  }
}

/** A string for each sequence of bytes. */
const bytesKey = (bytes: Uint8Array): string => asBuffer(bytes).toString('latin1');
const asBuffer = ({ buffer, byteOffset, byteLength }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength);

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
  const search = new AddressSearch(addresses, headers, sectionCount);
  const marked = hasMappingSymbols(readMachine(headers));
  for await (const block of table.blocks(1)) {
    for (let at = 0; at < block.count; at++) {
      if (!search.considers(block, at)) continue;
      if (marked && block.type(at) === STT_NOTYPE && block.bind(at) === STB_LOCAL) {
        const name = await table.strings.read(block.nameOffset(at));
        if (name !== null && isMappingName(name.bytes)) continue;
      }
      search.offer(block, at);
    }
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

function readMachine(headers: Headers): number {
  // A view of its own: what is read here is no reason against the image.
  const view = new View(headers.imageSize, headers.littleEndian);
  return view.u32(headers.elfHeader, 0, headers.format.elfHeader.fields.e_machine);
}

/** Symbols gathered to be handed over. */
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

const beginsWith = (name: SymbolName | null, prefix: Uint8Array): boolean =>
  name !== null && asBuffer(name.bytes.subarray(0, prefix.length)).equals(prefix);
