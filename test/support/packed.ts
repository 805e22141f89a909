/** Packed images that need no tool to be made. */

/** What a block of the legacy format of lz4 unpacks to at most. */
const BLOCK_BYTES = 8 * 1024 * 1024;

/** Zeros, packed with lz4 in the legacy format: a byte for every 255. */
export function lz4Zeros(bytes: number): Buffer {
  const parts: Buffer[] = [Buffer.from([0x02, 0x21, 0x4c, 0x18])];
  for (let left = bytes; left > 0; left -= BLOCK_BYTES) {
    const block = zeroBlock(Math.min(left, BLOCK_BYTES));
    const size = Buffer.alloc(4);
    size.writeUInt32LE(block.length);
    parts.push(size, block);
  }
  return Buffer.concat(parts);
}

/** One literal, a match that repeats it, and the literals that a block ends with. */
function zeroBlock(bytes: number): Buffer {
  const last = 12;
  if (bytes < 15) return Buffer.concat([Buffer.from([bytes << 4]), Buffer.alloc(bytes)]);
  if (bytes < 64) return Buffer.concat([Buffer.from([0xf0, bytes - 15]), Buffer.alloc(bytes)]);
  const repeated = bytes - 1 - last - 4 - 15;
  const lengths = Buffer.alloc(Math.floor(repeated / 255) + 1, 255);
  lengths[lengths.length - 1] = repeated % 255;
  return Buffer.concat([Buffer.from([0x1f, 0, 1, 0]), lengths, Buffer.from([last << 4]), Buffer.alloc(last)]);
}

interface BzImageOptions {
  readonly protocol?: number;
  readonly setupSects?: number;
  /** The size word; null for none. */
  readonly sizeWord?: number | null;
}

/** A Linux bzImage with a payload, as the build of Linux lays it out. */
export function bzImage(
  payload: Uint8Array,
  { protocol = 0x020f, setupSects = 3, sizeWord = null }: BzImageOptions,
): Buffer {
  const word = Buffer.alloc(sizeWord === null ? 0 : 4);
  if (sizeWord !== null) word.writeUInt32LE(sizeWord);
  const payloadOffset = 0x2b4;
  const setup = Buffer.alloc((setupSects + 1) * 512 + payloadOffset);
  setup[0x1f1] = setupSects;
  setup.write('HdrS', 0x202);
  setup.writeUInt16LE(protocol, 0x206);
  setup.writeUInt32LE(payloadOffset, 0x248);
  setup.writeUInt32LE(payload.length + word.length, 0x24c);
  return Buffer.concat([setup, payload, word, Buffer.alloc(1000, 0x90)]);
}
