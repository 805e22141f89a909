/** Stores arriving images: in memory as long as the budget that all requests share has room, then in a spool file. */

import { ImageError } from '../inspect/image-error.ts';
import type { ImageSource } from '../inspect/image-source.ts';
import type { Budget } from './budget.ts';
import { MemorySource } from './memory.ts';
import type { ImageSink } from './sink.ts';
import { SlabList } from './slab-list.ts';
import type { Spool, SpoolWriter } from './spool.ts';

/** What all uploads share to store their images. */
export interface ImageStore {
  readonly memory: Budget;
  readonly spool: Spool;
  readonly maxImageBytes: number;
}

/**
 * Stores an image of at most `maxImageBytes`. When the memory budget is used up, all of the image moves to a spool file, so
 * that other images can use the memory.
 */
export class StoredSink implements ImageSink {
  readonly #store: ImageStore;
  readonly #expectedBytes: number;
  readonly #held = new SlabList();
  #writer: SpoolWriter | null = null;
  #size = 0;
  #ended = false;
  /** An append under way, so that discarding waits for it. */
  #moving: Promise<void> | null = null;

  /** @param expectedBytes the announced size, so that an image that will not fit into memory is spooled from the start */
  constructor(store: ImageStore, expectedBytes = 0) {
    this.#store = store;
    this.#expectedBytes = expectedBytes;
  }

  append(chunk: Uint8Array): void | Promise<void> {
    if (this.#ended) return;
    const { memory, maxImageBytes } = this.#store;
    if (this.#size + chunk.length > maxImageBytes) throw imageTooLarge(maxImageBytes, 'The image is larger');
    const fits = this.#expectedBytes - this.#size <= memory.free;
    this.#size += chunk.length;
    if (this.#writer !== null) return this.#writer.append(chunk);
    if (fits && memory.take(chunk.length)) {
      this.#held.push(chunk);
      return;
    }
    this.#moving = this.#moveToSpool(chunk);
    return this.#moving;
  }

  async finish(): Promise<ImageSource> {
    if (this.#ended) throw new Error('the image was discarded');
    if (this.#writer !== null) {
      const source = await this.#writer.finish(this.#store.memory);
      this.#ended = true;
      return source;
    }
    this.#ended = true;
    const size = this.#size;
    const { pieces, release } = this.#held.take();
    return new MemorySource(pieces, () => {
      release();
      this.#store.memory.give(size);
    });
  }

  async discard(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#moving?.catch(() => {});
    this.#store.memory.give(this.#held.bytes);
    this.#held.take().release();
    await this.#writer?.discard();
  }

  async #moveToSpool(chunk: Uint8Array): Promise<void> {
    const writer = await this.#store.spool.createWriter();
    this.#writer = writer;
    const { bytes } = this.#held;
    const { pieces, release } = this.#held.take();
    try {
      for (const part of [...pieces, chunk]) await writer.append(part);
    } finally {
      release();
      this.#store.memory.give(bytes);
    }
  }
}

/** @param what the start of the message: what is too large */
export function imageTooLarge(maxImageBytes: number, what: string): ImageError {
  return new ImageError(
    'image-too-large',
    `${what}; this service takes images of at most ${maxImageBytes} bytes (BSDSYMS_MAX_IMAGE_BYTES). ` +
      'Debug information is not needed here: objcopy --strip-debug keeps the symbol table.',
  );
}
