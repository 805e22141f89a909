/** Looks into the tables of a planned blob for what a guest would stumble over, and for the kernel's end symbols. */
import type { ElfImage } from '../elf/headers.ts';
import { SymbolBlock } from '../elf/symbols.ts';
import {
  describeMisplaced,
  EndStringSearch,
  type EndSymbol,
  EndSymbolSearch,
  endSymbolsOf,
  findMisplaced,
} from '../xen/end-symbol.ts';
import type { SymbolPlan } from '../xen/loaders/bsdsyms.ts';
import { findNameOutside, findSymbols, type Warning } from '../xen/warnings.ts';
import { driveWalk } from './drive-walk.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Tables are looked at in blocks of about this size, so that none of them holds up other requests. */
const BLOCK_BYTES = 256 * 1024;

/** What the tables of a blob show. */
export interface TableFindings {
  readonly warnings: readonly Warning[];
  /** The end symbols that are not where the blob begins. */
  readonly elsewhere: ReadonlySet<EndSymbol>;
}

/** Reads both tables once. Copies that were skipped are not looked at. */
export async function readTableWarnings(
  source: Pick<ImageSource, 'read' | 'expect'>,
  image: ElfImage,
  plan: SymbolPlan,
): Promise<TableFindings> {
  const warnings: Warning[] = [];
  const nowhere: ReadonlySet<EndSymbol> = new Set();
  const { symtab, strtab } = findSymbols(plan);
  if (strtab === undefined || strtab.fileOffset === null) return { warnings, elsewhere: nowhere };
  const symbols = symtab === undefined || symtab.fileOffset === null ? null : symtab;
  const names = symbols === null ? [] : endSymbolsOf(image);

  const strings = new EndStringSearch(names);
  let lastByte = -1;
  // Without names to look for, the last byte is all that matters.
  const from = names.length === 0 ? Math.max(0, strtab.size - 1) : 0;
  for await (const piece of readBlocks(source, strtab.fileOffset + from, strtab.size - from, BLOCK_BYTES)) {
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

  const { format, littleEndian } = image.headers;
  const { size } = format.symbol;
  const ends = new EndSymbolSearch();
  let first = 0;
  let nameOutside = -1;
  const length = Math.floor(symbols.size / size) * size;
  for await (const piece of readBlocks(source, symbols.fileOffset, length, Math.floor(BLOCK_BYTES / size) * size)) {
    const block = new SymbolBlock(piece, first, format, littleEndian);
    if (nameOutside === -1) nameOutside = findNameOutside(block, strtab.size);
    if (!strings.isEmpty) offerEndSymbols(block, strings, ends);
    else if (nameOutside !== -1) break;
    first += block.count;
  }
  if (nameOutside !== -1) {
    warnings.push({
      code: 'symbol-name-outside',
      detail: `Symbol ${nameOutside} has its name outside the ${strtab.size} bytes of the string table.`,
    });
  }
  const misplaced = await driveWalk(source, findMisplaced(image, plan, ends.values));
  const warning = describeMisplaced(misplaced, plan);
  if (warning !== null) warnings.push(warning);
  return { warnings, elsewhere: new Set(misplaced.map(({ name }) => name)) };
}

/** The bytes of a range in blocks. After each of them others have their turn. */
async function* readBlocks(
  source: Pick<ImageSource, 'read' | 'expect'>,
  offset: number,
  length: number,
  blockBytes: number,
): AsyncGenerator<Uint8Array, void> {
  source.expect?.(offset, length);
  for (let done = 0; done < length; done += blockBytes) {
    if (done > 0) await nextTurn();
    yield await source.read(offset + done, Math.min(blockBytes, length - done));
  }
}

function offerEndSymbols(block: SymbolBlock, strings: EndStringSearch, ends: EndSymbolSearch): void {
  for (let at = 0; at < block.count; at++) {
    const name = strings.at(block.nameOffset(at));
    if (name !== undefined) ends.offer(name, block.entry(at));
  }
}
