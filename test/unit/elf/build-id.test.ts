import { describe, expect, test } from 'vitest';
import { findBuildId, MAX_NOTE_RANGE_BYTES } from '../../../src/elf/build-id.ts';
import { PT_NOTE, SHT_NOTE } from '../../../src/elf/format.ts';
import { buildImage, type ImageSpec } from '../../support/elf-builder.ts';
import { mustReadHeaders } from '../../support/load.ts';
import { runWalk } from '../../support/walk.ts';

interface NoteSpec {
  readonly name: string;
  readonly type: number;
  readonly desc: readonly number[];
}

/** A word of 4 bytes, little-endian. */
const word = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff, 0, 0];

/** Notes as the gABI lays them out, padded to an alignment. */
function notes(align: number, ...specs: readonly NoteSpec[]): Uint8Array {
  const bytes: number[] = [];
  const pad = (): void => {
    while (bytes.length % align !== 0) bytes.push(0);
  };
  for (const { name, type, desc } of specs) {
    const text = [...new TextEncoder().encode(`${name}\0`)];
    bytes.push(...word(text.length), ...word(desc.length), ...word(type), ...text);
    pad();
    bytes.push(...desc);
    pad();
  }
  return Uint8Array.from(bytes);
}

const BUILD_ID: NoteSpec = { name: 'GNU', type: 3, desc: [0xde, 0xad, 0xbe, 0xef, 0x01] };
const PROPERTY: NoteSpec = { name: 'GNU', type: 5, desc: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] };

async function buildIdOf(spec: ImageSpec): Promise<string | null> {
  const { bytes } = buildImage(spec);
  return runWalk(findBuildId(await mustReadHeaders(bytes)), bytes).result;
}

const inSection = (align: number, data: Uint8Array): ImageSpec => ({
  sections: [{ name: '.note', type: SHT_NOTE, align, data }],
});

describe('the build ID', () => {
  test.each([1, 4])('is found among notes of alignment %i, which are padded to 4', async (align) => {
    expect(await buildIdOf(inSection(align, notes(4, PROPERTY, BUILD_ID)))).toBe('deadbeef01');
  });

  test('has 64 bytes at most', async () => {
    const long = (bytes: number): NoteSpec => ({ ...BUILD_ID, desc: Array(bytes).fill(0xab) });
    expect(await buildIdOf(inSection(4, notes(4, long(64))))).toBe('ab'.repeat(64));
    expect(await buildIdOf(inSection(4, notes(4, long(65))))).toBeNull();
    // The one after it is found.
    expect(await buildIdOf(inSection(4, notes(4, long(65), BUILD_ID)))).toBe('deadbeef01');
  });

  test('is found among notes of alignment 8, which are padded to 8', async () => {
    const odd: NoteSpec = { name: 'stapsdt', type: 5, desc: [1] };
    for (const before of [[], [PROPERTY], [odd], [odd, PROPERTY]]) {
      expect(await buildIdOf(inSection(8, notes(8, ...before, BUILD_ID)))).toBe('deadbeef01');
    }
  });

  test('is found in a segment by the alignment of the segment', async () => {
    const sections = [{ name: '.data', align: 8, data: notes(8, PROPERTY, { ...PROPERTY, desc: [1] }, BUILD_ID) }];
    const at = (align: number): ImageSpec => ({ sections, segments: [{ type: PT_NOTE, section: '.data', align }] });
    expect(await buildIdOf(at(8))).toBe('deadbeef01');
    expect(await buildIdOf(at(4))).toBeNull();
  });

  test.each<[string, NoteSpec]>([
    ['of another owner', { ...BUILD_ID, name: 'GMU' }],
    ['of another type', { ...BUILD_ID, type: 4 }],
    ['of more than 64 bytes', { ...BUILD_ID, desc: Array.from({ length: 65 }, () => 1) }],
  ])('is not a note %s', async (_what, note) => {
    expect(await buildIdOf(inSection(4, notes(4, note)))).toBeNull();
  });

  test('is not one that its section cuts, or that begins beyond the bytes that are looked at', async () => {
    const whole = notes(4, BUILD_ID);
    expect(await buildIdOf(inSection(4, whole.subarray(0, -4)))).toBeNull();
    const far = notes(
      4,
      { name: 'GNU', type: 1, desc: Array.from({ length: MAX_NOTE_RANGE_BYTES }, () => 0) },
      BUILD_ID,
    );
    expect(await buildIdOf(inSection(4, far))).toBeNull();
  });
});
