/** Unpacks xz files: streams of blocks, each a chain of filters that ends with LZMA2. Every check of the format is made. */
import { freeMemory } from '../free-memory.ts';
import { BRANCH_FILTERS, DeltaFilter, type Filter } from './bcj.ts';
import { type Checksum, Crc32, Crc64, crc32 } from './checksums.ts';
import {
  DecodeError,
  type DecoderEvent,
  type DecoderOptions,
  type Decoding,
  damaged,
  type Input,
  LOOKAHEAD_BYTES,
  MEMBER,
  PIECE_BYTES,
  readU32,
  startsWith,
  trailingData,
  unsupported,
  wrongChecksum,
} from './decoder.ts';
import { Dictionary, decodeLzmaSymbols, LzmaModel, RANGE_CODER_BYTES } from './lzma.ts';
import { Sha256 } from './sha256.ts';

const MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const STREAM_HEADER_BYTES = 12;
const FOOTER_BYTES = 12;
/** Streams, blocks and padding between streams are multiples of this. */
const ALIGNMENT_BYTES = 4;

const FILTER_DELTA = 0x03;
const FILTER_LZMA2 = 0x21;
const MAX_FILTERS = 4;

/** The checks by their ID, with the size of each in bytes. Other IDs are reserved, and such a check cannot be made. */
const CHECKS: ReadonlyMap<number, { readonly bytes: number; readonly create: () => Checksum | null }> = new Map([
  [0x0, { bytes: 0, create: () => null }],
  [0x1, { bytes: 4, create: () => new Crc32() }],
  [0x4, { bytes: 8, create: () => new Crc64() }],
  [0xa, { bytes: 32, create: () => new Sha256() }],
]);

const CHUNK_BYTES = 64 * 1024;

/** Unpacks all streams of a file. */
export function* decodeXz(input: Input, options: DecoderOptions): Decoding {
  yield* input.need(1);
  for (let isFirst = true; yield* input.hasMore(); isFirst = false) {
    const start = yield* input.peek(ALIGNMENT_BYTES);
    if (!isFirst && start.length === ALIGNMENT_BYTES && start.every((byte) => byte === 0)) {
      input.at += ALIGNMENT_BYTES;
      continue;
    }
    if (!startsWith(yield* input.peek(MAGIC.length), MAGIC)) {
      if (isFirst) throw damaged('it does not begin as an xz stream');
      if (!options.ignoreTrailing) throw trailingData();
      yield* input.drop();
      return;
    }
    yield* decodeStream(input, options);
    yield MEMBER;
  }
}

/** The sizes of the blocks of a stream, or of its index, summed up so that the two can be compared. */
class BlockSums {
  #count = 0;
  #unpadded = 0;
  #uncompressed = 0;
  #crc = 0;

  add(unpadded: number, uncompressed: number): void {
    this.#count += 1;
    this.#unpadded += unpadded;
    this.#uncompressed += uncompressed;
    this.#crc = crc32(new Uint8Array(Float64Array.of(unpadded, uncompressed).buffer), this.#crc);
  }

  equals(other: BlockSums): boolean {
    return (
      this.#count === other.#count &&
      this.#unpadded === other.#unpadded &&
      this.#uncompressed === other.#uncompressed &&
      this.#crc === other.#crc
    );
  }
}

function* decodeStream(input: Input, options: DecoderOptions): Decoding {
  const header = Uint8Array.from(yield* input.take(STREAM_HEADER_BYTES));
  if (crc32(header.subarray(6, 8)) !== readU32(header, 8))
    throw damaged('the checksum of a stream header does not fit');
  const check = CHECKS.get(header[7] as number);
  if (header[6] !== 0 || (header[7] as number) > 0xf) throw unsupported('a stream of a kind that is not known');
  if (check === undefined) throw unsupported(`a check of the kind ${header[7]}`);
  const sums = new BlockSums();
  const memory = new BlockMemory();
  try {
    while ((yield* input.peek(1))[0] !== 0) {
      const start = input.offset;
      const block = yield* readBlockHeader(input, options);
      const checksum = check.create();
      const packedStart = input.offset;
      let uncompressed = 0;
      for (const event of decodeBlock(input, block, memory)) {
        if (event.kind === 'piece') {
          uncompressed += event.bytes.length;
          checksum?.update(event.bytes);
          if (uncompressed > block.uncompressedBytes) throw damaged('a block is larger than its header says');
        }
        yield event;
      }
      const packed = input.offset - packedStart;
      if (Number.isFinite(block.packedBytes) && packed !== block.packedBytes) {
        throw damaged('a block takes another size than its header says');
      }
      if (Number.isFinite(block.uncompressedBytes) && uncompressed !== block.uncompressedBytes) {
        throw damaged('a block has another size than its header says');
      }
      yield* takeZeros(input, -packed);
      const found = checksum?.digest() ?? new Uint8Array(0);
      const expected = yield* input.take(check.bytes);
      if (!startsWith(expected, [...found])) throw wrongChecksum('of a block');
      sums.add(packedStart - start + packed + check.bytes, uncompressed);
    }
  } finally {
    memory.release();
  }
  const indexBytes = yield* readIndex(input, sums);
  const footer = yield* input.take(FOOTER_BYTES);
  if (footer[10] !== 0x59 || footer[11] !== 0x5a) throw damaged('a stream has no footer');
  if (crc32(footer.subarray(4, 10)) !== readU32(footer, 0)) throw damaged('the checksum of a footer does not fit');
  if ((readU32(footer, 4) + 1) * ALIGNMENT_BYTES !== indexBytes)
    throw damaged('a footer names another size of the index');
  if (footer[8] !== header[6] || footer[9] !== header[7]) throw damaged('header and footer of a stream differ');
}

/** Reads padding. @param bytes the negated size of what is padded: the padding makes it a multiple of 4 */
function* takeZeros(input: Input, bytes: number): Decoding {
  const padding = yield* input.take(((bytes % ALIGNMENT_BYTES) + ALIGNMENT_BYTES) % ALIGNMENT_BYTES);
  if (padding.some((byte) => byte !== 0)) throw damaged('the padding is not zero');
}

/** Reads numbers of variable length from a structure that has arrived whole. */
class FieldReader {
  readonly #bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  byte(): number {
    const byte = this.#bytes[this.at];
    if (byte === undefined) throw damaged('a block header is too short');
    this.at += 1;
    return byte;
  }

  number(): number {
    const number = new VariableNumber();
    while (!number.add(this.byte()));
    return number.value;
  }
}

/** A number in seven bits a byte, the lowest first. */
class VariableNumber {
  value = 0;
  #bytes = 0;

  /** @returns whether the number is complete */
  add(byte: number): boolean {
    if (this.#bytes === 9 || (byte === 0 && this.#bytes > 0)) throw damaged('a number is not written as it should be');
    this.value += (byte & 0x7f) * 2 ** (7 * this.#bytes);
    this.#bytes += 1;
    return byte < 0x80;
  }
}

interface BlockHeader {
  readonly packedBytes: number;
  readonly uncompressedBytes: number;
  readonly windowBytes: number;
  /** In the order in which they are undone after LZMA2, each with the position at which it starts. */
  readonly filters: readonly { readonly filter: Filter; readonly start: number }[];
}

function* readBlockHeader(
  input: Input,
  { maxWindowBytes }: DecoderOptions,
): Generator<DecoderEvent, BlockHeader, void> {
  const size = (((yield* input.peek(1))[0] as number) + 1) * ALIGNMENT_BYTES;
  const header = Uint8Array.from(yield* input.take(size));
  const end = size - 4;
  if (crc32(header.subarray(0, end)) !== readU32(header, end)) {
    throw damaged('the checksum of a block header does not fit');
  }
  const fields = new FieldReader(header.subarray(0, end));
  fields.at = 1;
  const flags = fields.byte();
  if ((flags & 0x3c) !== 0) throw unsupported('a block of a kind that is not known');
  const packedBytes = (flags & 0x40) !== 0 ? fields.number() : Number.POSITIVE_INFINITY;
  const uncompressedBytes = (flags & 0x80) !== 0 ? fields.number() : Number.POSITIVE_INFINITY;
  const count = (flags & 3) + 1;
  const filters: { filter: Filter; start: number }[] = [];
  let windowBytes = 0;
  for (let index = 0; index < count && index < MAX_FILTERS; index++) {
    const id = fields.number();
    const length = fields.number();
    const isLast = index === count - 1;
    if (isLast !== (id === FILTER_LZMA2))
      throw unsupported(`a chain of filters with ${nameFilter(id)} as its number ${index + 1}`);
    if (isLast) windowBytes = readWindowSize(length === 1 ? fields.byte() : -1);
    else filters.unshift(readFilter(id, length, fields));
  }
  if (header.subarray(fields.at, end).some((byte) => byte !== 0))
    throw damaged('the padding of a block header is not zero');
  // No match reaches back beyond the first byte.
  const neededBytes = Math.min(windowBytes, uncompressedBytes);
  if (neededBytes > maxWindowBytes) throw new DecodeError({ kind: 'window-too-large', windowBytes, maxWindowBytes });
  return { packedBytes, uncompressedBytes, windowBytes: neededBytes, filters };
}

const nameFilter = (id: number): string => (id === FILTER_LZMA2 ? 'LZMA2' : `the filter 0x${id.toString(16)}`);

function readWindowSize(bits: number): number {
  if (bits < 0 || bits > 40) throw damaged('the size of a dictionary is out of range');
  return bits === 40 ? 2 ** 32 - 1 : (2 | (bits & 1)) * 2 ** ((bits >>> 1) + 11);
}

function readFilter(id: number, length: number, fields: FieldReader): { filter: Filter; start: number } {
  if (id === FILTER_DELTA) {
    if (length !== 1) throw damaged('the filter delta has no distance');
    return { filter: new DeltaFilter(fields.byte() + 1), start: 0 };
  }
  const branch = BRANCH_FILTERS.get(id);
  if (branch === undefined) throw unsupported(nameFilter(id));
  if (length !== 0 && length !== 4) throw damaged(`the filter ${branch.name} has no start that is one`);
  let start = 0;
  for (let index = 0; index < length; index++) start += fields.byte() * 2 ** (8 * index);
  if (start % branch.alignment !== 0) throw damaged(`the filter ${branch.name} starts at an odd place`);
  return { filter: branch.create(), start };
}

/** Memory that the blocks of a stream use one after another. */
class BlockMemory {
  dictionary: Dictionary | null = null;
  readonly model = new LzmaModel();
  readonly chunk = new Uint8Array(CHUNK_BYTES + LOOKAHEAD_BYTES);

  /** An empty dictionary of at least this size. */
  *open(windowBytes: number): Generator<DecoderEvent, Dictionary, void> {
    if (this.dictionary === null || this.dictionary.size < windowBytes) {
      yield {
        kind: 'memory',
        bytes: Dictionary.sizeFor(windowBytes) + LzmaModel.MAX_BYTES + CHUNK_BYTES + MAX_FILTERS * PIECE_BYTES,
      };
      this.release();
      this.dictionary = new Dictionary(windowBytes);
    }
    this.dictionary.reset();
    return this.dictionary;
  }

  release(): void {
    if (this.dictionary !== null) freeMemory(this.dictionary.bytes);
    this.dictionary = null;
  }
}

function* decodeBlock(input: Input, block: BlockHeader, memory: BlockMemory): Decoding {
  const chain = block.filters.map(({ filter, start }) => new FilterStage(filter, start));
  const dictionary = yield* memory.open(block.windowBytes);
  for (const event of decodeLzma2(input, dictionary, memory)) {
    if (event.kind !== 'piece' || chain.length === 0) yield event;
    else {
      const bytes = chain.reduce((piece, stage) => stage.apply(piece), event.bytes);
      if (bytes.length > 0) yield { kind: 'piece', bytes };
    }
  }
  // The bytes that a filter has not finished at the end stay as they are.
  for (let index = 0; index < chain.length; index++) {
    const rest = chain[index]?.finish() ?? new Uint8Array(0);
    const bytes = chain.slice(index + 1).reduce((piece, stage) => stage.apply(piece), rest);
    if (bytes.length > 0) yield { kind: 'piece', bytes };
  }
}

/** A filter, and the bytes that it has not finished. */
class FilterStage {
  readonly #filter: Filter;
  #position: number;
  #buffer = new Uint8Array(0);
  #rest = new Uint8Array(0);

  constructor(filter: Filter, start: number) {
    this.#filter = filter;
    this.#position = start;
  }

  apply(piece: Uint8Array): Uint8Array {
    const length = this.#rest.length + piece.length;
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length + LOOKAHEAD_BYTES);
    // The piece belongs to the dictionary, which needs it unfiltered.
    this.#buffer.set(this.#rest);
    this.#buffer.set(piece, this.#rest.length);
    const bytes = this.#buffer.subarray(0, length);
    const finished = this.#filter.apply(bytes, this.#position);
    this.#position = (this.#position + finished) >>> 0;
    this.#rest = Uint8Array.from(bytes.subarray(finished));
    return bytes.subarray(0, finished);
  }

  finish(): Uint8Array {
    return this.#rest;
  }
}

function* decodeLzma2(input: Input, dictionary: Dictionary, { model, chunk }: BlockMemory): Decoding {
  let needsDictionary = true;
  let needsProperties = true;
  for (;;) {
    const control = yield* input.byte();
    if (control === 0) return;
    if (control >= 0xe0 || control === 1) {
      needsDictionary = false;
      needsProperties = true;
      dictionary.reset();
    } else if (needsDictionary) {
      throw damaged('LZMA2 does not begin with a new dictionary');
    }
    if (control < 0x80) {
      if (control > 2) throw damaged('LZMA2 has a chunk of a kind that is not known');
      const size = yield* input.take(2);
      yield* copyStored(input, dictionary, (((size[0] as number) << 8) | (size[1] as number)) + 1);
      continue;
    }
    const sizes = yield* input.take(4);
    const unpacked = (((control & 0x1f) << 16) | ((sizes[0] as number) << 8) | (sizes[1] as number)) + 1;
    const packed = (((sizes[2] as number) << 8) | (sizes[3] as number)) + 1;
    if (control >= 0xc0) {
      model.setProperties(yield* input.byte());
      needsProperties = false;
    } else if (needsProperties) {
      throw damaged('LZMA2 does not begin with properties');
    }
    if (control >= 0xa0) model.reset();
    yield* input.fill(chunk, packed);
    chunk.fill(0, packed, packed + LOOKAHEAD_BYTES);
    yield* decodeChunk(model, dictionary, chunk, packed, unpacked);
  }
}

function* copyStored(input: Input, dictionary: Dictionary, bytes: number): Decoding {
  for (let left = bytes; left > 0; ) {
    const { at } = dictionary;
    const part = dictionary.limitFor(left) - at;
    yield* input.fill(dictionary.bytes.subarray(at, at + part), part);
    dictionary.advance(at + part);
    left -= part;
    yield { kind: 'piece', bytes: dictionary.give() };
  }
}

function* decodeChunk(
  model: LzmaModel,
  dictionary: Dictionary,
  chunk: Uint8Array,
  packed: number,
  unpacked: number,
): Decoding {
  if (packed < RANGE_CODER_BYTES) throw damaged('a chunk of LZMA2 is too short');
  model.startRangeCoder(chunk, 0);
  let read = RANGE_CODER_BYTES;
  for (let left = unpacked; left > 0; ) {
    const { at } = dictionary;
    const limit = dictionary.limitFor(left);
    read = decodeLzmaSymbols(model, dictionary, chunk, read, packed, limit);
    if (dictionary.at < limit || read > packed || model.ended) throw damaged('a chunk of LZMA2 is damaged');
    left -= limit - at;
    yield { kind: 'piece', bytes: dictionary.give() };
  }
  read = model.normalize(chunk, read);
  if (read !== packed || model.code !== 0 || model.pending > 0) throw damaged('a chunk of LZMA2 is damaged');
}

/** Reads the index after the blocks of a stream. @returns its size in bytes */
function* readIndex(input: Input, sums: BlockSums): Generator<DecoderEvent, number, void> {
  const start = input.offset;
  let crc = 0;
  const read = function* (): Generator<DecoderEvent, number, void> {
    const byte = yield* input.byte();
    crc = crc32(Uint8Array.of(byte), crc);
    return byte;
  };
  const readNumber = function* (): Generator<DecoderEvent, number, void> {
    const number = new VariableNumber();
    while (!number.add(yield* read()));
    return number.value;
  };
  yield* read();
  const count = yield* readNumber();
  const listed = new BlockSums();
  for (let index = 0; index < count; index++) listed.add(yield* readNumber(), yield* readNumber());
  if (!listed.equals(sums)) throw damaged('the index does not fit the blocks');
  while ((input.offset - start) % ALIGNMENT_BYTES !== 0) {
    if ((yield* read()) !== 0) throw damaged('the padding of the index is not zero');
  }
  if (readU32(yield* input.take(4), 0) !== crc) throw damaged('the checksum of the index does not fit');
  return input.offset - start;
}
