/** Reading headers ahead must see what the loader's own reads would see, and cost no more than the headers. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ELF32, ELF64, type ElfFormat, type Field } from '../../src/elf/format.ts';
import { Recorder } from '../../src/elf/recorder.ts';
import { type TableBytes, View } from '../../src/elf/view.ts';
import { readHeaders } from '../../src/inspect/read-headers.ts';
import { MAX_U64 } from '../support/arbitraries.ts';
import { buildImage, readField, writeField } from '../support/elf-builder.ts';
import { mustReadHeaders } from '../support/load.ts';
import { CountingSource } from '../support/sources.ts';

const HEADERS = 65_535;
const GIB = 1024 ** 3;
const ELF_HEADER_BYTES = 64;
/** The largest piece that the reader may hold besides the packed headers. */
const RUN_BYTES = 1024 * 1024;

interface Tables {
  readonly phoff: bigint;
  readonly phentsize: number;
  readonly phnum: number;
  readonly shoff: bigint;
  readonly shentsize: number;
  readonly shnum: number;
}

function imageWith(format: ElfFormat, tables: Tables): Uint8Array {
  return buildImage({
    class: format.class,
    header: {
      e_phoff: tables.phoff,
      e_phentsize: tables.phentsize,
      e_phnum: tables.phnum,
      e_shoff: tables.shoff,
      e_shentsize: tables.shentsize,
      e_shnum: tables.shnum,
    },
  }).bytes;
}

const noHeaders: Tables = { phoff: 0n, phentsize: 0, phnum: 0, shoff: 0n, shentsize: 0, shnum: 0 };

describe('an image with 65,535 headers in either table', () => {
  const strides = [0, 1, 31, 32, 39, 40, 56, 64, 4096, 4097, 65_535];
  const cases = [ELF32, ELF64].flatMap((format) => strides.map((stride) => [format.class, stride, format] as const));

  test.each(cases)('%s, stride %i: no more is read than they take', async (_class, stride, format) => {
    const size = 9 * GIB;
    const phoff = 4096n;
    const shoff = 4n * BigInt(GIB) + 4096n;
    // ELF32 cannot point that far; its tables then share their bytes.
    const wide = format.class === 'ELF64';
    const start = imageWith(format, {
      phoff,
      phentsize: stride,
      phnum: HEADERS,
      shoff: wide ? shoff : phoff,
      shentsize: stride,
      shnum: HEADERS,
    });
    const source = new CountingSource(start, size);
    const headers = await mustReadHeaders(source);

    expect([headers.programHeaders.count, headers.sectionHeaders.count]).toEqual([HEADERS, HEADERS]);
    const nativeBytes = HEADERS * (format.programHeader.size + format.sectionHeader.size);
    const spans = 2 * HEADERS * stride;
    // Headers that lie close together are read with what is between them.
    const allowed = stride <= 4096 ? Math.max(nativeBytes, spans) : nativeBytes;
    expect(source.bytesRead).toBeLessThanOrEqual(ELF_HEADER_BYTES + allowed);
    const longestOverlap = HEADERS * format.sectionHeader.size;
    const longest = source.reads.reduce((most, { length }) => Math.max(most, length), 0);
    expect(longest).toBeLessThanOrEqual(Math.max(RUN_BYTES, stride < format.sectionHeader.size ? longestOverlap : 0));
    expect(headers.sectionHeaders.bytes.byteLength).toBeLessThanOrEqual(longestOverlap);
  });

  test('overlapping headers are read once', async () => {
    const source = new CountingSource(imageWith(ELF64, { ...noHeaders, phoff: 64n, phnum: HEADERS }), 10_000_000);
    await readHeaders(source);
    expect(source.bytesRead).toBe(ELF_HEADER_BYTES + ELF64.programHeader.size);
  });

  test('tables that do not fit into the image are not read at all', async () => {
    const lies = { ...noHeaders, phoff: 4096n, phentsize: 56, phnum: HEADERS, shoff: 4096n, shentsize: 64, shnum: 100 };
    const source = new CountingSource(imageWith(ELF64, lies), 5000);
    const headers = await mustReadHeaders(source);
    expect([headers.programHeaders.count, headers.sectionHeaders.count]).toEqual([0, 0]);
    expect(source.reads).toEqual([{ offset: 0, length: ELF_HEADER_BYTES }]);
  });

  test('tables beyond 2^63 that end inside by wrapping are read only where they are inside', async () => {
    const stride = 65_535;
    const phoff = 2n ** 64n - BigInt(stride) * 65_530n;
    const source = new CountingSource(
      imageWith(ELF64, { ...noHeaders, phoff, phentsize: stride, phnum: HEADERS }),
      stride * 5,
    );
    const headers = await mustReadHeaders(source);
    expect(headers.programHeaders.count).toBe(HEADERS);
    expect(source.reads.slice(1).map(({ offset }) => offset)).toEqual([0, 1, 2, 3, 4].map((entry) => entry * stride));
  });
});

/** A table that lies in an image of `size` bytes, or wraps into it. */
const anyTable = (size: number) =>
  fc.record({
    at: fc.oneof(fc.bigInt({ min: 0n, max: BigInt(size) }), fc.bigInt({ min: MAX_U64 - 3000n, max: MAX_U64 })),
    stride: fc.oneof(fc.nat(130), fc.nat(65_535)),
    count: fc.nat(40),
  });

describe('a header that was read ahead', () => {
  const image = fc
    .tuple(fc.constantFrom(ELF32, ELF64), fc.boolean(), fc.uint8Array({ minLength: 400, maxLength: 1500, size: 'max' }))
    .chain(([format, littleEndian, noise]) =>
      fc.record({
        format: fc.constant(format),
        littleEndian: fc.constant(littleEndian),
        noise: fc.constant(noise),
        programHeaders: anyTable(noise.length),
        sectionHeaders: anyTable(noise.length),
      }),
    );

  test('reads as it does from the image itself', async () => {
    let inside = 0;
    await fc.assert(
      fc.asyncProperty(image, async ({ format, littleEndian, noise, programHeaders, sectionHeaders }) => {
        const bytes = noise.slice();
        bytes.set([0x7f, 0x45, 0x4c, 0x46, format.class === 'ELF64' ? 2 : 1, littleEndian ? 1 : 2]);
        const { e_phoff, e_phentsize, e_phnum, e_shoff, e_shentsize, e_shnum } = format.elfHeader.fields;
        const set = (field: Field, value: number | bigint): void => writeField(bytes, 0, field, value, littleEndian);
        set(e_phoff, programHeaders.at);
        set(e_phentsize, programHeaders.stride);
        set(e_phnum, programHeaders.count);
        set(e_shoff, sectionHeaders.at);
        set(e_shentsize, sectionHeaders.stride);
        set(e_shnum, sectionHeaders.count);
        const headers = await mustReadHeaders(bytes);
        for (const read of [headers.programHeaders, headers.sectionHeaders]) {
          for (let index = 0; index < read.count; index++) {
            const differences = compare(bytes, read, index, littleEndian);
            inside += differences.inside;
            expect(differences.found).toEqual([]);
          }
        }
      }),
      { numRuns: 1500 },
    );
    // Otherwise the tables were nearly all refused, and nothing was compared.
    expect(inside).toBeGreaterThan(1000);
  });
});

/** Entry `index` through a `View` and by the reference's access rule: unsigned 64-bit offsets that wrap. */
function compare(bytes: Uint8Array, table: TableBytes, index: number, littleEndian: boolean) {
  const size = BigInt(bytes.length);
  const at = BigInt.asUintN(64, table.offset + BigInt(table.stride) * BigInt(index));
  const isIn = (from: bigint, length: number): boolean => from <= size && BigInt(length) <= size - from;
  const view = (recorder = new Recorder('init')): View => new View({ imageSize: bytes.length, littleEndian }, recorder);
  const found: string[] = [];
  let inside = 0;

  if (view().hasEntry(table, index) !== isIn(at, 1)) found.push(`hasEntry ${index}`);
  const entry = view().entry(table, index);
  const whole = isIn(at, table.struct.size);
  const expected = whole ? Buffer.from(bytes.subarray(Number(at), Number(at) + table.struct.size)) : null;
  if (expected === null ? entry !== null : entry === null || !expected.equals(entry)) found.push(`entry ${index}`);

  for (const field of Object.values(table.struct.fields)) {
    const fieldAt = BigInt.asUintN(64, at + BigInt(field.offset));
    const readable = isIn(fieldAt, field.width);
    const value = readable ? readField(bytes, Number(fieldAt), { ...field, offset: 0 }, littleEndian) : 0n;
    const recorder = new Recorder('init');
    const reader = view(recorder);
    const actual = field.width === 8 ? reader.bigint(table, index, field) : BigInt(reader.number(table, index, field));
    // Nobody uses the value of a field that wraps into the image from a header that begins outside.
    if (isIn(at, 1) && actual !== value) found.push(`${field.name} ${index}`);
    if ((recorder.recorded === null) !== readable) found.push(`record of ${field.name} ${index}`);
    inside += Number(readable);
  }
  return { found, inside };
}
