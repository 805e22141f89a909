/** LZMA: its probability model, its dictionary, and files of the old format (.lzma), which has no checksums. */
import { freeMemory } from '../free-memory.ts';
import {
  DecodeError,
  type DecoderOptions,
  type Decoding,
  damaged,
  type Input,
  LOOKAHEAD_BYTES,
  MEMBER,
  PIECE_BYTES,
  trailingData,
} from './decoder.ts';

/** The range coder reads the next byte when its range is below this. */
const TOP = 2 ** 24;
/** Probabilities have `MODEL_BITS`, and move by 1 / 2^`MOVE_BITS` of the distance to 0 or 1. */
const MODEL_BITS = 11;
const MODEL_TOTAL = 1 << MODEL_BITS;
const MOVE_BITS = 5;
/** Bytes that initialise the range coder. */
export const RANGE_CODER_BYTES = 5;
/** The most input bytes that one symbol takes. */
const SYMBOL_INPUT_BYTES = 21;

const STATES = 12;
const MIN_MATCH_BYTES = 2;
/** The distance that marks the end. */
const END_DISTANCE = 0xffff_ffff;

// The start of each kind of probabilities. Those of "is a match" come first.
const IS_REP = STATES << 4;
const IS_REP_G0 = IS_REP + STATES;
const IS_REP_G1 = IS_REP_G0 + STATES;
const IS_REP_G2 = IS_REP_G1 + STATES;
const IS_REP0_LONG = IS_REP_G2 + STATES;
const POS_SLOT = IS_REP0_LONG + (STATES << 4);
const POS_SPECIAL = POS_SLOT + 4 * 64;
const ALIGN = POS_SPECIAL + 115;
const LENGTHS = ALIGN + 16;
const LENGTH_LOW = 2;
const LENGTH_MID = LENGTH_LOW + (16 << 3);
const LENGTH_HIGH = LENGTH_MID + (16 << 3);
const REP_LENGTHS = LENGTHS + LENGTH_HIGH + 256;
const LITERAL = REP_LENGTHS + LENGTH_HIGH + 256;
const LITERAL_PROBS = 0x300;

/** The next state after a literal, by state. */
const NEXT_AFTER_LITERAL = Uint8Array.of(0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5);

/** The largest lc + lp that xz(1) and LZMA2 accept. */
const MAX_LITERAL_BITS = 4;

/** The unpacked bytes that matches may refer to, in a ring. */
export class Dictionary {
  readonly bytes: Uint8Array;
  readonly size: number;
  /** Where the next byte goes. */
  at = 0;
  /** Bytes that matches may refer to. */
  full = 0;
  /** The end of the bytes that were given out. */
  #given = 0;

  /** @param bytes the least size */
  constructor(bytes: number) {
    this.size = Dictionary.sizeFor(bytes);
    this.bytes = new Uint8Array(this.size);
  }

  /** A multiple of 16, so that the low bits of a place in the ring are those of the position, which the model uses. */
  static sizeFor(bytes: number): number {
    return Math.ceil(Math.max(bytes, 4096) / 16) * 16;
  }

  /** Empties the dictionary. All bytes must have been given out. */
  reset(): void {
    this.at = 0;
    this.full = 0;
    this.#given = 0;
    // The byte before the first one counts as 0.
    this.bytes[this.size - 1] = 0;
  }

  /** The latest end of the next piece. @param bytes how many bytes are wanted */
  limitFor(bytes: number): number {
    return Math.min(this.size, this.at + Math.min(bytes, PIECE_BYTES));
  }

  advance(at: number): void {
    this.full = Math.min(this.size, this.full + at - this.at);
    this.at = at;
  }

  /** The bytes that were not given out before, valid until more is written. */
  give(): Uint8Array {
    const piece = this.bytes.subarray(this.#given, this.at);
    if (this.at === this.size) this.at = 0;
    this.#given = this.at;
    return piece;
  }
}

/** The probabilities and the range coder. */
export class LzmaModel {
  probs = new Uint16Array(0);
  lc = 0;
  literalMask = 0;
  posMask = 0;
  range = 0;
  code = 0;
  state = 0;
  rep0 = 0;
  rep1 = 0;
  rep2 = 0;
  rep3 = 0;
  /** Bytes of the last match that did not fit before the limit. */
  pending = 0;
  /** Whether the end mark was read. */
  ended = false;

  /** The most bytes that `setProperties` allocates. */
  static readonly MAX_BYTES = 2 * (LITERAL + (LITERAL_PROBS << MAX_LITERAL_BITS));

  /**
   * Sets lc, lp and pb from their byte. Call `reset` after it.
   *
   * @throws DecodeError
   */
  setProperties(byte: number): void {
    const lc = byte % 9;
    const lp = Math.floor(byte / 9) % 5;
    const pb = Math.floor(byte / 45);
    if (pb > 4 || lc + lp > MAX_LITERAL_BITS) throw damaged('its LZMA properties are out of range');
    this.lc = lc;
    this.literalMask = (1 << lp) - 1;
    this.posMask = (1 << pb) - 1;
    const probs = LITERAL + (LITERAL_PROBS << (lc + lp));
    if (this.probs.length !== probs) this.probs = new Uint16Array(probs);
  }

  reset(): void {
    this.probs.fill(MODEL_TOTAL / 2);
    this.state = 0;
    this.rep0 = 0;
    this.rep1 = 0;
    this.rep2 = 0;
    this.rep3 = 0;
    this.pending = 0;
    this.ended = false;
  }

  /** Starts with the first `RANGE_CODER_BYTES` of the coded data. @throws DecodeError */
  startRangeCoder(bytes: Uint8Array, at: number): void {
    if (bytes[at] !== 0) throw damaged('the range coder does not begin with 0');
    this.range = 0xffff_ffff;
    this.code = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at + 1);
  }

  /** Reads the byte that still belongs to the last symbol. @returns where the coded data ends */
  normalize(bytes: Uint8Array, at: number): number {
    if (this.range >= TOP) return at;
    this.range = (this.range << 8) >>> 0;
    this.code = ((this.code << 8) | (bytes[at] as number)) >>> 0;
    return at + 1;
  }
}

/** Continues a match that did not fit before. @returns the next place in the dictionary */
function copyPending(lzma: LzmaModel, { bytes, size, at }: Dictionary, limit: number): number {
  const end = Math.min(limit, at + lzma.pending);
  lzma.pending -= end - at;
  let to = at;
  for (let match = at - lzma.rep0 - 1 + (at <= lzma.rep0 ? size : 0); to < end; to++) {
    bytes[to] = bytes[match++] as number;
    if (match === size) match = 0;
  }
  return to;
}

/**
 * Unpacks symbols until the dictionary is filled up to `limit`, the end mark comes, or the source may not hold another
 * whole symbol. The range coder is written out in every place, as a call for each bit would take most of the time.
 *
 * @param from the next byte of the source
 * @param safeEnd a symbol may begin up to here; `LOOKAHEAD_BYTES` more must be readable
 * @returns where reading the source stopped
 * @throws DecodeError
 */
export function decodeLzmaSymbols(
  lzma: LzmaModel,
  dictionary: Dictionary,
  source: Uint8Array,
  from: number,
  safeEnd: number,
  limit: number,
): number {
  const { probs, lc, literalMask, posMask } = lzma;
  const { bytes: dict, size, full } = dictionary;
  const start = dictionary.at;
  let at = copyPending(lzma, dictionary, limit);
  let read = from;
  let { range, code, state, rep0, rep1, rep2, rep3 } = lzma;
  let index = 0;
  let prob = 0;
  let bound = 0;
  let symbol = 0;
  let length = 0;
  let lengths = 0;
  let distance = 0;
  let isNew = false;
  while (at < limit && read <= safeEnd) {
    const posState = at & posMask;
    if (range < TOP) {
      range = (range << 8) >>> 0;
      code = ((code << 8) | (source[read++] as number)) >>> 0;
    }
    index = (state << 4) + posState;
    prob = probs[index] as number;
    bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
    if (code < bound) {
      range = bound;
      probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
      const literal =
        LITERAL +
        LITERAL_PROBS * (((at & literalMask) << lc) + ((dict[at === 0 ? size - 1 : at - 1] as number) >>> (8 - lc)));
      symbol = 1;
      if (state >= 7) {
        // After a match, the byte that would continue it predicts this one.
        let byte = dict[at - rep0 - 1 + (at <= rep0 ? size : 0)] as number;
        let offset = 0x100;
        let matched = 0;
        while (symbol < 0x100) {
          byte <<= 1;
          matched = byte & offset;
          if (range < TOP) {
            range = (range << 8) >>> 0;
            code = ((code << 8) | (source[read++] as number)) >>> 0;
          }
          index = literal + offset + matched + symbol;
          prob = probs[index] as number;
          bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
          if (code < bound) {
            range = bound;
            probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
            symbol <<= 1;
            offset &= ~matched;
          } else {
            range = (range - bound) >>> 0;
            code = (code - bound) >>> 0;
            probs[index] = prob - (prob >>> MOVE_BITS);
            symbol = (symbol << 1) | 1;
            offset &= matched;
          }
        }
      } else {
        while (symbol < 0x100) {
          if (range < TOP) {
            range = (range << 8) >>> 0;
            code = ((code << 8) | (source[read++] as number)) >>> 0;
          }
          index = literal + symbol;
          prob = probs[index] as number;
          bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
          if (code < bound) {
            range = bound;
            probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
            symbol <<= 1;
          } else {
            range = (range - bound) >>> 0;
            code = (code - bound) >>> 0;
            probs[index] = prob - (prob >>> MOVE_BITS);
            symbol = (symbol << 1) | 1;
          }
        }
      }
      dict[at++] = symbol;
      state = NEXT_AFTER_LITERAL[state] as number;
      continue;
    } else {
      range = (range - bound) >>> 0;
      code = (code - bound) >>> 0;
      probs[index] = prob - (prob >>> MOVE_BITS);
    }
    if (range < TOP) {
      range = (range << 8) >>> 0;
      code = ((code << 8) | (source[read++] as number)) >>> 0;
    }
    index = IS_REP + state;
    prob = probs[index] as number;
    bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
    if (code < bound) {
      range = bound;
      probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
      rep3 = rep2;
      rep2 = rep1;
      rep1 = rep0;
      lengths = LENGTHS;
      isNew = true;
    } else {
      range = (range - bound) >>> 0;
      code = (code - bound) >>> 0;
      probs[index] = prob - (prob >>> MOVE_BITS);
      if (range < TOP) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | (source[read++] as number)) >>> 0;
      }
      index = IS_REP_G0 + state;
      prob = probs[index] as number;
      bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
      if (code < bound) {
        range = bound;
        probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
        if (range < TOP) {
          range = (range << 8) >>> 0;
          code = ((code << 8) | (source[read++] as number)) >>> 0;
        }
        index = IS_REP0_LONG + (state << 4) + posState;
        prob = probs[index] as number;
        bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
        if (code < bound) {
          range = bound;
          probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
          // One byte of the last match.
          if (rep0 >= full + at - start || rep0 >= size) throw damaged('a match begins before the first byte');
          dict[at] = dict[at - rep0 - 1 + (at <= rep0 ? size : 0)] as number;
          at += 1;
          state = state < 7 ? 9 : 11;
          continue;
        } else {
          range = (range - bound) >>> 0;
          code = (code - bound) >>> 0;
          probs[index] = prob - (prob >>> MOVE_BITS);
        }
      } else {
        range = (range - bound) >>> 0;
        code = (code - bound) >>> 0;
        probs[index] = prob - (prob >>> MOVE_BITS);
        if (range < TOP) {
          range = (range << 8) >>> 0;
          code = ((code << 8) | (source[read++] as number)) >>> 0;
        }
        index = IS_REP_G1 + state;
        prob = probs[index] as number;
        bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
        if (code < bound) {
          range = bound;
          probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
          distance = rep1;
        } else {
          range = (range - bound) >>> 0;
          code = (code - bound) >>> 0;
          probs[index] = prob - (prob >>> MOVE_BITS);
          if (range < TOP) {
            range = (range << 8) >>> 0;
            code = ((code << 8) | (source[read++] as number)) >>> 0;
          }
          index = IS_REP_G2 + state;
          prob = probs[index] as number;
          bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
          if (code < bound) {
            range = bound;
            probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
            distance = rep2;
          } else {
            range = (range - bound) >>> 0;
            code = (code - bound) >>> 0;
            probs[index] = prob - (prob >>> MOVE_BITS);
            distance = rep3;
            rep3 = rep2;
          }
          rep2 = rep1;
        }
        rep1 = rep0;
        rep0 = distance;
      }
      lengths = REP_LENGTHS;
      isNew = false;
    }
    // The length of the match.
    let tree = 0;
    let treeSize = 8;
    if (range < TOP) {
      range = (range << 8) >>> 0;
      code = ((code << 8) | (source[read++] as number)) >>> 0;
    }
    index = lengths;
    prob = probs[index] as number;
    bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
    if (code < bound) {
      range = bound;
      probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
      tree = lengths + LENGTH_LOW + (posState << 3);
      length = MIN_MATCH_BYTES;
    } else {
      range = (range - bound) >>> 0;
      code = (code - bound) >>> 0;
      probs[index] = prob - (prob >>> MOVE_BITS);
      if (range < TOP) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | (source[read++] as number)) >>> 0;
      }
      index = lengths + 1;
      prob = probs[index] as number;
      bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
      if (code < bound) {
        range = bound;
        probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
        tree = lengths + LENGTH_MID + (posState << 3);
        length = MIN_MATCH_BYTES + 8;
      } else {
        range = (range - bound) >>> 0;
        code = (code - bound) >>> 0;
        probs[index] = prob - (prob >>> MOVE_BITS);
        tree = lengths + LENGTH_HIGH;
        length = MIN_MATCH_BYTES + 16;
        treeSize = 256;
      }
    }
    symbol = 1;
    while (symbol < treeSize) {
      if (range < TOP) {
        range = (range << 8) >>> 0;
        code = ((code << 8) | (source[read++] as number)) >>> 0;
      }
      index = tree + symbol;
      prob = probs[index] as number;
      bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
      if (code < bound) {
        range = bound;
        probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
        symbol <<= 1;
      } else {
        range = (range - bound) >>> 0;
        code = (code - bound) >>> 0;
        probs[index] = prob - (prob >>> MOVE_BITS);
        symbol = (symbol << 1) | 1;
      }
    }
    length += symbol - treeSize;
    if (isNew) {
      // A new distance: a slot, and the low bits that the slot leaves open.
      const slots = POS_SLOT + (length < 6 ? length - 2 : 3) * 64;
      symbol = 1;
      while (symbol < 64) {
        if (range < TOP) {
          range = (range << 8) >>> 0;
          code = ((code << 8) | (source[read++] as number)) >>> 0;
        }
        index = slots + symbol;
        prob = probs[index] as number;
        bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
        if (code < bound) {
          range = bound;
          probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
          symbol <<= 1;
        } else {
          range = (range - bound) >>> 0;
          code = (code - bound) >>> 0;
          probs[index] = prob - (prob >>> MOVE_BITS);
          symbol = (symbol << 1) | 1;
        }
      }
      const slot = symbol - 64;
      if (slot < 4) {
        rep0 = slot;
      } else {
        let bits = (slot >>> 1) - 1;
        rep0 = ((2 | (slot & 1)) << bits) >>> 0;
        let specials = POS_SPECIAL + rep0 - slot;
        if (slot >= 14) {
          // The bits in the middle are as likely 0 as 1.
          let direct = 0;
          for (let left = bits - 4; left > 0; left--) {
            if (range < TOP) {
              range = (range << 8) >>> 0;
              code = ((code << 8) | (source[read++] as number)) >>> 0;
            }
            range >>>= 1;
            direct <<= 1;
            if (code >= range) {
              code = (code - range) >>> 0;
              direct |= 1;
            }
          }
          rep0 = (rep0 + (direct << 4)) >>> 0;
          bits = 4;
          specials = ALIGN;
        }
        symbol = 1;
        for (let weight = 0; weight < bits; weight++) {
          if (range < TOP) {
            range = (range << 8) >>> 0;
            code = ((code << 8) | (source[read++] as number)) >>> 0;
          }
          index = specials + symbol;
          prob = probs[index] as number;
          bound = Math.imul(range >>> MODEL_BITS, prob) >>> 0;
          if (code < bound) {
            range = bound;
            probs[index] = prob + ((MODEL_TOTAL - prob) >>> MOVE_BITS);
            symbol <<= 1;
          } else {
            range = (range - bound) >>> 0;
            code = (code - bound) >>> 0;
            probs[index] = prob - (prob >>> MOVE_BITS);
            symbol = (symbol << 1) | 1;
            rep0 = (rep0 + (1 << weight)) >>> 0;
          }
        }
        if (rep0 === END_DISTANCE) {
          lzma.ended = true;
          break;
        }
      }
      state = state < 7 ? 7 : 10;
    } else {
      state = state < 7 ? 8 : 11;
    }
    if (rep0 >= full + at - start || rep0 >= size) throw damaged('a match begins before the first byte');
    let end = at + length;
    if (end > limit) {
      lzma.pending = end - limit;
      end = limit;
    }
    let match = at - rep0 - 1;
    if (match < 0) match += size;
    if (match < at || match + length <= size) {
      while (at < end) dict[at++] = dict[match++] as number;
    } else {
      while (at < end) {
        dict[at++] = dict[match++] as number;
        if (match === size) match = 0;
      }
    }
  }
  lzma.range = range;
  lzma.code = code;
  lzma.state = state;
  lzma.rep0 = rep0;
  lzma.rep1 = rep1;
  lzma.rep2 = rep2;
  lzma.rep3 = rep3;
  dictionary.advance(at);
  return read;
}

const HEADER_BYTES = 13;
/** 2^64-1, all bits set, stands for an unknown size; as a double it is rounded up. */
const UNKNOWN_SIZE = 2 ** 64;

/** Unpacks a file of the old format. No second file can follow, as such files have no mark to recognise them by. */
export function* decodeLzma(input: Input, { maxWindowBytes, ignoreTrailing }: DecoderOptions): Decoding {
  const header = Uint8Array.from(yield* input.take(HEADER_BYTES));
  const fields = new DataView(header.buffer);
  const model = new LzmaModel();
  model.setProperties(fields.getUint8(0));
  model.reset();
  const windowBytes = fields.getUint32(1, true);
  const size = fields.getUint32(5, true) + fields.getUint32(9, true) * 2 ** 32;
  const isSizeKnown = size < UNKNOWN_SIZE;
  // No match reaches back beyond the first byte.
  const neededBytes = isSizeKnown ? Math.min(windowBytes, size) : windowBytes;
  if (neededBytes > maxWindowBytes) throw new DecodeError({ kind: 'window-too-large', windowBytes, maxWindowBytes });
  yield { kind: 'memory', bytes: Dictionary.sizeFor(neededBytes) + LzmaModel.MAX_BYTES };
  const dictionary = new Dictionary(neededBytes);
  try {
    model.startRangeCoder(yield* input.take(RANGE_CODER_BYTES), 0);
    yield* decodeToEnd(input, model, dictionary, isSizeKnown ? size : Number.POSITIVE_INFINITY);
  } finally {
    freeMemory(dictionary.bytes);
  }
  yield MEMBER;
  if (!(yield* input.hasMore())) return;
  if (!ignoreTrailing) throw trailingData();
  yield* input.drop();
}

function* decodeToEnd(input: Input, model: LzmaModel, dictionary: Dictionary, size: number): Decoding {
  let left = size;
  while (left > 0 && !model.ended) {
    const safeEnd = input.ended ? input.end : input.end - SYMBOL_INPUT_BYTES;
    const before = dictionary.at;
    if (input.at <= safeEnd) {
      input.at = decodeLzmaSymbols(model, dictionary, input.bytes, input.at, safeEnd, dictionary.limitFor(left));
      yield* checkEnd(input);
    }
    const written = dictionary.at - before;
    left -= written;
    if (written > 0) yield { kind: 'piece', bytes: dictionary.give() };
    else if (!model.ended) yield* input.more();
  }
  if (model.pending > 0 || (left > 0 && Number.isFinite(left)))
    throw damaged('it has not the size that its header names');
  yield* takeLastByte(input, model);
  if (model.code !== 0 && !model.ended) {
    // With a size in the header an end mark is allowed, but not needed.
    yield* input.peek(SYMBOL_INPUT_BYTES);
    const end = new Uint8Array(SYMBOL_INPUT_BYTES + LOOKAHEAD_BYTES);
    end.set(input.bytes.subarray(input.at, Math.min(input.end, input.at + SYMBOL_INPUT_BYTES)));
    input.at += decodeLzmaSymbols(model, dictionary, end, 0, 0, dictionary.at + 1);
    yield* checkEnd(input);
    if (!model.ended) throw damaged('it goes on after the size that its header names');
    yield* takeLastByte(input, model);
  }
  if (model.code !== 0) throw damaged('its end does not fit');
}

function* takeLastByte(input: Input, model: LzmaModel): Decoding {
  if (model.range >= TOP) return;
  yield* input.need(1);
  input.at = model.normalize(input.bytes, input.at);
}

/** @throws DecodeError cut when zeros beyond the end of the input were read as data */
function* checkEnd(input: Input): Decoding {
  if (input.at <= input.end) return;
  input.at = input.end;
  yield* input.more();
}
