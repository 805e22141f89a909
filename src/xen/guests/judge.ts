/** Asks each guest what it makes of a blob. They check next to nothing, so most of what is wrong shows only here. */
import type { ByteWalk } from '../../elf/byte-walk.ts';
import type { Blob } from './blob.ts';
import { judgeFreebsd } from './freebsd.ts';
import type { Placement } from './misreadings.ts';
import { judgeNetbsd } from './netbsd.ts';
import type { GuestVerdicts } from './verdict.ts';
import { judgeXtf } from './xtf.ts';

/** What each of the guests makes of a blob. Never throws; takes about as long as it takes to read the blob a few times. */
export function* judge(blob: Blob, placement: Placement): ByteWalk<GuestVerdicts> {
  return {
    freebsd: yield* judgeFreebsd(blob, placement),
    netbsd: yield* judgeNetbsd(blob, placement, { kdtrace: false }),
    netbsdKdtrace: yield* judgeNetbsd(blob, placement, { kdtrace: true }),
    xtf: yield* judgeXtf(blob, placement),
  };
}
