/** Judges a blob as each guest reads it. Guests check next to nothing, so most faults show only here. */
import type { ByteWalk } from '../../elf/byte-walk.ts';
import type { Blob } from './blob.ts';
import { judgeFreebsd } from './freebsd.ts';
import type { Placement } from './misreadings.ts';
import { judgeNetbsd } from './netbsd.ts';
import type { GuestVerdicts } from './verdict.ts';
import { judgeXtf } from './xtf.ts';

/** What each guest makes of a blob. Never throws; takes about as long as reading the blob a few times. */
export function* judgeBlob(blob: Blob, placement: Placement): ByteWalk<GuestVerdicts> {
  return {
    freebsd: yield* judgeFreebsd(blob, placement),
    netbsd: yield* judgeNetbsd(blob, placement, { kdtrace: false }),
    netbsdKdtrace: yield* judgeNetbsd(blob, placement, { kdtrace: true }),
    xtf: yield* judgeXtf(blob, placement),
  };
}
