/** Runs work that asks for bytes. */
import type { ByteWalk } from '../elf/byte-walk.ts';
import type { ImageSource } from './image-source.ts';
import { isTurnOver, nextTurn } from './turn.ts';

/** Reads, and bytes, after which other work gets its turn. */
const READS_PER_TURN = 16;
const BYTES_PER_TURN = 1024 * 1024;
const NOTHING = new Uint8Array();

/**
 * Gives a walk the bytes that it asks for, and other work its turns.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function driveWalk<Result>(source: Pick<ImageSource, 'read'>, walk: ByteWalk<Result>): Promise<Result> {
  let step = walk.next();
  let reads = 0;
  let bytes = 0;
  while (step.done !== true) {
    const range = step.value;
    if (range !== null) {
      reads += 1;
      bytes += range.length;
    }
    if (range === null ? isTurnOver() : reads >= READS_PER_TURN || bytes >= BYTES_PER_TURN) {
      await nextTurn();
      reads = 0;
      bytes = 0;
    }
    step = walk.next(range === null ? NOTHING : await source.read(range.offset, range.length));
  }
  return step.value;
}
