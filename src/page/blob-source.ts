/** A file of the browser as an image: what is asked for is read where it lies. */
import { assertInside, type ImageSource } from '../inspect/image-source.ts';

const STREAM_PIECE_BYTES = 1024 * 1024;

export class BlobSource implements ImageSource {
  readonly size: number;
  readonly #blob: Blob;

  constructor(blob: Blob) {
    this.#blob = blob;
    this.size = blob.size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    return new Uint8Array(await this.#blob.slice(offset, offset + length).arrayBuffer());
  }

  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    assertInside(offset, length, this.size);
    const end = offset + length;
    for (let at = offset; at < end; at += STREAM_PIECE_BYTES) {
      yield await this.read(at, Math.min(STREAM_PIECE_BYTES, end - at));
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * The same image for one piece of work, which ends at its next read once it is to end.
 *
 * @param interrupt called before every read; it throws when the work is to end
 */
export function interruptible(source: ImageSource, interrupt: () => void): ImageSource {
  const { gzip, fileCompression, bzImage } = source;
  return {
    size: source.size,
    ...(gzip === undefined ? {} : { gzip }),
    ...(fileCompression === undefined ? {} : { fileCompression }),
    ...(bzImage === undefined ? {} : { bzImage }),
    read(offset, length) {
      interrupt();
      return source.read(offset, length);
    },
    async *stream(offset, length) {
      for await (const piece of source.stream(offset, length)) {
        interrupt();
        yield piece;
      }
    },
    close: () => source.close(),
  };
}
