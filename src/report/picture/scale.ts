/**
 * Heights on a logarithmic scale. Rows of 4 bytes and of 500 MB are both visible; which is larger shows, how much
 * larger is written next to it.
 */

/** A row at the position `y`; `y` grows downwards. */
export interface Row {
  readonly y: number;
  readonly height: number;
}

interface Limits {
  /** Of each row. */
  readonly least: number;
  /** Added for each doubling of the size. */
  readonly perDoubling: number;
  /** Of all rows together, unless that is less than they need. */
  readonly most: number;
}

/**
 * Places rows below each other.
 *
 * @param sizes in bytes
 * @param y where the first row begins
 */
export function stackRows(sizes: readonly number[], y: number, { least, perDoubling, most }: Limits): Row[] {
  const doublings = sizes.map((size) => Math.log2(size + 1));
  const total = doublings.reduce((sum, one) => sum + one, 0);
  const room = Math.max(0, most - sizes.length * least);
  const each = total === 0 ? 0 : Math.min(perDoubling, room / total);
  let at = y;
  return doublings.map((one) => {
    const row = { y: at, height: Math.round(least + one * each) };
    at += row.height;
    return row;
  });
}

/** Where the last of them ends. */
export function bottomOf(rows: readonly Row[], otherwise: number): number {
  const last = rows.at(-1);
  return last === undefined ? otherwise : last.y + last.height;
}
