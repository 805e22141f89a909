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
      case 'fill': {
        const piece =
          extent.byte === 0 ? ZEROS : new Uint8Array(Math.min(extent.length, FILL_PIECE_BYTES)).fill(extent.byte);
        for (let rest = extent.length; rest > 0; rest -= piece.length) {
          yield rest < piece.length ? piece.subarray(0, rest) : piece;
        }
        break;
      }
    }
  }
}
