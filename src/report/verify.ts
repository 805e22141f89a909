/** What guests make of a blob, as JSON. */
import { machineName } from '../elf/format.ts';
import type { VerifiedBlob } from '../verify.ts';
import type { GuestTable } from '../xen/guest.ts';
import { count, hex } from './hex.ts';
import type { VerifyReport } from './schemas.ts';

/** The JSON of `POST /verify`. */
export function toVerifyReport({ size, address, sizeWord, header, walk, guests }: VerifiedBlob): VerifyReport {
  const tables = walk?.found === true ? walk.tables : null;
  const describeTable = (table: GuestTable | undefined): VerifyReport['blob']['symtab'] =>
    table === undefined
      ? null
      : {
          offset: count(table.offset),
          size: count(table.size),
          address: address === null ? null : hex(BigInt.asUintN(64, address + table.offset)),
        };
  return {
    blob: {
      size,
      address: address === null ? null : hex(address),
      sizeWord,
      class: header?.format.class ?? null,
      byteOrder: header === null ? null : header.littleEndian ? 'little-endian' : 'big-endian',
      machine: header === null ? null : machineName(header.machine),
      loader: header?.loader ?? null,
      sections: header?.shnum ?? null,
      symtab: describeTable(tables?.symtab),
      strtab: describeTable(tables?.strtab),
    },
    guests,
  };
}
