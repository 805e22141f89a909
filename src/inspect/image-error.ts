import type { BuilderVerdict } from '../xen/builder.ts';

/** What can go wrong with an image before the loader sees it. `report/problem.ts` explains each code. */
export type ImageErrorCode =
  | 'image-too-large'
  | 'compression-unsupported'
  | 'compressed-data-corrupt'
  | 'memory-full'
  | 'not-a-blob'
  | 'spool-full'
  | 'spool-unavailable'
  | SourceErrorCode;

/** What can go wrong with an image that is named by a URL. */
export type SourceErrorCode =
  | 'source-changed'
  | 'source-invalid'
  | 'source-not-allowed'
  | 'source-refused'
  | 'source-scattered'
  | 'source-timeout'
  | 'source-unavailable'
  | 'source-unusable';

/** An image that cannot be read. `message` is written for the sender of the image; `cause` is for the log. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly code: ImageErrorCode;
  /** What Xen's domain builder does with the file; null where that is not known, or no question. */
  readonly builder: BuilderVerdict | null;

  constructor(code: ImageErrorCode, message: string, cause?: unknown, builder: BuilderVerdict | null = null) {
    super(message, { cause });
    this.code = code;
    this.builder = builder;
  }
}
