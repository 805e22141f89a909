/** The checksums of compressed data, against the check values that their definitions publish. */
import { describe, expect, test } from 'vitest';
import {
  adler32,
  bzip2Crc,
  type Checksum,
  Crc32,
  Crc64,
  crc32,
  XxHash32,
  xxHash32,
} from '../../../src/image/unpack/checksums.ts';

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
/** The check value of the Catalogue of parametrised CRC algorithms is that of this text. */
const CHECKED = ascii('123456789');
const LONG = 'Nobody inspects the spammish repetition';

const inPieces = (checksum: Checksum, bytes: Uint8Array, at: number): string => {
  for (const piece of [bytes.subarray(0, at), bytes.subarray(at)]) checksum.update(piece);
  return Buffer.from(checksum.digest().toReversed()).toString('hex');
};

test('CRC-32', () => {
  expect(crc32(CHECKED)).toBe(0xcbf4_3926);
  expect(crc32(new Uint8Array())).toBe(0);
});

test('CRC-32 of bzip2', () => {
  expect(~bzip2Crc(CHECKED, CHECKED.length, -1) >>> 0).toBe(0xfc89_1918);
});

test('Adler-32', () => {
  expect(adler32(ascii('Wikipedia'))).toBe(0x11e6_0398);
  expect(adler32(new Uint8Array())).toBe(1);
  // Long enough for both sums to pass the modulus many times.
  expect(adler32(new Uint8Array(100_000).fill(0xff))).toBe(0x149a_302c);
});

test.each([
  ['', 0x02cc_5d05],
  ['a', 0x550d_7456],
  ['abc', 0x32d1_53ff],
  ['abcd', 0xa364_3705],
  [LONG, 0xe229_3b2f],
])('xxHash32 of "%s"', (text, expected) => {
  expect(xxHash32(ascii(text)) >>> 0).toBe(expected);
});

describe('bytes that come in two pieces', () => {
  test.each<[name: string, make: () => Checksum, bytes: Uint8Array, expected: string]>([
    ['CRC-32', () => new Crc32(), CHECKED, 'cbf43926'],
    ['CRC-64', () => new Crc64(), CHECKED, '995dc9bbdf1939fa'],
  ])('%s', (_name, make, bytes, expected) => {
    const digests = Array.from({ length: bytes.length + 1 }, (_, at) => inPieces(make(), bytes, at));
    expect(new Set(digests)).toEqual(new Set([expected]));
  });

  test('xxHash32', () => {
    const bytes = ascii(LONG);
    const digests = Array.from({ length: bytes.length + 1 }, (_, at) => {
      const hash = new XxHash32();
      hash.update(bytes.subarray(0, at));
      hash.update(bytes.subarray(at));
      return hash.digest() >>> 0;
    });
    expect(new Set(digests)).toEqual(new Set([0xe229_3b2f]));
  });
});
