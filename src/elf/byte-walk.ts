/**
 * Work whose reads depend on earlier reads.
 *
 * The core does no I/O, so such work is a generator: it yields the range that it needs and receives those bytes. It
 * yields null to let other work run; what it receives then does not matter. `inspect/drive-walk.ts` drives it.
 */

/** A range of bytes, wholly inside the input. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** A piece of such work. */
export type ByteWalk<Result> = Generator<ByteRange | null, Result, Uint8Array>;
