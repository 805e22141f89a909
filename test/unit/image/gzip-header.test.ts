import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { GzipHeader } from '../../../src/image/unpack/gzip-header.ts';

const text = (value: string): number[] => [...Buffer.from(`${value}\0`)];

/** A header with the given flags and what they announce. */
function header(flags: number, extra: readonly number[] = [], name = '', comment = ''): number[] {
  const bytes = [0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3];
  if (flags & 4) bytes.push(extra.length & 0xff, extra.length >> 8, ...extra);
  if (flags & 8) bytes.push(...text(name));
  if (flags & 16) bytes.push(...text(comment));
  if (flags & 2) {
    const crc = crc32(Uint8Array.from(bytes)) & 0xffff;
    bytes.push(crc & 0xff, crc >> 8);
  }
  return bytes;
}

const FOLLOWING = [1, 2, 3];

describe('the header of a gzip member', () => {
  test.each([
    ['alone', header(0)],
    ['with an extra field', header(4, [9, 9, 9])],
    ['with an extra field of no bytes', header(4)],
    [
      'with a long extra field',
      header(
        4,
        Array.from({ length: 700 }, () => 0),
      ),
    ],
    ['with a name', header(8, [], 'vmlinux')],
    ['with an empty name', header(8)],
    ['with a comment', header(16, [], '', 'a comment')],
    ['with a checksum', header(2)],
    ['with everything', header(2 | 4 | 8 | 16, [1, 0, 2], 'name', 'comment')],
    ['that says it is text', header(1)],
  ])('%s ends where it ends, wherever it is cut', (_what, bytes) => {
    const whole = Uint8Array.from([...bytes, ...FOLLOWING]);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const reader = new GzipHeader();
      const first = reader.read(whole.subarray(0, cut));
      expect([first, reader.done]).toEqual([cut, cut === bytes.length]);
      expect(reader.read(whole.subarray(cut))).toBe(bytes.length - cut);
      expect(reader.done).toBe(true);
      expect(reader.read(whole)).toBe(0);
    }
  });

  test.each([
    ['another magic', [0x1f, 0x8c], 'incorrect header check'],
    ['another method', [0x1f, 0x8b, 7], 'unknown compression method'],
    ['reserved flags', [0x1f, 0x8b, 8, 0x20], 'unknown header flags set'],
    ['a wrong checksum', [...header(2 | 8, [], 'x').slice(0, -1), 0x55], 'header crc mismatch'],
  ])('is refused for %s', (_what, bytes, message) => {
    expect(() => new GzipHeader().read(Uint8Array.from(bytes))).toThrow(message);
  });
});
