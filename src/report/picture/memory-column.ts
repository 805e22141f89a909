/** The column of guest memory: segments, the gap, the symbols. */
import { hex } from '../../elf/hex.ts';
import type { SegmentGroup } from '../../xen/segment-groups.ts';
import type { MemoryRegion, MemoryRegions } from './memory-regions.ts';
import { bottomOf, stackRows } from './scale.ts';
import { ADDRESS_SIZE, drawLabel, drawRegion, heightOfLines, type Rectangle, type Region } from './shapes.ts';
import type { LookName } from './theme.ts';
import { bytes, permissions } from './words.ts';

/** Of all rows together, unless there are more than fit. */
const MOST_HEIGHT = 900;
const COLUMN_WIDTH = 230;
/** Where symbols lie over segments, each kind has a lane of its own. */
const LANE_WIDTH = 210;

interface MemoryColumn {
  readonly svg: string;
  readonly right: number;
  readonly bottom: number;
  /** Where the symbols are. */
  readonly symbols: Rectangle;
}

/** @param x of the left edge of the column; addresses are left of it */
export function drawMemoryColumn(
  { regions, addresses, marks, overlap }: MemoryRegions,
  x: number,
  y: number,
): MemoryColumn {
  const cells = addresses.slice(1).map((end, index) => {
    const start = addresses[index] ?? end;
    const names = marks.filter(({ address }) => address === start).length;
    const joined = regions.some((region) => region.start === start && (region.group?.count ?? 1) > 1);
    return { size: Number(end - start), least: Math.max(heightOfLines(joined ? 4 : 2), 22 + names * 11) };
  });
  const rows = stackRows(cells, y, { perDoubling: 4, most: MOST_HEIGHT });
  const bottom = bottomOf(rows, y);
  const positions = new Map(addresses.map((address, index) => [address, rows[index]?.y ?? bottom]));
  const at = (address: bigint): number => positions.get(address) ?? bottom;
  const width = overlap ? 2 * LANE_WIDTH : COLUMN_WIDTH;
  const place = ({ kind, start, end }: MemoryRegion): Rectangle => {
    const top = at(start);
    const height = at(end) - top;
    if (!overlap || kind === 'gap') return { x, y: top, width, height };
    return { x: kind === 'symbols' ? x + LANE_WIDTH : x, y: top, width: LANE_WIDTH, height };
  };
  const labels = addresses.map((address) => {
    const top = at(address);
    const named = marks.filter((mark) => mark.address === address);
    return [
      drawLabel(hex(address), x - 6, top + 4, { anchor: 'end', look: 'ink', size: ADDRESS_SIZE, monospace: true }),
      ...named.map(({ name }, index) =>
        drawLabel(name, x - 6, top + 15 + index * 11, { anchor: 'end', look: 'faint', size: 10, monospace: false }),
      ),
    ].join('');
  });
  const symbols = regions.find(({ kind }) => kind === 'symbols');
  return {
    svg: [...regions.map((region) => drawRegion(describe(region, place(region)))), ...labels].join(''),
    right: x + width,
    bottom,
    symbols: symbols === undefined ? { x, y, width, height: 0 } : place(symbols),
  };
}

const LOOKS: Readonly<Record<MemoryRegion['kind'], LookName>> = { segment: 'segment', symbols: 'symbols', gap: 'gap' };

function describe(memory: MemoryRegion, rectangle: Rectangle): Region {
  const { kind, region, start, end, group } = memory;
  const size = bytes(end - start);
  const [name, details] = nameRegion(memory);
  return {
    ...rectangle,
    name: region,
    look: LOOKS[kind],
    dashed: kind === 'gap',
    lines: [name, size, ...details],
    mark: null,
    title: `${name}: ${hex(start)} to ${hex(end)}, ${size}. ${group === null ? '' : describeGroup(group)}`.trim(),
    data: { start: hex(start), end: hex(end) },
  };
}

function nameRegion({ kind, group }: MemoryRegion): [name: string, details: string[]] {
  if (kind === 'gap') return ['gap', []];
  if (group === null) return ['symbols', []];
  const flags = permissions(group.flags);
  if (group.count > 1) {
    const details = [...(group.overlaps ? ['overlapping'] : []), ...(group.hasGaps ? ['with gaps between them'] : [])];
    return [`${group.count} segments ${flags}`, details];
  }
  const { filesz, memsz, index } = group.first;
  const content = filesz === 0n ? ['all zeros'] : [`${bytes(filesz)} from the file`, 'then zeros'];
  return [`segment ${index} ${flags}`, filesz < memsz ? content : []];
}

function describeGroup({ count, first, lastIndex, overlaps, hasGaps }: SegmentGroup): string {
  if (count > 1) {
    const range = `Program headers ${first.index} to ${lastIndex}.`;
    return `${range}${overlaps ? ' Segments overlap.' : ''}${hasGaps ? ' There are gaps between them.' : ''}`;
  }
  const { offset, filesz, memsz, vaddr, align } = first;
  const zeros = memsz > filesz ? `, then ${bytes(memsz - filesz)} of zeros` : '';
  return `${bytes(filesz)} from offset ${hex(offset)} of the image${zeros}. Virtual address ${hex(vaddr)}, align ${hex(align)}.`;
}
