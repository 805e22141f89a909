/**
 * Xen's notes: what a kernel tells the toolstack about itself, and whether Xen would start it, for PV and HVM (PVH)
 * guests.
 *
 * The size of each note locates the next one, so the walk asks for bytes as it goes; `inspect/read-notes.ts` drives it.
 * What it asks for is bounded whatever the image says: one small window for each of at most 65,536 notes and 65,535
 * section names, and one for each string, none longer than `MAX_GUEST_SECTION_BYTES`.
 */
import { PT_NOTE, SHT_NOTE } from '../../elf/format.ts';
import type { ElfImage } from '../../elf/headers.ts';
import { isInside, type Recorded, type View } from '../../elf/view.ts';
import type { ByteWalk } from '../byte-walk.ts';
import { type Region, reserveRegion } from '../loaders/bsdsyms.ts';
import type { KernelRange } from '../segments.ts';

/** Notes of all names that are looked at in one image. */
export const MAX_NOTES = 65_536;
/** The longest string, without its NUL. */
export const MAX_STRING_BYTES = 4096;
/** How far a `__xen_guest` string is parsed. The reference has no such limit; it has recorded a reason by then. */
export const MAX_GUEST_SECTION_BYTES = 64 * 1024;

/** A walk through notes, or a part of it. */
export type NotesWalk<Result = XenNotes> = ByteWalk<Result>;

/** Headers, and notes, that are looked at in one turn. */
const STEPS_PER_TURN = 2048;

const NOTE_NAMES = [
  null,
  'ENTRY',
  'HYPERCALL_PAGE',
  'VIRT_BASE',
  'PADDR_OFFSET',
  'XEN_VERSION',
  'GUEST_OS',
  'GUEST_VERSION',
  'LOADER',
  'PAE_MODE',
  'FEATURES',
  'BSD_SYMTAB',
  'HV_START_LOW',
  'L1_MFN_VALID',
  'SUSPEND_CANCEL',
  'INIT_P2M',
  'MOD_START_PFN',
  'SUPPORTED_FEATURES',
  'PHYS32_ENTRY',
  'PHYS32_RELOC',
] as const;

/** The names of Xen's notes, without XEN_ELFNOTE_. */
export type NoteName = Exclude<(typeof NOTE_NAMES)[number], null>;

const STRING_NOTES = [
  'XEN_VERSION',
  'GUEST_OS',
  'GUEST_VERSION',
  'LOADER',
  'PAE_MODE',
  'FEATURES',
  'BSD_SYMTAB',
] as const satisfies readonly NoteName[];

type StringNote = (typeof STRING_NOTES)[number];

const isStringNote = (name: NoteName): name is StringNote => (STRING_NOTES as readonly NoteName[]).includes(name);

/** Notes that are no single value; they are recorded as 0. */
const OPAQUE_NOTES: ReadonlySet<NoteName> = new Set(['L1_MFN_VALID', 'PHYS32_RELOC']);

/** PV, or HVM with a direct entry (PVH). */
export type GuestKind = 'pv' | 'hvm';

/** What Xen makes of a kernel. Addresses are null where the kernel leaves them unset. */
export interface GuestParameters {
  /** Whether Xen would start it. */
  readonly ok: boolean;
  /** Why not, in the reference's words; null also when a note could not be parsed, as it is silent then. */
  readonly error: string | null;
  /** The first reason recorded against the image up to here. By itself it does not make `ok` false. */
  readonly broken: Recorded | null;
  /** Every note named `Xen` of a known type: its string or its number. */
  readonly notes: Readonly<Partial<Record<NoteName, string | bigint>>>;
  readonly guestOs: string;
  readonly guestVersion: string;
  readonly xenVersion: string;
  readonly loader: string;
  /** 0 no, 1 yes, 2 extended CR3, 3 bimodal. */
  readonly pae: 0 | 1 | 2 | 3;
  /** Whether the kernel asks for its symbols. */
  readonly bsdSymtab: boolean;
  readonly unmappedInitrd: boolean;
  readonly physReloc: boolean;
  readonly supportedFeatures: bigint;
  readonly requiredFeatures: bigint;
  readonly physEntry: bigint | null;
  readonly physAlign: bigint | null;
  readonly physMin: bigint;
  readonly physMax: bigint;
  readonly virtBase: bigint | null;
  readonly virtEntry: bigint | null;
  readonly virtHypercall: bigint | null;
  readonly virtHvStartLow: bigint | null;
  readonly p2mBase: bigint | null;
  readonly elfPaddrOffset: bigint | null;
  readonly virtKstart: bigint;
  readonly virtKend: bigint;
  /** The symbols' region behind the kernel, when they are asked for and Xen would load them. */
  readonly bsdsyms: Region | null;
}

/** What Xen makes of a kernel, for each kind of guest. */
export type XenNotes = Readonly<Record<GuestKind, GuestParameters>>;

type Draft = { -readonly [Key in keyof GuestParameters]: GuestParameters[Key] };

const U32_MAX = 2n ** 32n - 1n;
const U64_MAX = 2n ** 64n - 1n;
/** The reference has no other mark of "unset" than all ones. */
const address = (value: bigint): bigint | null => (value === U64_MAX ? null : value);
const address32 = (value: bigint): bigint | null => ((value & U32_MAX) === U32_MAX ? null : value & U32_MAX);
const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);

const blank = (): Draft => ({
  ok: false,
  error: null,
  broken: null,
  notes: {},
  guestOs: '',
  guestVersion: '',
  xenVersion: '',
  loader: '',
  pae: 0,
  bsdSymtab: false,
  unmappedInitrd: false,
  physReloc: false,
  supportedFeatures: 0n,
  requiredFeatures: 0n,
  physEntry: null,
  physAlign: null,
  physMin: 0n,
  physMax: U32_MAX,
  virtBase: null,
  virtEntry: null,
  virtHypercall: null,
  virtHvStartLow: null,
  p2mBase: null,
  elfPaddrOffset: null,
  virtKstart: 0n,
  virtKend: 0n,
  bsdsyms: null,
});

/**
 * Reads the notes of an image whose segments were looked at, and judges it for both kinds of guests.
 *
 * `image.view` is left as it is: each kind of guest goes on from what was recorded so far on its own.
 * Source: docs/loader.md. Never throws.
 */
export function* walkXenNotes(image: ElfImage, kernel: KernelRange): NotesWalk {
  const view = image.view.fork();
  view.stage = 'notes';
  const common = blank();
  const { valid, chains, found } = yield* readNotes({ ...image, view }, common);
  const source: NoteSource = chains > 0 ? 'notes' : 'none';

  const pv = { ...common };
  const pvImage = { ...image, view: view.fork() };
  const hvm = { ...common };
  const hvmImage = { ...image, view: view.fork() };
  if (valid) {
    const hasGuestSection = found === 0 && (yield* readGuestSection(pvImage, pv));
    judge('pv', pv, pvImage, kernel, source === 'none' && hasGuestSection ? 'guest-section' : source);
    judge('hvm', hvm, hvmImage, kernel, source);
  }
  pv.broken = pvImage.view.recorded;
  hvm.broken = hvmImage.view.recorded;
  return { pv, hvm };
}

/** Where a kernel says what it is. A chain of notes counts whatever is in it. */
type NoteSource = 'notes' | 'guest-section' | 'none';

/** Segments first; sections only when the segments hold no note named `Xen`. */
function* readNotes(image: ElfImage, draft: Draft): NotesWalk<Walk> {
  const { headers, view, sectionCount } = image;
  const reader = new Reader(image);
  const walk: Walk = { reader, draft, valid: true, chains: 0, seen: 0, found: 0 };

  const segments = headers.programHeaders;
  const { p_type, p_offset, p_filesz } = headers.format.programHeader.fields;
  for (let index = 0; index < segments.count && view.hasEntry(segments, index); index++) {
    if (index % STEPS_PER_TURN === STEPS_PER_TURN - 1) yield null;
    if (view.u32(segments, index, p_type) !== PT_NOTE) continue;
    const offset = view.u64(segments, index, p_offset);
    // Old linkers forgot the offset of note segments.
    if (offset === 0n) continue;
    yield* walkChain(walk, offset, view.u64(segments, index, p_filesz));
    if (!walk.valid) return walk;
  }
  if (walk.found > 0) return walk;

  const sections = headers.sectionHeaders;
  const { sh_type, sh_offset, sh_size } = headers.format.sectionHeader.fields;
  for (let index = 0; index < sectionCount && view.hasEntry(sections, index); index++) {
    if (index % STEPS_PER_TURN === STEPS_PER_TURN - 1) yield null;
    if (view.u32(sections, index, sh_type) !== SHT_NOTE) continue;
    const offset = view.u64(sections, index, sh_offset);
    yield* walkChain(walk, offset, view.u64(sections, index, sh_size));
    if (!walk.valid) return walk;
  }
  return walk;
}

interface Walk {
  readonly reader: Reader;
  readonly draft: Draft;
  /** False once a note made the image unusable. */
  valid: boolean;
  /** Segments or sections of notes, whatever is in them. */
  chains: number;
  /** Notes of any name. */
  seen: number;
  /** Notes named `Xen`. */
  found: number;
}

const NOTE_OWNER = asciiBytes('Xen');
const NOTE_HEADER_BYTES = 12;
/**
 * The end of a chain is a pointer in the reference. Sizes close to 2^64 wrap it to in front of the start, so that there
 * are no notes; how close depends on where the image lies in its address space.
 */
const POINTER_WRAP = 2n ** 64n - 2n ** 46n;
/** Rounds up to 4, in 32 bits as the reference does. */
const padded = (size: number): number => ((size + 3) & ~3) >>> 0;

/** Follows one chain of notes. */
function* walkChain(walk: Walk, offset: bigint, size: bigint): NotesWalk<void> {
  const { reader, draft } = walk;
  walk.chains++;
  if (size >= POINTER_WRAP) return;
  const start = Number(BigInt.asIntN(64, offset));
  const chainSize = Number(size);
  let noteSize = 0;
  // The chain is left where it leaves the image, and does not use up the notes that others may have.
  for (let passed = 0; passed < chainSize && reader.isInside('note', start + passed); passed += noteSize) {
    const note = start + passed;
    if (walk.seen === MAX_NOTES) {
      reader.view.record('too-many-notes', () => ({
        what: 'notes',
        offset: BigInt(note),
        length: null,
        detail: `The image has more than ${MAX_NOTES} notes; one is not expected to have more than a few dozen.`,
      }));
      return;
    }
    walk.seen++;
    if (walk.seen % STEPS_PER_TURN === 0) yield null;
    const nameSize = yield* reader.u32('name size of a note', note);
    const descSize = yield* reader.u32('description size of a note', note + 4);
    const desc = note + NOTE_HEADER_BYTES + padded(nameSize);
    noteSize = NOTE_HEADER_BYTES + padded(nameSize) + padded(descSize);
    if (!spells(yield* reader.string('name of a note', note + NOTE_HEADER_BYTES), NOTE_OWNER)) continue;
    const type = yield* reader.u32('type of a note', note + 8);
    walk.valid = yield* readNote(reader, draft, type, desc, descSize);
    if (!walk.valid) return;
    walk.found++;
  }
}

function* readNote(reader: Reader, draft: Draft, type: number, at: number, size: number): NotesWalk<boolean> {
  const name = NOTE_NAMES[type] ?? null;
  if (name === null) return true;
  if (isStringNote(name)) {
    const bytes = yield* reader.string(`${name} note`, at);
    if (bytes === null) return true;
    const text = latin1(bytes);
    draft.notes = { ...draft.notes, [name]: text };
    return applyString(draft, name, text);
  }
  const value = OPAQUE_NOTES.has(name) ? 0n : yield* reader.number(`${name} note`, at, size);
  draft.notes = { ...draft.notes, [name]: value };
  /** Element `index` of the description as 32-bit words, if it is made of whole words. */
  const word = (index: number): NotesWalk<bigint> => reader.word(`${name} note`, at, size, index);
  switch (name) {
    case 'ENTRY':
      draft.virtEntry = address(value);
      break;
    case 'HYPERCALL_PAGE':
      draft.virtHypercall = address(value);
      break;
    case 'VIRT_BASE':
      draft.virtBase = address(value);
      break;
    case 'PADDR_OFFSET':
      draft.elfPaddrOffset = address(value);
      break;
    case 'HV_START_LOW':
      draft.virtHvStartLow = address(value);
      break;
    case 'INIT_P2M':
      draft.p2mBase = address(value);
      break;
    case 'MOD_START_PFN':
      draft.unmappedInitrd = value !== 0n;
      break;
    case 'SUPPORTED_FEATURES':
      draft.supportedFeatures |= yield* word(0);
      break;
    case 'PHYS32_ENTRY':
      draft.physEntry = address32(value);
      break;
    case 'PHYS32_RELOC':
      draft.physReloc = true;
      if (size >= 4) draft.physAlign = address32(yield* word(0));
      if (size >= 8) draft.physMin = yield* word(1);
      if (size >= 12) draft.physMax = yield* word(2);
      break;
    case 'L1_MFN_VALID':
    case 'SUSPEND_CANCEL':
      break;
  }
  return true;
}

/** The reference keeps these in 16 bytes. */
const SHORT_STRING_LENGTH = 15;
const short = (text: string): string => text.slice(0, SHORT_STRING_LENGTH);

/** False when the note makes the image unusable. */
function applyString(draft: Draft, name: StringNote, text: string): boolean {
  switch (name) {
    case 'XEN_VERSION':
      draft.xenVersion = short(text);
      break;
    case 'GUEST_OS':
      draft.guestOs = short(text);
      break;
    case 'GUEST_VERSION':
      draft.guestVersion = short(text);
      break;
    case 'LOADER':
      draft.loader = short(text);
      break;
    case 'PAE_MODE':
      if (text === 'yes') draft.pae = 2;
      if (text.includes('bimodal')) draft.pae = 3;
      break;
    case 'FEATURES':
      return applyFeatures(draft, text);
    case 'BSD_SYMTAB':
      if (text === 'yes') draft.bsdSymtab = true;
      break;
  }
  return true;
}

const FEATURE_BITS: ReadonlyMap<string, bigint> = new Map([
  ['writable_page_tables', 0n],
  ['writable_descriptor_tables', 1n],
  ['auto_translated_physmap', 2n],
  ['supervisor_mode_kernel', 3n],
  ['pae_pgdir_above_4gb', 4n],
  ['hvm_callback_vector', 8n],
  ['dom0', 11n],
]);
/** Longer names are taken in pieces of this length. */
const FEATURE_NAME_LENGTH = 63;

/** Features up to the first unknown required one; false when there is one. */
function applyFeatures(draft: Draft, text: string): boolean {
  let next = 0;
  for (let start = 0; start < text.length; start = next) {
    const bar = text.indexOf('|', start);
    const end = Math.min(bar === -1 ? text.length : bar, start + FEATURE_NAME_LENGTH);
    next = end === bar ? end + 1 : end;
    const feature = text.slice(start, end);
    const required = feature.startsWith('!');
    const bit = FEATURE_BITS.get(required ? feature.slice(1) : feature);
    if (bit !== undefined) {
      draft.supportedFeatures |= 1n << bit;
      if (required) draft.requiredFeatures |= 1n << bit;
    } else if (required) return false;
  }
  return true;
}

const GUEST_SECTION = '__xen_guest';
const GUEST_SECTION_NAME = asciiBytes(GUEST_SECTION);

/** What PV kernels had before there were notes: a section that holds `NAME=value,NAME=value`. */
function* readGuestSection(image: ElfImage, draft: Draft): NotesWalk<boolean> {
  const { headers, view, sectionCount } = image;
  const sections = headers.sectionHeaders;
  const { sh_name, sh_offset } = headers.format.sectionHeader.fields;
  const nameTable = view.u32(headers.elfHeader, 0, headers.format.elfHeader.fields.e_shstrndx);
  if (nameTable >= sectionCount) return false;
  const reader = new Reader(image);
  const names = Number(BigInt.asIntN(64, view.u64(sections, nameTable, sh_offset)));
  for (let index = 1; index < sectionCount && view.hasEntry(sections, index); index++) {
    if (index % STEPS_PER_TURN === 0) yield null;
    const name = yield* reader.string(`name of section ${index}`, names + view.u32(sections, index, sh_name));
    if (!spells(name, GUEST_SECTION_NAME)) continue;
    const start = Number(BigInt.asIntN(64, view.u64(sections, index, sh_offset)));
    // The reference first prints the string, and that is where one that is too long is noticed.
    yield* reader.string(GUEST_SECTION, start);
    applyGuestSection(draft, yield* reader.text(GUEST_SECTION, start));
    return true;
  }
  return false;
}

/** Longer names and values are taken in pieces of these lengths, as the reference's buffers make it. */
const GUEST_NAME_LENGTH = 31;
const GUEST_VALUE_LENGTH = 127;
const PAGE_BITS = 12n;

function applyGuestSection(draft: Draft, text: string): void {
  let at = 0;
  const take = (stops: string, length: number): string => {
    const start = at;
    while (at < text.length && at - start < length && !stops.includes(text.charAt(at))) at++;
    return text.slice(start, at);
  };
  while (at < text.length) {
    const name = take(',=', GUEST_NAME_LENGTH);
    let value = '';
    if (text[at] === '=') {
      at++;
      value = take(',', GUEST_VALUE_LENGTH);
    }
    if (text[at] === ',') at++;
    applyGuestValue(draft, name, value);
  }
}

function applyGuestValue(draft: Draft, name: string, value: string): void {
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
      draft.virtBase = address(parseInteger(value));
      break;
    case 'VIRT_ENTRY':
      draft.virtEntry = address(parseInteger(value));
      break;
    case 'ELF_PADDR_OFFSET':
      draft.elfPaddrOffset = address(parseInteger(value));
      break;
    case 'HYPERCALL_PAGE':
      // A page of the kernel, counted from the virtual base as far as that is known by now.
      draft.virtHypercall = address(wrap((parseInteger(value) << PAGE_BITS) + (draft.virtBase ?? U64_MAX)));
      break;
    case 'FEATURES':
      applyFeatures(draft, value);
      break;
    default:
      break;
  }
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

/** Machines whose kernels have to say what they were built for; all others may keep silent. */
const X86_MACHINES: ReadonlySet<number> = new Set([3, 62]);

/** Whether Xen would start the kernel; completes the draft as far as the reference gets. */
function judge(kind: GuestKind, draft: Draft, image: ElfImage, kernel: KernelRange, source: NoteSource): void {
  draft.error = checkNotes(kind, draft, image, source) ?? placeKernel(kind, draft, image, kernel, source);
  draft.ok = draft.error === null;
}

function checkNotes(kind: GuestKind, draft: Draft, { headers, view }: ElfImage, source: NoteSource): string | null {
  const machine = view.u32(headers.elfHeader, 0, headers.format.elfHeader.fields.e_machine);
  if (!X86_MACHINES.has(machine)) return null;
  if (source === 'none') return "ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found";
  if (kind === 'hvm' && draft.physEntry !== null) return null;
  const { loader, guestOs, xenVersion } = draft;
  if (!loader.startsWith('generic') && !guestOs.startsWith('linux')) {
    return (
      'ERROR: Will only load images built for the generic loader or Linux images ' +
      `(Not '${loader}' and '${guestOs}') or with PHYS32_ENTRY set`
    );
  }
  if (!xenVersion.startsWith('xen-3.0')) {
    return `ERROR: Xen will only load images built for Xen v3.0 (Not '${xenVersion}')`;
  }
  return null;
}

function placeKernel(
  kind: GuestKind,
  draft: Draft,
  image: ElfImage,
  kernel: KernelRange,
  source: NoteSource,
): string | null {
  const { headers, view } = image;
  if (kind === 'hvm') {
    draft.virtBase = 0n;
    draft.elfPaddrOffset = 0n;
    draft.virtEntry = draft.physEntry;
  } else if (draft.elfPaddrOffset !== null && draft.virtBase === null) {
    return 'ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset';
  }
  const base = (draft.virtBase ??= 0n);
  // Kernels with __xen_guest put virtual addresses into p_paddr.
  const paddrOffset = (draft.elfPaddrOffset ??= source === 'guest-section' ? base : 0n);
  const virtOffset = base - paddrOffset;
  const kstart = (draft.virtKstart = wrap(kernel.pstart + virtOffset));
  draft.virtKend = wrap(kernel.pend + virtOffset);
  const entry = (draft.virtEntry ??= view.u64(headers.elfHeader, 0, headers.format.elfHeader.fields.e_entry));

  if (draft.bsdSymtab) {
    const reservation = reserveRegion(image, kernel.pend);
    if (reservation.ok) {
      const { pstart, pend } = reservation.region;
      if (pstart !== 0n) draft.bsdsyms = { pstart, pend };
      if (pend !== 0n) draft.virtKend = wrap(pend + virtOffset);
    }
  }
  const kend = draft.virtKend;
  if (kstart > kend || entry < kstart || entry > kend || base > kstart) {
    return 'ERROR: ELF start or entries are out of bounds';
  }
  if (draft.p2mBase !== null && draft.p2mBase >= kstart && draft.p2mBase < kend) {
    return 'ERROR: P->M table base is out of bounds';
  }
  return null;
}

/** What is asked for around a place that was jumped to, and ahead of one that was read up to. */
const JUMP_BYTES = 512;
const AHEAD_BYTES = 8 * 1024;

/** Checked reads of bytes that are no headers, by the same rules as `View`'s: what is outside is recorded and reads as 0. */
class Reader {
  readonly view: View;
  #bytes: Uint8Array = new Uint8Array();
  /** Image offset of the first of `#bytes`. */
  #start = 0;

  constructor({ view }: Pick<ElfImage, 'view'>) {
    this.view = view;
  }

  /** Whether the byte is inside the image; recorded when not. */
  isInside(what: string, at: number): boolean {
    if (isInside(at, 1, this.view.imageSize)) return true;
    this.#recordOutside(what, at, 1);
    return false;
  }

  *u32(what: string, at: number): NotesWalk<number> {
    return Number(yield* this.#integer(what, at, 4));
  }

  /** A description of 1, 2, 4 or 8 bytes as one number; any other size reads as 0. */
  *number(what: string, at: number, size: number): NotesWalk<bigint> {
    return size === 1 || size === 2 || size === 4 || size === 8 ? yield* this.#integer(what, at, size) : 0n;
  }

  /** One 32-bit word of a description; 0 when the description is not made of whole words, or of fewer. */
  *word(what: string, at: number, size: number, index: number): NotesWalk<bigint> {
    return size % 4 !== 0 || index >= size / 4 ? 0n : yield* this.#integer(what, at + index * 4, 4);
  }

  /** A string with its NUL inside the image and within `MAX_STRING_BYTES`; otherwise null, and recorded. */
  *string(what: string, at: number): NotesWalk<Uint8Array | null> {
    const { view } = this;
    const room = isInside(at, 1, view.imageSize) ? Math.min(MAX_STRING_BYTES, view.imageSize - at) : 0;
    const found = room === 0 ? null : yield* this.#untilNul(at, room);
    if (found !== null) return found;
    if (room === MAX_STRING_BYTES) {
      view.record('string-too-long', () => ({
        what,
        offset: BigInt(at),
        length: null,
        detail: `The ${what} at offset ${at} does not end within ${MAX_STRING_BYTES} bytes.`,
      }));
    } else this.#recordOutside(what, at + room, 1);
    return null;
  }

  /** Everything up to a NUL, the image's end or `MAX_GUEST_SECTION_BYTES`. */
  *text(what: string, at: number): NotesWalk<string> {
    if (!this.isInside(what, at)) return '';
    const room = Math.min(MAX_GUEST_SECTION_BYTES, this.view.imageSize - at);
    const found = yield* this.#untilNul(at, room);
    if (found === null && room < MAX_GUEST_SECTION_BYTES) this.#recordOutside(what, at + room, 1);
    return latin1(found ?? (yield* this.#load(at, room)));
  }

  *#integer(what: string, at: number, size: 1 | 2 | 4 | 8): NotesWalk<bigint> {
    if (!isInside(at, size, this.view.imageSize)) {
      this.#recordOutside(what, at, size);
      return 0n;
    }
    const bytes = yield* this.#load(at, size);
    const data = new DataView(bytes.buffer, bytes.byteOffset, size);
    const { littleEndian } = this.view;
    switch (size) {
      case 1:
        return BigInt(data.getUint8(0));
      case 2:
        return BigInt(data.getUint16(0, littleEndian));
      case 4:
        return BigInt(data.getUint32(0, littleEndian));
      case 8:
        return data.getBigUint64(0, littleEndian);
    }
  }

  /** Looks at what is at hand first. */
  *#untilNul(at: number, room: number): NotesWalk<Uint8Array | null> {
    yield* this.#load(at, 1);
    const atHand = this.#bytes.subarray(at - this.#start, at - this.#start + room);
    const end = atHand.indexOf(0);
    if (end !== -1) return atHand.subarray(0, end);
    if (atHand.length === room) return null;
    const all = yield* this.#load(at, room);
    const farEnd = all.indexOf(0);
    return farEnd === -1 ? null : all.subarray(0, farEnd);
  }

  /** `length` bytes at `at`, all inside the image. */
  *#load(at: number, length: number): NotesWalk<Uint8Array> {
    const end = this.#start + this.#bytes.length;
    if (at < this.#start || at + length > end) {
      const goesOn = at >= this.#start && at <= end;
      const wanted = Math.max(length, goesOn && end > 0 ? AHEAD_BYTES : JUMP_BYTES);
      this.#bytes = yield { offset: at, length: Math.min(wanted, this.view.imageSize - at) };
      this.#start = at;
    }
    return this.#bytes.subarray(at - this.#start, at - this.#start + length);
  }

  #recordOutside(what: string, at: number, size: number): void {
    this.view.recordOutside(() => ({ what, offset: BigInt.asUintN(64, BigInt(at)), length: BigInt(size) }));
  }
}

/** Bytes as the characters of the same number: the reference knows no encoding. */
function latin1(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += MAX_STRING_BYTES) {
    const codes: ArrayLike<number> = bytes.subarray(at, at + MAX_STRING_BYTES);
    // Not spread: that would iterate, and is ten times slower.
    text += Reflect.apply(String.fromCharCode, null, codes) as string;
  }
  return text;
}

function asciiBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

const spells = (bytes: Uint8Array | null, expected: Uint8Array): boolean =>
  bytes !== null && bytes.length === expected.length && expected.every((byte, index) => bytes[index] === byte);
