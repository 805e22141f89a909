/** What hostile blobs cost: their bytes, a few times over, and no more. */
import { describe, expect, test } from 'vitest';
import { ELF32, ELF64 } from '../../../../src/elf/format.ts';
import { verifyBlob } from '../../../../src/inspect/verify.ts';
import type { GuestVerdicts } from '../../../../src/xen/guests/verdict.ts';
import { buildBlob, HEADERS_AT } from '../../../support/blob-builder.ts';
import { writeField } from '../../../support/elf-builder.ts';
import { MIB, turnsOf } from '../../../support/load.ts';
import { CountingSource } from '../../../support/sources.ts';

const MAX_HEADERS = 65_535;

interface Cost {
  readonly guests: GuestVerdicts;
  readonly bytes: number;
  readonly reads: number;
  readonly longest: number;
  readonly turns: number;
}

/** @param size zeros follow up to there */
async function judge(start: Uint8Array, size = start.length): Promise<Cost> {
  const source = new CountingSource(start, size);
  let guests: GuestVerdicts | null = null;
  const turns = await turnsOf(async () => {
    guests = (await verifyBlob(source, null)).guests;
  });
  if (guests === null) throw new Error('there is no verdict');
  const longest = source.reads.reduce((most, { length }) => Math.max(most, length), 0);
  return { guests, bytes: source.bytesRead, reads: source.reads.length, longest, turns };
}

/** A blob whose section headers are `headers`, at `e_shoff` 64. */
function withHeaders(
  count: number,
  header: (index: number) => Readonly<Record<string, number>>,
  size: number,
): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(buildBlob({ header: { e_shnum: count, e_shstrndx: 1 } }).bytes.subarray(0, HEADERS_AT));
  const fields: Readonly<Record<string, (typeof ELF64.sectionHeader.fields)['sh_name']>> = ELF64.sectionHeader.fields;
  for (let index = 0; index < count; index++) {
    for (const [name, value] of Object.entries(header(index))) {
      const field = fields[name];
      if (field !== undefined) writeField(bytes, HEADERS_AT + index * 64, field, value, true);
    }
  }
  return bytes;
}

/** Scatters the numbers below a power of two. */
const jump = (index: number, below: number): number => (index * 40_503) % below;

describe('65,535 section headers', () => {
  const size = HEADERS_AT + MAX_HEADERS * 64;

  test('that link to each other without end are read a few times', async () => {
    // Every one is a SYMTAB whose link leads to one of the headers that have no sh_offset.
    const bytes = withHeaders(
      MAX_HEADERS,
      (index) => (index % 2 === 0 ? {} : { sh_type: 2, sh_offset: 64, sh_link: jump(index, MAX_HEADERS) & ~1 }),
      size,
    );
    const cost = await judge(bytes);
    expect(cost.guests.freebsd.why).toBe('no-symbol-table');
    // In order for tables and for section names, and once for links.
    expect(cost.bytes).toBeLessThan(4 * size);
    expect(cost.reads).toBeLessThan(100);
    expect(cost.longest).toBeLessThanOrEqual(256 * 1024);
    expect(cost.turns).toBeGreaterThan(cost.bytes / MIB / 2);
  });

  test('with names all over a dump of 4 GiB cost a short run each', async () => {
    const bytes = withHeaders(MAX_HEADERS, (index) => ({ sh_type: 1, sh_name: jump(index, 2 ** 16) * 65_000 }), size);
    const cost = await judge(bytes, 2 ** 32 + 100);
    expect(cost.guests.netbsdKdtrace.why).toBe('no-symbol-table');
    expect(cost.bytes).toBeLessThan(MAX_HEADERS * 512 + 4 * size);
    expect(cost.longest).toBeLessThanOrEqual(256 * 1024);
  });
});

/** Typeless ones, whose names NetBSD compares. */
function withNames(count: number, nameOf: (index: number) => number): Uint8Array {
  const { bytes, symtabAt } = buildBlob({ symbols: [], strtab: new Uint8Array(1) });
  const whole = new Uint8Array(symtabAt + count * 24);
  whole.set(bytes.subarray(0, symtabAt));
  const view = new DataView(whole.buffer);
  for (let index = 0; index < count; index++) {
    view.setUint32(symtabAt + index * 24, nameOf(index), true);
    view.setUint16(symtabAt + index * 24 + 6, 1, true);
  }
  const section = (at: number, field: 'sh_offset' | 'sh_size', value: number): void =>
    writeField(whole, HEADERS_AT + at * 64, ELF64.sectionHeader.fields[field], value, true);
  section(1, 'sh_size', count * 24);
  section(2, 'sh_offset', symtabAt - 4 + count * 24);
  return whole;
}

describe('98,303 symbols', () => {
  test('with names all over a dump of 4 GiB cost a short run each', async () => {
    const bytes = withNames(98_303, (index) => 1 + jump(index, 2 ** 16) * 65_000);
    const cost = await judge(bytes, 2 ** 32 + bytes.length);
    expect(cost.guests.netbsd).toMatchObject({ outcome: 'found', symbols: 98_303n });
    expect(cost.bytes).toBeLessThan(98_303 * 512 + 5 * bytes.length + MIB);
    expect(cost.longest).toBeLessThanOrEqual(256 * 1024);
  });

  test('with names all over a small dump cost the dump, a few times', async () => {
    const bytes = withNames(98_303, (index) => 1 + jump(index, 2 ** 20));
    const size = bytes.length + 2 ** 20 + 100;
    const cost = await judge(bytes, size);
    expect(cost.guests.netbsd.outcome).toBe('found');
    expect(cost.bytes).toBeLessThan(6 * size);
    expect(cost.turns).toBeGreaterThan(cost.bytes / MIB / 2);
  });

  test('and more, which only FreeBSD looks at, are read once by it', async () => {
    const bytes = withNames(1_000_000, () => 1);
    const cost = await judge(bytes, bytes.length + 8);
    expect(cost.guests.freebsd.symbols).toBe(1_000_000n);
    expect(cost.guests.netbsd.symbols).toBe(98_303n);
    expect(cost.bytes).toBeLessThan(bytes.length + 2 * 98_304 * 24 + MIB);
  });
});

test('a gap of 300 MB between the headers is read once, in many turns', async () => {
  const bytes = buildBlob({ class: 'ELF32', header: { e_shoff: 300_000_000 } }).bytes.subarray(
    0,
    4 + ELF32.elfHeader.size,
  );
  const cost = await judge(bytes, 310_000_000);
  expect(cost.guests.xtf).toMatchObject({ outcome: 'found' });
  expect(cost.bytes).toBeLessThan(301_000_000);
  expect(cost.turns).toBeGreaterThan(250);
});

test('names without an end are looked for twice: in the string table, and up to the end of the dump', async () => {
  const { bytes, strtabAt } = buildBlob({ size: 20_000_000, filler: 1, sections: { 2: { sh_size: 10_000_000 } } });
  bytes.fill(1, strtabAt + 1);
  const cost = await judge(bytes);
  expect(cost.guests.freebsd).toMatchObject({
    outcome: 'found',
    warnings: ['table-outside-size', 'name-unterminated'],
  });
  expect(cost.guests.netbsd.why).toBe('symbol-name-outside');
  expect(cost.bytes).toBeLessThan(30_000_000 + MIB);
  expect(cost.turns).toBeGreaterThan(cost.bytes / MIB / 2);
});
