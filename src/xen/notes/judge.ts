/** Whether Xen's ELF library accepts a kernel, from what its notes say. Source: docs/loader.md. */
import { EM_386, EM_ARM, EM_X86_64 } from '../../elf/format.ts';
import { readMachine, type StagedImage } from '../../elf/headers.ts';
import { U64_MAX } from '../../elf/u64.ts';
import { reserveRegion } from '../loaders/bsdsyms.ts';
import type { KernelRange } from '../segments.ts';
import { type Draft, type GuestKind, unlessUnset, wrap } from './guest-parameters.ts';

/** Where a kernel describes itself. A chain of notes counts whatever is in it. */
type NoteSource = 'notes' | 'guest-section' | 'none';

/** Judges a kernel and completes its draft; both stop at the first error, as in the reference. */
export function judgeDraft(
  kind: GuestKind,
  draft: Draft,
  image: StagedImage,
  kernel: KernelRange,
  source: NoteSource,
): void {
  draft.error = checkNotes(kind, draft, image, source) ?? placeKernel(kind, draft, image, kernel, source);
  draft.broken ??= image.recorder.recorded;
  draft.ok = draft.error === null;
}

function checkNotes(kind: GuestKind, draft: Draft, { headers }: StagedImage, source: NoteSource): string | null {
  const machine = readMachine(headers);
  if (source === 'none') {
    return machine === EM_386 || machine === EM_X86_64
      ? "ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found"
      : null;
  }
  if (machine === EM_ARM) return null;
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
  image: StagedImage,
  kernel: KernelRange,
  source: NoteSource,
): string | null {
  const { headers, view, recorder } = image;
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
  draft.virtEntry ??= unlessUnset(view.bigint(headers.elfHeader, 0, headers.format.elfHeader.fields.e_entry));
  // All ones mean "unset", but are compared as a number.
  const entry = draft.virtEntry ?? U64_MAX;

  if (draft.bsdSymtab) {
    const reservation = reserveRegion({ ...image, recorded: recorder.recorded }, kernel.pend);
    draft.broken = reservation.recorded;
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
