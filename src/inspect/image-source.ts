/** Where the bytes of an image live. The loader does not know: it takes headers and returns a plan. */
import type { BzImageFacts } from '../xen/bzimage-container.ts';
import type { GzipFacts } from '../xen/gzip-container.ts';

export type { BzImageFacts } from '../xen/bzimage-container.ts';
export type { GzipFacts } from '../xen/gzip-container.ts';

export const COMPRESSIONS = ['gzip', 'zstd', 'xz', 'lzma', 'bzip2', 'lz4', 'lzo'] as const;
/** The compressions that are undone before an image is read. */
export type Compression = (typeof COMPRESSIONS)[number];

/** An image of known size whose bytes can be read at any offset: it has arrived whole, or stays where it is. */
export interface ImageSource {
  /** Bytes in the image. */
  readonly size: number;

  /** How the image was packed, when it came in a gzip file. */
  readonly gzip?: GzipFacts;

  /** The compression of the file that the image came in, unless that is gzip. */
  readonly fileCompression?: Exclude<Compression, 'gzip'>;

  /** How the image was packed, when it came in a Linux bzImage. */
  readonly bzImage?: BzImageFacts;

  /**
   * The bytes of a range that lies inside the image. They stay valid after the image is closed; do not write to them.
   *
   * @throws RangeError when the range is not inside
   */
  read(offset: number, length: number): Promise<Uint8Array>;

  /** The same range piece by piece, without ever holding all of it. The pieces are valid until the image is closed. */
  stream(offset: number, length: number): AsyncIterable<Uint8Array>;

  /**
   * The bytes of a range in pieces that stay in memory until the image is closed, for scattered reads; null when that
   * takes more memory than there is. A source may lack it.
   */
  hold?(offset: number, length: number): Promise<readonly Uint8Array[] | null>;

  /** Says that all of a range will be read soon, in order. A source can do without it; one that is far away reads more at once. */
  expect?(offset: number, length: number): void;

  /** Gives back what the image occupies. Idempotent; reads after it fail. */
  close(): Promise<void>;
}

/** Throws unless the range is inside an image of `size` bytes. Sources call it before they touch a byte. */
export function assertInside(offset: number, length: number, size: number): void {
  // Negated, as all comparisons with NaN are false.
  if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
    throw new RangeError(`range ${offset}+${length} is outside an image of ${size} bytes`);
  }
}
