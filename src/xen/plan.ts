/** A plan: bytes to be produced, as data. All arithmetic on an image's offsets happens while planning. */

/** Bytes that stand in the plan itself, a range of the image to be copied, or one byte repeated. `length` is in bytes. */
export type Extent =
  | { readonly kind: 'bytes'; readonly length: number; readonly bytes: Uint8Array }
  | { readonly kind: 'copy'; readonly length: number; readonly offset: number }
  | { readonly kind: 'fill'; readonly length: number; readonly byte: number };

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

export const fillExtent = (length: number, byte = 0): Extent => ({ kind: 'fill', length, byte });

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
