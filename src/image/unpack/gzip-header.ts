/** The header and trailer of a gzip member (RFC 1952, section 2.3), as its bytes arrive. */
import { crc32 } from 'node:zlib';

const ID1 = 0x1f;
const ID2 = 0x8b;
const CM_DEFLATE = 8;
const FIXED_BYTES = 10;
const FHCRC = 2;
const FEXTRA = 4;
const FNAME = 8;
const FCOMMENT = 16;
const RESERVED = 0xe0;

/** CRC32 and ISIZE. */
export const TRAILER_BYTES = 8;

/** What is read next, in the order of the format. */
type Step = 'fixed' | 'extra-length' | 'extra' | 'name' | 'comment' | 'crc' | 'done';

/** Reads a header, byte by byte as far as it goes. */
export class GzipHeader {
  #step: Step = 'fixed';
  /** Bytes of the step under way. */
  #at = 0;
  #flags = 0;
  /** The length of the extra field, or the CRC16 that the header names. */
  #number = 0;
  #crc = 0;

  get done(): boolean {
    return this.#step === 'done';
  }

  /**
   * Takes bytes of the header.
   *
   * @returns how many of them belong to it
   * @throws Error when this is not the header of a gzip member
   */
  read(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && !this.done) {
      const isCovered = this.#step !== 'crc';
      const byte = bytes[at] ?? 0;
      if (this.#step === 'extra') at += this.#skipExtra(bytes.length - at, bytes.subarray(at));
      else {
        if (isCovered) this.#crc = crc32(bytes.subarray(at, at + 1), this.#crc);
        at += 1;
        this.#take(byte);
      }
    }
    return at;
  }

  #skipExtra(available: number, bytes: Uint8Array): number {
    const skipped = Math.min(available, this.#number - this.#at);
    this.#crc = crc32(bytes.subarray(0, skipped), this.#crc);
    this.#at += skipped;
    if (this.#at === this.#number) this.#enter('name');
    return skipped;
  }

  #take(byte: number): void {
    switch (this.#step) {
      case 'fixed':
        this.#takeFixed(byte);
        break;
      case 'extra-length':
        this.#number |= byte << (8 * this.#at);
        this.#at += 1;
        if (this.#at === 2) this.#enter(this.#number === 0 ? 'name' : 'extra');
        break;
      case 'name':
        if (byte === 0) this.#enter('comment');
        break;
      case 'comment':
        if (byte === 0) this.#enter('crc');
        break;
      case 'crc':
        this.#number |= byte << (8 * this.#at);
        this.#at += 1;
        if (this.#at < 2) break;
        if (this.#number !== (this.#crc & 0xffff)) throw new Error('header crc mismatch');
        this.#step = 'done';
        break;
      case 'extra':
      case 'done':
        break;
    }
  }

  #takeFixed(byte: number): void {
    const at = this.#at++;
    if ((at === 0 && byte !== ID1) || (at === 1 && byte !== ID2)) throw new Error('incorrect header check');
    if (at === 2 && byte !== CM_DEFLATE) throw new Error('unknown compression method');
    if (at === 3) {
      if ((byte & RESERVED) !== 0) throw new Error('unknown header flags set');
      this.#flags = byte;
    }
    if (this.#at === FIXED_BYTES) this.#enter('extra-length');
  }

  /** Enters a step, or the one after it when the header lacks that field. */
  #enter(step: Step): void {
    this.#at = 0;
    if (step !== 'extra') this.#number = 0;
    const has = (flag: number): boolean => (this.#flags & flag) !== 0;
    if (step === 'extra-length' && !has(FEXTRA)) this.#enter('name');
    else if (step === 'name' && !has(FNAME)) this.#enter('comment');
    else if (step === 'comment' && !has(FCOMMENT)) this.#enter('crc');
    else if (step === 'crc' && !has(FHCRC)) this.#step = 'done';
    else this.#step = step;
  }
}
