/** FreeBSD (`xen_pvh_parse_symtab`, then `db_init`): for amd64, in kernels with `options DDB`. */

import type { ByteWalk } from '../../elf/byte-walk.ts';
import { ELF64 } from '../../elf/format.ts';
import { type Blob, checkHeader, type GuestTables, throughSectionCount } from './blob.ts';
import { BLOCK_BYTES, type GuestMemory, Structures } from './memory.ts';
import { findMisplacement, findTableMisreadings, NameCheck, type Placement } from './misreadings.ts';
import { found, type GuestVerdict, none, unknown } from './verdict.ts';

const { symbol } = ELF64;
const HEADER = { format: ELF64, checksVersion: true, length: throughSectionCount(ELF64) } as const;

/** What FreeBSD makes of a blob. */
export function* judgeFreebsd(blob: Blob, placement: Placement): ByteWalk<GuestVerdict> {
  const refusal = checkHeader(blob, HEADER);
  if (refusal !== null || blob.search === null) return refusal ?? unknown('elf-header-outside');
  const { search } = blob;
  if (!search.found) return search.outside === null ? none('no-symbol-table') : unknown(search.outside);
  const { tables } = search;
  const { size } = tables.symtab;
  if (size === 0n) return none('symbol-table-empty');
  const stride = BigInt(symbol.size);
  const names = yield* checkNames(blob.memory, tables);
  const warnings = [
    ...findMisplacement(blob, ELF64, placement, 'end'),
    ...findTableMisreadings(blob, ELF64, tables),
    ...names.warnings,
  ];
  if (size % stride !== 0n) warnings.push('table-size-odd');
  // FreeBSD walks while it is below the end of the table, which rounds up.
  return found(BigInt.asUintN(64, size + stride - 1n) / stride, warnings);
}

/** Reads the symbols that are inside the memory. The guest does so only when it looks for one. */
function* checkNames(memory: GuestMemory, tables: GuestTables): ByteWalk<NameCheck> {
  const names = yield* NameCheck.of(memory, tables);
  const { at: start, size } = tables.symtab;
  const inside = start < 0 ? 0 : Math.max(0, Math.min(Number(size), memory.size - start));
  const count = Math.floor(inside / symbol.size);
  const perBlock = Math.floor(BLOCK_BYTES / symbol.size);
  for (let first = 0; first < count && !names.isDone; first += perBlock) {
    const length = Math.min(perBlock, count - first);
    const at = start + first * symbol.size;
    const block = new Structures(memory, yield* memory.block(at, length * symbol.size), at, symbol.size);
    for (let index = 0; index < length; index++) names.check(block.number(index, symbol.fields.st_name));
  }
  return names;
}
