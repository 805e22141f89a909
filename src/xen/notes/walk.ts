/**
 * Xen's notes, and whether Xen's ELF library accepts a kernel as a PV and as an HVM (PVH) guest. The walk asks for
 * blocks of the image, see `elf/image-reader.ts`. Its work is bounded by 65,536 notes and the section headers.
 */
import type { ByteWalk } from '../../elf/byte-walk.ts';
import { PT_NOTE, SHT_NOTE } from '../../elf/format.ts';
import { type ElfImage, enterStage, type StagedImage } from '../../elf/headers.ts';
import { asciiBytes, ImageReader, latin1 } from '../../elf/image-reader.ts';
import { type Note, readNote } from '../../elf/notes.ts';
import { isStepEnd } from '../../elf/steps.ts';
import { U64_END } from '../../elf/u64.ts';
import { countSame } from '../../elf/view.ts';
import type { KernelRange } from '../segments.ts';
import {
  applyNote,
  blankDraft,
  type Draft,
  type Features,
  type GuestKind,
  type GuestParameters,
  isStringNote,
  NOTE_NAMES,
  type NoteName,
  parseFeatures,
  WORDS_NEEDED,
  type XenNote,
} from './guest-parameters.ts';
import { readGuestSection } from './guest-section.ts';
import { judgeDraft } from './judge.ts';

/** How many notes, of any name, are read in one image. */
export const MAX_NOTES = 65_536;

/** What Xen makes of a kernel, for each kind of guest. */
export interface XenNotes extends Readonly<Record<GuestKind, GuestParameters>> {
  /** Where the kernel describes itself to Xen: notes named `Xen`, or the section `__xen_guest`; null for neither. */
  readonly source: 'notes' | 'guest-section' | null;
}

/**
 * Reads the notes of an image that passed stage `segments`, and judges it for both kinds of guests.
 *
 * Each kind of guest continues separately from what was recorded so far.
 * Source: docs/loader.md. Never throws.
 */
export function* walkXenNotes(image: ElfImage, kernel: KernelRange): ByteWalk<XenNotes> {
  const staged = enterStage(image, 'notes');
  const walk = new Walk(staged);
  yield* walk.run();
  const { recorded } = staged.recorder;

  const pv = walk.copyDraft();
  const pvImage = enterStage({ ...image, recorded }, 'notes');
  const hvm = walk.copyDraft();
  const hvmImage = enterStage({ ...image, recorded }, 'notes');
  let hasGuestSection = false;
  if (walk.valid) {
    const source = walk.hasChain ? 'notes' : 'none';
    hasGuestSection = walk.found === 0 && (yield* readGuestSection(pvImage, pv));
    judgeDraft('pv', pv, pvImage, kernel, hasGuestSection ? 'guest-section' : source);
    judgeDraft('hvm', hvm, hvmImage, kernel, source);
  }
  pv.broken ??= recorded;
  hvm.broken ??= recorded;
  return { pv, hvm, source: walk.found > 0 || !walk.valid ? 'notes' : hasGuestSection ? 'guest-section' : null };
}

const NOTE_OWNER = asciiBytes('Xen');
/** Whatever the alignment of the segment or section. */
const XEN_ALIGNMENT = 4;

/**
 * Where the reference has the image in its address space. Chains are bounded by pointers, which wrap at 2^64: one
 * whose end wraps below its start is empty. Only the order of magnitude matters.
 */
const IMAGE_ADDRESS = 2n ** 46n;

/** The content of a chain of notes, kept because 65,535 headers may lead to the same one. */
interface Chain {
  /** In bytes. */
  readonly size: number;
  /** One for each note; null for those of another owner. */
  readonly notes: readonly (XenNote | null)[];
  /** Image offset of each note. */
  readonly offsets: readonly number[];
}

/** Strings whose features or text are kept. */
const MAX_KEPT_TEXTS = 1024;

class Walk {
  readonly #image: StagedImage;
  readonly #reader: ImageReader;
  readonly #draft = blankDraft();
  readonly #notes: Partial<Record<NoteName, string | bigint>> = {};
  /** By image offset; of several chains that begin there, the last. All together hold `MAX_NOTES` notes at most. */
  readonly #chains = new Map<number, Chain>();
  /** By image offset. */
  readonly #texts = new Map<number, string>();
  readonly #features = new Map<number, Features>();
  /** Notes of any name. */
  #seen = 0;
  /** Notes named `Xen`. */
  found = 0;
  /** Whether there is a segment or section of notes, whatever is in it. */
  hasChain = false;
  /** False once a note has made the image unusable. */
  valid = true;

  constructor(image: StagedImage) {
    this.#image = image;
    this.#reader = new ImageReader(image.headers, image.recorder);
  }

  copyDraft(): Draft {
    return { ...this.#draft, notes: this.#notes };
  }

  /** Segments first; sections only when the segments hold no note named `Xen`. */
  *run(): ByteWalk<void> {
    const { headers, view, sectionCount } = this.#image;
    const segments = headers.programHeaders;
    const { p_type, p_offset, p_filesz } = headers.format.programHeader.fields;
    for (let index = 0, same = 1; index < segments.count && view.hasEntry(segments, index); index += same) {
      if (isStepEnd(index)) yield null;
      same = countSame(segments, index);
      if (view.number(segments, index, p_type) !== PT_NOTE) continue;
      const offset = view.bigint(segments, index, p_offset);
      // Old linkers forgot the offset of note segments.
      if (offset === 0n) continue;
      yield* this.#followChain(offset, view.bigint(segments, index, p_filesz), same);
      if (!this.valid) return;
    }
    if (this.found > 0) return;

    const sections = headers.sectionHeaders;
    const { sh_type, sh_offset, sh_size } = headers.format.sectionHeader.fields;
    for (let index = 1, same = 1; index < sectionCount && view.hasEntry(sections, index); index += same) {
      if (isStepEnd(index)) yield null;
      same = countSame(sections, index);
      if (view.number(sections, index, sh_type) !== SHT_NOTE) continue;
      const offset = view.bigint(sections, index, sh_offset);
      yield* this.#followChain(offset, view.bigint(sections, index, sh_size), same);
      if (!this.valid) return;
    }
  }

  /** @param headers how many headers in a row lead to the chain */
  *#followChain(offset: bigint, size: bigint, headers: number): ByteWalk<void> {
    this.hasChain = true;
    const address = BigInt.asUintN(64, offset + IMAGE_ADDRESS);
    if (address + size >= U64_END) return;
    const start = Number(BigInt.asIntN(64, offset));
    const chainSize = Number(size);
    let chain = this.#chains.get(start);
    if (chain?.size === chainSize) {
      // Reading it again would give the same, and record nothing new.
      for (const [index, note] of chain.notes.entries()) {
        if (!this.#countNote(chain.offsets[index] ?? 0) || !this.#apply(note)) return;
      }
    } else {
      chain = yield* this.#readChain(start, chainSize);
      this.#chains.set(start, chain);
    }
    // Applying it twice in a row is the same as once.
    if (this.valid) this.#countAgain(chain, headers - 1);
  }

  /** Counts the notes of a chain that is followed so many times more. */
  #countAgain({ offsets }: Chain, times: number): void {
    const room = MAX_NOTES - this.#seen;
    const notes = offsets.length * times;
    this.#seen += Math.min(notes, room);
    if (notes > room) this.#countNote(offsets[room % offsets.length] ?? 0);
  }

  *#readChain(start: number, chainSize: number): ByteWalk<Chain> {
    const reader = this.#reader;
    const chain = { size: chainSize, notes: [] as (XenNote | null)[], offsets: [] as number[] };
    for (let at = start; at - start < chainSize && this.#countNote(at); ) {
      if (isStepEnd(this.#seen)) yield null;
      const header = yield* readNote(reader, at, XEN_ALIGNMENT);
      const isXen = yield* reader.isString('name of a note', header.nameAt, NOTE_OWNER);
      const note = isXen ? yield* this.#readXenNote(header) : null;
      chain.notes.push(note);
      chain.offsets.push(at);
      if (!this.#apply(note)) break;
      // The chain ends where it leaves the image. The note there has been counted, and its missing fields recorded.
      if (!reader.isInside(at)) break;
      at = header.end;
    }
    return chain;
  }

  /** False, and recorded, when the image has more notes than are read. */
  #countNote(offset: number): boolean {
    if (this.#seen === MAX_NOTES) {
      this.#image.recorder.record('too-many-notes', () => ({
        what: 'notes',
        offset: BigInt.asUintN(64, BigInt(offset)),
        length: null,
        detail: `The image has more than ${MAX_NOTES} notes; kernels have a few dozen at most.`,
      }));
      return false;
    }
    this.#seen++;
    return true;
  }

  #apply(note: XenNote | null): boolean {
    if (note === null) return true;
    this.valid = applyNote(this.#draft, this.#notes, note);
    if (this.valid) this.found++;
    return this.valid;
  }

  *#readXenNote({ typeAt, descAt: desc, descSize: size }: Note): ByteWalk<XenNote> {
    const reader = this.#reader;
    const name = NOTE_NAMES[reader.wordAtHand(typeAt) ?? (yield* reader.word('type of a note', typeAt))] ?? null;
    if (name === null) return { name };
    const what = `${name} note`;
    if (isStringNote(name)) {
      const text = yield* this.#readText(what, desc);
      if (text === null) return { name: null };
      return name === 'FEATURES' ? { name, text, features: this.#readFeatures(desc, text) } : { name, text };
    }
    // These are not single values.
    const value = name === 'L1_MFN_VALID' || name === 'PHYS32_RELOC' ? 0n : yield* reader.number(what, desc, size);
    return { name, value, words: yield* reader.words(what, desc, size, WORDS_NEEDED[name] ?? 0), size };
  }

  *#readText(what: string, at: number): ByteWalk<string | null> {
    const known = this.#texts.get(at);
    if (known !== undefined) return known;
    const bytes = yield* this.#reader.string(what, at);
    if (bytes === null) return null;
    const text = latin1(bytes);
    keep(this.#texts, at, text);
    return text;
  }

  #readFeatures(at: number, text: string): Features {
    const features = this.#features.get(at) ?? parseFeatures(text);
    keep(this.#features, at, features);
    return features;
  }
}

function keep<T>(kept: Map<number, T>, at: number, value: T): void {
  if (kept.size === MAX_KEPT_TEXTS) kept.clear();
  kept.set(at, value);
}
