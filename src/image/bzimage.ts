/** The setup header of a Linux bzImage (Documentation/arch/x86/boot.rst of Linux): where the payload lies. */
import { dataOf } from '../elf/fields.ts';

const SETUP_SECTS_AT = 0x1f1;
const MAGIC_AT = 0x202;
const MAGIC = [0x48, 0x64, 0x72, 0x53];
const VERSION_AT = 0x206;
const PAYLOAD_OFFSET_AT = 0x248;
const PAYLOAD_LENGTH_AT = 0x24c;
/** How many bytes at the start of a file show whether it is a bzImage, and where its payload lies. */
export const BZIMAGE_HEADER_BYTES = 0x250;
const SECTOR_BYTES = 512;
/** The first version of the boot protocol that says where the payload lies. */
export const MIN_PROTOCOL = 0x0208;

/** The fields of a setup header that locate the payload. */
export interface SetupHeader {
  /** The version of the boot protocol: 0x020f is 2.15. */
  readonly protocol: number;
  /** Where the payload begins in the file, and its bytes. */
  readonly payloadOffset: number;
  readonly payloadBytes: number;
}

/**
 * Reads the setup header of a file.
 *
 * @param start the first `BZIMAGE_HEADER_BYTES` of the file, or all of it
 * @returns null when the file is not a bzImage
 */
export function readSetupHeader(start: Uint8Array): SetupHeader | null {
  if (start.length < BZIMAGE_HEADER_BYTES || !MAGIC.every((byte, index) => start[MAGIC_AT + index] === byte))
    return null;
  const fields = dataOf(start);
  return {
    protocol: fields.getUint16(VERSION_AT, true),
    // Old boot loaders read 0 sectors as 4. Xen does not, and no kernel of these versions has 0.
    payloadOffset: (fields.getUint8(SETUP_SECTS_AT) + 1) * SECTOR_BYTES + fields.getUint32(PAYLOAD_OFFSET_AT, true),
    payloadBytes: fields.getUint32(PAYLOAD_LENGTH_AT, true),
  };
}
