/** The checksums of compressed files, each over bytes that come in pieces. */

/** A checksum over bytes that come in pieces. */
export interface Checksum {
  update(bytes: Uint8Array): void;
  /** Little-endian, as many bytes as the checksum has. */
  digest(): Uint8Array;
}

const CRC32_POLYNOMIAL = 0xedb8_8320;
/** Bytes that one step of CRC-32 takes; a table each. */
const CRC32_SLICES = 8;

function makeCrc32Tables(): Uint32Array {
  const tables = new Uint32Array(256 * CRC32_SLICES);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ CRC32_POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let index = 256; index < tables.length; index++) {
    const before = tables[index - 256] as number;
    tables[index] = (before >>> 8) ^ (tables[before & 0xff] as number);
  }
  return tables;
}

const CRC32 = makeCrc32Tables();

/** CRC-32 of IEEE 802.3, as in gzip. @param crc the checksum of the bytes before */
export function crc32(bytes: Uint8Array, crc = 0): number {
  const table = CRC32;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.length;
  let value = ~crc;
  let at = 0;
  for (; at + CRC32_SLICES <= end; at += CRC32_SLICES) {
    const low = view.getUint32(at, true) ^ value;
    const high = view.getUint32(at + 4, true);
    value =
      (table[1792 + (low & 0xff)] as number) ^
      (table[1536 + ((low >>> 8) & 0xff)] as number) ^
      (table[1280 + ((low >>> 16) & 0xff)] as number) ^
      (table[1024 + (low >>> 24)] as number) ^
      (table[768 + (high & 0xff)] as number) ^
      (table[512 + ((high >>> 8) & 0xff)] as number) ^
      (table[256 + ((high >>> 16) & 0xff)] as number) ^
      (table[high >>> 24] as number);
  }
  for (; at < end; at++) value = (value >>> 8) ^ (table[(value ^ (bytes[at] as number)) & 0xff] as number);
  return ~value >>> 0;
}

const BZIP2_CRC = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c1_1db7 : crc << 1;
  BZIP2_CRC[byte] = crc;
}

/**
 * The CRC-32 of bzip2: the same polynomial, with the highest bit first.
 *
 * @param end how many of the bytes count
 * @param crc the result for the bytes before, -1 at first
 * @returns the complement of the checksum
 */
export function bzip2Crc(bytes: Uint8Array, end: number, crc: number): number {
  let value = crc;
  for (let at = 0; at < end; at++) {
    value = (value << 8) ^ (BZIP2_CRC[(value >>> 24) ^ (bytes[at] as number)] as number);
  }
  return value;
}

const ADLER_BASE = 65_521;
/** How many bytes can be added before 32 bits overflow. */
const ADLER_RUN = 5552;

/** Adler-32 (RFC 1950). @param adler the checksum of the bytes before */
export function adler32(bytes: Uint8Array, adler = 1): number {
  let low = adler & 0xffff;
  let high = adler >>> 16;
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + ADLER_RUN);
    for (; at < end; at++) {
      low = (low + (bytes[at] as number)) | 0;
      high = (high + low) | 0;
    }
    low = (low >>> 0) % ADLER_BASE;
    high = (high >>> 0) % ADLER_BASE;
  }
  return ((high << 16) | low) >>> 0;
}

/** CRC-32 over bytes that come in pieces. */
export class Crc32 implements Checksum {
  #crc = 0;

  update(bytes: Uint8Array): void {
    this.#crc = crc32(bytes, this.#crc);
  }

  digest(): Uint8Array {
    return littleEndian(this.#crc);
  }
}

const littleEndian = (...words: readonly number[]): Uint8Array => {
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  words.forEach((word, index) => {
    view.setUint32(4 * index, word >>> 0, true);
  });
  return bytes;
};

/** Bytes that one step of CRC-64 takes. */
const CRC64_SLICES = 4;
/** The tables, each entry as its low and its high half. */
const CRC64_LOW = new Int32Array(256 * CRC64_SLICES);
const CRC64_HIGH = new Int32Array(256 * CRC64_SLICES);

for (let byte = 0; byte < 256; byte++) {
  let low = byte;
  let high = 0;
  for (let bit = 0; bit < 8; bit++) {
    const isOdd = (low & 1) === 1;
    low = (low >>> 1) | (high << 31);
    high >>>= 1;
    // The polynomial of ECMA-182, reflected.
    if (isOdd) {
      low ^= 0xd787_0f42;
      high ^= 0xc96c_5795;
    }
  }
  CRC64_LOW[byte] = low;
  CRC64_HIGH[byte] = high;
}
for (let index = 256; index < CRC64_LOW.length; index++) {
  const low = CRC64_LOW[index - 256] as number;
  const high = CRC64_HIGH[index - 256] as number;
  CRC64_LOW[index] = ((low >>> 8) | (high << 24)) ^ (CRC64_LOW[low & 0xff] as number);
  CRC64_HIGH[index] = (high >>> 8) ^ (CRC64_HIGH[low & 0xff] as number);
}

/** CRC-64 of ECMA-182, as in xz. */
export class Crc64 implements Checksum {
  #low = -1;
  #high = -1;

  update(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const end = bytes.length;
    let low = this.#low;
    let high = this.#high;
    let at = 0;
    for (; at + CRC64_SLICES <= end; at += CRC64_SLICES) {
      const word = view.getInt32(at, true) ^ low;
      const [a, b, c, d] = [
        768 + (word & 0xff),
        512 + ((word >>> 8) & 0xff),
        256 + ((word >>> 16) & 0xff),
        word >>> 24,
      ];
      low =
        high ^
        (CRC64_LOW[a] as number) ^
        (CRC64_LOW[b] as number) ^
        (CRC64_LOW[c] as number) ^
        (CRC64_LOW[d] as number);
      high =
        (CRC64_HIGH[a] as number) ^ (CRC64_HIGH[b] as number) ^ (CRC64_HIGH[c] as number) ^ (CRC64_HIGH[d] as number);
    }
    for (; at < end; at++) {
      const index = (low ^ (bytes[at] as number)) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ (CRC64_LOW[index] as number);
      high = (high >>> 8) ^ (CRC64_HIGH[index] as number);
    }
    this.#low = low;
    this.#high = high;
  }

  digest(): Uint8Array {
    return littleEndian(~this.#low, ~this.#high);
  }
}

/** Bytes that come in pieces, as blocks of one size. */
export class BlockFeed {
  /** What does not fill a block: the first `restBytes`. */
  readonly rest: Uint8Array<ArrayBuffer>;
  restBytes = 0;
  /** All bytes that came. */
  totalBytes = 0;
  readonly #take: (bytes: Uint8Array, from: number, to: number) => void;

  /** @param take gets one or more whole blocks, which lie between two places */
  constructor(blockBytes: number, take: (bytes: Uint8Array, from: number, to: number) => void) {
    this.rest = new Uint8Array(blockBytes);
    this.#take = take;
  }

  update(bytes: Uint8Array): void {
    const blockBytes = this.rest.length;
    this.totalBytes += bytes.length;
    let at = 0;
    if (this.restBytes > 0) {
      at = Math.min(blockBytes - this.restBytes, bytes.length);
      this.rest.set(bytes.subarray(0, at), this.restBytes);
      this.restBytes += at;
      if (this.restBytes < blockBytes) return;
      this.#take(this.rest, 0, blockBytes);
    }
    const end = bytes.length - ((bytes.length - at) % blockBytes);
    if (end > at) this.#take(bytes, at, end);
    this.rest.set(bytes.subarray(end));
    this.restBytes = bytes.length - end;
  }
}

const XXH_PRIME_1 = 0x9e37_79b1;
const XXH_PRIME_2 = 0x85eb_ca77;
const XXH_PRIME_3 = 0xc2b2_ae3d;
const XXH_PRIME_4 = 0x27d4_eb2f;
const XXH_PRIME_5 = 0x1656_67b1;
const XXH_STRIPE_BYTES = 16;

const rotate = (value: number, bits: number): number => (value << bits) | (value >>> (32 - bits));

/** xxHash32 with the seed 0, as in lz4. */
export class XxHash32 {
  #a = (XXH_PRIME_1 + XXH_PRIME_2) | 0;
  #b = XXH_PRIME_2 | 0;
  #c = 0;
  #d = -XXH_PRIME_1 | 0;
  readonly #feed = new BlockFeed(XXH_STRIPE_BYTES, (bytes, from, to) => this.#addStripes(bytes, from, to));

  update(bytes: Uint8Array): void {
    this.#feed.update(bytes);
  }

  #addStripes(bytes: Uint8Array, from: number, to: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let a = this.#a;
    let b = this.#b;
    let c = this.#c;
    let d = this.#d;
    for (let at = from; at < to; at += XXH_STRIPE_BYTES) {
      a = (a + Math.imul(view.getInt32(at, true), XXH_PRIME_2)) | 0;
      a = Math.imul((a << 13) | (a >>> 19), XXH_PRIME_1);
      b = (b + Math.imul(view.getInt32(at + 4, true), XXH_PRIME_2)) | 0;
      b = Math.imul((b << 13) | (b >>> 19), XXH_PRIME_1);
      c = (c + Math.imul(view.getInt32(at + 8, true), XXH_PRIME_2)) | 0;
      c = Math.imul((c << 13) | (c >>> 19), XXH_PRIME_1);
      d = (d + Math.imul(view.getInt32(at + 12, true), XXH_PRIME_2)) | 0;
      d = Math.imul((d << 13) | (d >>> 19), XXH_PRIME_1);
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }

  digest(): number {
    const { rest: bytes, restBytes, totalBytes } = this.#feed;
    let hash =
      totalBytes >= XXH_STRIPE_BYTES
        ? rotate(this.#a, 1) + rotate(this.#b, 7) + rotate(this.#c, 12) + rotate(this.#d, 18)
        : XXH_PRIME_5;
    hash = (hash + totalBytes) | 0;
    const rest = new DataView(bytes.buffer);
    let at = 0;
    for (; at + 4 <= restBytes; at += 4) {
      hash = (hash + Math.imul(rest.getInt32(at, true), XXH_PRIME_3)) | 0;
      hash = Math.imul(rotate(hash, 17), XXH_PRIME_4);
    }
    for (; at < restBytes; at++) {
      hash = (hash + Math.imul(rest.getUint8(at), XXH_PRIME_5)) | 0;
      hash = Math.imul(rotate(hash, 11), XXH_PRIME_1);
    }
    hash = Math.imul(hash ^ (hash >>> 15), XXH_PRIME_2);
    hash = Math.imul(hash ^ (hash >>> 13), XXH_PRIME_3);
    return (hash ^ (hash >>> 16)) >>> 0;
  }
}

export const xxHash32 = (bytes: Uint8Array): number => {
  const hash = new XxHash32();
  hash.update(bytes);
  return hash.digest();
};
