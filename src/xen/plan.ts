/** A plan: bytes to be produced, as data. All arithmetic on an image's offsets happens while planning. */

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
export function fillGaps(placed: readonly Placed[], length: number): Extent[] {
  const run: Extent[] = [];
  let end = 0;
  for (const { at, extent } of placed) {
    if (extent.length === 0) continue;
    if (at > end) run.push(fillExtent(at - end));
    run.push(extent);
    end = at + extent.length;
  }
  if (length > end) run.push(fillExtent(length - end));
  return run;
}

/**
 * What is left to see when extents are written one after the other and later ones win: the same bytes as extents in
 * ascending order that do not overlap, as `fillGaps` wants them. Takes n log n for n extents, however they overlap.
 */
export function overlay(written: readonly Placed[]): Placed[] {
  // Every start and end is a boundary; what lies between two neighbours, a cell, has one owner.
  const boundaries = new Float64Array(written.length * 2);
  written.forEach(({ at, extent }, index) => {
    boundaries[index * 2] = at;
    boundaries[index * 2 + 1] = at + extent.length;
  });
  boundaries.sort();
  const owners = ownCells(written, boundaries);

  const seen: Placed[] = [];
  for (let cell = 0; cell < owners.length; ) {
    const owner = owners[cell] ?? NOBODY;
    let end = cell + 1;
    while (end < owners.length && owners[end] === owner) end++;
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

/** The index of the extent that each cell ends up with: from the last extent to the first, who comes first gets it. */
function ownCells(written: readonly Placed[], boundaries: Float64Array): Int32Array {
  const cells = Math.max(0, boundaries.length - 1);
  const owners = new Int32Array(cells).fill(NOBODY);
  // next[cell] leads to the first cell from there on that nobody has; paths are halved on the way.
  const next = Int32Array.from({ length: cells + 1 }, (_, cell) => cell);
  const firstFree = (from: number): number => {
    let cell = from;
    for (let to = next[cell] ?? cells; to !== cell; to = next[cell] ?? cells) {
      const beyond = next[to] ?? cells;
      next[cell] = beyond;
      cell = beyond;
    }
    return cell;
  };
  for (let index = written.length - 1; index >= 0; index--) {
    const placed = written[index];
    if (placed === undefined || placed.extent.length === 0) continue;
    const end = placed.at + placed.extent.length;
    for (
      let cell = firstFree(lowerBound(boundaries, placed.at));
      cell < cells && (boundaries[cell] ?? end) < end;
      cell = firstFree(cell)
    ) {
      owners[cell] = index;
      next[cell] = cell + 1;
    }
  }
  return owners;
}

/** The first index whose value is not below `value`; `sorted` is ascending. */
function lowerBound(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? value) < value) low = middle + 1;
    else high = middle;
  }
  return low;
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
