/** zstd frames by hand (RFC 8878): those that no compressor would make. */

const MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const MAX_BLOCK = 128 * 1024;

/** The head of a frame that does not say how large its content is. @param windowLog from 10 to 41 */
export const frameHead = (windowLog: number): Buffer => Buffer.concat([MAGIC, Buffer.from([0, (windowLog - 10) << 3])]);

/** The head of a frame whose content is one segment of this many bytes. */
export function segmentHead(contentBytes: number): Buffer {
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(contentBytes));
  return Buffer.concat([MAGIC, Buffer.from([0xe0]), size]);
}

function block(type: number, size: number, bytes: Uint8Array, last: boolean): Buffer {
  const head = Buffer.alloc(3);
  head.writeUIntLE((last ? 1 : 0) | (type << 1) | (size << 3), 0, 3);
  return Buffer.concat([head, bytes]);
}

export const rawBlock = (bytes: Uint8Array, last = false): Buffer => block(0, bytes.length, bytes, last);

/** A byte, repeated. */
export const rleBlock = (size: number, last = false): Buffer => block(1, size, Buffer.from([0]), last);

/** A frame that unpacks to at least this many zeros, of 4 bytes for each 128 KiB. */
export function zerosFrame(windowLog: number, bytes: number, { complete = true } = {}): Buffer {
  const blocks = Array.from({ length: Math.ceil(bytes / MAX_BLOCK) }, () => rleBlock(MAX_BLOCK));
  return Buffer.concat([frameHead(windowLog), ...blocks, ...(complete ? [rawBlock(Buffer.alloc(0), true)] : [])]);
}

/** A frame that is passed over, of any content. */
export function skippableFrame(content: Uint8Array, magic = 0): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(0x184d_2a50 + magic, 0);
  head.writeUInt32LE(content.length, 4);
  return Buffer.concat([head, content]);
}

export const repeated = (bytes: Uint8Array, times: number): Buffer =>
  Buffer.alloc(bytes.length * times, Buffer.from(bytes));
