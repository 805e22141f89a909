/** Xen's notes against the reference's measured answers: every field, for both kinds of guests. */
import { describe, expect, test } from 'vitest';
import type { Recorded } from '../../src/elf/recorder.ts';
import { MemorySource } from '../../src/image/memory.ts';
import { readXenNotes } from '../../src/inspect/read-notes.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import type { GuestParameters } from '../../src/xen/notes/guest-parameters.ts';
import { findKernelRange } from '../../src/xen/segments.ts';
import { mustInit } from '../support/load.ts';
import { type GuestVector, hex, imageOf, readNotesVectors } from '../support/vectors.ts';

const vectors = readNotesVectors();

describe('the vectors', () => {
  test('are all there', () => {
    expect(vectors).toHaveLength(1766);
    expect(vectors.filter((vector) => vector.expect.pv.ok)).toHaveLength(344);
    expect(vectors.filter((vector) => vector.expect.hvm.ok)).toHaveLength(338);
  });

  test.each(['pv', 'hvm'] as const)('%s: the core answers as the reference', async (kind) => {
    const mismatches = [];
    for (const vector of vectors) {
      const source = new MemorySource([imageOf(vector)]);
      const image = await mustInit(source);
      const atInit = words(image.recorded);
      const located = findKernelRange(image);
      const notes = await readXenNotes(source, located.image, located.kernel);
      const actual = { brokenAtInit: atInit, ...measured(notes[kind]) };
      const expected = { brokenAtInit: vector.brokenAtInit, ...sorted(vector.expect[kind]) };
      const differences = differingKeys(actual, expected);
      if (differences.length > 0) {
        const pick = (from: Record<string, unknown>) => differences.map((key) => [key, from[key]]);
        mismatches.push({ case: vector.name, actual: pick(actual), expected: pick(expected) });
      }
    }
    expect(mismatches).toEqual([]);
  });
});

const words = (recorded: Recorded | null): string | null => recorded && BROKEN_KINDS[recorded.code].reason;

const measured = (guest: GuestParameters): Record<string, unknown> =>
  sorted(JSON.parse(JSON.stringify({ ...guest, broken: words(guest.broken) }, showBigints)) as GuestVector);

const showBigints = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? hex(value) : value);

/** The vectors' objects have no order of keys. */
function sorted(value: GuestVector): Record<string, unknown> {
  const notes = Object.entries(value['notes'] ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { ...value, notes: Object.fromEntries(notes) };
}

function differingKeys(actual: Record<string, unknown>, expected: Record<string, unknown>): string[] {
  const keys = new Set([...Object.keys(actual), ...Object.keys(expected)]);
  return [...keys].filter((key) => JSON.stringify(actual[key]) !== JSON.stringify(expected[key]));
}
