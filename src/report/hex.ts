/** How addresses are written in answers and logs: lower-case hex. */
export const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** A number where JSON can hold it. */
export const count = (value: bigint): number | string =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : hex(value);
