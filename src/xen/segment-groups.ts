/** The loadable segments as they lie in guest memory: a bounded list, however many segments there are. */
import type { ElfImage } from '../elf/headers.ts';
import { lowerBound } from '../elf/lower-bound.ts';
import { isStepEnd, runToEnd, type Steps } from '../elf/steps.ts';
import { U64_END } from '../elf/u64.ts';
import { type Segment, segmentsOf } from './segments.ts';

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

/** Groups the loadable segments. With more than `maxGroups` the groups that lie closest to each other are joined. */
export const groupSegments = (image: ElfImage, maxGroups: number): SegmentMap =>
  runToEnd(groupSegmentsInSteps(image, maxGroups));

/** As `groupSegments`, in steps. Takes n log m for n segments and m groups, and the memory of the groups. */
export function* groupSegmentsInSteps(image: ElfImage, maxGroups: number): Steps<SegmentMap> {
  const segments = segmentsOf(image);
  const groups: GroupDraft[] = [];
  let count = 0;
  let empty = 0;
  for (let index = 0, same = 1; segments.has(index); index += same) {
    if (isStepEnd(index)) yield null;
    same = segments.countSame(index);
    if (!segments.isLoadable(index)) continue;
    const segment = segments.segment(index);
    count += same;
    if (segment.memsz === 0n) {
      empty += same;
      continue;
    }
    insert(groups, segment, same);
    if (groups.length > maxGroups) joinClosest(groups);
  }
  return { groups, count, empty };
}

type GroupDraft = { -readonly [Key in keyof SegmentGroup]: SegmentGroup[Key] };

/** Adds as many segments, each the same as the first. The groups that they overlap become one. */
function insert(groups: GroupDraft[], segment: Segment, count: number): void {
  const { index, paddr: start, memsz, flags } = segment;
  // A segment that wraps continues at 0, where nothing can be drawn of it in order.
  const end = start + memsz > U64_END ? U64_END : start + memsz;
  const from = lowerBound(groups.length, (at) => (groups[at]?.end ?? start) <= start);
  const group = groups[from];
  if (group === undefined || group.start >= end) {
    const lastIndex = index + count - 1;
    const alone = { start, end, count, first: segment, lastIndex, flags, overlaps: count > 1, hasGaps: false };
    groups.splice(from, 0, alone);
    return;
  }
  if (start < group.start) group.start = start;
  if (end > group.end) group.end = end;
  group.count += count;
  group.lastIndex = index + count - 1;
  group.flags |= flags;
  if (!group.hasGaps) group.overlaps = true;
  for (let next = groups[from + 1]; next !== undefined && next.start < group.end; next = groups[from + 1]) {
    join(group, next);
    if (!group.hasGaps) group.overlaps = true;
    groups.splice(from + 1, 1);
  }
}

/** Joins the two neighbours with the least memory between them. */
function joinClosest(groups: GroupDraft[]): void {
  let closest = 0;
  let least = U64_END;
  for (let at = 0; at + 1 < groups.length; at++) {
    const distance = (groups[at + 1]?.start ?? U64_END) - (groups[at]?.end ?? 0n);
    if (distance < least) [closest, least] = [at, distance];
  }
  const [lower, upper] = [groups[closest], groups[closest + 1]];
  if (lower === undefined || upper === undefined) return;
  join(lower, upper);
  if (least > 0n) lower.hasGaps = true;
  groups.splice(closest + 1, 1);
}

/** Makes the other group, which has the higher addresses, a part of the group. */
function join(group: GroupDraft, other: SegmentGroup): void {
  if (other.end > group.end) group.end = other.end;
  group.count += other.count;
  if (other.first.index < group.first.index) group.first = other.first;
  group.lastIndex = Math.max(group.lastIndex, other.lastIndex);
  group.flags |= other.flags;
  group.overlaps ||= other.overlaps;
  group.hasGaps ||= other.hasGaps;
}
