/** `__xen_guest`: the section that PV kernels had before there were notes. It holds `NAME=value,NAME=value`. */
import type { ByteWalk } from '../../elf/byte-walk.ts';
import type { StagedImage } from '../../elf/headers.ts';
import { asciiBytes, ImageReader } from '../../elf/image-reader.ts';
import { isStepEnd } from '../../elf/steps.ts';
import { U64_MAX } from '../../elf/u64.ts';
import { applyFeatures, type Draft, parseFeatures, short, unlessUnset, wrap } from './guest-parameters.ts';

const NAME = '__xen_guest';
const NAME_BYTES = asciiBytes(NAME);

/**
 * Looks for the section, and applies what it says.
 *
 * @returns whether there is one
 */
export function* readGuestSection(image: StagedImage, draft: Draft): ByteWalk<boolean> {
  const { headers, view, sectionCount } = image;
  const sections = headers.sectionHeaders;
  const { sh_name, sh_offset } = headers.format.sectionHeader.fields;
  const nameTable = view.number(headers.elfHeader, 0, headers.format.elfHeader.fields.e_shstrndx);
  if (nameTable >= sectionCount) return false;
  const reader = new ImageReader(headers, image.recorder);
  const names = Number(BigInt.asIntN(64, view.bigint(sections, nameTable, sh_offset)));
  for (let index = 1; index < sectionCount && view.hasEntry(sections, index); index++) {
    if (isStepEnd(index)) yield null;
    const nameAt = names + view.number(sections, index, sh_name);
    if (!(yield* reader.isString(`name of section ${index}`, nameAt, NAME_BYTES))) continue;
    const start = Number(BigInt.asIntN(64, view.bigint(sections, index, sh_offset)));
    // The reference prints the string first, which records one that is too long.
    yield* reader.string(NAME, start);
    yield* parseSection(reader, start, draft);
    return true;
  }
  return false;
}

/** Parses up to the NUL or the end of the image, a block at a time. */
function* parseSection(reader: ImageReader, start: number, draft: Draft): ByteWalk<void> {
  const parser = new SectionParser(draft);
  let blocks = 0;
  for (let at = start; !parser.ended; ) {
    if (!reader.isInside(at)) {
      reader.recordOutside(NAME, at, 1);
      break;
    }
    const bytes = yield* reader.rest(at);
    parser.push(bytes);
    at += bytes.length;
    blocks += 1;
    if (blocks % BLOCKS_PER_TURN === 0) yield null;
  }
  parser.finish();
}

const BLOCKS_PER_TURN = 128;

/** Longer names and values are split into pieces of these lengths, those of the reference's buffers. */
const MAX_NAME_LENGTH = 31;
const MAX_VALUE_LENGTH = 127;
const NUL = 0;
const COMMA = ','.charCodeAt(0);
const EQUALS = '='.charCodeAt(0);

/** Parses the section's bytes as they arrive, and applies every pair to the draft. */
class SectionParser {
  readonly #draft: Draft;
  #name = '';
  /** Null while the name is read. */
  #value: string | null = null;
  /** Whether anything of a pair has been read. */
  #begun = false;
  #ended = false;

  constructor(draft: Draft) {
    this.#draft = draft;
  }

  /** Whether the NUL was seen, or a feature that ends the section. */
  get ended(): boolean {
    return this.#ended;
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.#ended; at++) this.#take(bytes[at] ?? NUL);
  }

  /** Ends the section, and completes what depends on all of it. */
  finish(): void {
    if (this.#begun) this.#apply();
    const draft = this.#draft;
    if (draft.virtHypercall !== null && draft.virtBase !== null) {
      draft.virtHypercall = unlessUnset(wrap(draft.virtHypercall + draft.virtBase));
    }
  }

  #take(code: number): void {
    if (code === NUL) {
      this.#ended = true;
      return;
    }
    if (code === COMMA) {
      this.#apply();
      return;
    }
    this.#begun = true;
    if (this.#value === null) {
      if (code === EQUALS) this.#value = '';
      else if (this.#name.length < MAX_NAME_LENGTH) this.#name += String.fromCharCode(code);
      else this.#startAnew(code);
    } else if (this.#value.length < MAX_VALUE_LENGTH) this.#value += String.fromCharCode(code);
    else this.#startAnew(code);
  }

  /** The character does not fit into the buffer: it begins the next name. */
  #startAnew(code: number): void {
    this.#apply();
    if (!this.#ended) this.#take(code);
  }

  #apply(): void {
    const isUsable = applyPair(this.#draft, this.#name, this.#value ?? '');
    this.#name = '';
    this.#value = null;
    this.#begun = false;
    if (!isUsable) this.#ended = true;
  }
}

const PAGE_BITS = 12n;

/** @returns false for an unknown required feature, which ends the section */
function applyPair(draft: Draft, name: string, value: string): boolean {
  switch (name) {
    case 'LOADER':
      draft.loader = short(value);
      break;
    case 'GUEST_OS':
      draft.guestOs = short(value);
      break;
    case 'GUEST_VER':
      draft.guestVersion = short(value);
      break;
    case 'XEN_VER':
      draft.xenVersion = short(value);
      break;
    case 'PAE':
      if (value === 'yes[extended-cr3]') draft.pae = 2;
      else if (value.startsWith('yes')) draft.pae = 1;
      break;
    case 'BSD_SYMTAB':
      draft.bsdSymtab = true;
      break;
    case 'VIRT_BASE':
      draft.virtBase = unlessUnset(parseInteger(value));
      break;
    case 'VIRT_ENTRY':
      draft.virtEntry = unlessUnset(parseInteger(value));
      break;
    case 'ELF_PADDR_OFFSET':
      draft.elfPaddrOffset = unlessUnset(parseInteger(value));
      break;
    case 'HYPERCALL_PAGE':
      // A page of the kernel. The virtual base is added at the end of the section.
      draft.virtHypercall = unlessUnset(wrap(parseInteger(value) << PAGE_BITS));
      break;
    case 'FEATURES':
      return applyFeatures(draft, parseFeatures(value));
    default:
      break;
  }
  return true;
}

/** As C's `strtoull` with base 0: hex, octal or decimal up to the first other character, saturating. */
function parseInteger(text: string): bigint {
  const [, sign, digits = '0'] = /^[\t-\r ]*([+-]?)(0[xX][0-9a-fA-F]+|\d+)/.exec(text) ?? [];
  const octal = /^0[0-7]+/.exec(digits)?.[0];
  const isHex = /^0x/i.test(digits);
  const number = isHex ? digits : octal !== undefined ? `0o${octal.slice(1)}` : digits.startsWith('0') ? '0' : digits;
  const value = BigInt(number);
  if (value > U64_MAX) return U64_MAX;
  return sign === '-' ? wrap(-value) : value;
}
