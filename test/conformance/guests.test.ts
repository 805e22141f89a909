/** The blob through the eyes of those it is made for. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { ElfClass } from '../../src/elf/format.ts';
import { kernel } from '../support/elf-builder.ts';
import {
  freebsdSymbols,
  GuestMemory,
  type GuestSymbol,
  imageSymbols,
  netbsdSymbols,
  xtfComplaints,
} from '../support/guests.ts';
import { type Loaded, mustLoad } from '../support/load.ts';
import { describeVector, imageOf, loadAddressOf, readBsdsymsVectors } from '../support/vectors.ts';

const CLASSES: readonly ElfClass[] = ['ELF32', 'ELF64'];

const byName = (symbols: readonly GuestSymbol[]): GuestSymbol[] =>
  symbols.toSorted((a, b) => a.name.localeCompare(b.name) || Number(BigInt.asIntN(64, a.value - b.value)));

/** What the guests make of a blob, each in a memory of its own, as NetBSD writes into it. */
function readAsGuests({ plan, blob, image }: Loaded) {
  const { format } = image.headers;
  const memory = (): GuestMemory => new GuestMemory(plan.pstart, blob);
  return {
    freebsd: byName(freebsdSymbols(memory(), plan.pstart, format)),
    netbsd: byName(netbsdSymbols(memory(), plan.pstart, format)),
    xtf: xtfComplaints(memory(), plan.pstart, format),
  };
}

const expectedOf = (symbols: readonly GuestSymbol[]): ReturnType<typeof readAsGuests> => ({
  freebsd: byName(symbols),
  netbsd: byName(symbols),
  xtf: [],
});

describe.each(CLASSES)('guests of class %s', (elfClass) => {
  test.each([0, 1, 2, 100, 1000])('find all of %i symbols', async (count) => {
    const { bytes } = kernel({ class: elfClass, symbols: count });
    const symbols = imageSymbols(bytes);
    expect(symbols).toHaveLength(count + 1);
    expect(readAsGuests(await mustLoad(bytes))).toEqual(expectedOf(symbols ?? []));
  });

  test('find them behind tables of any alignment', async () => {
    for (let length = 1; length <= 16; length++) {
      const { bytes } = kernel({ class: elfClass, symbols: [{ name: 'x'.repeat(length), value: 0x1234 }] });
      expect(readAsGuests(await mustLoad(bytes, { loadAddress: 0x20_0001n })).freebsd).toEqual([
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
    const found = readAsGuests(await mustLoad(bytes, { loadAddress: loadAddressOf(vector) }));
    const expected = expectedOf(symbols);
    if (!isDeepStrictEqual(found, expected)) wrong.push({ case: describeVector(vector), found, expected });
  }
  expect(wrong).toEqual([]);
});
