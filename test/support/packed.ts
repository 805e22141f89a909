/** Packed images that need no tool to be made. */
import { crc32 } from 'node:zlib';

/** What a block of the legacy format of lz4 unpacks to at most. */
const BLOCK_BYTES = 8 * 1024 * 1024;

/** Zeros, packed with lz4 in the legacy format: a byte for every 255. */
export function lz4Zeros(bytes: number): Buffer {
  const parts: Buffer[] = [Buffer.from([0x02, 0x21, 0x4c, 0x18])];
  for (let left = bytes; left > 0; left -= BLOCK_BYTES) {
    const block = zeroBlock(Math.min(left, BLOCK_BYTES));
    const size = Buffer.alloc(4);
    size.writeUInt32LE(block.length);
    parts.push(size, block);
  }
  return Buffer.concat(parts);
}

/** One literal, a match that repeats it, and the literals that a block ends with. */
function zeroBlock(bytes: number): Buffer {
  const last = 12;
  if (bytes < 15) return Buffer.concat([Buffer.from([bytes << 4]), Buffer.alloc(bytes)]);
  if (bytes < 64) return Buffer.concat([Buffer.from([0xf0, bytes - 15]), Buffer.alloc(bytes)]);
  const repeated = bytes - 1 - last - 4 - 15;
  const lengths = Buffer.alloc(Math.floor(repeated / 255) + 1, 255);
  lengths[lengths.length - 1] = repeated % 255;
  return Buffer.concat([Buffer.from([0x1f, 0, 1, 0]), lengths, Buffer.from([last << 4]), Buffer.alloc(last)]);
}

interface BzImageOptions {
  readonly protocol?: number;
  readonly setupSects?: number;
  /** The size word; null for none. */
  readonly sizeWord?: number | null;
}

/** A Linux bzImage with a payload, as the build of Linux lays it out. */
export function bzImage(
  payload: Uint8Array,
  { protocol = 0x020f, setupSects = 3, sizeWord = null }: BzImageOptions,
): Buffer {
  const word = Buffer.alloc(sizeWord === null ? 0 : 4);
  if (sizeWord !== null) word.writeUInt32LE(sizeWord);
  const payloadOffset = 0x2b4;
  const setup = Buffer.alloc((setupSects + 1) * 512 + payloadOffset);
  setup[0x1f1] = setupSects;
  setup.write('HdrS', 0x202);
  setup.writeUInt16LE(protocol, 0x206);
  setup.writeUInt32LE(payloadOffset, 0x248);
  setup.writeUInt32LE(payload.length + word.length, 0x24c);
  return Buffer.concat([setup, payload, word, Buffer.alloc(1000, 0x90)]);
}

/** Writes bits, the highest first. */
class BitWriter {
  readonly #bytes: number[] = [];
  #byte = 0;
  #count = 0;

  /** @param value written in `bits` bits, at most 48 */
  put(value: number, bits: number): void {
    for (let bit = bits - 1; bit >= 0; bit--) {
      this.#byte = this.#byte * 2 + (Math.floor(value / 2 ** bit) % 2);
      this.#count += 1;
      if (this.#count % 8 > 0) continue;
      this.#bytes.push(this.#byte);
      this.#byte = 0;
    }
  }

  finish(): Buffer {
    while (this.#count % 8 > 0) this.put(0, 1);
    return Buffer.from(this.#bytes);
  }
}

const reverse = (value: number, bits: number): number =>
  Number.parseInt(value.toString(2).padStart(bits, '0').split('').toReversed().join(''), 2);

/**
 * A bzip2 file of level 1 with one block of `run` times the letter a. `bzip2` itself leaves the last 19 of the 100,000 bytes of
 * a block free. Before a block is sorted, four equal bytes and the number of more are packed into five; the letter stands for 97.
 *
 * @param run a multiple of 5
 */
export function bzip2OfOneRun(run: number): { readonly packed: Buffer; readonly bytes: Buffer } {
  const letter = 0x61;
  const bytes = Buffer.alloc((run / 5) * (4 + letter), letter);
  // The checksum is that of gzip with all bits in the opposite order.
  const checksum = reverse(crc32(Buffer.alloc(bytes.length, reverse(letter, 8))), 32);
  const writer = new BitWriter();
  for (const byte of Buffer.from('BZh1')) writer.put(byte, 8);
  writer.put(0x3141_5926_5359, 48);
  writer.put(checksum, 32);
  writer.put(0, 1 + 24);
  // The only byte that occurs: its group of 16, and itself in the group.
  writer.put(0x8000 >>> (letter >>> 4), 16);
  writer.put(0x8000 >>> (letter & 15), 16);
  // Two tables, as that is the least; one selector, for the first.
  writer.put(2, 3);
  writer.put(1, 15);
  writer.put(0, 1);
  // Codes of 1, 2 and 2 bits: 0 and 10 for the digits of a run, 11 for the end.
  for (let table = 0; table < 2; table++) {
    writer.put(1, 5);
    writer.put(0b0_100_0, 5);
  }
  for (let rest = run; rest > 0; rest = Math.floor((rest - 1) / 2)) {
    if (rest % 2 === 1) writer.put(0b0, 1);
    else writer.put(0b10, 2);
  }
  writer.put(0b11, 2);
  writer.put(0x1772_4538_5090, 48);
  writer.put(checksum, 32);
  return { packed: writer.finish(), bytes };
}

/** The range coder of LZMA. */
class RangeCoder {
  readonly bytes: number[] = [];
  #low = 0;
  #range = 0xffff_ffff;
  #cache = 0;
  #pending = 1;

  /** @param probs of a 0, in 2,048ths */
  encode(probs: Uint16Array, index: number, bit: number): void {
    const prob = probs[index] ?? 0;
    const bound = (this.#range >>> 11) * prob;
    if (bit === 0) {
      this.#range = bound;
      probs[index] = prob + ((2048 - prob) >>> 5);
    } else {
      this.#low += bound;
      this.#range -= bound;
      probs[index] = prob - (prob >>> 5);
    }
    if (this.#range >= 2 ** 24) return;
    this.#range = (this.#range << 8) >>> 0;
    this.#shift();
  }

  finish(): void {
    for (let byte = 0; byte < 5; byte++) this.#shift();
  }

  #shift(): void {
    if (this.#low < 0xff00_0000 || this.#low >= 2 ** 32) {
      const carry = this.#low >= 2 ** 32 ? 1 : 0;
      for (let byte = this.#cache; this.#pending > 0; byte = 0xff) {
        this.bytes.push((byte + carry) & 0xff);
        this.#pending -= 1;
      }
      this.#cache = (this.#low >>> 24) & 0xff;
    }
    this.#pending += 1;
    this.#low = (this.#low % 2 ** 24) * 256;
  }
}

/** An lzma file that has its size in its header and no end mark, as the LZMA SDK writes it; `xz` writes the opposite. No matches. */
export function lzmaOfKnownSize(bytes: Uint8Array): Buffer {
  const coder = new RangeCoder();
  const isMatch = new Uint16Array(4).fill(1024);
  const literals = Array.from({ length: 8 }, () => new Uint16Array(0x300).fill(1024));
  let before = 0;
  for (const [at, byte] of bytes.entries()) {
    coder.encode(isMatch, at % 4, 0);
    const probs = literals[before >>> 5] ?? isMatch;
    for (let bit = 7, symbol = 1; bit >= 0; bit--) {
      const value = (byte >>> bit) & 1;
      coder.encode(probs, symbol, value);
      symbol = symbol * 2 + value;
    }
    before = byte;
  }
  coder.finish();
  const header = Buffer.alloc(13);
  // lc 3, lp 0, pb 2.
  header[0] = 0x5d;
  header.writeUInt32LE(1 << 16, 1);
  header.writeBigUInt64LE(BigInt(bytes.length), 5);
  return Buffer.concat([header, Buffer.from(coder.bytes)]);
}
