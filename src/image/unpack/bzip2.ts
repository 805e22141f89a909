/** Unpacks bzip2 files: streams of blocks that are independent of each other. */
import { freeMemory } from '../free-memory.ts';
import { bzip2Crc } from './checksums.ts';
import {
  type DecoderEvent,
  type DecoderOptions,
  type Decoding,
  damaged,
  type Input,
  MEMBER,
  PIECE_BYTES,
  trailingData,
  unsupported,
  wrongChecksum,
} from './decoder.ts';

/** The marks of a block and of the end of a stream: digits of pi and of its square root. */
const BLOCK_MARK = 0x3141_5926_5359;
const END_MARK = 0x1772_4538_5090;

/** Bytes of a block for each unit of the level. */
const LEVEL_BYTES = 100_000;
const MAX_TABLES = 6;
const MAX_SELECTORS = 18_002;
/** Symbols that use one selector. */
const GROUP_SYMBOLS = 50;
const MAX_CODE_BITS = 20;
const MAX_SYMBOLS = 258;
/** Codes up to this length are found with one lookup. */
const FAST_BITS = 10;
/** After this many equal bytes a count follows. */
const RUN_BYTES = 4;
/** The most input bytes that one symbol takes, with the bits that are buffered. */
const SYMBOL_BYTES = 8;

/** Unpacks all streams of a file. */
export function* decodeBzip2(input: Input, { ignoreTrailing }: DecoderOptions): Decoding {
  const bits = new Bits(input);
  yield* input.need(1);
  for (let isFirst = true; yield* input.hasMore(); isFirst = false) {
    const start = yield* input.peek(4);
    const level = (start[3] ?? 0) - 0x30;
    const isStream = start[0] === 0x42 && start[1] === 0x5a && start[2] === 0x68 && level >= 1 && level <= 9;
    if (!isStream) {
      if (isFirst) throw damaged('it does not begin as a stream of bzip2');
      if (ignoreTrailing) yield* input.drop();
      else if (start[0] === 0) yield* input.padding();
      else throw trailingData();
      return;
    }
    input.at += 4;
    yield* decodeStream(input, bits, level * LEVEL_BYTES);
    yield MEMBER;
  }
}

/** The input as bits, the highest of a byte first. */
class Bits {
  readonly input: Input;
  /** Its lowest `count` bits come next. */
  buffer = 0;
  count = 0;

  constructor(input: Input) {
    this.input = input;
  }

  /** @param bits 24 at most */
  *read(bits: number): Generator<DecoderEvent, number, void> {
    while (this.count < bits) {
      this.buffer = (this.buffer << 8) | (yield* this.input.byte());
      this.count += 8;
    }
    this.count -= bits;
    return (this.buffer >>> this.count) & ((1 << bits) - 1);
  }

  /** Drops what is left of the last byte. */
  align(): void {
    this.count = 0;
  }
}

/** Memory that all blocks of a stream use. */
class Block {
  /** By position: a byte of the block in the low 8 bits, above them the position of the byte that follows. */
  readonly entries: Uint32Array;
  readonly selectors = new Uint8Array(MAX_SELECTORS);
  readonly tables = Array.from({ length: MAX_TABLES }, () => new CodeTable());
  /** The bytes that occur in the block, those used last first. */
  readonly recent = new Uint8Array(256);
  readonly counts = new Uint32Array(256);
  /** Symbols of the block, the end of it included. */
  symbols = 0;

  constructor(bytes: number) {
    this.entries = new Uint32Array(bytes);
  }
}

function* decodeStream(input: Input, bits: Bits, blockBytes: number): Decoding {
  yield { kind: 'memory', bytes: 4 * blockBytes + 2 * PIECE_BYTES };
  const block = new Block(blockBytes);
  const output = new Uint8Array(PIECE_BYTES);
  let combined = 0;
  try {
    for (;;) {
      const mark = (yield* bits.read(24)) * 2 ** 24 + (yield* bits.read(24));
      const crc = ((yield* bits.read(16)) * 2 ** 16 + (yield* bits.read(16))) | 0;
      if (mark === END_MARK) {
        bits.align();
        if (crc !== combined) throw wrongChecksum('of a stream');
        return;
      }
      if (mark !== BLOCK_MARK) throw damaged('no block begins where one should');
      combined = ((combined << 1) | (combined >>> 31)) ^ crc;
      if ((yield* bits.read(1)) === 1)
        throw unsupported('a randomised block, which bzip2 has not made since version 0.9.5');
      const origin = yield* bits.read(24);
      yield* readTables(bits, block);
      const count = yield* readSymbols(input, bits, block, blockBytes);
      if (origin >= count) throw damaged('a block begins outside of itself');
      invert(block, count);
      yield* unpackRuns(block.entries, count, origin, output, crc);
    }
  } finally {
    freeMemory(block.entries, output);
  }
}

/** Reads the tables before the symbols of a block: the bytes that occur, selectors, and codes. */
function* readTables(bits: Bits, block: Block): Decoding {
  const ranges = yield* bits.read(16);
  let used = 0;
  for (let range = 0; range < 16; range++) {
    if ((ranges & (0x8000 >>> range)) === 0) continue;
    const map = yield* bits.read(16);
    for (let index = 0; index < 16; index++) {
      if ((map & (0x8000 >>> index)) !== 0) block.recent[used++] = range * 16 + index;
    }
  }
  if (used === 0) throw damaged('a block has no bytes');
  block.symbols = used + 2;

  const tables = yield* bits.read(3);
  if (tables < 2 || tables > MAX_TABLES) throw damaged('a block has no table of codes, or too many');
  const selectors = yield* bits.read(15);
  if (selectors === 0) throw damaged('a block has no selectors');
  const order = [0, 1, 2, 3, 4, 5];
  for (let index = 0; index < selectors; index++) {
    let place = 0;
    while ((yield* bits.read(1)) === 1) {
      place += 1;
      if (place >= tables) throw damaged('a selector names a table that is not there');
    }
    const table = order.splice(place, 1)[0] ?? 0;
    order.unshift(table);
    // Some programs write more selectors than a block needs. Those are read and ignored.
    if (index < MAX_SELECTORS) block.selectors[index] = table;
  }
  block.selectors.fill(0xff, Math.min(selectors, MAX_SELECTORS));

  const lengths = new Uint8Array(MAX_SYMBOLS);
  for (let index = 0; index < tables; index++) {
    let length = yield* bits.read(5);
    for (let symbol = 0; symbol < block.symbols; symbol++) {
      for (;;) {
        if (length < 1 || length > MAX_CODE_BITS) throw damaged('a code is too long');
        if ((yield* bits.read(1)) === 0) break;
        length += (yield* bits.read(1)) === 0 ? 1 : -1;
      }
      lengths[symbol] = length;
    }
    block.tables[index]?.build(lengths, block.symbols);
  }
}

/** The prefix codes of one table. The lengths need not make a complete code; using a missing code is an error. */
class CodeTable {
  /** By the next `FAST_BITS`: the symbol, and in the low 5 bits the length of its code; 0 for a longer code. */
  readonly fast = new Uint16Array(1 << FAST_BITS);
  /** For each length: the first code that is longer, left-aligned to `MAX_CODE_BITS`. */
  readonly limits = new Int32Array(MAX_CODE_BITS + 2);
  /** For each length: what turns a code into a place in `sorted`. */
  readonly offsets = new Int32Array(MAX_CODE_BITS + 2);
  readonly sorted = new Uint16Array(MAX_SYMBOLS);

  build(lengths: Uint8Array, symbols: number): void {
    this.fast.fill(0);
    let code = 0;
    let place = 0;
    for (let length = 1; length <= MAX_CODE_BITS; length++) {
      this.offsets[length] = place - code;
      for (let symbol = 0; symbol < symbols; symbol++) {
        if (lengths[symbol] !== length) continue;
        this.sorted[place++] = symbol;
        if (length <= FAST_BITS) {
          const first = code << (FAST_BITS - length);
          this.fast.fill((symbol << 5) | length, first, first + (1 << (FAST_BITS - length)));
        }
        code += 1;
      }
      this.limits[length] = code * 2 ** (MAX_CODE_BITS - length);
      code <<= 1;
    }
  }
}

/** Where reading the symbols of a block stopped. */
interface SymbolState {
  /** Bytes of the block so far. */
  count: number;
  group: number;
  /** Symbols left for the selector in use. */
  left: number;
  run: number;
  runWeight: number;
  ended: boolean;
}

/** Reads the symbols of a block into its entries. @returns how many bytes they stand for */
function* readSymbols(input: Input, bits: Bits, block: Block, limit: number): Generator<DecoderEvent, number, void> {
  block.counts.fill(0);
  const state: SymbolState = { count: 0, group: 0, left: 0, run: 0, runWeight: 1, ended: false };
  for (;;) {
    const safeEnd = input.ended ? input.end : input.end - SYMBOL_BYTES;
    if (input.at <= safeEnd) readSomeSymbols(input, bits, block, limit, state, safeEnd);
    // Zeros beyond the end were read as if they were there.
    if (input.ended && input.at > input.end) {
      input.at = input.end;
      yield* input.more();
    }
    if (state.ended) return state.count;
    yield* input.more();
  }
}

/** Reads symbols as long as a whole symbol is sure to be in the input. */
function readSomeSymbols(
  input: Input,
  bits: Bits,
  block: Block,
  limit: number,
  state: SymbolState,
  safeEnd: number,
): void {
  const { bytes } = input;
  const { entries, selectors, tables, recent, counts } = block;
  const endSymbol = block.symbols - 1;
  let { at } = input;
  let { buffer, count: bitCount } = bits;
  let { count, group, left, run, runWeight } = state;
  let table = tables[left > 0 ? (selectors[group - 1] as number) : 0] as CodeTable;
  for (;;) {
    if (left === 0) {
      if (group >= MAX_SELECTORS || selectors[group] === 0xff) throw damaged('a block has too few selectors');
      table = tables[selectors[group++] as number] as CodeTable;
      left = GROUP_SYMBOLS;
    }
    // Bits that are there already may be all that is needed.
    if (at - (bitCount >>> 3) > safeEnd) break;
    while (bitCount < MAX_CODE_BITS) {
      buffer = (buffer << 8) | (bytes[at++] as number);
      bitCount += 8;
    }
    left -= 1;
    const entry = table.fast[(buffer >>> (bitCount - FAST_BITS)) & ((1 << FAST_BITS) - 1)] as number;
    let symbol: number;
    if (entry !== 0) {
      symbol = entry >>> 5;
      bitCount -= entry & 31;
    } else {
      const code = (buffer >>> (bitCount - MAX_CODE_BITS)) & ((1 << MAX_CODE_BITS) - 1);
      let length = FAST_BITS + 1;
      while (length <= MAX_CODE_BITS && code >= (table.limits[length] as number)) length += 1;
      if (length > MAX_CODE_BITS) throw damaged('a block has a code that stands for nothing');
      symbol = table.sorted[(code >>> (MAX_CODE_BITS - length)) + (table.offsets[length] as number)] as number;
      bitCount -= length;
    }
    if (symbol <= 1) {
      // The length of a run, in a number system with the digits 1 and 2.
      run += runWeight << symbol;
      runWeight <<= 1;
      if (run > limit) throw damaged('a block is too long');
      continue;
    }
    if (run > 0) {
      if (count + run > limit) throw damaged('a block is too long');
      const byte = recent[0] as number;
      counts[byte] = (counts[byte] as number) + run;
      entries.fill(byte, count, count + run);
      count += run;
      run = 0;
      runWeight = 1;
    }
    if (symbol === endSymbol) {
      state.ended = true;
      break;
    }
    if (count >= limit) throw damaged('a block is too long');
    let place = symbol - 1;
    const byte = recent[place] as number;
    for (; place > 0; place--) recent[place] = recent[place - 1] as number;
    recent[0] = byte;
    counts[byte] = (counts[byte] as number) + 1;
    entries[count++] = byte;
  }
  // Whole bytes that were not used go back to the input.
  while (bitCount >= 8) {
    bitCount -= 8;
    at -= 1;
    buffer >>>= 8;
  }
  input.at = at;
  bits.buffer = buffer;
  bits.count = bitCount;
  state.count = count;
  state.group = group;
  state.left = left;
  state.run = run;
  state.runWeight = runWeight;
}

/** Links each byte of a block to the one that follows it: the inverse of the Burrows-Wheeler transform. */
function invert({ entries, counts }: Block, count: number): void {
  let sum = 0;
  for (let byte = 0; byte < 256; byte++) {
    const own = counts[byte] as number;
    counts[byte] = sum;
    sum += own;
  }
  for (let index = 0; index < count; index++) {
    const byte = (entries[index] as number) & 0xff;
    const place = counts[byte] as number;
    counts[byte] = place + 1;
    entries[place] = ((entries[place] as number) & 0xff) | (index << 8);
  }
}

/** Where writing the bytes of a block stopped. */
interface RunState {
  /** The entry that comes next. */
  place: number;
  /** Bytes of the block that are left. */
  left: number;
  /** The byte before, -1 at first; how often it came in a row; how often it must still be written. */
  byte: number;
  same: number;
  pending: number;
}

/** Yields the bytes of a block, and checks them. */
function* unpackRuns(entries: Uint32Array, count: number, origin: number, output: Uint8Array, crc: number): Decoding {
  const state: RunState = {
    place: (entries[origin] as number) >>> 8,
    left: count,
    byte: -1,
    same: 0,
    pending: 0,
  };
  let found = -1;
  while (state.left > 0 || state.pending > 0) {
    const written = writeRuns(entries, state, output);
    if (written === 0) continue;
    found = bzip2Crc(output, written, found);
    yield { kind: 'piece', bytes: output.subarray(0, written) };
  }
  if (~found !== crc) throw wrongChecksum('of a block');
}

/** Fills a piece. @returns its length */
function writeRuns(entries: Uint32Array, state: RunState, output: Uint8Array): number {
  let { place, left, byte, same, pending } = state;
  const end = output.length;
  let at = 0;
  for (;;) {
    if (pending > 0) {
      const part = Math.min(pending, end - at);
      output.fill(byte, at, at + part);
      at += part;
      pending -= part;
    }
    if (left === 0 || at === end) break;
    const entry = entries[place] as number;
    place = entry >>> 8;
    left -= 1;
    const next = entry & 0xff;
    if (same === RUN_BYTES) {
      pending = next;
      same = 0;
      continue;
    }
    same = next === byte ? same + 1 : 1;
    byte = next;
    output[at++] = next;
  }
  state.place = place;
  state.left = left;
  state.byte = byte;
  state.same = same;
  state.pending = pending;
  return at;
}
