/** Symbol tables of images, opened and read as the service does. */

import { MemorySource } from '../../src/image/memory.ts';
import type { ImageSource } from '../../src/inspect/image-source.ts';
import { type OpenedSymbols, openSymbols } from '../../src/inspect/load.ts';
import type { Page, SymbolTable, TableSymbol } from '../../src/inspect/symbol-table.ts';
import type { SymbolsReport } from '../../src/report/schemas.ts';
import { type SymbolQuery, writeSymbolLines, writeSymbols } from '../../src/report/symbols.ts';

/** All symbols. */
export const EVERYTHING: Page = { after: 0, limit: null, types: [], binds: [], prefix: '' };

/** @throws when the image is refused */
async function mustOpenSymbols(image: Uint8Array | ImageSource): Promise<OpenedSymbols> {
  const opened = await openSymbols(image instanceof Uint8Array ? new MemorySource([image]) : image);
  if (!opened.ok) throw new Error(`the image was refused: ${opened.broken.code}: ${opened.broken.detail}`);
  return opened;
}

export const mustOpenTable = async (image: Uint8Array | ImageSource): Promise<SymbolTable> =>
  (await mustOpenSymbols(image)).table;

/** What a pass over the table yields and returns. */
export async function collectSymbols<T>(
  batches: AsyncGenerator<TableSymbol[], T>,
): Promise<{ readonly symbols: readonly TableSymbol[]; readonly result: T; readonly batches: readonly number[] }> {
  const symbols: TableSymbol[] = [];
  const sizes: number[] = [];
  for (;;) {
    const step = await batches.next();
    if (step.done === true) return { symbols, result: step.value, batches: sizes };
    symbols.push(...step.value);
    sizes.push(step.value.length);
  }
}

export const nameOf = ({ name }: Pick<TableSymbol, 'name'>): string | null =>
  name === null ? null : Buffer.from(name.bytes).toString('latin1');

/** The answer to a query as one document. */
export async function report(image: Uint8Array | ImageSource, query: SymbolQuery): Promise<SymbolsReport> {
  return JSON.parse(await join(writeSymbols(await mustOpenSymbols(image), query, null))) as SymbolsReport;
}

/** The lines of the answer to a query. */
export async function reportLines(image: Uint8Array | ImageSource, query: SymbolQuery): Promise<string[]> {
  return (await join(writeSymbolLines(await mustOpenSymbols(image), query))).split('\n').slice(0, -1);
}

async function join(pieces: AsyncIterable<string>): Promise<string> {
  const texts: string[] = [];
  for await (const piece of pieces) texts.push(piece);
  return texts.join('');
}
