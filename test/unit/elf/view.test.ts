import { describe, expect, test } from 'vitest';
import { ELF32, ELF64 } from '../../../src/elf/format.ts';
import { Recorder } from '../../../src/elf/recorder.ts';
import {
  describeTable,
  entryOffset,
  entryPosition,
  isInside,
  type Table,
  type TableBytes,
  View,
} from '../../../src/elf/view.ts';

const IMAGE_BYTES = 1000;
const { sh_type, sh_offset, sh_entsize } = ELF64.sectionHeader.fields;
const { e_type, e_shoff } = ELF64.elfHeader.fields;

const viewOf = (littleEndian = true, recorder = new Recorder('init')): View =>
  new View({ imageSize: IMAGE_BYTES, littleEndian }, recorder);

/** A view with its recorder. */
function recording() {
  const recorder = new Recorder('init');
  return { view: viewOf(true, recorder), recorder };
}

/** Section headers at `offset`; their bytes count up from 1, header for header. */
function sectionHeaders(offset: bigint, stride = 64, count = 3): TableBytes {
  const bytes = Uint8Array.from({ length: 64 * count }, (_, index) => (index % 255) + 1);
  return {
    ...describeTable('section header', ELF64.sectionHeader, offset, stride, count),
    bytes: new DataView(bytes.buffer),
    pitch: 64,
  };
}

describe('a field', () => {
  test('has its native width, zero-extended', () => {
    const data = new DataView(Uint8Array.from({ length: 64 }, () => 0xff).buffer);
    const header64 = { ...describeTable('ELF header', ELF64.elfHeader, 0n, 0, 1), bytes: data, pitch: 0 };
    const header32 = { ...describeTable('ELF header', ELF32.elfHeader, 0n, 0, 1), bytes: data, pitch: 0 };
    expect(viewOf().number(header64, 0, e_type)).toBe(0xffff);
    expect(viewOf().number(header64, 0, ELF64.elfHeader.fields.e_version)).toBe(0xffff_ffff);
    expect(viewOf().bigint(header64, 0, e_shoff)).toBe(2n ** 64n - 1n);
    expect(viewOf().bigint(header32, 0, ELF32.elfHeader.fields.e_shoff)).toBe(2n ** 32n - 1n);
  });

  test('is read in the byte order of the image', () => {
    const table = sectionHeaders(0n);
    expect(viewOf(true).number(table, 0, sh_type)).toBe(0x0807_0605);
    expect(viewOf(false).number(table, 0, sh_type)).toBe(0x0506_0708);
    expect(viewOf(true).bigint(table, 1, sh_offset)).toBe(0x605f_5e5d_5c5b_5a59n);
    expect(viewOf(false).bigint(table, 1, sh_offset)).toBe(0x595a_5b5c_5d5e_5f60n);
  });

  test('is read when it ends at the end of the image', () => {
    const { view, recorder } = recording();
    const table = sectionHeaders(BigInt(IMAGE_BYTES - 64));
    expect(view.bigint(table, 0, sh_entsize)).not.toBe(0n);
    expect(recorder.recorded).toBeNull();
  });

  test('reads as 0 and is recorded when it ends one byte after it', () => {
    const { view, recorder } = recording();
    const table = sectionHeaders(BigInt(IMAGE_BYTES - 63));
    expect(view.bigint(table, 0, sh_entsize)).toBe(0n);
    expect(recorder.recorded).toEqual({
      code: 'out-of-range-access',
      stage: 'init',
      what: 'sh_entsize of section header 0',
      offset: BigInt(IMAGE_BYTES - 63 + 56),
      length: 8n,
      detail:
        'Sh_entsize of section header 0 would be 8 bytes at offset 993, but the image ends at 1000. ' +
        'The file is probably cut short: compare its size with the original.',
    });
  });

  test('inside a header that is cut is read all the same', () => {
    const { view, recorder } = recording();
    const table = sectionHeaders(BigInt(IMAGE_BYTES - 8));
    expect(view.number(table, 0, sh_type)).toBe(0x0807_0605);
    expect(recorder.recorded).toBeNull();
  });
});

describe('an entry', () => {
  test('is there when its first byte is inside', () => {
    const { view, recorder } = recording();
    expect(view.hasEntry(sectionHeaders(BigInt(IMAGE_BYTES - 1)), 0)).toBe(true);
    expect(recorder.recorded).toBeNull();
    expect(view.hasEntry(sectionHeaders(BigInt(IMAGE_BYTES)), 0)).toBe(false);
    expect(recorder.recorded).toMatchObject({ what: 'section header 0', offset: BigInt(IMAGE_BYTES), length: 64n });
  });

  test('is copied whole or not at all', () => {
    const { view, recorder } = recording();
    const whole = view.entry(sectionHeaders(BigInt(IMAGE_BYTES - 128)), 1);
    expect(whole).toEqual(Uint8Array.from({ length: 64 }, (_, index) => 65 + index));
    expect(recorder.recorded).toBeNull();
    expect(view.entry(sectionHeaders(BigInt(IMAGE_BYTES - 127)), 1)).toBeNull();
    expect(recorder.recorded).toMatchObject({ code: 'out-of-range-access', what: 'section header 1', offset: 937n });
  });

  test('of the ELF header is named without a number', () => {
    const recorder = new Recorder('init');
    const view = new View({ imageSize: 10, littleEndian: true }, recorder);
    view.entry({ ...sectionHeaders(0n), name: 'ELF header' }, 0);
    expect(recorder.recorded?.what).toBe('the ELF header');
  });
});

describe('a range', () => {
  test.each([
    ['the whole image', 0n, 1000n, { offset: 0, length: 1000 }],
    ['nothing at the end', 1000n, 0n, { offset: 1000, length: 0 }],
    ['the last byte', 999n, 1n, { offset: 999, length: 1 }],
    ['one byte too many', 999n, 2n, null],
    ['nothing behind the end', 1001n, 0n, null],
    ['a sum that wraps', 2n ** 64n - 1n, 2n, null],
    ['a length that wraps', 1n, 2n ** 64n - 1n, null],
  ])('of %s', (_what, offset, length, expected) => {
    const { view, recorder } = recording();
    expect(view.range('section 4 (SYMTAB)', offset, length)).toEqual(expected);
    const recorded = expected === null ? { what: 'section 4 (SYMTAB)', offset, length } : null;
    expect(recorder).toMatchObject({ recorded });
  });
});

test('reads without a recorder record nothing', () => {
  const view = new View({ imageSize: IMAGE_BYTES, littleEndian: true });
  expect(view.number(sectionHeaders(2000n), 0, sh_type)).toBe(0);
  expect(view.range('section 4 (SYMTAB)', 2000n, 1n)).toBeNull();
});

const tableAt = (offset: bigint, stride: number): Table =>
  describeTable('section header', ELF64.sectionHeader, offset, stride, 3);

describe('offsets', () => {
  test('of entries are a stride apart, whatever the native size', () => {
    expect([0, 1, 2].map((index) => entryOffset(tableAt(100n, 7), index))).toEqual([100n, 107n, 114n]);
    expect([0, 1, 2].map((index) => entryOffset(tableAt(100n, 0), index))).toEqual([100n, 100n, 100n]);
  });

  test('wrap at 2^64, as positions do', () => {
    const table = tableAt(2n ** 64n - 64n, 64);
    expect([0, 1, 2].map((index) => entryOffset(table, index))).toEqual([2n ** 64n - 64n, 0n, 64n]);
    expect([0, 1, 2].map((index) => entryPosition(table, index))).toEqual([-64, 0, 64]);
  });

  test.each([
    [-1, 1, false],
    [0, 10, true],
    [0, 11, false],
    [10, 0, true],
    [11, 0, false],
    [2 ** 63, 1, false],
  ])('position %d with %d bytes is inside 10 bytes: %s', (position, length, expected) => {
    expect(isInside(position, length, 10)).toBe(expected);
  });
});
