/**
 * The filters of xz: those that turn the absolute targets of branches back into relative ones, and delta. Filters work in
 * place. Each returns how many bytes it has finished; the rest must be passed again together with the bytes that follow.
 */
import { readU32, readU32BigEndian } from './decoder.ts';

/** A filter over bytes that come in pieces. */
export interface Filter {
  /**
   * Undoes the filter in place.
   *
   * @param position of the first byte among all of them, modulo 2^32
   * @returns how many bytes are finished
   */
  apply(bytes: Uint8Array, position: number): number;
}

const writeU32 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
};

const writeU32BigEndian = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
};

/** A filter without state, for instructions of one size and alignment. */
const stateless = (
  instructionBytes: number,
  convert: (bytes: Uint8Array, at: number, position: number) => void,
): (() => Filter) => {
  const filter: Filter = {
    apply(bytes, position) {
      let at = 0;
      for (; at + instructionBytes <= bytes.length; at += instructionBytes) convert(bytes, at, position + at);
      return at;
    },
  };
  return () => filter;
};

/** BL with the condition "always". */
const arm = stateless(4, (bytes, at, position) => {
  if (bytes[at + 3] !== 0xeb) return;
  const target = (readU32(bytes, at) << 2) - (position + 8);
  writeU32(bytes, at, 0xeb00_0000 | ((target >>> 2) & 0x00ff_ffff));
});

/** BL and ADRP. */
const arm64 = stateless(4, (bytes, at, position) => {
  const instruction = readU32(bytes, at);
  if (instruction >>> 26 === 0x25) {
    writeU32(bytes, at, 0x9400_0000 | ((instruction - (position >>> 2)) & 0x03ff_ffff));
    return;
  }
  if ((instruction & 0x9f00_0000) >>> 0 !== 0x9000_0000) return;
  const page = ((instruction >>> 29) & 3) | ((instruction >>> 3) & 0x1f_fffc);
  // Only pages within 512 MiB were converted.
  if (((page + 0x2_0000) & 0x1c_0000) !== 0) return;
  const target = page - (position >>> 12);
  writeU32(
    bytes,
    at,
    (instruction & 0x9000_001f) |
      ((target & 3) << 29) |
      ((target & 0x3_fffc) << 3) |
      (-(target & 0x2_0000) & 0xe0_0000),
  );
});

/** `bl`, with LK set and AA not. */
const powerpc = stateless(4, (bytes, at, position) => {
  const instruction = readU32BigEndian(bytes, at);
  if (instruction >>> 26 !== 0x12 || (instruction & 3) !== 1) return;
  writeU32BigEndian(bytes, at, 0x4800_0001 | ((instruction - position) & 0x03ff_fffc));
});

/** `call` to a target whose upper bits are all equal. */
const sparc = stateless(4, (bytes, at, position) => {
  const instruction = readU32BigEndian(bytes, at);
  const top = instruction >>> 22;
  if (top !== 0x100 && top !== 0x1ff) return;
  const target = ((instruction << 2) - position) >>> 2;
  const sign = (target & 0x40_0000) !== 0 ? 0x3fc0_0000 : 0;
  writeU32BigEndian(bytes, at, 0x4000_0000 | sign | (target & 0x3f_ffff));
});

/** Bytes of a bundle of three instructions. */
const IA64_BUNDLE_BYTES = 16;
/** By the template of a bundle: which of its instructions, as bits, can be branches. */
const IA64_BRANCHES = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 6, 6, 0, 0, 7, 7, 4, 4, 0, 0, 4, 4, 0, 0];

const ia64 = stateless(IA64_BUNDLE_BYTES, (bytes, at, position) => {
  const branches = IA64_BRANCHES[(bytes[at] as number) & 0x1f] ?? 0;
  for (let slot = 0; slot < 3; slot++) if (((branches >>> slot) & 1) !== 0) convertSlot(bytes, at, slot, position);
});

function convertSlot(bytes: Uint8Array, bundle: number, slot: number, position: number): void {
  const bit = 5 + 41 * slot;
  const at = bundle + (bit >>> 3);
  const shift = BigInt(bit & 7);
  let word = 0n;
  for (let index = 5; index >= 0; index--) word = (word << 8n) | BigInt(bytes[at + index] as number);
  const instruction = word >> shift;
  if (((instruction >> 37n) & 0xfn) !== 5n || ((instruction >> 9n) & 7n) !== 0n) return;
  const absolute = (Number((instruction >> 13n) & 0xf_ffffn) | (Number((instruction >> 36n) & 1n) << 20)) << 4;
  const target = BigInt(((absolute - position) >>> 4) & 0x1f_ffff);
  const kept = instruction & ~(0x8f_ffffn << 13n);
  const converted = kept | ((target & 0xf_ffffn) << 13n) | ((target & 0x10_0000n) << 16n);
  let out = (word & ((1n << shift) - 1n)) | (converted << shift);
  for (let index = 0; index < 6; index++) {
    bytes[at + index] = Number(out & 0xffn);
    out >>= 8n;
  }
}

/** BL of Thumb: a pair of halfwords. */
const armThumb = (): Filter => ({
  apply(bytes, position) {
    let at = 0;
    for (; at + 4 <= bytes.length; at += 2) {
      const high = bytes[at + 1] as number;
      const low = bytes[at + 3] as number;
      if ((high & 0xf8) !== 0xf0 || (low & 0xf8) !== 0xf8) continue;
      const absolute =
        ((high & 7) << 19) | ((bytes[at] as number) << 11) | ((low & 7) << 8) | (bytes[at + 2] as number);
      const target = ((absolute << 1) - (position + at + 4)) >>> 1;
      bytes[at + 1] = 0xf0 | ((target >>> 19) & 7);
      bytes[at] = target >>> 11;
      bytes[at + 3] = 0xf8 | ((target >>> 8) & 7);
      bytes[at + 2] = target;
      at += 2;
    }
    return at;
  },
});

/** An instruction that this filter looks at, and the one after it. */
const RISCV_PAIR_BYTES = 8;
const RISCV_AUIPC = 0x17;

/**
 * JAL that links to x1 or x5, and AUIPC with the load, store, addition or jump after it that uses its result. A pair was
 * turned into an AUIPC of x2, which no compiler makes, and a whole address, big-endian; an AUIPC that looked like that
 * already was turned into something else, which is undone here, too.
 */
const riscv = (): Filter => ({
  apply(bytes, position) {
    let at = 0;
    while (at + RISCV_PAIR_BYTES <= bytes.length) {
      const opcode = bytes[at] as number;
      if (opcode === 0xef) at += convertJal(bytes, at, position + at);
      else if ((opcode & 0x7f) === RISCV_AUIPC) at += convertAuipc(bytes, at, position + at);
      else at += 2;
    }
    return at;
  },
});

/** @returns how far it is to the next place to be looked at */
function convertJal(bytes: Uint8Array, at: number, position: number): number {
  const low = bytes[at + 1] as number;
  // x1 and x5 differ in one bit.
  if ((low & 0x0d) !== 0) return 2;
  const absolute = ((low & 0xf0) << 13) | ((bytes[at + 2] as number) << 9) | ((bytes[at + 3] as number) << 1);
  const target = (absolute - position) | 0;
  bytes[at + 1] = (low & 0x0f) | ((target >>> 8) & 0xf0);
  bytes[at + 2] = ((target >>> 16) & 0x0f) | ((target >>> 7) & 0x10) | ((target << 4) & 0xe0);
  bytes[at + 3] = ((target >>> 4) & 0x7f) | ((target >>> 13) & 0x80);
  return 4;
}

/** @returns how far it is to the next place to be looked at */
function convertAuipc(bytes: Uint8Array, at: number, position: number): number {
  const first = readU32(bytes, at);
  if ((first & 0xe80) !== 0) {
    // Its register is neither x0 nor x2. With a user of its result after it, it stands for one that looked converted.
    const user = readU32(bytes, at + 4);
    if ((((first << 8) ^ (user - 3)) & 0xf_8003) !== 0) return 6;
    writeU32(bytes, at, RISCV_AUIPC | (2 << 7) | (user << 12));
    writeU32(bytes, at + 4, (first & 0xffff_f000) + (user >>> 20));
    return RISCV_PAIR_BYTES;
  }
  // The register that the user reads; x0 and x2 were never converted, and the user has to be one.
  const register = first >>> 27;
  if (((first - 0x3117) << 18) >>> 0 >= (register & 0x1d)) return 4;
  const target = (readU32BigEndian(bytes, at + 4) - position) | 0;
  writeU32(bytes, at, RISCV_AUIPC | (register << 7) | ((target + 0x800) & 0xffff_f000));
  writeU32(bytes, at + 4, (first >>> 12) | (target << 20));
  return RISCV_PAIR_BYTES;
}

/** An opcode and its operand. */
const X86_INSTRUCTION_BYTES = 5;

const isSignByte = (byte: number): boolean => byte === 0 || byte === 0xff;

/**
 * CALL and JMP. An opcode that lies in the operand of an earlier one is probably a false positive. So the bytes before an
 * opcode that look like opcodes themselves decide whether it is converted, and how.
 */
class X86Filter implements Filter {
  /** Bit n: the byte n + 1 positions before looked like an opcode. Bit 4: the last byte of its operand looked like a sign. */
  #history = 0;
  /** Distance from the last opcode to the next byte. */
  #since = 5;

  apply(bytes: Uint8Array, position: number): number {
    let at = 0;
    while (at + X86_INSTRUCTION_BYTES <= bytes.length) {
      const opcode = bytes[at] as number;
      if ((opcode & 0xfe) !== 0xe8) {
        at += 1;
        this.#since += 1;
        continue;
      }
      // Opcodes more than 5 bytes back do not count.
      if (this.#since > 5) this.#history = 0;
      else for (let step = 0; step < this.#since; step++) this.#history = (this.#history & 0x77) << 1;
      this.#since = 0;
      const sign = bytes[at + 4] as number;
      if (isSignByte(sign) && this.#mayConvert()) {
        this.#convert(bytes, at, position + at + X86_INSTRUCTION_BYTES);
        at += X86_INSTRUCTION_BYTES;
        this.#since = X86_INSTRUCTION_BYTES;
        this.#history = 0;
      } else {
        at += 1;
        this.#since = 1;
        this.#history |= isSignByte(sign) ? 0x11 : 1;
      }
    }
    return at;
  }

  /** Whether no earlier opcode is near, or only one whose operand leaves room for this one. */
  #mayConvert(): boolean {
    const before = this.#history >>> 1;
    return before < 0x10 && [0, 1, 2, 4].includes(before & 7);
  }

  #convert(bytes: Uint8Array, at: number, next: number): void {
    let operand = readU32(bytes, at + 1);
    let target = (operand - next) | 0;
    const before = this.#history >>> 1;
    if (this.#history !== 0) {
      const shift = 24 - 8 * (before >= 4 ? 3 : before >= 2 ? 2 : before);
      // The byte that an earlier opcode would take for a sign must not look like one.
      while (isSignByte((target >>> shift) & 0xff)) {
        operand = target ^ (2 ** (shift + 8) - 1);
        target = (operand - next) | 0;
      }
    }
    writeU32(bytes, at + 1, (target & 0x01ff_ffff) | ((target & 0x0100_0000) !== 0 ? 0xff00_0000 : 0));
    if ((target & 0x0100_0000) === 0) bytes[at + 4] = 0;
  }
}

/** Each byte is the difference to the one `distance` before. */
export class DeltaFilter implements Filter {
  readonly #history: Uint8Array;
  #at = 0;

  constructor(distance: number) {
    this.#history = new Uint8Array(distance);
  }

  apply(bytes: Uint8Array): number {
    const history = this.#history;
    let place = this.#at;
    for (let at = 0; at < bytes.length; at++) {
      const value = ((bytes[at] as number) + (history[place] as number)) & 0xff;
      bytes[at] = value;
      history[place] = value;
      place += 1;
      if (place === history.length) place = 0;
    }
    this.#at = place;
    return bytes.length;
  }
}

/** A filter for the code of a processor. */
interface BranchFilter {
  readonly name: string;
  /** Its start offset must be a multiple of this. */
  readonly alignment: number;
  readonly create: () => Filter;
}

/** By the ID in the file. */
export const BRANCH_FILTERS: ReadonlyMap<number, BranchFilter> = new Map([
  [0x04, { name: 'x86', alignment: 1, create: () => new X86Filter() }],
  [0x05, { name: 'powerpc', alignment: 4, create: powerpc }],
  [0x06, { name: 'ia64', alignment: 16, create: ia64 }],
  [0x07, { name: 'arm', alignment: 4, create: arm }],
  [0x08, { name: 'armthumb', alignment: 2, create: armThumb }],
  [0x09, { name: 'sparc', alignment: 4, create: sparc }],
  [0x0a, { name: 'arm64', alignment: 4, create: arm64 }],
  [0x0b, { name: 'riscv', alignment: 2, create: riscv }],
]);
