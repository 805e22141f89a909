/** The setup header of a Linux bzImage (Documentation/arch/x86/boot.rst of Linux): where the payload lies. */

const SETUP_SECTS_AT = 0x1f1;
const MAGIC_AT = 0x202;
const MAGIC = [0x48, 0x64, 0x72, 0x53];
const VERSION_AT = 0x206;
const PAYLOAD_OFFSET_AT = 0x248;
const PAYLOAD_LENGTH_AT = 0x24c;
/** How much of a file shows whether it is one, and where its payload lies. */
export const BZIMAGE_HEADER_BYTES = 0x250;
const SECTOR_BYTES = 512;
/** The first version of the boot protocol that says where the payload lies. */
export const MIN_PROTOCOL = 0x0208;

export interface SetupHeader {
  /** Of the boot protocol: 0x020f is 2.15. */
  readonly protocol: number;
  /** Where the payload begins in the file, and its bytes. */
  readonly payloadOffset: number;
  readonly payloadBytes: number;
}

/** @param start the first `BZIMAGE_HEADER_BYTES` of a file. @returns null when it is no bzImage */
export function readSetupHeader(start: Uint8Array): SetupHeader | null {
  if (start.length < BZIMAGE_HEADER_BYTES || !MAGIC.every((byte, index) => start[MAGIC_AT + index] === byte))
    return null;
  const fields = new DataView(start.buffer, start.byteOffset, start.byteLength);
  return {
    protocol: fields.getUint16(VERSION_AT, true),
    // Old loaders take 0 sectors for 4. Xen does not, and no kernel since has 0.
    payloadOffset: (fields.getUint8(SETUP_SECTS_AT) + 1) * SECTOR_BYTES + fields.getUint32(PAYLOAD_OFFSET_AT, true),
    payloadBytes: fields.getUint32(PAYLOAD_LENGTH_AT, true),
  };
}
