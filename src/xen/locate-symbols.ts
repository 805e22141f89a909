/** Locates the symbol table that the loader would choose. */
import { SHT_STRTAB } from '../elf/format.ts';
import { type ElfImage, INIT_SEARCH } from '../elf/headers.ts';
import { Recorder, type Stage } from '../elf/recorder.ts';
import { View } from '../elf/view.ts';
import type { Broken } from './broken.ts';
import { type Failure, noSymbolTable, reported, strtabLinkInvalid } from './loaders/failures.ts';

/** A table of the image, wholly inside it. */
interface TableRange {
  /** Section index. */
  readonly index: number;
  /** Byte offset in the image. */
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
}

/** The symbol table and the string table of an image. */
export interface SymbolTables {
  readonly symtab: TableRange;
  readonly strtab: TableRange;
  /** `sh_info` of the symbol table: the index of its first global symbol. */
  readonly firstGlobal: number;
}

type LocatedSymbols =
  | { readonly ok: true; readonly tables: SymbolTables }
  | { readonly ok: false; readonly broken: Broken };

/**
 * The tables that stages `parse` and `load` would use. Both must lie inside the image: what Xen skips cannot be read.
 * If they cannot be used, a reason recorded before is the one that is reported; otherwise it does not matter.
 */
export function locateSymbols(image: ElfImage): LocatedSymbols {
  const { headers, symbolTable } = image;
  const table = headers.sectionHeaders;
  const fields = headers.format.sectionHeader.fields;
  const refuse = (failure: Failure, stage: Stage): LocatedSymbols => ({
    ok: false,
    broken: reported(failure, image.recorded, stage),
  });

  if (!symbolTable.found) return refuse(noSymbolTable(image, symbolTable, INIT_SEARCH), 'parse');
  const { index, link } = symbolTable;
  // Records what is wrong with the tables, apart from what was recorded before.
  const recorder = new Recorder('load');
  const view = new View(headers, recorder);
  const linkType = view.hasEntry(table, link) ? view.number(table, link, fields.sh_type) : null;
  if (linkType !== SHT_STRTAB) return refuse(strtabLinkInvalid(symbolTable, linkType), 'parse');

  const locate = (section: number, type: string): TableRange => {
    const offset = view.bigint(table, section, fields.sh_offset);
    const range = view.range(`section ${section} (${type})`, offset, view.bigint(table, section, fields.sh_size));
    return { index: section, ...(range ?? { offset: 0, length: 0 }) };
  };
  const tables: SymbolTables = {
    symtab: locate(index, 'SYMTAB'),
    strtab: locate(link, 'STRTAB'),
    firstGlobal: view.number(table, index, fields.sh_info),
  };
  const { recorded } = recorder;
  return recorded === null ? { ok: true, tables } : refuse({ code: recorded.code, finding: recorded }, 'load');
}
