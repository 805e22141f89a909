/** Checks a kernel for a build: compares requirements with what the loader, the notes, the builder and guests say. */
import { hex } from '../elf/hex.ts';
import type { Broken } from '../xen/broken.ts';
import type { BuilderVerdict } from '../xen/builder.ts';
import { GUEST_FINDINGS, type GuestName, type GuestVerdict, type GuestWarningCode } from '../xen/guests/verdict.ts';
import type { SymbolPlan } from '../xen/loaders/bsdsyms.ts';
import type { GuestParameters } from '../xen/notes/guest-parameters.ts';
import type { XenNotes } from '../xen/notes/walk.ts';
import type { KernelRange } from '../xen/segments.ts';
import { asksForSymbols, kernelWarnings, type Warning } from '../xen/warnings.ts';
import { askBuilder } from './ask-builder.ts';
import type { ImageSource } from './image-source.ts';
import {
  type ImageFacts,
  type LoadedImage,
  type LoadRequest,
  loadOpened,
  openImage,
  type RefusedImage,
} from './load.ts';
import { readXenNotes } from './read-notes.ts';

/** What can be required of a kernel, in the order in which it is reported. */
export const REQUIREMENTS = [
  'symbols',
  'symbols-requested',
  'pv',
  'pvh',
  'freebsd',
  'netbsd',
  'xtf',
  'no-warnings',
] as const;
/** What can be required of a kernel. Stable for ever. */
export type RequirementName = (typeof REQUIREMENTS)[number];

/** What is wanted of a kernel; every member has a default. */
export interface CheckRequest extends Pick<LoadRequest, 'loader' | 'loadAddress' | 'onBroken' | 'maxBlobBytes'> {
  /** In any order. Default, also for an empty list: `symbols`, `symbols-requested` and the guest that GUEST_OS names. */
  readonly require?: readonly RequirementName[];
}

/** One thing that was required, and whether the kernel meets it. */
export interface Requirement {
  readonly name: RequirementName;
  readonly met: boolean;
  /** Why it is not met: the code of a reason, a warning, a refusal of the builder or a finding of a guest. Null when it is met. */
  readonly code: string | null;
  readonly detail: string;
}

/** An image that could be read, held against what is required of it. */
export interface CheckedImage {
  readonly ok: true;
  readonly image: ImageFacts;
  readonly kernel: KernelRange;
  /** Null when the symbols do not load. */
  readonly plan: SymbolPlan | null;
  /** Why the symbols do not load; with `onBroken: 'load'` also the reason that was recorded. */
  readonly broken: Broken | null;
  /** Those of the layout; when the symbols do not load, those of the kernel. */
  readonly warnings: readonly Warning[];
  /** In the order of `REQUIREMENTS`. */
  readonly requirements: readonly Requirement[];
  /** Whether all of them are met. */
  readonly met: boolean;
}

/** What the requirements are judged by. */
interface Evidence {
  readonly notes: XenNotes;
  readonly builder: BuilderVerdict;
  readonly loaded: LoadedImage | RefusedImage;
  readonly warnings: readonly Warning[];
}

/**
 * Compares an image with requirements. It is opened once, its notes are read once, and guests judge the blob from
 * its plan. They are asked only when a requirement is about one of them.
 *
 * @returns a refusal only for an image that does not pass `init`
 * @throws only what the source throws when it cannot be read
 */
export async function checkImage(
  source: ImageSource,
  request: CheckRequest = {},
): Promise<CheckedImage | RefusedImage> {
  const opened = await openImage(source);
  if (!opened.ok) return { ...opened, loadAddress: request.loadAddress ?? null };
  const { image, elf, kernel } = opened;
  const notes = await readXenNotes(source, elf, kernel);
  const { require: given = [], ...wanted } = request;
  const required = given.length > 0 ? given : requireByDefault(notes);
  const askGuests = required.some((name) => Object.hasOwn(GUEST_REQUIREMENTS, name));
  const { verdict: builder, warning } = await askBuilder(source, elf, notes);
  const container = warning === null ? [] : [warning];
  const loaded = await loadOpened(source, opened, notes, () => Promise.resolve(container), { ...wanted, askGuests });
  const warnings = loaded.ok ? loaded.warnings : [...kernelWarnings(elf, kernel, notes), ...container];
  const evidence: Evidence = { notes, builder, loaded, warnings };
  const requirements = REQUIREMENTS.filter((name) => required.includes(name)).map(
    (name): Requirement => Object.assign({ name }, judgeRequirement(name, evidence)),
  );
  return {
    ok: true,
    image,
    kernel,
    plan: loaded.ok ? loaded.plan : null,
    broken: loaded.broken,
    warnings,
    requirements,
    met: requirements.every(({ met }) => met),
  };
}

/** What guests call themselves in GUEST_OS, in lower case. */
const GUESTS_BY_OS: Readonly<Record<string, RequirementName>> = { freebsd: 'freebsd', netbsd: 'netbsd', xtf: 'xtf' };

function requireByDefault({ pv, hvm }: XenNotes): RequirementName[] {
  // A section __xen_guest is read for PV only.
  const os = (pv.guestOs === '' ? hvm.guestOs : pv.guestOs).toLowerCase();
  const guest = Object.hasOwn(GUESTS_BY_OS, os) ? GUESTS_BY_OS[os] : undefined;
  return ['symbols', 'symbols-requested', ...(guest === undefined ? [] : [guest])];
}

type Judgement = Omit<Requirement, 'name'>;

const met = (detail: string): Judgement => ({ met: true, code: null, detail });
const unmet = (code: string, detail: string): Judgement => ({ met: false, code, detail });

function judgeRequirement(name: RequirementName, evidence: Evidence): Judgement {
  const { notes, builder, warnings } = evidence;
  switch (name) {
    case 'symbols':
      return judgeSymbols(evidence);
    case 'symbols-requested':
      return judgeRequest(evidence);
    case 'pv':
      return judgeStart('PV', builder.pv, notes.pv);
    case 'pvh':
      return judgeStart('PVH', builder.hvm, notes.hvm);
    case 'freebsd':
    case 'netbsd':
    case 'xtf':
      return judgeGuest(evidence, GUEST_REQUIREMENTS[name]);
    case 'no-warnings': {
      const [first] = warnings;
      if (first === undefined) return met('There is no warning.');
      const others = warnings.slice(1).map(({ code }) => code);
      return unmet(first.code, `${first.detail}${others.length === 0 ? '' : ` Others: ${others.join(', ')}.`}`);
    }
  }
}

function judgeSymbols({ loaded }: Evidence): Judgement {
  if (!loaded.ok) return unmet(loaded.broken.code, loaded.broken.detail);
  if (loaded.broken !== null) return unmet(loaded.broken.code, loaded.broken.detail);
  const { size, pstart } = loaded.plan;
  return met(`The symbols load: ${size} bytes at ${hex(pstart)}.`);
}

function judgeRequest({ notes, warnings }: Evidence): Judgement {
  if (asksForSymbols(notes)) return met('The kernel asks for its symbols (BSD_SYMTAB).');
  const wanted = notes.source === null ? 'no-xen-notes' : 'symbols-not-requested';
  const detail = warnings.find(({ code }) => code === wanted)?.detail ?? '';
  return unmet(wanted, `${detail} Xen places the symbols of a kernel only when it asks for them.`);
}

function judgeStart(
  kind: string,
  { ok, why }: BuilderVerdict['pv'] | BuilderVerdict['hvm'],
  { error }: GuestParameters,
): Judgement {
  if (ok || why === null) return met(`Xen would start the kernel as a ${kind} guest.`);
  const cause = error === null ? '' : ` Its ELF library says: ${error}.`;
  return unmet(why.code, `Xen would not start the kernel as a ${kind} guest: ${why.reason}.${cause}`);
}

/** The name of each guest, and the verdicts that count. A kernel does not show how NetBSD was built, so both verdicts count. */
const GUEST_REQUIREMENTS = {
  freebsd: { title: 'FreeBSD', verdicts: ['freebsd'] },
  netbsd: { title: 'NetBSD', verdicts: ['netbsd', 'netbsdKdtrace'] },
  xtf: { title: 'The Xen Test Framework', verdicts: ['xtf'] },
} as const satisfies Readonly<
  Partial<Record<RequirementName, { readonly title: string; readonly verdicts: readonly GuestName[] }>>
>;

/** Whether a guest with this warning looks in another place, or reads outside of its tables. */
const IS_MISREADING: Readonly<Record<GuestWarningCode, boolean>> = {
  'address-unaligned': true,
  'end-symbol-elsewhere': true,
  'byte-order-ignored': false,
  'header-size-ignored': false,
  'link-outside': true,
  'link-not-strtab': true,
  'table-outside-size': true,
  'table-cut': true,
  'table-size-odd': false,
  'tables-overlap': true,
  'symbols-cut-off': false,
  'name-outside-table': true,
  'name-unterminated': true,
  'section-names-missing': true,
};

function judgeGuest(
  { loaded }: Evidence,
  guest: (typeof GUEST_REQUIREMENTS)[keyof typeof GUEST_REQUIREMENTS],
): Judgement {
  const { title, verdicts } = guest;
  if (!loaded.ok) {
    const { code } = loaded.broken;
    return unmet(code, `${title} finds no symbols: Xen does not load them (${code}).`);
  }
  const { guests } = loaded;
  const asked = guests === null ? [] : verdicts.map((name) => guests[name]);
  for (const verdict of asked) {
    const code = findMisreading(verdict);
    if (code !== null) return unmet(code, `${title} does not get its symbols: ${GUEST_FINDINGS[code].meaning}`);
  }
  const { symbols = null, warnings = [] } = asked[0] ?? {};
  const count = symbols === null || symbols === 0n ? 'the blob' : `${symbols} symbols`;
  const remark = warnings.length === 0 ? '' : ` Of little consequence: ${warnings.join(', ')}.`;
  return met(`${title} finds ${count}.${remark}`);
}

/** Why a guest finds no symbols, or misreads them; null when it finds them in the right place and reads nothing outside. */
function findMisreading({ why, warnings }: GuestVerdict): keyof typeof GUEST_FINDINGS | null {
  return why ?? warnings.find((code) => IS_MISREADING[code]) ?? null;
}
