/** Symbols as JSON, one document or one line for each, written piece by piece. */

import { hex, hexBytes } from '../elf/hex.ts';
import { symbolBindName, symbolSection, symbolTypeName, visibilityName } from '../elf/symbols.ts';
import type { Compression } from '../inspect/image-source.ts';
import type { OpenedSymbols } from '../inspect/load.ts';
import { TextDecoder } from '../inspect/platform.ts';
import type { SymbolName } from '../inspect/string-table.ts';
import {
  findSymbols,
  listSymbols,
  type Page,
  type ResolvedAddress,
  resolveAddresses,
  type TableSymbol,
} from '../inspect/symbol-table.ts';
import { reportRecorded } from '../xen/broken.ts';
import { describeBroken, describeImage } from './layout.ts';
import { toJsonNumber } from './numbers.ts';
import type { AddressReport, SymbolReport, SymbolsReport } from './schemas.ts';

/** A query of a symbol table: symbols by name, or by address, or a page of all. */
export type SymbolQuery =
  | { readonly names: readonly string[] }
  | { readonly addresses: readonly bigint[] }
  | { readonly page: Page };

/** Symbols on a page of a JSON document by default. */
export const DEFAULT_PAGE_SYMBOLS = 1000;
export const MAX_PAGE_SYMBOLS = 1_000_000;

/** The parameters of a query; those of different groups exclude each other. */
const QUERY_PARAMETERS = [['name'], ['address'], ['type', 'bind', 'prefix', 'limit', 'after']] as const;

/**
 * Two parameters that exclude each other, or null.
 *
 * @param isGiven whether there is a parameter of this name
 */
export function findConflict(isGiven: (name: string) => boolean): readonly [string, string] | null {
  const [first, second] = QUERY_PARAMETERS.map((group) => group.find((name) => isGiven(name))).filter(
    (name) => name !== undefined,
  );
  return first === undefined || second === undefined ? null : [first, second];
}

/**
 * The answer as one JSON document (`SymbolsReport`), in pieces of text.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function* writeSymbols(
  opened: OpenedSymbols,
  query: SymbolQuery,
  compression: Compression | null,
): AsyncGenerator<string, void> {
  const head: Omit<SymbolsReport, 'symbols' | 'notFound' | 'next' | 'addresses'> = {
    image: describeImage(opened.image, compression),
    symtab: describeTable(opened),
    broken: describeBroken(reportRecorded(opened.elf.recorded)),
  };
  // The members that can be long are written last, as they are read.
  yield JSON.stringify(head).slice(0, -1);
  if ('addresses' in query) {
    const resolved = await resolveAddresses(opened.table, query.addresses);
    yield `,"addresses":${JSON.stringify(resolved.map(describeAddress))}}\n`;
    return;
  }
  yield ',"symbols":[';
  const tail = yield* 'names' in query
    ? writeList(findSymbols(opened.table, query.names))
    : writeList(listSymbols(opened.table, query.page));
  yield 'names' in query ? `],"notFound":${JSON.stringify(tail)}}\n` : `],"next":${JSON.stringify(tail)}}\n`;
}

/**
 * The answer as NDJSON: a line for each symbol (`SymbolReport`), or for each address (`AddressReport`).
 *
 * @throws only what the source throws when it cannot be read
 */
export async function* writeSymbolLines({ table }: OpenedSymbols, query: SymbolQuery): AsyncGenerator<string, void> {
  if ('addresses' in query) {
    const resolved = await resolveAddresses(table, query.addresses);
    yield resolved.map((one) => `${JSON.stringify(describeAddress(one))}\n`).join('');
    return;
  }
  const batches = 'names' in query ? findSymbols(table, query.names) : listSymbols(table, query.page);
  for await (const batch of batches)
    yield batch.map((symbol) => `${JSON.stringify(describeSymbol(symbol))}\n`).join('');
}

/** The elements of a JSON array. @returns what the generator of batches returns */
async function* writeList<T>(batches: AsyncGenerator<TableSymbol[], T>): AsyncGenerator<string, T> {
  let separator = '\n';
  for (;;) {
    const step = await batches.next();
    if (step.done === true) return step.value;
    yield separator + step.value.map((symbol) => JSON.stringify(describeSymbol(symbol))).join(',\n');
    separator = ',\n';
  }
}

function describeTable({ table: { tables, entries } }: OpenedSymbols): SymbolsReport['symtab'] {
  const { symtab, strtab, firstGlobal } = tables;
  return {
    index: symtab.index,
    fileOffset: symtab.offset,
    size: symtab.length,
    entries,
    firstGlobal,
    strtab: { index: strtab.index, fileOffset: strtab.offset, size: strtab.length },
  };
}

export function describeSymbol(symbol: TableSymbol): SymbolReport {
  const { index, name, value, size, type, bind, visibility, section } = symbol;
  return {
    index,
    ...describeName(name),
    value: hex(value),
    size: toJsonNumber(size),
    type: symbolTypeName(type),
    bind: symbolBindName(bind),
    visibility: visibilityName(visibility),
    section: symbolSection(section),
  };
}

const REPLACEMENT = '\ufffd';
/** The three bytes of a byte order mark are part of a name like any others. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function describeName(name: SymbolName | null): Pick<SymbolReport, 'name' | 'nameBytes' | 'nameCut'> {
  if (name === null) return { name };
  const text = decoder.decode(name.bytes);
  return {
    name: text,
    ...(text.includes(REPLACEMENT) ? { nameBytes: hexBytes(name.bytes) } : {}),
    ...(name.cut ? { nameCut: true } : {}),
  };
}

function describeAddress({ address, symbol }: ResolvedAddress): AddressReport {
  return symbol === null
    ? { address: hex(address), symbol, offset: null }
    : { address: hex(address), symbol: describeSymbol(symbol), offset: toJsonNumber(address - symbol.value) };
}
