/** Reads the bytes of a plan anywhere, without building them. */
import type { Extent } from '../xen/plan.ts';
import { assertInside, type ImageSource } from './image-source.ts';
import { PieceStarts } from './piece-starts.ts';
import { nextTurn } from './turn.ts';

/** Extents of one read after which other work gets its turn: a plan may have 131,070 of a byte each. */
const EXTENTS_PER_TURN = 128;

export class PlannedBytes implements Pick<ImageSource, 'size' | 'read'> {
  readonly size: number;
  readonly #source: Pick<ImageSource, 'read'>;
  readonly #extents: readonly Extent[];
  readonly #starts: PieceStarts;

  /** @param source of the image that the plan is for */
  constructor(source: Pick<ImageSource, 'read'>, { extents }: { readonly extents: readonly Extent[] }) {
    this.#source = source;
    this.#extents = extents;
    this.#starts = new PieceStarts(extents);
    this.size = this.#starts.size;
  }

  /** The bytes of a range; do not write to them. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    const first = this.#starts.find(offset);
    const only = this.#extents[first];
    const start = offset - this.#starts.at(first);
    if (only?.kind === 'copy' && start + length <= only.length) {
      return this.#source.read(only.offset + start, length);
    }
    const bytes = new Uint8Array(length);
    for (let at = offset, index = first; at < offset + length; index++) {
      const extent = this.#extents[index];
      if (extent === undefined) break;
      const from = at - this.#starts.at(index);
      const to = Math.min(extent.length, from + offset + length - at);
      bytes.set(await this.#part(extent, from, to), at - offset);
      at += to - from;
      if ((index - first) % EXTENTS_PER_TURN === EXTENTS_PER_TURN - 1) await nextTurn();
    }
    return bytes;
  }

  async #part(extent: Extent, from: number, to: number): Promise<Uint8Array> {
    switch (extent.kind) {
      case 'bytes':
        return extent.bytes.subarray(from, to);
      case 'copy':
        return this.#source.read(extent.offset + from, to - from);
      case 'fill':
        return new Uint8Array(to - from);
    }
  }
}
