/** Passes over tables of an image: tables may be of any size, and others have their turns meanwhile. */
import type { ElfFormat } from '../elf/format.ts';
import { SymbolBlock } from '../elf/symbols.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Tables are looked at in pieces of about this size, so that none of them holds up other requests. */
const PIECE_BYTES = 256 * 1024;

/** The bytes of a range in pieces of at most 256 KiB. After every piece or so others have their turn. */
export async function* readPieces(
  source: Pick<ImageSource, 'stream'>,
  offset: number,
  length: number,
): AsyncGenerator<Uint8Array, void> {
  if (length <= 0) return;
  let sinceTurn = 0;
  for await (const chunk of source.stream(offset, length)) {
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      if (sinceTurn >= PIECE_BYTES) {
        await nextTurn();
        sinceTurn = 0;
      }
      const piece = chunk.subarray(at, at + PIECE_BYTES);
      sinceTurn += piece.length;
      yield piece;
    }
  }
}

/** Where symbols lie: `count` of them from image offset `offset` on, the first of which has the index `first`. */
export interface SymbolRange {
  readonly offset: number;
  readonly first: number;
  readonly count: number;
}

/** Symbols in table order, uncopied as far as the image is in whole pieces. */
export async function* readSymbols(
  source: Pick<ImageSource, 'stream'>,
  { format, littleEndian }: { readonly format: ElfFormat; readonly littleEndian: boolean },
  range: SymbolRange,
): AsyncGenerator<SymbolBlock, void> {
  const { size } = format.symbol;
  let { first } = range;
  // A symbol that two pieces share, as far as it has come.
  const shared = new Uint8Array(size);
  let sharedBytes = 0;
  for await (const piece of readPieces(source, range.offset, range.count * size)) {
    let rest = piece;
    if (sharedBytes > 0) {
      const missing = rest.subarray(0, size - sharedBytes);
      shared.set(missing, sharedBytes);
      sharedBytes += missing.length;
      rest = rest.subarray(missing.length);
      if (sharedBytes < size) continue;
      // A copy, as blocks may be kept until others have come.
      yield new SymbolBlock(shared.slice(), first, format, littleEndian);
      first += 1;
    }
    const block = new SymbolBlock(rest, first, format, littleEndian);
    yield block;
    first += block.count;
    const left = rest.subarray(block.count * size);
    shared.set(left);
    sharedBytes = left.length;
  }
}
