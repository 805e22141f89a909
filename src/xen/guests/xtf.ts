/** The Xen Test Framework (`tests/xsa-194`), built for pv32pae: it checks that the bytes between the headers are zero. */

import type { ByteWalk } from '../../elf/byte-walk.ts';
import { ELF32 } from '../../elf/format.ts';
import { SIZE_WORD_BYTES } from '../loaders/bsdsyms.ts';
import { type Blob, checkHeader, throughSectionCount } from './blob.ts';
import { findMisplacement, type Placement } from './misreadings.ts';
import { found, type GuestVerdict, none, unknown } from './verdict.ts';

const HEADER = { format: ELF32, checksVersion: false, length: throughSectionCount(ELF32) } as const;
const SECTION_COUNT = 3;

/** What the Xen Test Framework makes of a blob. */
export function* judgeXtf(blob: Blob, placement: Placement): ByteWalk<GuestVerdict> {
  const { memory, header } = blob;
  const refusal = checkHeader(blob, HEADER);
  if (refusal !== null) return refusal;
  if (header.number(ELF32, 'e_shnum') !== SECTION_COUNT) return none('section-count');
  const from = SIZE_WORD_BYTES + header.number(ELF32, 'e_ehsize');
  const to = SIZE_WORD_BYTES + header.number(ELF32, 'e_shoff');
  if (from < to) {
    if (!(yield* memory.isZero(from, to))) return none('header-leak');
    if (to > memory.size) return unknown('header-gap-outside');
  }
  return found(0n, findMisplacement(blob, ELF32, placement, '_end'));
}
