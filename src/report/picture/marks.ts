/** Which parts of two blobs differ, and how that is marked. */
import { hex } from '../../elf/hex.ts';
import type { Comparison, Difference } from '../../xen/compare.ts';
import type { BlobPart } from './blob-parts.ts';
import type { LookName } from './theme.ts';
import { group } from './words.ts';

/** A comparison of two blobs that both exist. */
export type BlobComparison = Extract<Comparison, { readonly broken: null }>;

export interface Mark {
  readonly look: Extract<LookName, 'changed' | 'moved' | 'missing' | 'added'>;
  readonly text: string;
  /** As sentences. */
  readonly title: string;
}

/** Whose blob it is: the one asked for, or the one that it is compared with. */
export type Side = 'own' | 'other';

/** How many fields a title lists. */
const MAX_FIELDS = 12;

/** The mark of each part that differs, by its region. */
export function findMarks(
  parts: readonly BlobPart[],
  { differences }: BlobComparison,
  side: Side,
): ReadonlyMap<string, Mark> {
  const marks = new Map<string, Mark>();
  const placed = differences.flatMap((difference) => {
    const range = side === 'own' ? difference.range : difference.otherRange;
    return range === null ? [] : [{ difference, offset: range.offset }];
  });
  for (const { region, offset, size, kind } of parts) {
    const within = placed.filter((one) => one.offset >= offset && one.offset < offset + size);
    const [first] = within;
    if (first === undefined) continue;
    const many = kind === 'section-headers' || kind === 'tables' || within.length > 1;
    marks.set(region, many ? markSeveral(within.map(({ difference }) => difference)) : markOne(first.difference, side));
  }
  return marks;
}

function markSeveral(differences: readonly Difference[]): Mark {
  const kinds = new Set(differences.map(({ kind }) => kind));
  const [kind = 'changed'] = kinds;
  const look = kinds.size === 1 ? kind : 'changed';
  const count = differences.length === 1 ? '1 difference' : `${group(differences.length)} differences`;
  const titles = differences.slice(0, MAX_FIELDS).map(({ what, meaning }) => `${what}: ${meaning}`);
  return { look, text: `${SIGNS[look]} ${count}`, title: `${count}. ${titles.join(' ')}` };
}

/** Colours alone do not tell them apart. */
const SIGNS: Readonly<Record<Mark['look'], string>> = { changed: '≠', moved: '↕', missing: '−', added: '+' };

function markOne({ kind, range, otherRange, fields, meaning }: Difference, side: Side): Mark {
  const values = fields
    .slice(0, MAX_FIELDS)
    .map(({ name, value, other }) => ` ${name}: ${hex(value)}, with the other loader ${hex(other)}.`)
    .join('');
  return { look: kind, text: `${SIGNS[kind]} ${explain()}`, title: `${meaning}${values}` };

  function explain(): string {
    const names = fields.map(({ name }) => name).join(', ');
    if (kind === 'missing' || kind === 'added') return 'only with this loader';
    if (kind === 'changed') return names === '' ? 'other bytes' : names;
    const place = side === 'own' ? otherRange : range;
    const moved = `at +${group(place?.offset ?? 0)} with the other`;
    return names === '' ? moved : `${moved}; ${names}`;
  }
}
