/**
 * Judges the names of symbols in the order of the string table, not of the symbols: however the names are spread, each
 * part of the string table is read once for a great many symbols.
 */
import { isStepEnd, type Steps } from '../elf/steps.ts';
import type { SymbolBlock } from '../elf/symbols.ts';
import type { ImageSource } from './image-source.ts';
import { MAX_NAME_BYTES } from './string-table.ts';
import { isTurnOver, nextTurn, runInSteps } from './turn.ts';

/** Symbols whose names are judged together. They and their offsets take 5 MB at most. */
const CHUNK_SYMBOLS = 128 * 1024;
/** How much of the string table is read at once, besides the rest of the last name. */
const WINDOW_BYTES = 64 * 1024;
/** Names judged between two looks at the clock. */
const NAMES_PER_STEP = 256;
/** `st_name` has 32 bits. */
const MAX_REACH_BYTES = 2 ** 32;

/** Which symbols are judged, and how. */
export interface NameQuestion {
  readonly isAsked: (block: SymbolBlock, at: number) => boolean;
  /**
   * @param bytes holds the name, from `at` to its NUL, to `MAX_NAME_BYTES` + 1, or to the end of the table
   * @returns 0 when the name does not match
   */
  readonly judge: (bytes: Uint8Array, at: number) => number;
}

/** Symbols, and the verdicts on their names. */
export interface JudgedBlock {
  readonly block: SymbolBlock;
  /** For each symbol of the block; 0 for those not asked about, and those whose name is outside the string table. */
  readonly verdicts: Uint32Array;
}

/** Judges the names of all symbols in `blocks`, and passes these on in their order. */
export async function* judgeNames(
  source: ImageSource,
  strtab: { readonly offset: number; readonly length: number },
  blocks: AsyncIterable<SymbolBlock>,
  question: NameQuestion,
): AsyncGenerator<JudgedBlock, void> {
  let chunk: SymbolBlock[] = [];
  let count = 0;
  for await (const block of blocks) {
    chunk.push(block);
    count += block.count;
    if (count < CHUNK_SYMBOLS) continue;
    yield* judgeChunk(source, strtab, chunk, question);
    chunk = [];
    count = 0;
  }
  yield* judgeChunk(source, strtab, chunk, question);
}

async function* judgeChunk(
  source: ImageSource,
  strtab: { readonly offset: number; readonly length: number },
  blocks: readonly SymbolBlock[],
  question: NameQuestion,
): AsyncGenerator<JudgedBlock, void> {
  const reach = Math.min(strtab.length, MAX_REACH_BYTES);
  const { count, nameOffsets, ordered, windowEnds } = await runInSteps(sortByWindow(blocks, reach, question));
  const verdicts = new Uint32Array(count);
  let done = 0;
  for (const [window, end] of windowEnds.entries()) {
    if (done === end) continue;
    const start = window * WINDOW_BYTES;
    const bytes = await source.read(
      strtab.offset + start,
      Math.min(WINDOW_BYTES + MAX_NAME_BYTES, strtab.length - start),
    );
    for (; done < end; done++) {
      if (done % NAMES_PER_STEP === NAMES_PER_STEP - 1 && isTurnOver()) await nextTurn();
      const symbol = ordered[done] ?? 0;
      verdicts[symbol] = question.judge(bytes, (nameOffsets[symbol] ?? 0) - start);
    }
  }
  let first = 0;
  for (const block of blocks) {
    yield { block, verdicts: verdicts.subarray(first, first + block.count) };
    first += block.count;
  }
}

interface SortedSymbols {
  /** Symbols in all blocks; they are numbered across the blocks. */
  readonly count: number;
  /** `st_name` by symbol. */
  readonly nameOffsets: Uint32Array;
  /** The symbols asked about whose names are in the string table, sorted by the window in which the name begins. */
  readonly ordered: Uint32Array;
  /** By window: how many symbols of `ordered` belong to it and those before it. */
  readonly windowEnds: Uint32Array;
}

/** Counting sort: one pass counts, one places. */
function* sortByWindow(blocks: readonly SymbolBlock[], reach: number, { isAsked }: NameQuestion): Steps<SortedSymbols> {
  const count = blocks.reduce((sum, block) => sum + block.count, 0);
  const nameOffsets = new Uint32Array(count);
  const asked = new Uint32Array(count);
  const windowEnds = new Uint32Array(Math.ceil(reach / WINDOW_BYTES));
  let [symbol, askedCount] = [0, 0];
  for (const block of blocks) {
    for (let at = 0; at < block.count; at++, symbol++) {
      if (isStepEnd(symbol)) yield null;
      const nameOffset = block.nameOffset(at);
      if (nameOffset >= reach || !isAsked(block, at)) continue;
      nameOffsets[symbol] = nameOffset;
      asked[askedCount++] = symbol;
      const window = Math.floor(nameOffset / WINDOW_BYTES);
      windowEnds[window] = (windowEnds[window] ?? 0) + 1;
    }
  }
  // Turns counts into starts, which placing moves to the ends.
  let before = 0;
  for (const [window, size] of windowEnds.entries()) {
    if (isStepEnd(window)) yield null;
    windowEnds[window] = before;
    before += size;
  }
  const ordered = new Uint32Array(askedCount);
  for (let index = 0; index < askedCount; index++) {
    if (isStepEnd(index)) yield null;
    const next = asked[index] ?? 0;
    const window = Math.floor((nameOffsets[next] ?? 0) / WINDOW_BYTES);
    const to = windowEnds[window] ?? 0;
    ordered[to] = next;
    windowEnds[window] = to + 1;
  }
  return { count, nameOffsets, ordered, windowEnds };
}
