/** The column of a blob: its parts, where they lie, and what is counted from where. */
import { hex } from '../../elf/hex.ts';
import { SIZE_WORD_BYTES, type SymbolPlan } from '../../xen/loaders/bsdsyms.ts';
import { type BlobPart, endOfWritten, type PartKind } from './blob-parts.ts';
import type { Mark, Side } from './marks.ts';
import { bottomOf, type Row, stackRows } from './scale.ts';
import {
  ADDRESS_SIZE,
  addressWidth,
  drawLabel,
  drawRail,
  drawRegion,
  heightOfLines,
  RAIL_WIDTH,
  type Rail,
  type Region,
} from './shapes.ts';
import type { LookName } from './theme.ts';
import { bytes, group } from './words.ts';

const MOST_HEIGHT = 900;
export const BLOB_WIDTH = 240;
const LABEL_GAP = 6;

/** A blob to be drawn. */
export interface Blob {
  readonly side: Side;
  readonly plan: SymbolPlan;
  readonly parts: readonly BlobPart[];
  /** Bytes in a symbol. */
  readonly symbolSize: number;
  /** By region; null when nothing is compared. */
  readonly marks: ReadonlyMap<string, Mark> | null;
}

interface BlobColumn {
  readonly svg: string;
  readonly bottom: number;
  /** One for each part. */
  readonly rows: readonly Row[];
}

/** How wide the addresses and rails beside the column are. */
export const besideWidth = (blob: Blob): number => labelWidth(blob) + listRails(blob, []).length * RAIL_WIDTH;

const labelWidth = ({ plan, parts }: Blob): number => {
  const last = parts.at(-1);
  const offset = `+${group((last?.offset ?? 0) + (last?.size ?? 0))}`;
  return addressWidth(Math.max(hex(plan.pend).length, offset.length)) + 2 * LABEL_GAP;
};

/** @param x of the column's left edge; addresses and rails are left of the own blob, and right of the other one */
export function drawBlobColumn(blob: Blob, x: number, y: number): BlobColumn {
  const { parts, marks, side, plan } = blob;
  const contents = parts.map((part) => {
    const lines = linesOf(plan, part).length + (marks?.get(part.region)?.lines.length ?? 0);
    return { size: part.size, least: heightOfLines(lines) };
  });
  const rows = stackRows(contents, y, { perDoubling: 4, most: MOST_HEIGHT });
  const bottom = bottomOf(rows, y);
  const regions = parts.map((part, index) => drawRegion(describe(blob, part, rows[index] ?? { y, height: 0 }, x)));
  const onLeft = side === 'own';
  const labelX = onLeft ? x - LABEL_GAP : x + BLOB_WIDTH + LABEL_GAP;
  const anchor = onLeft ? 'end' : 'start';
  const ends = [...parts.map(({ offset }) => offset), endOf(parts)];
  const labels = ends.map((offset, index) => {
    const top = rows[index]?.y ?? bottom;
    const address = offset <= plan.size ? hex(plan.pstart + BigInt(offset)) : '';
    const style = { anchor, size: ADDRESS_SIZE, monospace: true } as const;
    return (
      drawLabel(`+${group(offset)}`, labelX, top + 4, { ...style, look: 'ink' }) +
      drawLabel(address, labelX, top + 16, { ...style, look: 'faint' })
    );
  });
  const rails = listRails(blob, rows);
  const width = labelWidth(blob);
  const drawnRails = rails.map((rail, index) =>
    drawRail(rail, onLeft ? x - width - (index + 1) * RAIL_WIDTH : x + BLOB_WIDTH + width + index * RAIL_WIDTH, y),
  );
  return { svg: [...regions, ...labels, ...drawnRails].join(''), bottom, rows };
}

const endOf = (parts: readonly BlobPart[]): number => {
  const last = parts.at(-1);
  return last === undefined ? 0 : last.offset + last.size;
};

/** What is counted from where. @param rows of the parts; without them only the number of rails is right */
function listRails({ plan, parts }: Blob, rows: readonly Row[]): Rail[] {
  const end = endOf(parts);
  const at = (offset: number): number => positionOf(Math.min(offset, end), parts, rows);
  const reserved = BigInt.asUintN(64, plan.xenReservedEnd - plan.pstart);
  const reservedSize = Number(reserved);
  const written = endOfWritten(parts);
  const rail = (name: string, from: number, to: number, text: string, look: Rail['look'] = 'line'): Rail => ({
    name,
    y: at(from),
    end: at(to),
    text,
    look,
    ticks: [],
  });
  const rails: Rail[] = [];
  if (plan.headers !== null) {
    const tables = parts.filter(({ table }) => table !== null);
    const last = tables.at(-1)?.offset ?? SIZE_WORD_BYTES;
    rails.push({
      ...rail('sh-offset', SIZE_WORD_BYTES, last, 'sh_offset counts from the ELF header'),
      ticks: tables.map(({ offset }) => at(offset)),
    });
    const counted = `size word: ${bytes(plan.sizeWord)} from here`;
    rails.push(rail('size-word', SIZE_WORD_BYTES, SIZE_WORD_BYTES + plan.sizeWord, counted));
  }
  rails.push(rail('written', 0, written, `load writes up to +${group(written)}`));
  rails.push(rail('reserved', 0, reservedSize, `Xen reserves ${bytes(reserved)}`));
  if (written > reservedSize) {
    const after = `${bytes(written - reservedSize)} after the region`;
    rails.push(rail('after-reserved', reservedSize, written, after, 'alarm'));
  }
  return rails;
}

/** The `y` of an offset; within a part it is in proportion. */
export function positionOf(offset: number, parts: readonly BlobPart[], rows: readonly Row[]): number {
  const index = parts.findIndex((part) => offset < part.offset + part.size);
  const [part, row] = [parts[index], rows[index]];
  if (part === undefined || row === undefined) return bottomOf(rows, 0);
  return Math.round(row.y + (row.height * (offset - part.offset)) / part.size);
}

const LOOKS: Readonly<Record<PartKind, LookName>> = {
  'size-word': 'word',
  'elf-header': 'header',
  'section-header': 'header',
  'section-headers': 'header',
  symtab: 'symtab',
  strtab: 'strtab',
  tables: 'strtab',
  padding: 'unused',
  tail: 'unused',
};

function describe({ side, plan, marks, symbolSize }: Blob, part: BlobPart, row: Row, x: number): Region {
  const { kind, name, region, offset, size, written } = part;
  const mark = marks?.get(region) ?? null;
  const end = offset + size;
  const place =
    end <= plan.size
      ? `${hex(plan.pstart + BigInt(offset))} to ${hex(plan.pstart + BigInt(end))}`
      : 'not within the blob';
  return {
    x,
    ...row,
    width: BLOB_WIDTH,
    name: side === 'own' ? region : `other-${region}`,
    look: written ? LOOKS[kind] : 'unused',
    dashed: !written,
    lines: linesOf(plan, part),
    mark,
    title: [
      `${name}: ${place}, ${bytes(size)} at offset ${group(offset)}.`,
      ...explain(plan, part, symbolSize),
      ...(mark === null ? [] : [mark.title]),
    ].join(' '),
    data: { offset, size },
  };
}

function linesOf({ sizeWord }: SymbolPlan, { name, kind, size, table, written }: BlobPart): string[] {
  const length = bytes(size);
  switch (kind) {
    case 'size-word':
      return [name, `${length} · says ${group(sizeWord)}`];
    case 'elf-header':
      return [name, `${length} · sh_offset 0`];
    case 'padding':
    case 'tail':
      return [name, `${length} of zeros`];
    case 'symtab':
    case 'strtab':
      return [
        name,
        written ? length : `${length} · not copied`,
        ...(table === null ? [] : [`sh_offset ${group(table.shOffset)}`]),
      ];
    case 'section-header':
    case 'section-headers':
    case 'tables':
      return [name, length];
  }
}

function explain({ sizeWord }: SymbolPlan, { kind, table, count }: BlobPart, symbolSize: number): string[] {
  switch (kind) {
    case 'size-word':
      return [`Its value is ${group(sizeWord)}, counted in bytes from the ELF header.`];
    case 'elf-header':
      return ['Every sh_offset counts from its first byte.'];
    case 'padding':
    case 'tail':
      return ['Load writes nothing here; the blob has zeros.'];
    case 'section-headers':
    case 'tables':
      return [`${group(count)} are drawn as one.`];
    case 'section-header':
      return [];
    case 'symtab':
    case 'strtab':
      if (table === null) return [];
      return [
        `Section ${table.index}, sh_offset ${group(table.shOffset)}.`,
        ...(kind === 'symtab' ? [`${group(Math.floor(table.size / symbolSize))} entries.`] : []),
        table.fileOffset === null
          ? 'Not copied: its bytes are not inside the image.'
          : `Copied from offset ${hex(table.fileOffset)} of the image.`,
      ];
  }
}
