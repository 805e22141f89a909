/** Carries out work that asks for bytes, and keeps account of what it asks for. */
import type { ByteRange, ByteWalk } from '../../src/elf/byte-walk.ts';

export interface Walked<Result> {
  readonly result: Result;
  readonly reads: readonly ByteRange[];
  /** How often it let others have their turn. */
  readonly turns: number;
}

/** Throws when a walk asks for what is not there. */
export function runWalk<Result>(walk: ByteWalk<Result>, bytes: Uint8Array): Walked<Result> {
  const reads: ByteRange[] = [];
  let turns = 0;
  let step = walk.next();
  while (step.done !== true) {
    const range = step.value;
    if (range === null) {
      turns += 1;
      step = walk.next(new Uint8Array());
      continue;
    }
    const { offset, length } = range;
    if (!(offset >= 0 && length > 0 && offset + length <= bytes.length)) {
      throw new Error(`the walk asks for ${length} bytes at ${offset} of ${bytes.length}`);
    }
    reads.push(range);
    step = walk.next(bytes.slice(offset, offset + length));
  }
  return { result: step.value, reads, turns };
}

export const bytesRead = (reads: readonly { readonly length: number }[]): number =>
  reads.reduce((sum, { length }) => sum + length, 0);
