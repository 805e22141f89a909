/** A blob and what guests make of it, as JSON. */
import { machineName } from '../elf/format.ts';
import { hex } from '../elf/hex.ts';
import type { VerifiedBlob } from '../inspect/verify.ts';
import { findBlobEnd, type GuestTables } from '../xen/guests/blob.ts';
import { describeGuests } from './guests.ts';
import { toJsonNumber } from './numbers.ts';
import type { VerifyReport } from './schemas.ts';

/** The JSON of `POST /verify`. */
export function toVerifyReport({ size, address, sizeWord, header, tables, guests }: VerifiedBlob): VerifyReport {
  const describeTable = (table: GuestTables['symtab' | 'strtab'] | undefined): VerifyReport['blob']['symtab'] =>
    table === undefined
      ? null
      : {
          offset: toJsonNumber(table.offset),
          size: table.size === null ? null : toJsonNumber(table.size),
          address: address === null ? null : hex(BigInt.asUintN(64, address + table.offset)),
        };
  return {
    blob: {
      size,
      address: address === null ? null : hex(address),
      sizeWord,
      end: header === null || sizeWord === null ? null : findBlobEnd(header, sizeWord),
      class: header?.format.class ?? null,
      byteOrder: header === null ? null : header.littleEndian ? 'little-endian' : 'big-endian',
      machine: header === null ? null : machineName(header.machine),
      loader: header?.loader ?? null,
      sections: header?.sections ?? null,
      symtab: describeTable(tables?.symtab),
      strtab: describeTable(tables?.strtab),
    },
    guests: describeGuests(guests),
  };
}
