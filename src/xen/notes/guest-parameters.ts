/** The names of Xen's notes, and what they say about a kernel. Source: xen/include/public/elfnote.h, by number and name. */
import type { Recorded } from '../../elf/recorder.ts';
import { U64_MAX } from '../../elf/u64.ts';
import type { Region } from '../loaders/bsdsyms.ts';

/** Note types by number. */
export const NOTE_NAMES = [
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

/** Notes whose description is a string; all others are numbers. */
type StringNote = (typeof STRING_NOTES)[number];
type NumberNote = Exclude<NoteName, StringNote>;

export const isStringNote = (name: NoteName): name is StringNote =>
  (STRING_NOTES as readonly NoteName[]).includes(name);

/** PV, or HVM with a direct entry (PVH). */
export type GuestKind = 'pv' | 'hvm';

/** What Xen reads about a kernel. Addresses are null where the kernel leaves them unset. */
export interface GuestParameters {
  /** Whether Xen's ELF library accepts it. The domain builder checks more: `xen/builder.ts`. */
  readonly ok: boolean;
  /** Why not, in the reference's words; null also when a note could not be parsed, which it does not report. */
  readonly error: string | null;
  /** The first reason recorded against the image so far. By itself it does not make `ok` false. */
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
  /** The symbols' region after the kernel, when they are asked for and Xen would load them. */
  readonly bsdsyms: Region | null;
}

/** Parameters while they are read. */
export type Draft = { -readonly [Key in keyof GuestParameters]: GuestParameters[Key] };

const U32_MAX = 2n ** 32n - 1n;
/** The reference marks "unset" with all ones. */
export const unlessUnset = (value: bigint): bigint | null => (value === U64_MAX ? null : value);
const unlessUnset32 = (value: bigint): bigint | null => ((value & U32_MAX) === U32_MAX ? null : value & U32_MAX);
export const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);

export const blankDraft = (): Draft => ({
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

/** The content of one note named `Xen`. */
export type XenNote =
  | { readonly name: null }
  | { readonly name: Exclude<StringNote, 'FEATURES'>; readonly text: string }
  | { readonly name: 'FEATURES'; readonly text: string; readonly features: Features }
  | {
      readonly name: NumberNote;
      /** The description as one number; 0 for `L1_MFN_VALID` and `PHYS32_RELOC`, which are not single values. */
      readonly value: bigint;
      /** The description as 32-bit words, as many as the note needs; 0 where it has none. */
      readonly words: readonly bigint[];
      /** Bytes in the description. */
      readonly size: number;
    };

/**
 * Applies a note: later ones replace earlier ones, features add up.
 *
 * @returns false when the note makes the image unusable
 */
export function applyNote(draft: Draft, notes: Partial<Record<NoteName, string | bigint>>, note: XenNote): boolean {
  if (note.name === null) return true;
  if ('text' in note) {
    notes[note.name] = note.text;
    return applyString(draft, note);
  }
  notes[note.name] = note.value;
  applyNumber(draft, note);
  return true;
}

/** The reference keeps these strings in 16 bytes. */
const SHORT_STRING_LENGTH = 15;
export const short = (text: string): string => text.slice(0, SHORT_STRING_LENGTH);

function applyString(draft: Draft, note: Extract<XenNote, { readonly text: string }>): boolean {
  const { text } = note;
  switch (note.name) {
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
      return applyFeatures(draft, note.features);
    case 'BSD_SYMTAB':
      if (text === 'yes') draft.bsdSymtab = true;
      break;
  }
  return true;
}

function applyNumber(
  draft: Draft,
  { name, value, words: [first = 0n, second = 0n, third = 0n], size }: Extract<XenNote, { readonly value: bigint }>,
): void {
  switch (name) {
    case 'ENTRY':
      draft.virtEntry = unlessUnset(value);
      break;
    case 'HYPERCALL_PAGE':
      draft.virtHypercall = unlessUnset(value);
      break;
    case 'VIRT_BASE':
      draft.virtBase = unlessUnset(value);
      break;
    case 'PADDR_OFFSET':
      draft.elfPaddrOffset = unlessUnset(value);
      break;
    case 'HV_START_LOW':
      draft.virtHvStartLow = unlessUnset(value);
      break;
    case 'INIT_P2M':
      draft.p2mBase = unlessUnset(value);
      break;
    case 'MOD_START_PFN':
      draft.unmappedInitrd = value !== 0n;
      break;
    case 'SUPPORTED_FEATURES':
      draft.supportedFeatures |= first;
      break;
    case 'PHYS32_ENTRY':
      draft.physEntry = unlessUnset32(value);
      break;
    case 'PHYS32_RELOC':
      draft.physReloc = true;
      if (size >= 4) draft.physAlign = unlessUnset32(first);
      if (size >= 8) draft.physMin = second;
      if (size >= 12) draft.physMax = third;
      break;
    case 'L1_MFN_VALID':
    case 'SUSPEND_CANCEL':
      break;
  }
}

/** How many 32-bit words of its description a note needs. */
export const WORDS_NEEDED: Readonly<Partial<Record<NumberNote, number>>> = { SUPPORTED_FEATURES: 1, PHYS32_RELOC: 3 };

/** A list of features, up to the first unknown required one. */
export interface Features {
  readonly supported: bigint;
  readonly required: bigint;
  /** False when there is an unknown required one. */
  readonly ok: boolean;
}

/** Bit numbers, as in xen/include/public/features.h. */
const FEATURE_BITS: ReadonlyMap<string, bigint> = new Map([
  ['writable_page_tables', 0n],
  ['writable_descriptor_tables', 1n],
  ['auto_translated_physmap', 2n],
  ['supervisor_mode_kernel', 3n],
  ['pae_pgdir_above_4gb', 4n],
  ['hvm_callback_vector', 8n],
  ['dom0', 11n],
]);
/** The bit of the feature `dom0`. */
export const DOM0_FEATURE = 1n << 11n;
/** Longer names are split into pieces of this length. */
const FEATURE_NAME_LENGTH = 63;

/** Reads `name|!name|…`; a leading `!` makes a feature required. Takes time in proportion to the text. */
export function parseFeatures(text: string): Features {
  let supported = 0n;
  let required = 0n;
  let next = 0;
  for (let start = 0; start < text.length; start = next) {
    let end = start;
    while (end < text.length && end - start < FEATURE_NAME_LENGTH && text.charCodeAt(end) !== BAR) end++;
    next = text.charCodeAt(end) === BAR ? end + 1 : end;
    if (end === start) continue;
    const isRequired = text.charCodeAt(start) === EXCLAMATION_MARK;
    const bit = FEATURE_BITS.get(text.slice(isRequired ? start + 1 : start, end));
    if (bit !== undefined) {
      supported |= 1n << bit;
      if (isRequired) required |= 1n << bit;
    } else if (isRequired) return { supported, required, ok: false };
  }
  return { supported, required, ok: true };
}

const BAR = '|'.charCodeAt(0);
const EXCLAMATION_MARK = '!'.charCodeAt(0);

/** @returns false when the image becomes unusable */
export function applyFeatures(draft: Draft, { supported, required, ok }: Features): boolean {
  draft.supportedFeatures |= supported;
  draft.requiredFeatures |= required;
  return ok;
}
