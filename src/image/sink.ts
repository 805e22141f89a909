import type { ImageSource } from '../inspect/image-source.ts';

/** An image that is arriving. Exactly one of `finish` and `discard` ends it. */
export interface ImageSink {
  /** Takes the next bytes. The caller may reuse the chunk once the result, if it is a promise, has settled. */
  append(chunk: Uint8Array): void | Promise<void>;

  /** Ends the image. The source then owns what the sink occupied. */
  finish(): Promise<ImageSource>;

  /** Gives everything back. Idempotent. */
  discard(): Promise<void>;
}
