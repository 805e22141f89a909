/** Finds the piece that holds a byte, among consecutive pieces. */
import { lowerBound } from '../elf/lower-bound.ts';

export class PieceStarts {
  /** Bytes in all pieces. */
  readonly size: number;
  readonly #starts: Float64Array;

  constructor(pieces: readonly { readonly length: number }[]) {
    this.#starts = new Float64Array(pieces.length);
    let size = 0;
    for (const [index, { length }] of pieces.entries()) {
      this.#starts[index] = size;
      size += length;
    }
    this.size = size;
  }

  /** Where the piece begins, in bytes. */
  at(index: number): number {
    return this.#starts[index] ?? this.size;
  }

  /** The last piece that begins at or before a byte. */
  find(offset: number): number {
    return Math.max(0, lowerBound(this.#starts.length, (index) => (this.#starts[index] ?? 0) <= offset) - 1);
  }
}
