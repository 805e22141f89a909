/** Changes images where it hurts: header fields, tables, notes, strings, sizes. */
import {
  EI_CLASS,
  EI_DATA,
  ELF32,
  ELF64,
  ELFCLASS64,
  ELFDATA2LSB,
  type Field,
  type Struct,
} from '../../src/elf/format.ts';
import { readField, writeField } from '../../test/support/elf-builder.ts';
import type { Random } from './random.ts';

/** Growth ends here; a few images go further, so that limits are met. */
const MAX_BYTES = 512 * 1024;
const MAX_GROWN_BYTES = 4 * 1024 * 1024;

interface Table {
  readonly struct: Struct;
  readonly at: number;
  readonly stride: number;
  readonly count: number;
}

/** An image as far as its ELF header can be believed. */
interface Anatomy {
  readonly bytes: Uint8Array;
  readonly littleEndian: boolean;
  readonly elfHeader: Struct;
  readonly symbol: Struct;
  /** Where the ELF header is: in a blob it follows the size word. */
  readonly start: number;
  readonly programHeaders: Table;
  readonly sectionHeaders: Table;
}

function dissect(bytes: Uint8Array): Anatomy {
  const start = bytes[0] === 0x7f ? 0 : 4;
  const format = bytes[start + EI_CLASS] === ELFCLASS64 ? ELF64 : ELF32;
  const littleEndian = bytes[start + EI_DATA] === ELFDATA2LSB;
  const { fields } = format.elfHeader;
  const read = (field: Field): number => Number(readField(bytes, start, field, littleEndian));
  return {
    bytes,
    littleEndian,
    start,
    elfHeader: format.elfHeader,
    symbol: format.symbol,
    programHeaders: {
      struct: format.programHeader,
      at: start + read(fields.e_phoff),
      stride: read(fields.e_phentsize),
      count: read(fields.e_phnum),
    },
    sectionHeaders: {
      struct: format.sectionHeader,
      at: start + read(fields.e_shoff),
      stride: read(fields.e_shentsize),
      count: read(fields.e_shnum),
    },
  };
}

/** A value with a liking for the edges of an image of `size` bytes, and of the types. */
function edge(random: Random, size: number): bigint {
  switch (random.below(8)) {
    case 0:
      return random.pick([0n, 1n, 2n, 3n, 4n, 7n, 8n, 16n, 24n, 40n, 56n, 64n, 4096n, 65_535n]);
    case 1:
      return random.pick([2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 64n]);
    case 2:
      return BigInt(size + random.between(-64, 8)) & (2n ** 64n - 1n);
    case 3:
      return 2n ** 64n - BigInt(random.below(size + 1));
    case 4:
      return random.u64();
    default:
      return BigInt(random.below(size + 1));
  }
}

const isIn = (bytes: Uint8Array, at: number, length: number): boolean => at >= 0 && at + length <= bytes.length;

function setField({ bytes, littleEndian }: Anatomy, at: number, field: Field, value: bigint): void {
  if (isIn(bytes, at + field.offset, field.width)) writeField(bytes, at, field, value, littleEndian);
}

/** A field of the entry at `at` is set to something. */
function lie(random: Random, image: Anatomy, struct: Struct, at: number): void {
  const field = random.pick(Object.values(struct.fields).filter(({ width }) => width <= 8));
  setField(image, at, field, edge(random, image.bytes.length));
}

const entryOf = (random: Random, { at, stride, count }: Table): number =>
  at + stride * random.below(Math.max(1, Math.min(count, 300)));

type Mutation = (random: Random, image: Anatomy, others: readonly Uint8Array[]) => Uint8Array | void;

const MUTATIONS: readonly Mutation[] = [
  function lieInElfHeader(random, image) {
    lie(random, image, image.elfHeader, image.start);
  },
  function lieInProgramHeader(random, image) {
    lie(random, image, image.programHeaders.struct, entryOf(random, image.programHeaders));
  },
  function lieInSectionHeader(random, image) {
    lie(random, image, image.sectionHeaders.struct, entryOf(random, image.sectionHeaders));
  },
  function lieInSymbol(random, image) {
    const at = random.below(image.bytes.length) & ~7;
    lie(random, image, image.symbol, at);
  },
  function retype(random, image) {
    const [type] = Object.values(image.programHeaders.struct.fields);
    const { sh_type } = image.sectionHeaders.struct.fields as Record<string, Field>;
    if (random.once(2) && type !== undefined) {
      setField(image, entryOf(random, image.programHeaders), type, BigInt(random.pick([0, 1, 4])));
    } else if (sh_type !== undefined) {
      setField(image, entryOf(random, image.sectionHeaders), sh_type, BigInt(random.pick([0, 1, 2, 3, 7, 8, 11])));
    }
  },
  function crowd(random, image) {
    // One header, or what lies over each other, counts as tens of thousands.
    const { fields } = image.elfHeader;
    const [size, count] = random.once(2) ? ['e_phentsize', 'e_phnum'] : ['e_shentsize', 'e_shnum'];
    const [sizeField, countField] = [fields[size ?? ''], fields[count ?? '']];
    if (sizeField === undefined || countField === undefined) return;
    if (random.once(2))
      setField(image, image.start, sizeField, BigInt(random.pick([0, 1, 2, 4, 8, 12, 16, 24, 32, 40])));
    setField(image, image.start, countField, BigInt(random.pick([1000, 4096, 32_768, 65_535])));
  },
  function wrap(random, image) {
    // A table that begins beyond 2^63 and comes back into the image at 0.
    const { fields } = image.elfHeader;
    const table = random.once(2) ? image.programHeaders : image.sectionHeaders;
    const names =
      table === image.programHeaders ? ['e_phoff', 'e_phentsize', 'e_phnum'] : ['e_shoff', 'e_shentsize', 'e_shnum'];
    const stride = random.pick([table.struct.size, table.stride, 1, 24, 100, 4096, 5000]);
    const outside = random.below(200);
    const inside = random.below(1 + Math.floor(image.bytes.length / Math.max(1, stride)));
    const values = [2n ** 64n - BigInt(outside * stride + random.below(stride + 1)), stride, outside + inside];
    for (const [index, value] of values.entries()) {
      const field = fields[names[index] ?? ''];
      if (field !== undefined) setField(image, image.start, field, BigInt(value));
    }
  },
  function multiply(random, image) {
    // A table grows: its headers are repeated at the end of the image, each a little different.
    const { bytes, programHeaders, sectionHeaders, elfHeader, start, littleEndian } = image;
    const isProgram = random.once(2);
    const table = isProgram ? programHeaders : sectionHeaders;
    const { size, fields } = table.struct;
    const limit = random.once(4) ? MAX_GROWN_BYTES : MAX_BYTES;
    const room = Math.floor((limit - bytes.length) / size);
    const count = Math.min(room, random.pick([10, 100, 2000, 20_000, 65_535]));
    if (count <= 0) return;
    const at = Math.ceil(bytes.length / 8) * 8;
    const grown = new Uint8Array(at + count * size);
    grown.set(bytes);
    const templates = Array.from({ length: 4 }, () => {
      const from = entryOf(random, table);
      return isIn(bytes, from, size) ? bytes.subarray(from, from + size) : new Uint8Array(size);
    });
    const varied = random.pick(Object.values(fields));
    const step = random.pick([0, 1, 8, 64, 4096]);
    for (let index = 0; index < count; index++) {
      const to = at + index * size;
      grown.set(random.pick(templates), to);
      const value = readField(grown, to, varied, littleEndian) + BigInt(index * step);
      if (step > 0) writeField(grown, to, varied, value, littleEndian);
    }
    const all = elfHeader.fields as Record<string, Field>;
    const names = isProgram ? ['e_phoff', 'e_phentsize', 'e_phnum'] : ['e_shoff', 'e_shentsize', 'e_shnum'];
    [at - start, size, count].forEach((value, index) => {
      const field = all[names[index] ?? ''];
      if (field !== undefined) writeField(grown, start, field, BigInt(value), littleEndian);
    });
    return grown;
  },
  function flipBits(random, { bytes }) {
    for (let flips = random.between(1, 8); flips > 0; flips--) {
      const at = random.below(bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    }
  },
  function fill(random, { bytes }) {
    const from = random.below(bytes.length);
    const pattern = random.pick([[0], [0xff], [0x61], [0x61, 0], [1, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]]);
    const end = Math.min(bytes.length, from + (1 << random.below(16)));
    for (let at = from; at < end; at++) bytes[at] = pattern[(at - from) % pattern.length] ?? 0;
  },
  function copyRange(random, { bytes }, others) {
    const from = random.once(2) ? bytes : random.pick(others);
    if (from.length === 0) return;
    const start = random.below(from.length);
    const piece = from.slice(start, start + (1 << random.below(12)));
    const to = random.below(bytes.length) & (random.once(3) ? -1 : ~7);
    bytes.set(piece.subarray(0, bytes.length - to), to);
  },
  function truncate(random, { bytes }) {
    return bytes.slice(0, random.below(bytes.length + 1));
  },
  function extend(random, { bytes }) {
    const room = Math.max(0, MAX_BYTES - bytes.length);
    const grown = new Uint8Array(bytes.length + Math.min(room, 1 << random.below(19)));
    grown.set(bytes);
    grown.fill(random.pick([0, 0, 0xff, 0x61]), bytes.length);
    return grown;
  },
  function repeatNotes(random, image) {
    // A chain of notes as long as the room that is left, in the place of a segment or section.
    const { bytes, littleEndian } = image;
    const from = random.below(bytes.length) & ~3;
    const note = random.pick([
      [0, 0, 0],
      [4, 0, 1, 0x006e_6558],
      [4, 4, random.below(20), 0x006e_6558, random.u32()],
      [4, 0, 3, 0x0055_4e47],
    ]);
    const room = Math.floor((bytes.length - from) / (note.length * 4));
    const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let index = 0; index < Math.min(room, 70_000); index++) {
      note.forEach((word, part) => data.setUint32(from + (index * note.length + part) * 4, word, littleEndian));
    }
  },
];

/** A mutated copy. @param others images to take pieces of */
export function mutate(random: Random, seed: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  let bytes = seed.slice();
  for (let times = random.pick([1, 1, 2, 2, 3, 5, 8]); times > 0 && bytes.length > 0; times--) {
    bytes = random.pick(MUTATIONS)(random, dissect(bytes), others)?.slice() ?? bytes;
  }
  return bytes;
}
