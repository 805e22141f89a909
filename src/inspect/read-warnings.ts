/** Looks into the tables of a planned blob for what a guest would stumble over. */
import type { Headers } from '../elf/view.ts';
import type { SymbolPlan } from '../xen/loaders/bsdsyms.ts';
import { findNameOutside, findSymbols, type Warning } from '../xen/warnings.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Symbols are looked at in blocks of about this size, so that none of them holds up other requests. */
const BLOCK_BYTES = 256 * 1024;

/** Reads the symbol table once, and the last byte of the string table. Copies that were skipped are not looked at. */
export async function readGuestWarnings(source: ImageSource, headers: Headers, plan: SymbolPlan): Promise<Warning[]> {
  const warnings: Warning[] = [];
  const { symtab, strtab } = findSymbols(plan);
  if (strtab === undefined || strtab.fileOffset === null) return warnings;
  if (strtab.size === 0 || (await source.read(strtab.fileOffset + strtab.size - 1, 1))[0] !== 0) {
    warnings.push({
      code: 'strtab-unterminated',
      detail: strtab.size === 0 ? 'The string table is empty.' : `The last of its ${strtab.size} bytes is not NUL.`,
    });
  }
  if (symtab === undefined || symtab.fileOffset === null) return warnings;

  const symbolSize = headers.format.symbol.size;
  const count = Math.floor(symtab.size / symbolSize);
  const perBlock = Math.floor(BLOCK_BYTES / symbolSize);
  for (let first = 0; first < count; first += perBlock) {
    const symbols = Math.min(perBlock, count - first);
    const block = await source.read(symtab.fileOffset + first * symbolSize, symbols * symbolSize);
    const found = findNameOutside(block, headers.format, headers.littleEndian, strtab.size);
    if (found !== -1) {
      warnings.push({
        code: 'symbol-name-outside',
        detail: `Symbol ${first + found} has its name outside the ${strtab.size} bytes of the string table.`,
      });
      break;
    }
    if (first + symbols < count) await nextTurn();
  }
  return warnings;
}
