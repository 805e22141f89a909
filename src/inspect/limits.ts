/** What is planned at most, unless another limit is given. In bytes. */

const MIB = 1024 * 1024;

export const DEFAULT_MAX_BLOB_BYTES = 256 * MIB;
export const DEFAULT_MAX_FLAT_BYTES = 4096 * MIB;
