/**
 * Integers of the widths that ELF has. Bytes of an image become numbers here, and in `SymbolBlock` (symbols.ts), which
 * reads millions of symbols and fixes the widths beforehand.
 */

/** An unsigned integer of 1, 2 or 4 bytes. */
export function readNumber(data: DataView, at: number, width: number, littleEndian: boolean): number {
  if (width === 4) return data.getUint32(at, littleEndian);
  return width === 2 ? data.getUint16(at, littleEndian) : data.getUint8(at);
}

/** An unsigned integer of 1, 2, 4 or 8 bytes. */
export function readBigint(data: DataView, at: number, width: number, littleEndian: boolean): bigint {
  return width === 8 ? data.getBigUint64(at, littleEndian) : BigInt(readNumber(data, at, width, littleEndian));
}

/** Writes the low bytes of `value`, as many as the field is wide: 1, 2, 4 or 8. */
export function writeBigint(data: DataView, at: number, width: number, littleEndian: boolean, value: bigint): void {
  if (width === 8) data.setBigUint64(at, value, littleEndian);
  else if (width === 4) data.setUint32(at, Number(BigInt.asUintN(32, value)), littleEndian);
  else if (width === 2) data.setUint16(at, Number(BigInt.asUintN(16, value)), littleEndian);
  else data.setUint8(at, Number(BigInt.asUintN(8, value)));
}

/** The bytes as a `DataView`, whatever buffer they are in. */
export const dataOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
