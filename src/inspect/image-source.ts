/** Where the bytes of an image live. The loader does not know; it is given headers and yields a plan. */
import type { GzipFacts } from '../xen/gzip-container.ts';

export type { GzipFacts } from '../xen/gzip-container.ts';

/** An image that has arrived whole. */
export interface ImageSource {
  /** Bytes in the image. */
  readonly size: number;

  /** How the image was packed, when it came in a gzip file. */
  readonly gzip?: GzipFacts;

  /**
   * The bytes of a range that lies inside the image. They stay as they are when the image is closed; do not write to them.
   *
   * @throws RangeError when the range is not inside
   */
  read(offset: number, length: number): Promise<Uint8Array>;

  /** The same range piece by piece, without ever holding all of it. The pieces are good until the image is closed. */
  stream(offset: number, length: number): AsyncIterable<Uint8Array>;

  /**
   * The bytes of a range in pieces that stay at hand until the image is closed, for reads that jump about in it; null when
   * that takes more memory than there is. A source can do without it.
   */
  hold?(offset: number, length: number): Promise<readonly Uint8Array[] | null>;

  /** Says that all of a range will be read soon, in order. A source can do without it; one that is far away reads more at once. */
  expect?(offset: number, length: number): void;

  /** Gives back what the image occupies. Idempotent; reads after it fail. */
  close(): Promise<void>;
}

/** Throws unless the range is inside an image of `size` bytes. Sources call it before they touch a byte. */
export function assertInside(offset: number, length: number, size: number): void {
  // Turned around, as NaN compares with nothing.
  if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
    throw new RangeError(`range ${offset}+${length} is outside an image of ${size} bytes`);
  }
}
