/** The loadable segments as they lie in guest memory: a bounded list, however many segments there are. */
import type { ElfImage } from '../elf/headers.ts';
import { lowerBound } from '../elf/lower-bound.ts';
import { isStepEnd, runToEnd, type Steps } from '../elf/steps.ts';
import { View } from '../elf/view.ts';
import { hasSegment, isLoadable, readSegment, type Segment } from './segments.ts';

/** A range of guest-physical memory that one segment takes, or several that overlap or lie close to each other. */
export interface SegmentGroup {
  readonly start: bigint;
  /** Exclusive: 2^64 at most. */
  readonly end: bigint;
  /** How many segments it stands for. */
  readonly count: number;
  /** The one with the lowest index. */
  readonly first: Segment;
  /** The highest index. */
  readonly lastIndex: number;
  /** All `p_flags`, combined. */
  readonly flags: number;
  /** Whether segments in it are known to overlap. Where there are gaps, that is not looked for. */
  readonly overlaps: boolean;
  /** Whether it was joined across memory that no segment took. */
  readonly hasGaps: boolean;
}

/** Where the segments of an image lie. */
export interface SegmentMap {
  /** In ascending order, without overlaps. */
  readonly groups: readonly SegmentGroup[];
  /** How many loadable segments there are. */
  readonly count: number;
  /** How many of them take no memory; they are in no group. */
  readonly empty: number;
}

const U64_END = 2n ** 64n;

/** Groups the loadable segments. With more than `maxGroups` the groups that lie closest to each other are joined. */
export const groupSegments = (image: ElfImage, maxGroups: number): SegmentMap =>
  runToEnd(groupSegmentsInSteps(image, maxGroups));

/** As `groupSegments`, in steps. Takes n log m for n segments and m groups, and the memory of the groups. */
export function* groupSegmentsInSteps({ headers }: ElfImage, maxGroups: number): Steps<SegmentMap> {
  const reads = { headers, view: new View(headers) };
  const groups: SegmentGroup[] = [];
  let count = 0;
  let empty = 0;
  for (let index = 0; hasSegment(reads, index); index++) {
    if (isStepEnd(index)) yield null;
    if (!isLoadable(reads, index)) continue;
    const segment = readSegment(reads, index);
    count += 1;
    if (segment.memsz === 0n) {
      empty += 1;
      continue;
    }
    insert(groups, groupOf(segment));
    if (groups.length > maxGroups) joinClosest(groups);
  }
  return { groups, count, empty };
}

function groupOf(segment: Segment): SegmentGroup {
  const { index, paddr: start, memsz, flags } = segment;
  // A segment that wraps continues at 0, where nothing can be drawn of it in order.
  const end = start + memsz > U64_END ? U64_END : start + memsz;
  return { start, end, count: 1, first: segment, lastIndex: index, flags, overlaps: false, hasGaps: false };
}

/** Adds a group; those that it overlaps become part of it. */
function insert(groups: SegmentGroup[], added: SegmentGroup): void {
  const from = lowerBound(groups.length, (at) => (groups[at]?.end ?? added.start) <= added.start);
  let joined = added;
  let to = from;
  for (let next = groups[to]; next !== undefined && next.start < added.end; next = groups[to]) {
    joined = join(next, joined);
    if (!joined.hasGaps) joined = { ...joined, overlaps: true };
    to += 1;
  }
  groups.splice(from, to - from, joined);
}

/** Joins the two neighbours with the least memory between them. */
function joinClosest(groups: SegmentGroup[]): void {
  let closest = 0;
  let least = U64_END;
  for (let at = 0; at + 1 < groups.length; at++) {
    const distance = (groups[at + 1]?.start ?? U64_END) - (groups[at]?.end ?? 0n);
    if (distance < least) [closest, least] = [at, distance];
  }
  const [lower, upper] = [groups[closest], groups[closest + 1]];
  if (lower === undefined || upper === undefined) return;
  const hasGaps = lower.hasGaps || upper.hasGaps || least > 0n;
  groups.splice(closest, 2, { ...join(lower, upper), hasGaps });
}

const join = (one: SegmentGroup, other: SegmentGroup): SegmentGroup => ({
  start: one.start < other.start ? one.start : other.start,
  end: one.end > other.end ? one.end : other.end,
  count: one.count + other.count,
  first: one.first.index < other.first.index ? one.first : other.first,
  lastIndex: Math.max(one.lastIndex, other.lastIndex),
  flags: one.flags | other.flags,
  overlaps: one.overlaps || other.overlaps,
  hasGaps: one.hasGaps || other.hasGaps,
});
