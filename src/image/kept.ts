/** Keeps what was read, as the checks of a blob read the symbol table that the blob then consists of. */
import { lowerBound } from '../elf/lower-bound.ts';
import { assertInside, type ImageSource } from '../inspect/image-source.ts';

/** Shorter reads are of headers and notes, which are not read again. */
const MIN_KEPT_BYTES = 4 * 1024;
/** Enough for the symbol table of nearly every kernel. What exceeds it is read again. */
const MAX_KEPT_BYTES = 16 * 1024 * 1024;

interface Block {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Keeps what was read or streamed of an image, up to a limit. */
export class KeptSource implements ImageSource {
  readonly size: number;
  readonly #source: ImageSource;
  /** In ascending order. */
  #blocks: Block[] = [];
  #keptBytes = 0;

  /** @param source is closed with this one */
  constructor(source: ImageSource) {
    this.#source = source;
    this.size = source.size;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    const kept = this.#keptAt(offset);
    if (kept !== null && kept.length >= length) return kept.subarray(0, length);
    const bytes = await this.#source.read(offset, length);
    this.#keep({ offset, bytes });
    return bytes;
  }

  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    assertInside(offset, length, this.size);
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const kept = this.#keptAt(at)?.subarray(0, end - at);
      if (kept !== undefined) {
        yield kept;
        at += kept.length;
        continue;
      }
      const next = this.#blocks[this.#countTo(at)]?.offset ?? end;
      const gapEnd = Math.min(next, end);
      for await (const bytes of this.#source.stream(at, gapEnd - at)) {
        this.#keep({ offset: at, bytes });
        yield bytes;
        at += bytes.length;
      }
    }
  }

  async hold(offset: number, length: number): Promise<readonly Uint8Array[] | null> {
    return (await this.#source.hold?.(offset, length)) ?? null;
  }

  close(): Promise<void> {
    this.#blocks = [];
    return this.#source.close();
  }

  #keep(block: Block): void {
    const { length } = block.bytes;
    if (length < MIN_KEPT_BYTES || this.#keptBytes + length > MAX_KEPT_BYTES) return;
    this.#keptBytes += length;
    this.#blocks.splice(this.#countTo(block.offset), 0, block);
  }

  /** The kept bytes from this offset on; null when there are none. */
  #keptAt(offset: number): Uint8Array | null {
    const block = this.#blocks[this.#countTo(offset) - 1];
    if (block === undefined || offset >= block.offset + block.bytes.length) return null;
    return block.bytes.subarray(offset - block.offset);
  }

  /** How many blocks begin at or before this offset. */
  #countTo(offset: number): number {
    return lowerBound(this.#blocks.length, (index) => (this.#blocks[index]?.offset ?? 0) <= offset);
  }
}
