/** A plan: bytes to be produced, as data. All arithmetic on an image's offsets happens while planning. */
import { lowerBound } from '../elf/lower-bound.ts';
import { isStepEnd, type Steps } from '../elf/steps.ts';

/** Bytes that the plan itself holds, a range of the image to be copied, or zeros. `length` is in bytes. */
export type Extent =
  | { readonly kind: 'bytes'; readonly length: number; readonly bytes: Uint8Array }
  | { readonly kind: 'copy'; readonly length: number; readonly offset: number }
  | { readonly kind: 'fill'; readonly length: number };

/** An extent and where it goes, counted from the start of what is planned. */
export interface Placed {
  readonly at: number;
  readonly extent: Extent;
}

export const bytesExtent = (bytes: Uint8Array): Extent => ({ kind: 'bytes', length: bytes.length, bytes });
export const copyExtent = ({ offset, length }: { readonly offset: number; readonly length: number }): Extent => ({
  kind: 'copy',
  length,
  offset,
});

export const fillExtent = (length: number): Extent => ({ kind: 'fill', length });

/**
 * Turns placed extents into one gapless run of exactly `length` bytes, with zeros wherever nothing was placed.
 * `placed` is in ascending order, does not overlap and does not reach beyond `length`.
 */
export function* fillGaps(placed: Iterable<Placed>, length: number): Steps<Extent[]> {
  const run: Extent[] = [];
  let end = 0;
  let index = 0;
  for (const { at, extent } of placed) {
    if (isStepEnd(index++)) yield null;
    if (extent.length === 0) continue;
    if (at > end) run.push(fillExtent(at - end));
    run.push(extent);
    end = at + extent.length;
  }
  if (length > end) run.push(fillExtent(length - end));
  return run;
}

/**
 * The result of writing extents one after another, later ones over earlier ones: the same bytes as extents in ascending
 * order that do not overlap, as `fillGaps` expects. Takes n log n for n extents, however they overlap.
 */
export function* overlay(written: readonly Placed[]): Steps<Placed[]> {
  // Every start and end is a boundary. The cell between two neighbouring boundaries has one owner.
  const unsorted = new Float64Array(written.length * 2);
  for (const [index, { at, extent }] of written.entries()) {
    if (isStepEnd(index)) yield null;
    unsorted[index * 2] = at;
    unsorted[index * 2 + 1] = at + extent.length;
  }
  const boundaries = yield* sortNumbers(unsorted);
  const owners = yield* ownCells(written, boundaries);

  const seen: Placed[] = [];
  for (let cell = 0; cell < owners.length; ) {
    const owner = owners[cell] ?? NOBODY;
    let end = cell;
    do {
      if (isStepEnd(end)) yield null;
      end += 1;
    } while (end < owners.length && owners[end] === owner);
    const at = boundaries[cell] ?? 0;
    const length = (boundaries[end] ?? 0) - at;
    const winner = written[owner];
    if (winner !== undefined && length > 0) {
      seen.push({ at, extent: sliceExtent(winner.extent, at - winner.at, length) });
    }
    cell = end;
  }
  return seen;
}

const NOBODY = -1;

/** The index of the extent that owns each cell. Extents claim free cells, the last extent first. */
function* ownCells(written: readonly Placed[], boundaries: Float64Array): Steps<Int32Array> {
  const cells = Math.max(0, boundaries.length - 1);
  const owners = new Int32Array(cells).fill(NOBODY);
  // next[cell] leads to the first free cell from there on; paths are halved on the way.
  const next = new Int32Array(cells + 1);
  for (let cell = 0; cell <= cells; cell++) {
    if (isStepEnd(cell)) yield null;
    next[cell] = cell;
  }
  const firstFree = (from: number): number => {
    let cell = from;
    for (let to = next[cell] ?? cells; to !== cell; to = next[cell] ?? cells) {
      const beyond = next[to] ?? cells;
      next[cell] = beyond;
      cell = beyond;
    }
    return cell;
  };
  const cellAt = (at: number): number => lowerBound(cells, (cell) => (boundaries[cell] ?? at) < at);
  let owned = 0;
  for (let index = written.length - 1; index >= 0; index--) {
    if (isStepEnd(index)) yield null;
    const placed = written[index];
    if (placed === undefined || placed.extent.length === 0) continue;
    const end = placed.at + placed.extent.length;
    for (
      let cell = firstFree(cellAt(placed.at));
      cell < cells && (boundaries[cell] ?? end) < end;
      cell = firstFree(cell)
    ) {
      owners[cell] = index;
      next[cell] = cell + 1;
      if (isStepEnd(owned++)) yield null;
    }
  }
  return owners;
}

/** Numbers sorted at once, in about 0.2 ms. */
const SORTED_AT_ONCE = 4096;

/** The numbers in ascending order. Overwrites `numbers`. */
function* sortNumbers(numbers: Float64Array): Steps<Float64Array> {
  const { length } = numbers;
  for (let at = 0; at < length; at += SORTED_AT_ONCE) {
    if (at > 0) yield null;
    numbers.subarray(at, at + SORTED_AT_ONCE).sort();
  }
  let sorted = numbers;
  let merged: Float64Array = new Float64Array(length > SORTED_AT_ONCE ? length : 0);
  for (let run = SORTED_AT_ONCE; run < length; run *= 2) {
    for (let at = 0; at < length; at += 2 * run) {
      const middle = Math.min(at + run, length);
      const end = Math.min(middle + run, length);
      let [low, high] = [at, middle];
      for (let to = at; to < end; to++) {
        if (isStepEnd(to)) yield null;
        const takeLow = high === end || (low < middle && (sorted[low] ?? 0) <= (sorted[high] ?? 0));
        merged[to] = sorted[takeLow ? low++ : high++] ?? 0;
      }
    }
    [sorted, merged] = [merged, sorted];
  }
  return sorted;
}

/** The `length` bytes of an extent from `from` on. */
function sliceExtent(extent: Extent, from: number, length: number): Extent {
  if (from === 0 && length === extent.length) return extent;
  switch (extent.kind) {
    case 'bytes':
      return bytesExtent(extent.bytes.subarray(from, from + length));
    case 'copy':
      return copyExtent({ offset: extent.offset + from, length });
    case 'fill':
      return fillExtent(length);
  }
}
