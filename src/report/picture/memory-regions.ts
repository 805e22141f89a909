/** The regions that guest memory is drawn as: segments, symbols, and what lies between. */

import type { SymbolPlan } from '../../xen/loaders/bsdsyms.ts';
import type { SegmentGroup, SegmentMap } from '../../xen/segment-groups.ts';
import { hasSegments, type KernelRange } from '../../xen/segments.ts';

/** A range of guest-physical memory that is drawn as one. */
export interface MemoryRegion {
  readonly kind: 'segment' | 'symbols' | 'gap';
  /** Unique: `segment-0`, `segments-3` (several, the first is 3), `symbols`, `gap-0x…` (by its start). */
  readonly region: string;
  readonly start: bigint;
  /** Exclusive. */
  readonly end: bigint;
  /** Of a segment. */
  readonly group: SegmentGroup | null;
}

/** An address with a name. */
interface AddressMark {
  readonly address: bigint;
  readonly name: string;
}

/** Guest memory from its lowest region to its highest. */
export interface MemoryRegions {
  /** In ascending order of their starts. Only the symbols can overlap segments. */
  readonly regions: readonly MemoryRegion[];
  /** All addresses where a region begins or ends, or that have a name; ascending, each once. */
  readonly addresses: readonly bigint[];
  readonly marks: readonly AddressMark[];
  /** Whether the symbols lie over segments. */
  readonly overlap: boolean;
}

/** Lays out the memory that segments and symbols take. */
export function listMemoryRegions(kernel: KernelRange, plan: SymbolPlan, segments: SegmentMap): MemoryRegions {
  const used: MemoryRegion[] = segments.groups.map((group) => ({
    kind: 'segment',
    region: `${group.count === 1 ? 'segment' : 'segments'}-${group.first.index}`,
    start: group.start,
    end: group.end,
    group,
  }));
  const symbols: MemoryRegion = { kind: 'symbols', region: 'symbols', start: plan.pstart, end: plan.pend, group: null };
  const overlap = used.some(({ start, end }) => start < symbols.end && end > symbols.start);
  const ordered = [...used, symbols].sort((one, other) => compare(one.start, other.start));

  const regions: MemoryRegion[] = [];
  let end = ordered[0]?.start ?? 0n;
  for (const region of ordered) {
    if (region.start > end) {
      regions.push({ kind: 'gap', region: `gap-0x${end.toString(16)}`, start: end, end: region.start, group: null });
    }
    regions.push(region);
    if (region.end > end) end = region.end;
  }
  const lowest = regions[0]?.start ?? 0n;
  const named: AddressMark[] = [
    ...(hasSegments(kernel)
      ? [
          { address: kernel.pstart, name: 'kernel pstart' },
          { address: kernel.pend, name: 'kernel pend' },
        ]
      : []),
    ...(plan.loadAddress === kernel.pend ? [] : [{ address: plan.loadAddress, name: 'load address' }]),
    { address: plan.pstart, name: 'symbols pstart' },
    { address: plan.pend, name: 'symbols pend' },
  ];
  const marks = named.filter(({ address }) => address >= lowest && address <= end);
  const addresses = [
    ...new Set([...regions.flatMap((region) => [region.start, region.end]), ...marks.map(({ address }) => address)]),
  ].sort(compare);
  return { regions, addresses, marks, overlap };
}

const compare = (one: bigint, other: bigint): number => (one < other ? -1 : one > other ? 1 : 0);
