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
import { printable } from './table.ts';

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

/** What was asked for and is not there. */
export type NotFound = { readonly names: readonly string[] } | { readonly addresses: readonly bigint[] };

const NOTHING_MISSING: NotFound = { names: [] };

/**
 * The answer as one JSON document (`SymbolsReport`), in pieces of text.
 *
 * @returns what was not found
 * @throws only what the source throws when it cannot be read
 */
export async function* writeSymbols(
  opened: OpenedSymbols,
  query: SymbolQuery,
  compression: Compression | null,
): AsyncGenerator<string, NotFound> {
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
    return unresolved(resolved);
  }
  yield ',"symbols":[';
  if ('names' in query) {
    const notFound = yield* writeList(findSymbols(opened.table, query.names));
    yield `],"notFound":${JSON.stringify(notFound)}}\n`;
    return { names: notFound };
  }
  const next = yield* writeList(listSymbols(opened.table, query.page));
  yield `],"next":${JSON.stringify(next)}}\n`;
  return NOTHING_MISSING;
}

/** How symbols and addresses are written, a line each. */
interface Lines {
  readonly symbol: (symbol: TableSymbol) => string;
  readonly address: (resolved: ResolvedAddress) => string;
}

/**
 * The answer as NDJSON: a line for each symbol (`SymbolReport`), or for each address (`AddressReport`).
 *
 * @returns what was not found
 * @throws only what the source throws when it cannot be read
 */
export const writeSymbolLines = (opened: OpenedSymbols, query: SymbolQuery): AsyncGenerator<string, NotFound> =>
  writeLines(opened, query, {
    symbol: (symbol) => JSON.stringify(describeSymbol(symbol)),
    address: (resolved) => JSON.stringify(describeAddress(resolved)),
  });

/**
 * The answer as text for people, in the manner of `nm -S`: value, size, type, binding and name; for an address the symbol and the
 * distance from it.
 *
 * @returns what was not found
 * @throws only what the source throws when it cannot be read
 */
export function writeSymbolText(opened: OpenedSymbols, query: SymbolQuery): AsyncGenerator<string, NotFound> {
  const digits = opened.image.identity?.class === 'ELF32' ? 8 : 16;
  const pad = (value: bigint): string => value.toString(16).padStart(digits, '0');
  const facts = ({ size, type, bind, section }: TableSymbol): string =>
    [
      pad(size),
      symbolTypeName(type).padEnd(7),
      symbolBindName(bind).padEnd(6),
      String(symbolSection(section)).padStart(6),
    ].join(' ');
  return writeLines(opened, query, {
    symbol: (symbol) => `${pad(symbol.value)} ${facts(symbol)} ${writeName(symbol)}`,
    address: ({ address, symbol }) =>
      symbol === null
        ? `${pad(address)} no symbol`
        : `${pad(address)} ${facts(symbol)} ${writeName(symbol)}+${hex(address - symbol.value)}`,
  });
}

function writeName(symbol: TableSymbol): string {
  const { name, nameCut } = describeName(symbol.name);
  return `${printable(name ?? '(its name lies outside the string table)')}${nameCut === true ? '…' : ''}`;
}

async function* writeLines(
  { table }: OpenedSymbols,
  query: SymbolQuery,
  lines: Lines,
): AsyncGenerator<string, NotFound> {
  if ('addresses' in query) {
    const resolved = await resolveAddresses(table, query.addresses);
    yield resolved.map((one) => `${lines.address(one)}\n`).join('');
    return unresolved(resolved);
  }
  const write = (batch: readonly TableSymbol[]): string => batch.map((one) => `${lines.symbol(one)}\n`).join('');
  if ('names' in query) return { names: yield* mapBatches(findSymbols(table, query.names), write) };
  yield* mapBatches(listSymbols(table, query.page), write);
  return NOTHING_MISSING;
}

const unresolved = (resolved: readonly ResolvedAddress[]): NotFound => ({
  addresses: resolved.flatMap(({ address, symbol }) => (symbol === null ? [address] : [])),
});

/** @returns what the generator of batches returns */
async function* mapBatches<T>(
  batches: AsyncGenerator<TableSymbol[], T>,
  write: (batch: TableSymbol[]) => string,
): AsyncGenerator<string, T> {
  for (;;) {
    const step = await batches.next();
    if (step.done === true) return step.value;
    yield write(step.value);
  }
}

/** The elements of a JSON array. @returns what the generator of batches returns */
function writeList<T>(batches: AsyncGenerator<TableSymbol[], T>): AsyncGenerator<string, T> {
  let separator = '\n';
  return mapBatches(batches, (batch) => {
    const text = separator + batch.map((symbol) => JSON.stringify(describeSymbol(symbol))).join(',\n');
    separator = ',\n';
    return text;
  });
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
