/** Whatever is said to be a blob, there is a verdict, and it is about the bytes that are there. */
import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ELF32, ELF64, type ElfFormat } from '../../src/elf/format.ts';
import { MemorySource } from '../../src/image/memory.ts';
import { loadImage } from '../../src/inspect/load.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import { type VerifiedBlob, verifyBlob } from '../../src/inspect/verify.ts';
import { toVerifyReport } from '../../src/report/verify.ts';
import { GUEST_FINDINGS, GUESTS } from '../../src/xen/guests/verdict.ts';
import { LOADERS, type Loader } from '../../src/xen/loaders/bsdsyms.ts';
import { anyAddress, anyKernel, lie } from '../support/arbitraries.ts';
import { type KernelSpec, kernel, type Value, writeField } from '../support/elf-builder.ts';
import { readAsGuests } from '../support/guests.ts';
import { collect, MIB, mustLoad } from '../support/load.ts';

const KERNELS: readonly (readonly [KernelSpec, readonly Loader[]])[] = [
  [{ class: 'ELF64' }, LOADERS],
  [{ class: 'ELF32' }, ['xen-4.8', 'xen-4.6', 'libxc-4.6']],
  [{ class: 'ELF64', byteOrder: 'big' }, ['xen-4.8']],
  [{ class: 'ELF32', byteOrder: 'big' }, ['xen-4.8']],
];
const blobs = await Promise.all(
  KERNELS.flatMap(([spec, loaders]) =>
    loaders.map(async (loader) => (await mustLoad(kernel({ ...spec, symbols: 20 }).bytes, { loader })).blob),
  ),
);

interface Mutation {
  readonly at: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly value: bigint;
}

/** Mostly in the headers, where a byte means most. */
const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.oneof(fc.nat(67), fc.nat(260), fc.nat(2000)),
  width: fc.constantFrom(1, 2, 4, 8),
  value: lie(2000),
});

const mutated: fc.Arbitrary<Uint8Array> = fc
  .record({
    blob: fc.constantFrom(...blobs),
    mutations: fc.array(mutation, { maxLength: 4 }),
    cut: fc.option(fc.nat(2000), { freq: 4 }),
  })
  .map(({ blob, mutations, cut }) => {
    const bytes = blob.slice();
    for (const { at, width, value } of mutations) {
      for (let byte = 0; byte < width && at + byte < bytes.length; byte++) {
        bytes[at + byte] = Number((value >> BigInt(8 * byte)) & 0xffn);
      }
    }
    return bytes.subarray(0, cut ?? bytes.length);
  });

const MAX_SECTIONS = 6;
/** Where section headers, tables and strings of a made-up blob are; all of it may overlap. */
const CRAFTED_BYTES = 640;
const near = fc.oneof(fc.nat(CRAFTED_BYTES), fc.integer({ min: 300, max: 420 }), lie(CRAFTED_BYTES));
const crafted: fc.Arbitrary<Uint8Array> = fc
  .record({
    format: fc.constantFrom(ELF32, ELF64),
    size: fc.integer({ min: 300, max: CRAFTED_BYTES }),
    e_shoff: fc.oneof({ weight: 8, arbitrary: fc.constant(64n) }, { weight: 1, arbitrary: near }),
    e_ehsize: fc.constantFrom(52, 64, 0),
    e_shnum: fc.oneof(fc.constant(3), fc.integer({ min: 1, max: MAX_SECTIONS })),
    e_shstrndx: fc.oneof(fc.constant(0), fc.nat(MAX_SECTIONS)),
    sections: fc.array(
      fc.record({
        sh_name: fc.oneof(fc.nat(40), fc.nat(CRAFTED_BYTES)),
        sh_type: fc.constantFrom(1, 2, 2, 2, 3),
        sh_offset: fc.oneof(near, fc.constantFrom(0n, 320, 340, 400)),
        sh_size: fc.oneof({ weight: 8, arbitrary: fc.nat(160) }, { weight: 1, arbitrary: near }),
        sh_link: fc.oneof({ weight: 8, arbitrary: fc.nat(MAX_SECTIONS) }, { weight: 1, arbitrary: lie(8) }),
      }),
      { minLength: MAX_SECTIONS, maxLength: MAX_SECTIONS },
    ),
    symbols: fc.array(
      fc.record({
        st_name: fc.oneof(fc.nat(30), fc.nat(300)),
        st_value: fc.constantFrom(0n, 1n, 2n ** 64n - 1n),
        st_size: fc.constantFrom(0n, 2n ** 64n - 1n),
        st_info: fc.constantFrom(0, 0, 0, 0x10, 0x12, 4),
        st_shndx: fc.constantFrom(0, 1, 0x101, 0xffff),
      }),
      { maxLength: 8 },
    ),
    symbolsAt: fc.constantFrom(324, 344, 404),
    stringsAt: fc.integer({ min: 300, max: CRAFTED_BYTES }),
    strings: fc.array(fc.constantFrom('', 'a', 'gcc2_compiled.', '*ABS*', '.SUNW_ctf', 'gcc2_', 'xyz'), {
      maxLength: 6,
    }),
    endsWithNul: fc.boolean(),
    filler: fc.constantFrom(0, 1),
  })
  .map((spec) => Object.assign(craft(spec), { [fc.toStringMethod]: () => `craft(${fc.stringify(spec)})` }));

interface Crafted {
  readonly format: ElfFormat;
  readonly size: number;
  readonly e_shoff: Value;
  readonly e_ehsize: number;
  readonly e_shnum: number;
  readonly e_shstrndx: number;
  readonly sections: readonly Readonly<Record<'sh_name' | 'sh_type' | 'sh_offset' | 'sh_size' | 'sh_link', Value>>[];
  readonly symbols: readonly Readonly<Record<'st_name' | 'st_value' | 'st_size' | 'st_info' | 'st_shndx', Value>>[];
  readonly symbolsAt: number;
  readonly stringsAt: number;
  readonly strings: readonly string[];
  readonly endsWithNul: boolean;
  readonly filler: number;
}

function craft(spec: Crafted): Uint8Array {
  const { format, filler } = spec;
  const bytes = new Uint8Array(CRAFTED_BYTES + 600).fill(filler);
  const put = (at: number, fields: ElfFormat['symbol']['fields'], values: object): void => {
    for (const [name, value] of Object.entries(values)) {
      writeField(bytes, at, fields[name as keyof typeof fields], value as Value, true);
    }
  };
  bytes.set(Buffer.from(spec.strings.join('\0')), spec.stringsAt);
  spec.symbols.forEach((symbol, index) => {
    put(spec.symbolsAt + index * format.symbol.size, format.symbol.fields, symbol);
  });
  bytes.fill(0, 0, 68);
  bytes.set([0, 2, 0, 0, 0x7f, 0x45, 0x4c, 0x46, format === ELF64 ? 2 : 1, 1, 1]);
  const { e_shoff, e_ehsize, e_shnum, e_shstrndx } = spec;
  put(4, format.elfHeader.fields as never, { e_shoff, e_ehsize, e_shnum, e_shstrndx, e_version: 1 });
  spec.sections.forEach((section, index) => {
    put(68 + index * format.sectionHeader.size, format.sectionHeader.fields as never, section);
  });
  if (spec.endsWithNul) bytes[spec.size - 1] = 0;
  return bytes.slice(0, spec.size);
}

const SYMTAB_AT = 344;
/** Tables at the end of the memory that share their bytes, nearly without a NUL: packing and sorting change the names. */
const overlapping: fc.Arbitrary<Uint8Array> = fc
  .record({
    format: fc.constantFrom(ELF32, ELF64),
    symbols: fc.array(
      fc.record({
        st_name: fc.nat(60),
        st_value: fc.constantFrom(0n, 0x0101_0101_0101_0101n, 0x0100_0101_0101_0101n, 0x00ff_ffff_ffff_ffffn),
        st_size: fc.constantFrom(0x0101_0101_0101_0101n, 0x0101_0001_0101_0101n),
        st_info: fc.constantFrom(0, 0x10, 0x12, 0x02, 4),
        st_shndx: fc.constantFrom(0, 0x101, 0x101, 0x101),
      }),
      { minLength: 1, maxLength: 5 },
    ),
    /** From the start of the symbol table. */
    strings: fc.integer({ min: -20, max: 60 }),
    text: fc.constantFrom('', 'gcc2_compiled.\0', '*ABS*\0', 'gcc2_compiled.', '*ABS*'),
    textAt: fc.integer({ min: -16, max: 110 }),
    after: fc.nat(20),
    missing: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(30) }),
  })
  .map((spec) => Object.assign(overlap(spec), { [fc.toStringMethod]: () => `overlap(${fc.stringify(spec)})` }));

function overlap(spec: {
  readonly format: ElfFormat;
  readonly symbols: Crafted['symbols'];
  readonly strings: number;
  readonly text: string;
  readonly textAt: number;
  readonly after: number;
  readonly missing: number;
}): Uint8Array {
  const { format, symbols, text } = spec;
  const size = symbols.length * format.symbol.size;
  const bytes = craft({
    format,
    size: SYMTAB_AT + size + spec.after,
    e_shoff: 64,
    e_ehsize: 64,
    e_shnum: 3,
    e_shstrndx: 0,
    sections: [
      { sh_name: 0, sh_type: 0, sh_offset: 0, sh_size: 0, sh_link: 0 },
      { sh_name: 0, sh_type: 2, sh_offset: SYMTAB_AT - 4, sh_size: size, sh_link: 2 },
      { sh_name: 0, sh_type: 3, sh_offset: SYMTAB_AT - 4 + spec.strings, sh_size: 100, sh_link: 0 },
    ],
    symbols,
    symbolsAt: SYMTAB_AT,
    stringsAt: 300,
    strings: [],
    endsWithNul: false,
    filler: 1,
  });
  const room = bytes.subarray(Math.min(SYMTAB_AT + spec.textAt, bytes.length));
  room.set(Buffer.from(text).subarray(0, room.length));
  return bytes.subarray(0, bytes.length - spec.missing);
}

/** What no verdict may be. */
function contradictions({ guests }: VerifiedBlob): string[] {
  const wrong: string[] = [];
  for (const name of GUESTS) {
    const { outcome, why, symbols, warnings } = guests[name];
    const isFound = outcome === 'found';
    if (isFound !== (why === null) || isFound !== (symbols !== null))
      wrong.push(`${name}: ${outcome}, ${why}, ${symbols}`);
    if (!isFound && warnings.length > 0) wrong.push(`${name}: ${outcome}, but warned of ${warnings.join(', ')}`);
    for (const code of [...warnings, ...(why === null ? [] : [why])]) {
      if (GUEST_FINDINGS[code].outcome !== outcome) wrong.push(`${name}: ${outcome} with ${code}`);
    }
  }
  return wrong;
}

const verdictsOf = ({ guests }: VerifiedBlob): unknown =>
  Object.fromEntries(
    GUESTS.map((guest) => [guest, { outcome: guests[guest].outcome, symbols: guests[guest].symbols }]),
  );

describe.each([
  ['were tampered with', mutated, 1500],
  ['are made up', crafted, 2000],
  ['have tables that overlap', overlapping, 3000],
] as const)('blobs that %s', (_, anyBlob, numRuns) => {
  test('are judged as plain readers come to it', async () => {
    const outcomes = new Set<string>();
    await fc.assert(
      fc.asyncProperty(anyBlob, fc.option(anyAddress), async (bytes, address) => {
        const verified = await verifyBlob(new MemorySource([bytes]), address);
        expect(verdictsOf(verified)).toEqual(readAsGuests(bytes));
        expect(contradictions(verified)).toEqual([]);
        for (const guest of GUESTS) outcomes.add(`${guest} ${verified.guests[guest].outcome}`);
      }),
      { numRuns },
    );
    expect([...outcomes]).toEqual(
      expect.arrayContaining(
        ['found', 'undefined'].flatMap((outcome) => [`netbsd ${outcome}`, `netbsdKdtrace ${outcome}`]),
      ),
    );
  });

  test('are judged alike whatever follows in a dump, unless the guest reads it', async () => {
    await fc.assert(
      fc.asyncProperty(anyBlob, fc.uint8Array({ minLength: 1, maxLength: 100 }), async (bytes, following) => {
        const alone = await verifyBlob(new MemorySource([bytes]), null);
        // What follows in memory, but not in the dump, is nothing that could matter.
        const longer = Uint8Array.from([...bytes, ...following]);
        expect(await verifyBlob(new MemorySource([longer.subarray(0, bytes.length)]), null)).toEqual(alone);
        const dumped = await verifyBlob(new MemorySource([longer]), null);
        for (const guest of GUESTS) {
          const [one, other] = [alone, dumped].map(({ guests }) => guests[guest]);
          if (one?.outcome === 'undefined') continue;
          expect([other?.outcome, other?.why, other?.symbols]).toEqual([one?.outcome, one?.why, one?.symbols]);
        }
      }),
      { numRuns: numRuns / 4 },
    );
  });
});

test('bytes of any kind are judged', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      expect(contradictions(await verifyBlob(new MemorySource([bytes]), null))).toEqual([]);
    }),
    { numRuns: 1000 },
  );
});

test('a planned blob is judged as its bytes are', async () => {
  const changed = anyKernel.chain(({ bytes }) =>
    fc.record({
      bytes: fc.constant(bytes),
      flips: fc.array(fc.record({ at: fc.nat(bytes.length - 1), bit: fc.nat(7) }), { maxLength: 3 }),
      loader: fc.constantFrom(...LOADERS),
    }),
  );
  let judged = 0;
  await fc.assert(
    fc.asyncProperty(changed, async ({ bytes, flips, loader }) => {
      const image = bytes.slice();
      for (const { at, bit } of flips) image[at] = (image[at] ?? 0) ^ (1 << bit);
      const source = new MemorySource([image]);
      const loaded = await loadImage(source, { loader, onBroken: 'load', maxBlobBytes: MIB, askGuests: true });
      if (!loaded.ok) return;
      judged += 1;
      const blob = await collect(streamExtents(source, loaded.plan.extents));
      const { guests } = await verifyBlob(new MemorySource([blob]), loaded.plan.pstart);
      expect(loaded.guests).toEqual(guests);
    }),
    { numRuns: 1500 },
  );
  expect(judged).toBeGreaterThan(500);
});

test('no number in a report is rounded', async () => {
  const isExact = (value: unknown): boolean => {
    if (typeof value === 'number') return Number.isSafeInteger(value);
    return typeof value !== 'object' || value === null || Object.values(value).every(isExact);
  };
  await fc.assert(
    fc.asyncProperty(fc.oneof(mutated, crafted), fc.option(anyAddress), async (bytes, address) => {
      const report = toVerifyReport(await verifyBlob(new MemorySource([bytes]), address));
      expect(isExact(report)).toBe(true);
    }),
    { numRuns: 2000 },
  );
  expect(isExact({ a: [2 ** 53] })).toBe(false);
  expect(isDeepStrictEqual(isExact({ a: [null, 'x', 1] }), true)).toBe(true);
});
