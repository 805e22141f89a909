/** Carries out a plan: turns extents into the bytes they stand for. */
import type { Extent } from '../xen/plan.ts';
import type { ImageSource } from './image-source.ts';

const FILL_PIECE_BYTES = 64 * 1024;
const ZEROS = new Uint8Array(FILL_PIECE_BYTES);

/** The bytes of the extents in order, in pieces. Copied ranges are never gathered. */
export async function* streamExtents(source: ImageSource, extents: readonly Extent[]): AsyncGenerator<Uint8Array> {
  for (const extent of extents) {
    switch (extent.kind) {
      case 'bytes':
        yield extent.bytes;
        break;
      case 'copy':
        yield* source.stream(extent.offset, extent.length);
        break;
      case 'fill':
        for (let rest = extent.length; rest > 0; rest -= ZEROS.length) {
          yield rest < ZEROS.length ? ZEROS.subarray(0, rest) : ZEROS;
        }
        break;
    }
  }
}
