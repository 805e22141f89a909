/** Turns the extents of a plan into bytes. */
import type { Extent } from '../xen/plan.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Bytes after which other work gets its turn: the consumer may be as fast as memory. */
const BYTES_PER_TURN = 1024 * 1024;
const FILL_PIECE_BYTES = 64 * 1024;
const ZEROS = new Uint8Array(FILL_PIECE_BYTES);

/**
 * Extents up to this size are gathered when there are several in a row: a plan can have a hundred thousand of them, and all of
 * a small image is one piece.
 */
const MAX_SHORT_BYTES = 32 * 1024;
/** The most that is gathered at once, in bytes and in extents. */
const MAX_GATHERED_BYTES = 64 * 1024;
export const MAX_GATHERED_EXTENTS = 1024;
/** Copies are read together while the gaps between them, and the whole read, are no longer than this. */
const MAX_READ_GAP_BYTES = 4 * 1024;
const MAX_READ_BYTES = 256 * 1024;

/**
 * The bytes of the extents in order, in pieces. Copied ranges are gathered only where many short ones follow each other.
 * Other work gets its turns, however fast the pieces are taken.
 */
export async function* streamExtents(source: ImageSource, extents: readonly Extent[]): AsyncGenerator<Uint8Array> {
  let sinceTurn = 0;
  for await (const piece of streamPieces(source, extents)) {
    if (sinceTurn >= BYTES_PER_TURN) {
      await nextTurn();
      sinceTurn = 0;
    }
    sinceTurn += piece.length;
    yield piece;
  }
}

async function* streamPieces(source: ImageSource, extents: readonly Extent[]): AsyncGenerator<Uint8Array> {
  for (let first = 0; first < extents.length; ) {
    const run = findShortRun(extents, first);
    if (run.length > 1) {
      yield await gatherExtents(source, run);
      if (run.length === MAX_GATHERED_EXTENTS) await nextTurn();
      first += run.length;
      continue;
    }
    const extent = extents[first];
    if (extent !== undefined) yield* streamExtent(source, extent);
    first += 1;
  }
}

async function* streamExtent(source: ImageSource, extent: Extent): AsyncGenerator<Uint8Array> {
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

/** The short extents that follow each other from `first` on, as many as are gathered at once. */
function findShortRun(extents: readonly Extent[], first: number): readonly Extent[] {
  let end = first;
  for (let bytes = 0; end < extents.length && end - first < MAX_GATHERED_EXTENTS; end++) {
    const length = extents[end]?.length ?? 0;
    bytes += length;
    if (length > MAX_SHORT_BYTES || bytes > MAX_GATHERED_BYTES) break;
  }
  return extents.slice(first, end);
}

/** A range of the image, and where it goes in what is gathered. */
interface Copy {
  readonly offset: number;
  readonly length: number;
  readonly to: number;
}

/** The bytes of the extents in one piece. For short plans: `MAX_GATHERED_EXTENTS` at most. */
export async function gatherExtents(source: ImageSource, extents: readonly Extent[]): Promise<Uint8Array> {
  const bytes = new Uint8Array(extents.reduce((sum, { length }) => sum + length, 0));
  const copies: Copy[] = [];
  let to = 0;
  for (const extent of extents) {
    if (extent.kind === 'bytes') bytes.set(extent.bytes, to);
    else if (extent.kind === 'copy') copies.push({ offset: extent.offset, length: extent.length, to });
    to += extent.length;
  }
  copies.sort((a, b) => a.offset - b.offset);
  for (let first = 0; first < copies.length; ) first += await readTogether(source, copies, first, bytes);
  return bytes;
}

/**
 * Reads the copy at `first`, and those after it that lie close to it, with one read.
 *
 * @param copies sorted by their offset
 * @returns how many were read
 */
async function readTogether(
  source: ImageSource,
  copies: readonly Copy[],
  first: number,
  bytes: Uint8Array,
): Promise<number> {
  const start = copies[first]?.offset ?? 0;
  let end = start;
  let last = first;
  for (; last < copies.length; last++) {
    const { offset, length } = copies[last] ?? { offset: 0, length: 0 };
    const grown = Math.max(end, offset + length);
    if (last > first && (offset > end + MAX_READ_GAP_BYTES || grown > start + MAX_READ_BYTES)) break;
    end = grown;
  }
  const read = await source.read(start, end - start);
  for (const { offset, length, to } of copies.slice(first, last)) {
    bytes.set(read.subarray(offset - start, offset - start + length), to);
  }
  return last - first;
}
