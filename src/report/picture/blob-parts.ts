/** The parts that a blob is drawn as: all of its bytes, in order, in a list of bounded length. */
import { SIZE_WORD_BYTES, type SymbolPlan } from '../../xen/loaders/bsdsyms.ts';
import type { PlannedTable } from '../../xen/loaders/layout.ts';

export type PartKind =
  | 'size-word'
  | 'elf-header'
  | 'section-header'
  | 'section-headers'
  | 'symtab'
  | 'strtab'
  | 'tables'
  | 'padding'
  | 'tail';

/** A range of a blob that is drawn as one. */
export interface BlobPart {
  readonly kind: PartKind;
  /** Unique within the blob, and the same for the same image: `size-word`, `section-header-1`, `section-2`, … */
  readonly region: string;
  /** What it is, in a few words. */
  readonly name: string;
  /** From the start of the blob, in bytes. */
  readonly offset: number;
  /** In bytes; an empty table has 0. */
  readonly size: number;
  /** The table that it is; null for all other parts. */
  readonly table: PlannedTable | null;
  /** How many headers or tables it stands for; otherwise 1. */
  readonly count: number;
  /** Whether load writes it; otherwise it is zeros, or lies after the end of the blob. */
  readonly written: boolean;
}

/** How many section headers are drawn one by one; more of them are one part. */
export const MAX_HEADER_PARTS = 4;
/** How many tables are drawn one by one; further ones are one part. */
export const MAX_TABLE_PARTS = 8;

/** Names a section header after its table, if it has one. */
const nameHeader = (index: number, tables: readonly PlannedTable[]): string => {
  const type = tables.find((table) => table.index === index)?.type;
  return `section header ${index}${type === undefined ? '' : ` (${type})`}`;
};

/**
 * The parts of a blob, in order and without gaps. They reach past its end where a table was not copied and would not have
 * fitted.
 */
export function listBlobParts(plan: SymbolPlan): readonly BlobPart[] {
  const parts: BlobPart[] = [];
  let end = 0;
  for (const part of outline(plan)) {
    if (part.offset > end) parts.push(paddingPart(`padding-${end}`, end, part.offset - end));
    parts.push(part);
    end = part.offset + part.size;
  }
  if (plan.size > end) parts.push({ ...paddingPart('tail', end, plan.size - end), kind: 'tail', name: 'tail' });
  return parts;
}

/** The first offset after all that load writes. */
export function endOfWritten(parts: readonly BlobPart[]): number {
  const last = parts.findLast(({ written, size }) => written && size > 0);
  return last === undefined ? 0 : last.offset + last.size;
}

const paddingPart = (region: string, offset: number, size: number): BlobPart => ({
  kind: 'padding',
  region,
  name: 'padding',
  offset,
  size,
  table: null,
  count: 1,
  written: false,
});

function* outline(plan: SymbolPlan): Generator<BlobPart, void> {
  if (plan.headers !== null) yield* outlineHeaders(plan, plan.headers);
  for (const table of plan.tables.slice(0, MAX_TABLE_PARTS)) {
    const { index, type, offset, size, fileOffset } = table;
    const [kind, name] =
      type === 'SYMTAB' ? (['symtab', 'symbol table'] as const) : (['strtab', 'string table'] as const);
    yield { kind, region: `section-${index}`, name, offset, size, table, count: 1, written: fileOffset !== null };
  }
  const [first, last, count] = [plan.tables[MAX_TABLE_PARTS], plan.tables.at(-1), plan.tables.length - MAX_TABLE_PARTS];
  if (first === undefined || last === undefined) return;
  const { offset } = first;
  const size = last.offset + last.size - offset;
  const name = count === 1 ? '1 further table' : `${count} further tables`;
  yield { kind: 'tables', region: 'tables', name, offset, size, table: null, count, written: true };
}

function* outlineHeaders(
  { tables }: SymbolPlan,
  { elfHeaderSize, sectionHeaders }: NonNullable<SymbolPlan['headers']>,
): Generator<BlobPart, void> {
  const one = { table: null, count: 1, written: true };
  yield { ...one, kind: 'size-word', region: 'size-word', name: 'size word', offset: 0, size: SIZE_WORD_BYTES };
  yield {
    ...one,
    kind: 'elf-header',
    region: 'elf-header',
    name: 'ELF header',
    offset: SIZE_WORD_BYTES,
    size: elfHeaderSize,
  };
  const { offset, size, count } = sectionHeaders;
  if (count > MAX_HEADER_PARTS) {
    const name = `${count} section headers`;
    yield { ...one, kind: 'section-headers', region: 'section-headers', name, offset, size: size * count, count };
    return;
  }
  for (let index = 0; index < count; index++) {
    const name = nameHeader(index, tables);
    const region = `section-header-${index}`;
    yield { ...one, kind: 'section-header', region, name, offset: offset + index * size, size };
  }
}
