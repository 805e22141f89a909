/**
 * Work that learns what to read next from what it has read.
 *
 * The core does no I/O, so such work is a generator: it yields the range that it wants to see and goes on with those
 * bytes. It yields null where it has worked for a while and others may have their turn, whatever it then goes on with.
 * `inspect/drive-walk.ts` drives it.
 */

/** A range of bytes, wholly inside of what is read. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** A piece of such work. */
export type ByteWalk<Result> = Generator<ByteRange | null, Result, Uint8Array>;
