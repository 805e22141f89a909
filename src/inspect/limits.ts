/** Default limits of what is planned, in bytes. */

const MIB = 1024 * 1024;

export const DEFAULT_MAX_BLOB_BYTES = 256 * MIB;
export const DEFAULT_MAX_FLAT_BYTES = 4096 * MIB;
