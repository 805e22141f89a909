/** The numbers that 64 bits can hold. */
export const U64_END = 2n ** 64n;
export const U64_MAX = U64_END - 1n;
