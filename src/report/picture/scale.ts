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
  /** Added for each doubling of the size. */
  readonly perDoubling: number;
  /** Of all rows together, unless that is less than they need. */
  readonly most: number;
}

/** What a row stands for. */
export interface RowContent {
  /** In bytes. */
  readonly size: number;
  /** The height that its texts need. */
  readonly least: number;
}

/**
 * Places rows below each other.
 *
 * @param y where the first row begins
 */
export function stackRows(contents: readonly RowContent[], y: number, { perDoubling, most }: Limits): Row[] {
  const doublings = sum(contents.map(({ size }) => Math.log2(size + 1)));
  const room = Math.max(0, most - sum(contents.map(({ least }) => least)));
  const each = doublings === 0 ? 0 : Math.min(perDoubling, room / doublings);
  let at = y;
  return contents.map(({ size, least }) => {
    const row = { y: at, height: Math.round(least + Math.log2(size + 1) * each) };
    at += row.height;
    return row;
  });
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

/** Where the last of them ends. */
export function bottomOf(rows: readonly Row[], otherwise: number): number {
  const last = rows.at(-1);
  return last === undefined ? otherwise : last.y + last.height;
}
