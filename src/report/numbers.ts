/** Numbers of 64 bits in JSON. */
import { hex } from '../elf/hex.ts';

/** A number where JSON can hold it, otherwise hex. */
export const toJsonNumber = (value: bigint): number | string =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : hex(value);
