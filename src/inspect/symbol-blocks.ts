/** Reads tables of an image in pieces: tables may be of any size, and other work gets its turns. */
import type { ElfFormat } from '../elf/format.ts';
import { SymbolBlock } from '../elf/symbols.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Tables are read in pieces of about this size, so that none of them holds up other requests. */
const PIECE_BYTES = 256 * 1024;

/** The bytes of a range in pieces of at most 256 KiB. Other work gets its turn about once a piece. */
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
interface SymbolRange {
  readonly offset: number;
  readonly first: number;
  readonly count: number;
}

/** Symbols in table order. Only those that two pieces share are copied. */
export async function* readSymbols(
  source: Pick<ImageSource, 'stream'>,
  { format, littleEndian }: { readonly format: ElfFormat; readonly littleEndian: boolean },
  range: SymbolRange,
): AsyncGenerator<SymbolBlock, void> {
  const { size } = format.symbol;
  let { first } = range;
  // The first part of a symbol that two pieces share.
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
      // A copy, as blocks may be kept.
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
