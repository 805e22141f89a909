/** Image sources for tests. */
import { assertInside, type ImageSource } from '../../src/inspect/image-source.ts';

/** As the spool. */
const PIECE_BYTES = 256 * 1024;

export interface Read {
  readonly offset: number;
  readonly length: number;
}

/**
 * An image that begins with `start` and is zeros from there on, of any size, and keeps account of what is read.
 * As every source, it throws when a read is not inside.
 */
export class CountingSource implements ImageSource {
  readonly size: number;
  readonly reads: Read[] = [];
  readonly #start: Uint8Array;

  constructor(start: Uint8Array, size = start.length) {
    this.#start = start;
    this.size = size;
  }

  get bytesRead(): number {
    return this.reads.reduce((sum, { length }) => sum + length, 0);
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    this.reads.push({ offset, length });
    const bytes = new Uint8Array(length);
    bytes.set(this.#start.subarray(offset, offset + length));
    return Promise.resolve(bytes);
  }

  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    for (let done = 0; done < length; done += PIECE_BYTES) {
      yield await this.read(offset + done, Math.min(PIECE_BYTES, length - done));
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
