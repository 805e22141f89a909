/** Where the symbols of an image lie, by the loader's own choice of the table. */
import { SHT_STRTAB } from '../elf/format.ts';
import { type ElfImage, INIT_SEARCH } from '../elf/headers.ts';
import { View } from '../elf/view.ts';
import type { Broken } from './broken.ts';
import { type Failure, noSymbolTable, reported, strtabLinkInvalid } from './loaders/failures.ts';

/** A table of the image, wholly inside of it. */
export interface TableRange {
  /** Section index. */
  readonly index: number;
  /** Byte offset in the image. */
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
}

export interface SymbolTables {
  readonly symtab: TableRange;
  readonly strtab: TableRange;
  /** `sh_info` of the symbol table: the index of its first global symbol. */
  readonly firstGlobal: number;
}

export type LocatedSymbols =
  | { readonly ok: true; readonly tables: SymbolTables }
  | { readonly ok: false; readonly broken: Broken };

/**
 * The tables that stages `parse` and `load` would take. Both must lie inside the image: what Xen skips cannot be read.
 * A reason recorded before does not matter otherwise; if the tables cannot be used it is the one that is told.
 */
export function locateSymbols(image: ElfImage): LocatedSymbols {
  const { headers, symbolTable } = image;
  const table = headers.sectionHeaders;
  const fields = headers.format.sectionHeader.fields;
  // A view of its own shows what is wrong with the tables, whatever was recorded before.
  const view = new View(headers.imageSize, headers.littleEndian);
  view.stage = 'parse';
  const refuse = (failure: Failure): LocatedSymbols => ({
    ok: false,
    broken: reported(failure, image.view.recorded, view.stage),
  });

  if (!symbolTable.found) return refuse(noSymbolTable(image, symbolTable, INIT_SEARCH));
  const { index, link } = symbolTable;
  const linkType = view.hasEntry(table, link) ? view.u32(table, link, fields.sh_type) : null;
  if (linkType !== SHT_STRTAB) return refuse(strtabLinkInvalid(symbolTable, linkType));

  view.stage = 'load';
  const locate = (section: number, type: string): TableRange => {
    const offset = view.u64(table, section, fields.sh_offset);
    const range = view.range(`section ${section} (${type})`, offset, view.u64(table, section, fields.sh_size));
    return { index: section, ...(range ?? { offset: 0, length: 0 }) };
  };
  const tables: SymbolTables = {
    symtab: locate(index, 'SYMTAB'),
    strtab: locate(link, 'STRTAB'),
    firstGlobal: view.u32(table, index, fields.sh_info),
  };
  const { recorded } = view;
  return recorded === null ? { ok: true, tables } : refuse({ code: recorded.code, finding: recorded });
}
