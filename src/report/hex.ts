/** How addresses are written in answers and logs: lower-case hex. */
export const hex = (value: bigint): string => `0x${value.toString(16)}`;
