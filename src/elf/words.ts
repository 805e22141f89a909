/** Reads bytes four at a time, where one at a time takes too long. */

const NO_WORDS = new Int32Array();

/** The aligned words among some bytes, in the byte order of this machine, and how many bytes come before them. */
export function alignedWords(bytes: Uint8Array): { readonly lead: number; readonly words: Int32Array } {
  const lead = -bytes.byteOffset & 3;
  if (lead >= bytes.length) return { lead: bytes.length, words: NO_WORDS };
  return { lead, words: new Int32Array(bytes.buffer, bytes.byteOffset + lead, (bytes.length - lead) >>> 2) };
}
