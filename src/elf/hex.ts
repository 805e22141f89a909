/** An address in sentences, answers and logs: lower-case hex. */
export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** Bytes as two hex digits each. */
export const hexBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
