/** How addresses are written in sentences, answers and logs: lower-case hex. */
export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
