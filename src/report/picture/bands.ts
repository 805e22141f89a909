/** What lies between two blobs: bands that lead from a part of one to the same part of the other. */
import type { BlobRange } from '../../xen/compare.ts';
import { positionOf } from './blob-column.ts';
import type { BlobPart } from './blob-parts.ts';
import { type BlobComparison, isJoined, lies, rangeOn, type Side } from './marks.ts';
import type { Row } from './scale.ts';
import { element } from './svg.ts';
import { type LookName, lookOf } from './theme.ts';

/** A blob that was drawn. */
interface Drawn {
  readonly side: Side;
  readonly parts: readonly BlobPart[];
  /** One for each part. */
  readonly rows: readonly Row[];
}

interface Band {
  readonly own: BlobRange;
  readonly other: BlobRange;
  readonly look: LookName;
}

/** More than parts can have, whatever their differences. */
const MAX_BANDS = 64;

/** @param x where the bands begin */
export function drawBands(comparison: BlobComparison, own: Drawn, other: Drawn, x: number, width: number): string {
  // A part of several in one blob may be drawn on its own in the other.
  const bands = [...findBands(comparison, own), ...findBands(comparison, other)];
  const drawn = new Map(bands.map((band) => [`${band.own.offset} ${band.other.offset}`, band]));
  return [...drawn.values()]
    .slice(0, MAX_BANDS)
    .map((band) => {
      const [top, bottom] = ends(band.own, own);
      const [otherTop, otherBottom] = ends(band.other, other);
      const points = `${x},${top} ${x + width},${otherTop} ${x + width},${otherBottom} ${x},${bottom}`;
      const look = { ...lookOf(band.look), class: `band ${band.look}` };
      return element('polygon', { ...look, 'stroke-width': 0, opacity: 0.6, points });
    })
    .join('');
}

function findBands({ differences, unlisted }: BlobComparison, { side, parts }: Drawn): Band[] {
  return parts.flatMap((part): Band[] => {
    if (isJoined(part) || part.size === 0) return [];
    const within = differences.filter((difference) => lies(rangeOn(difference, side), part));
    // Without a difference it is the same in both, unless not all of them are known.
    if (within.length === 0) return unlisted > 0 ? [] : [{ own: part, other: part, look: 'same' }];
    return within.flatMap(({ range, otherRange, kind }) =>
      range === null || otherRange === null ? [] : [{ own: range, other: otherRange, look: kind }],
    );
  });
}

/** Bands that meet leave a line between them. */
const ends = ({ offset, size }: BlobRange, { parts, rows }: Drawn): [top: number, bottom: number] => [
  positionOf(offset, parts, rows) + 1,
  positionOf(offset + size, parts, rows) - 1,
];
