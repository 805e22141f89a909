/** SHA-256 (FIPS 180-4) over bytes that come in pieces, for the decoders, which do not use Node. */
import { BlockFeed, type Checksum } from './checksums.ts';

const BLOCK_BYTES = 64;
const ROUNDS = 64;

/** The first 32 bits of the fractional parts of roots of the first primes. */
function* roots(count: number, power: number): Generator<number> {
  for (let candidate = 2, found = 0; found < count; candidate++) {
    let isPrime = true;
    for (let divisor = 2; divisor * divisor <= candidate; divisor++) if (candidate % divisor === 0) isPrime = false;
    if (!isPrime) continue;
    found += 1;
    yield fractionOfRoot(BigInt(candidate), power);
  }
}

/** Exact: the integer root of the number shifted by 32 bits for each factor. */
function fractionOfRoot(value: bigint, power: number): number {
  const shifted = value << BigInt(32 * power);
  let low = 0n;
  let high = 1n << 40n;
  while (low < high) {
    const middle = (low + high + 1n) >> 1n;
    if (middle ** BigInt(power) <= shifted) low = middle;
    else high = middle - 1n;
  }
  return Number(low & 0xffff_ffffn);
}

const CONSTANTS = Int32Array.from(roots(ROUNDS, 3));
const INITIAL = Int32Array.from(roots(8, 2));

export class Sha256 implements Checksum {
  readonly #state = Int32Array.from(INITIAL);
  readonly #words = new Int32Array(ROUNDS);
  readonly #feed = new BlockFeed(BLOCK_BYTES, (bytes, from, to) => this.#addBlocks(bytes, from, to));

  update(bytes: Uint8Array): void {
    this.#feed.update(bytes);
  }

  digest(): Uint8Array {
    const { rest, restBytes, totalBytes } = this.#feed;
    const bits = totalBytes * 8;
    const used = restBytes + 1 + 8;
    const end = new Uint8Array(restBytes + 1 + ((BLOCK_BYTES - (used % BLOCK_BYTES)) % BLOCK_BYTES) + 8);
    end.set(rest.subarray(0, restBytes));
    end[restBytes] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(end.length - 4, bits % 2 ** 32);
    this.#addBlocks(end, 0, end.length);
    const digest = new Uint8Array(32);
    const words = new DataView(digest.buffer);
    this.#state.forEach((word, index) => {
      words.setInt32(4 * index, word);
    });
    return digest;
  }

  #addBlocks(bytes: Uint8Array, from: number, to: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = from; at < to; at += BLOCK_BYTES) this.#addBlock(view, at);
  }

  #addBlock(view: DataView, at: number): void {
    const words = this.#words;
    const state = this.#state;
    for (let index = 0; index < 16; index++) words[index] = view.getInt32(at + 4 * index);
    for (let index = 16; index < ROUNDS; index++) {
      const x = words[index - 15] as number;
      const y = words[index - 2] as number;
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      words[index] = ((words[index - 16] as number) + s0 + (words[index - 7] as number) + s1) | 0;
    }
    let a = state[0] as number;
    let b = state[1] as number;
    let c = state[2] as number;
    let d = state[3] as number;
    let e = state[4] as number;
    let f = state[5] as number;
    let g = state[6] as number;
    let h = state[7] as number;
    for (let index = 0; index < ROUNDS; index++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const choice = (e & f) ^ (~e & g);
      const t1 = (h + s1 + choice + (CONSTANTS[index] as number) + (words[index] as number)) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const majority = (a & b) ^ (a & c) ^ (b & c);
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + s0 + majority) | 0;
    }
    state[0] = ((state[0] as number) + a) | 0;
    state[1] = ((state[1] as number) + b) | 0;
    state[2] = ((state[2] as number) + c) | 0;
    state[3] = ((state[3] as number) + d) | 0;
    state[4] = ((state[4] as number) + e) | 0;
    state[5] = ((state[5] as number) + f) | 0;
    state[6] = ((state[6] as number) + g) | 0;
    state[7] = ((state[7] as number) + h) | 0;
  }
}
