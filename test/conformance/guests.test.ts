/** What guests make of a blob: their measured answers, and the blobs made here through their eyes. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { ElfClass } from '../../src/elf/format.ts';
import { MemorySource } from '../../src/image/memory.ts';
import { loadImage } from '../../src/inspect/load.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import { verifyBlob } from '../../src/inspect/verify.ts';
import { GUESTS, type GuestVerdict, type GuestVerdicts } from '../../src/xen/guests/verdict.ts';
import { kernel } from '../support/elf-builder.ts';
import { imageSymbols, readAsGuests, readSymbols } from '../support/guests.ts';
import { collect, MIB, mustLoad } from '../support/load.ts';
import {
  blobOf,
  describeVector,
  expectedVerdict,
  type HistoricalVector,
  imageOf,
  loadAddressOf,
  readBsdsymsVectors,
  readGuestsVectors,
  readHistoricalVectors,
} from '../support/vectors.ts';

const CLASSES: readonly ElfClass[] = ['ELF32', 'ELF64'];
const vectors = readGuestsVectors();

describe('the measured answers of guests', () => {
  test('are those given here, all of them', async () => {
    const wrong: unknown[] = [];
    const outcomes: Record<string, number> = {};
    for (const vector of vectors) {
      const { guests } = await verifyBlob(new MemorySource([blobOf(vector)]), null);
      for (const guest of GUESTS) {
        const { outcome, symbols } = guests[guest];
        const actual = { outcome, symbols: symbols === null ? null : String(symbols) };
        outcomes[`${guest} ${outcome}`] = (outcomes[`${guest} ${outcome}`] ?? 0) + 1;
        const expected = expectedVerdict(vector, guest);
        if (!isDeepStrictEqual(actual, expected))
          wrong.push({ case: vector.name, guest, verdict: guests[guest], expected });
      }
    }
    expect(wrong).toEqual([]);
    expect(vectors).toHaveLength(2236);
    expect(outcomes).toEqual({
      'freebsd found': 778,
      'freebsd none': 1375,
      'freebsd undefined': 83,
      'netbsd found': 1277,
      'netbsd none': 574,
      'netbsd undefined': 385,
      'netbsdKdtrace found': 1171,
      'netbsdKdtrace none': 566,
      'netbsdKdtrace undefined': 499,
      'xtf found': 351,
      'xtf none': 1872,
      'xtf undefined': 13,
    });
  });

  test('have the reasons that the Xen Test Framework gives', async () => {
    const reasons: Readonly<Record<string, GuestVerdict['why']>> = {
      'Error: Elf header not found': 'no-elf-header',
      'Error: Unexpected ELF type 0': 'other-class',
      'Error: Expected 3 section headers': 'section-count',
      'Fail: Data leaked after EHDR': 'header-leak',
    };
    for (const vector of vectors) {
      const { message, readsOutside } = vector.expect.xenTestFramework;
      if (readsOutside) continue;
      const { guests } = await verifyBlob(new MemorySource([blobOf(vector)]), null);
      expect([vector.name, guests.xtf.why]).toEqual([vector.name, message === null ? null : reasons[message]]);
    }
  });

  test('are those of the plain readers that other tests go by', () => {
    for (const vector of vectors) {
      const readings = readAsGuests(blobOf(vector));
      for (const guest of GUESTS) {
        const { outcome, symbols } = readings[guest];
        const actual = { outcome, symbols: symbols === null ? null : String(symbols) };
        expect([vector.name, guest, actual]).toEqual([vector.name, guest, expectedVerdict(vector, guest)]);
      }
    }
  });
});

describe.each(CLASSES)('guests of class %s', (elfClass) => {
  test.each([0, 1, 2, 100, 1000])('find all of %i symbols', async (count) => {
    const { bytes } = kernel({ class: elfClass, symbols: count });
    const { blob, image } = await mustLoad(bytes);
    expect(readSymbols(blob, image.headers.format)).toEqual(imageSymbols(bytes));
    expect(readSymbols(blob, image.headers.format)).toHaveLength(count + 1);
  });

  test('find them after tables of any alignment', async () => {
    for (let length = 1; length <= 16; length++) {
      const { bytes } = kernel({ class: elfClass, symbols: [{ name: 'x'.repeat(length), value: 0x1234 }] });
      const { blob, image } = await mustLoad(bytes, { loadAddress: 0x20_0001n });
      expect(readSymbols(blob, image.headers.format)).toEqual([
        { name: '', value: 0n },
        { name: 'x'.repeat(length), value: 0x1234n },
      ]);
    }
  });

  test('see no section header 0', async () => {
    const { blob, image } = await mustLoad(kernel({ class: elfClass, nullSection: { sh_type: 1, sh_size: 99 } }).bytes);
    const { size } = image.headers.format.sectionHeader;
    expect(blob.subarray(68, 68 + size)).toEqual(new Uint8Array(size));
  });
});

test('guests find the symbols of every well-formed vector that they can read', async () => {
  const readable = readBsdsymsVectors()
    .filter(({ expect: { broken, blob } }) => broken === null && blob !== null)
    .map((vector) => ({ vector, bytes: imageOf(vector) }))
    .flatMap(({ vector, bytes }) => {
      const symbols = imageSymbols(bytes);
      return symbols === null ? [] : [{ vector, bytes, symbols }];
    });
  expect(readable).toHaveLength(1197);

  const wrong = [];
  for (const { vector, bytes, symbols } of readable) {
    const { blob, image } = await mustLoad(bytes, { loadAddress: loadAddressOf(vector) });
    const seen = readSymbols(blob, image.headers.format);
    if (!isDeepStrictEqual(seen, symbols)) wrong.push({ case: describeVector(vector), seen, symbols });
  }
  expect(wrong).toEqual([]);
});

/** Verdicts about the bytes alone: the kernel tells more. */
const withoutPlace = (guests: GuestVerdicts | null): unknown =>
  guests &&
  Object.fromEntries(
    Object.entries(guests).map(([guest, verdict]) => [
      guest,
      { ...verdict, warnings: verdict.warnings.filter((code) => code !== 'end-symbol-elsewhere') },
    ]),
  );

describe.each([
  ['of Xen 4.8', readBsdsymsVectors(), 2355],
  ['of the loaders before it', readHistoricalVectors(), 1812],
] as const)('the blobs %s', (_, cases, count) => {
  /** So that no test takes long. */
  const slices = Array.from({ length: 8 }, (__, slice) => cases.filter((___, index) => index % 8 === slice));
  let judged = 0;

  test.each(slices.map((slice, index) => [index + 1, slice] as const))(
    'are judged from their plan as from their bytes, and as plain readers do: %i of 8',
    async (__, slice) => {
      const wrong = [];
      for (const vector of slice) {
        const { loader = 'xen-4.8' } = vector as Partial<HistoricalVector>;
        const source = new MemorySource([imageOf(vector)]);
        const request = { loader, loadAddress: loadAddressOf(vector), onBroken: 'load', maxBlobBytes: MIB } as const;
        const loaded = await loadImage(source, { ...request, askGuests: true });
        if (!loaded.ok) continue;
        judged += 1;
        const { pstart, extents } = loaded.plan;
        const blob = await collect(streamExtents(source, extents));
        const { guests } = await verifyBlob(new MemorySource([blob]), pstart);
        if (!isDeepStrictEqual(withoutPlace(loaded.guests), guests)) {
          wrong.push([describeVector(vector), loaded.guests, guests]);
        }
        const readings = readAsGuests(blob);
        for (const guest of GUESTS) {
          const { outcome, symbols } = guests[guest];
          if (!isDeepStrictEqual({ outcome, symbols }, readings[guest])) {
            wrong.push([describeVector(vector), loader, guest, guests[guest], readings[guest]]);
          }
        }
      }
      expect(wrong).toEqual([]);
    },
  );

  test('are as many as can be loaded', () => {
    expect(judged).toBe(count);
  });
});
