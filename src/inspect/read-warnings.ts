/** Reads the tables of a planned blob for faults that a guest would meet, and for the kernel's end symbols. */
import type { ElfImage } from '../elf/headers.ts';
import type { SymbolBlock } from '../elf/symbols.ts';
import {
  describeMisplaced,
  EndStringSearch,
  type EndSymbol,
  EndSymbolSearch,
  endSymbolsOf,
  findMisplaced,
} from '../xen/end-symbol.ts';
import type { SymbolPlan } from '../xen/loaders/bsdsyms.ts';
import { findNameOutside, findPlannedTables, type Warning } from '../xen/warnings.ts';
import type { ImageSource } from './image-source.ts';
import { readPieces, readSymbols } from './symbol-blocks.ts';
import { runInSteps } from './turn.ts';

/** What the tables of a blob show. */
interface TableFindings {
  readonly warnings: readonly Warning[];
  /** The end symbols that are not where the blob begins. */
  readonly elsewhere: ReadonlySet<EndSymbol>;
}

/** Reads both tables once. Skipped copies are not read. */
export async function readTableWarnings(
  source: ImageSource,
  image: ElfImage,
  plan: SymbolPlan,
): Promise<TableFindings> {
  const warnings: Warning[] = [];
  const nowhere: ReadonlySet<EndSymbol> = new Set();
  const { symtab, strtab } = findPlannedTables(plan);
  if (strtab === undefined || strtab.fileOffset === null) return { warnings, elsewhere: nowhere };
  const symbols = symtab === undefined || symtab.fileOffset === null ? null : symtab;
  const names = symbols === null ? [] : endSymbolsOf(image);

  const strings = new EndStringSearch(names);
  let lastByte = -1;
  // Without names to look for, the last byte is all that matters.
  const from = names.length === 0 ? Math.max(0, strtab.size - 1) : 0;
  for await (const piece of readPieces(source, strtab.fileOffset + from, strtab.size - from)) {
    if (names.length > 0) strings.scan(piece);
    lastByte = piece.at(-1) ?? -1;
  }
  if (lastByte !== 0) {
    warnings.push({
      code: 'strtab-unterminated',
      detail: strtab.size === 0 ? 'The string table is empty.' : `The last of its ${strtab.size} bytes is not NUL.`,
    });
  }
  if (symbols === null || symbols.fileOffset === null) return { warnings, elsewhere: nowhere };

  const ends = new EndSymbolSearch();
  let nameOutside = -1;
  const count = Math.floor(symbols.size / image.headers.format.symbol.size);
  const range = { offset: symbols.fileOffset, first: 0, count };
  for await (const block of readSymbols(source, image.headers, range)) {
    if (nameOutside === -1) nameOutside = findNameOutside(block, strtab.size);
    if (!strings.isEmpty) offerEndSymbols(block, strings, ends);
    else if (nameOutside !== -1) break;
  }
  if (nameOutside !== -1) {
    warnings.push({
      code: 'symbol-name-outside',
      detail: `Symbol ${nameOutside} has its name outside the ${strtab.size} bytes of the string table.`,
    });
  }
  const misplaced = await runInSteps(findMisplaced(image, plan, ends.values));
  const warning = describeMisplaced(misplaced, plan);
  if (warning !== null) warnings.push(warning);
  return { warnings, elsewhere: new Set(misplaced.map(({ name }) => name)) };
}

function offerEndSymbols(block: SymbolBlock, strings: EndStringSearch, ends: EndSymbolSearch): void {
  for (let at = 0; at < block.count; at++) {
    const name = strings.at(block.nameOffset(at));
    if (name !== undefined) ends.offer(name, block.entry(at));
  }
}
