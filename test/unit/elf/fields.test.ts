/** Numbers of every width, read and written where nothing is aligned. */
import { describe, expect, test } from 'vitest';
import { dataOf, readBigint, readNumber, writeBigint } from '../../../src/elf/fields.ts';

/** Inside a longer buffer, so that an offset into the buffer is not one into the bytes. */
const bytes = Uint8Array.from([0xff, 0xff, 0, 0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0]).subarray(2);
const AT = 1;

const WIDTHS = [
  [1, 0x81n, 0x81n],
  [2, 0x9281n, 0x8192n],
  [4, 0xb4a3_9281n, 0x8192_a3b4n],
  [8, 0xf8e7_d6c5_b4a3_9281n, 0x8192_a3b4_c5d6_e7f8n],
] as const;

describe.each(WIDTHS)('a field of %i bytes', (width, little, big) => {
  test('is read in either byte order', () => {
    const data = dataOf(bytes);
    expect([readBigint(data, AT, width, true), readBigint(data, AT, width, false)]).toEqual([little, big]);
    if (width === 8) return;
    expect([readNumber(data, AT, width, true), readNumber(data, AT, width, false)]).toEqual([
      Number(little),
      Number(big),
    ]);
  });

  test('is written in either byte order, and nothing beside it', () => {
    const inPlace = [...bytes.subarray(AT, AT + width)];
    for (const [littleEndian, value] of [
      [true, little],
      [false, big],
    ] as const) {
      const written = new Uint8Array(10).fill(0x55);
      // Only the low bytes count.
      writeBigint(dataOf(written), AT, width, littleEndian, value + (7n << BigInt(8 * width)));
      expect([...written]).toEqual([0x55, ...inPlace, ...Array(9 - width).fill(0x55)]);
    }
  });

  test('is read at the very end, and not beyond it', () => {
    const data = dataOf(bytes.subarray(0, AT + width));
    expect(readBigint(data, AT, width, true)).toBe(little);
    expect(() => readBigint(data, AT + 1, width, true)).toThrow(RangeError);
  });
});
