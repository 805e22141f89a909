/** Verifies a blob, or a memory dump that begins with one, as guests read it. */

import type { ByteWalk } from '../elf/byte-walk.ts';
import { ELF64 } from '../elf/format.ts';
import { type BlobHeader, describeHeader, ElfHeader, type GuestTables, readBlob } from '../xen/guests/blob.ts';
import { judgeBlob } from '../xen/guests/judge.ts';
import { GuestMemory } from '../xen/guests/memory.ts';
import type { Placement } from '../xen/guests/misreadings.ts';
import type { GuestVerdicts } from '../xen/guests/verdict.ts';
import type { SymbolPlan } from '../xen/loaders/bsdsyms.ts';
import { driveWalk } from './drive-walk.ts';
import type { ImageSource } from './image-source.ts';
import { PlannedBytes } from './planned-bytes.ts';

/** What was read of a blob, and what each guest makes of it. */
export interface VerifiedBlob {
  /** Bytes in the blob or dump. */
  readonly size: number;
  /** The guest-physical address that it was taken from; null when unknown. */
  readonly address: bigint | null;
  /** Null when the dump is too short for one, or begins with the ELF header. */
  readonly sizeWord: number | null;
  /** Null when there is none, or it is cut. */
  readonly header: BlobHeader | null;
  /** Where a guest of its class finds the tables; null when it finds none. */
  readonly tables: GuestTables | null;
  readonly guests: GuestVerdicts;
}

/**
 * What guests would make of the bytes. A guest that reads beyond them has the outcome `undefined`: what follows a dump
 * is unknown.
 *
 * @param address guest-physical, where the first byte was taken from; null when unknown
 * @throws only what the source throws when it cannot be read
 */
export const verifyBlob = (source: Pick<ImageSource, 'size' | 'read'>, address: bigint | null): Promise<VerifiedBlob> =>
  driveWalk(source, verify(source.size, { address, elsewhere: new Set() }));

/**
 * What guests would make of a planned blob, which is read without being built.
 *
 * @param source of the image that the plan is for
 * @param elsewhere the end symbols of the kernel that are not where the blob begins
 * @throws only what the source throws when it cannot be read
 */
export async function verifyPlan(
  source: Pick<ImageSource, 'read'>,
  plan: SymbolPlan,
  elsewhere: Placement['elsewhere'],
): Promise<GuestVerdicts> {
  const planned = new PlannedBytes(source, plan);
  return (await driveWalk(planned, verify(planned.size, { address: plan.pstart, elsewhere }))).guests;
}

function* verify(size: number, placement: Placement): ByteWalk<VerifiedBlob> {
  const memory = new GuestMemory(size);
  const blob = yield* readBlob(memory);
  const { lacksSizeWord, sizeWord, search } = blob;
  const header = lacksSizeWord
    ? new ElfHeader(yield* memory.block(0, Math.min(size, ELF64.elfHeader.size)))
    : blob.header;
  return {
    size,
    address: placement.address,
    sizeWord: lacksSizeWord ? null : sizeWord,
    header: describeHeader(header),
    tables: search?.found === true ? search.tables : null,
    guests: yield* judgeBlob(blob, placement),
  };
}
