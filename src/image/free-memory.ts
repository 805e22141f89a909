/** Frees the memory of buffers now instead of at the next collection. All views of them are empty after that. */
export function freeMemory(...views: readonly { readonly buffer: ArrayBufferLike }[]): void {
  for (const { buffer } of views) if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}
