/** Which parts of two blobs differ, and how that is marked. */
import { hex } from '../../elf/hex.ts';
import type { BlobRange, Comparison, Difference } from '../../xen/compare.ts';
import type { BlobPart } from './blob-parts.ts';
import type { LookName } from './theme.ts';
import { counted, group, wrap } from './words.ts';

/** A comparison of two blobs that both exist. */
export type BlobComparison = Extract<Comparison, { readonly broken: null }>;

export interface Mark {
  readonly look: Extract<LookName, 'changed' | 'moved' | 'missing' | 'added'>;
  /** In the order of their weight. */
  readonly lines: readonly string[];
  /** As sentences. */
  readonly title: string;
}

/** Whose blob it is: the one asked for, or the one that it is compared with. */
export type Side = 'own' | 'other';

/** How many fields a title lists, and how many differences: a picture may have sixty of them. */
const MAX_FIELDS = 12;
const MAX_DIFFERENCES = 3;

/** The mark of each part that differs, by its region. */
export function findMarks(
  parts: readonly BlobPart[],
  { differences }: BlobComparison,
  side: Side,
): ReadonlyMap<string, Mark> {
  const marks = new Map<string, Mark>();
  for (const part of parts) {
    const within = differences.filter((difference) => lies(rangeOn(difference, side), part));
    const [first] = within;
    if (first === undefined) continue;
    const many = isJoined(part) || within.length > 1;
    marks.set(part.region, many ? markSeveral(within) : markOne(first, side));
  }
  return marks;
}

/** Whether a part stands for several headers or tables. */
export const isJoined = ({ kind }: BlobPart): boolean => kind === 'section-headers' || kind === 'tables';

/** Where a difference is in one of the blobs; null when it is not in it. */
export const rangeOn = ({ range, otherRange }: Difference, side: Side): BlobRange | null =>
  side === 'own' ? range : otherRange;

/** Whether a range shares bytes with a part. */
export const lies = (range: BlobRange | null, { offset, size }: BlobPart): boolean =>
  range !== null && range.offset < offset + size && range.offset + range.size > offset;

function markSeveral(differences: readonly Difference[]): Mark {
  const kinds = new Set(differences.map(({ kind }) => kind));
  const [kind = 'changed'] = kinds;
  const look = kinds.size === 1 ? kind : 'changed';
  const all = counted(differences.length, 'difference');
  const rest = differences.length > MAX_DIFFERENCES ? ' …' : '';
  const titles = differences.slice(0, MAX_DIFFERENCES).map(({ what, meaning }) => `${what}: ${meaning}`);
  return { look, lines: [`${SIGNS[look]} ${all}`], title: `${all}. ${titles.join(' ')}${rest}` };
}

/** Colours alone do not tell them apart. */
const SIGNS: Readonly<Record<Mark['look'], string>> = { changed: '≠', moved: '↕', missing: '−', added: '+' };

function markOne(difference: Difference, side: Side): Mark {
  const { kind, fields, meaning } = difference;
  const values = fields
    .slice(0, MAX_FIELDS)
    .map(({ name, value, other }) => ` ${name}: ${hex(value)}, with the other loader ${hex(other)}.`)
    .join('');
  return { look: kind, lines: explain(), title: `${meaning}${values}` };

  function explain(): string[] {
    const sign = SIGNS[kind];
    if (kind === 'missing' || kind === 'added') return [`${sign} only with this loader`];
    const names = wrap(
      fields.map(({ name }) => name),
      MAX_LINE_CHARACTERS,
      MAX_FIELD_LINES,
    );
    if (kind === 'changed') return names.length === 0 ? [`${sign} other bytes`] : addSign(sign, names);
    const place = rangeOn(difference, side === 'own' ? 'other' : 'own');
    return [`${sign} at +${group(place?.offset ?? 0)} with the other`, ...names];
  }
}

const addSign = (sign: string, [first, ...rest]: readonly string[]): string[] => [`${sign} ${first ?? ''}`, ...rest];

const MAX_LINE_CHARACTERS = 32;
const MAX_FIELD_LINES = 2;
