/**
 * What Xen's domain builder makes of a kernel, beyond the ELF library: would the toolstack start it as a guest?
 * Measured on the builder of Xen 4.17 and later; source: docs/loader.md. Nothing here throws.
 */

import { dataOf } from '../elf/fields.ts';
import { EM_386, EM_X86_64 } from '../elf/format.ts';
import { type ElfImage, readMachine } from '../elf/headers.ts';
import { hex } from '../elf/hex.ts';
import { DOM0_FEATURE, type GuestParameters } from './notes/guest-parameters.ts';
import type { XenNotes } from './notes/walk.ts';

/** Why the builder refuses a kernel, in its own words. Codes are stable for ever. */
export const BUILDER_REFUSALS = {
  'file-empty': 'zero length file',
  'file-too-large': 'tried to map file which is too large',
  'gzip-size-insane': 'xc_dom_check_gzip: size looks insane, skip gunzip',
  'gzip-too-large': 'kernel image too large',
  'gzip-inflate-failed': 'xc_dom_do_gunzip: inflate failed (rc=-5)',
  'no-loader': 'xc_dom_find_loader: no loader found',
  'no-unprivileged': 'Kernel does not support unprivileged (DomU) operation',
  'no-pvh-entry': 'image not capable of booting inside a HVM container',
  'unknown-machine': 'unknown image type',
  'guest-type-unsupported': 'guest type not supported by xen kernel, sorry',
  'not-page-aligned': "segment boundary isn't page aligned",
  'taken-as-firmware': 'HVM-generic: the file is loaded as firmware, not started through Xen notes',
  'not-32bit': 'ELF image is not 32bit',
  'multiboot-flags': 'xen_bin_image_table flags required 0x00010000',
  'unknown-compression': 'xc_dom_probe_bzimage_kernel: unknown compression format',
  'payload-size': 'xc_dom_probe_bzimage_kernel: unable to decompress kernel',
  'payload-damaged': 'xc_dom_probe_bzimage_kernel: unable to decompress kernel',
} as const;
/** What callers match on. */
export type BuilderRefusalCode = keyof typeof BUILDER_REFUSALS;

/** Why the builder refuses a kernel. */
export interface BuilderRefusal {
  readonly code: BuilderRefusalCode;
  /** The builder's own words, with the values of this kernel. */
  readonly reason: string;
}

/** What the builder calls the type of a PV guest. */
export type PvGuestType = 'xen-3.0-x86_64' | 'xen-3.0-x86_32p' | 'xen-3.0-x86_32';

/** Whether the builder would start a kernel as a PV guest. */
export interface PvVerdict {
  readonly ok: boolean;
  /** Null for a machine that has none. `xen-3.0-x86_32p` needs a host whose Xen supports 32-bit PV guests. */
  readonly guestType: PvGuestType | null;
  /** Null when it is accepted. */
  readonly why: BuilderRefusal | null;
}

/** Whether the builder would start a kernel as an HVM guest with a direct entry (PVH). */
export interface HvmVerdict {
  readonly ok: boolean;
  readonly why: BuilderRefusal | null;
}

/** What kernels are packed in. The builder itself knows gzip and the bzImage. */
export const CONTAINERS = ['gzip', 'zstd', 'xz', 'lzma', 'bzip2', 'lz4', 'lzo', 'bzImage'] as const;
export type Container = (typeof CONTAINERS)[number];

/** What the builder makes of the file that a kernel comes in. */
interface TakeVerdict {
  readonly ok: boolean;
  /** What the kernel is packed in; null for a plain file. */
  readonly container: Container | null;
  /** Bytes of the kernel as the builder sees it; null when the file is refused. */
  readonly kernelSize: number | null;
  readonly why: BuilderRefusal | null;
}

/** What the builder does with a kernel. */
export interface BuilderVerdict {
  /** What the builder does with the file before its loaders. */
  readonly takes: TakeVerdict;
  readonly pv: PvVerdict;
  readonly hvm: HvmVerdict;
}

/** What the builder examines. */
interface BuilderSubject {
  readonly xen: XenNotes;
  /** `e_machine`. */
  readonly machine: number;
  readonly isElf32: boolean;
  readonly otherLoader: OtherLoader | null;
}

const PAGE_BYTES = 4096n;

/** A refusal in the builder's own words. @param reason default: those of the code */
export const refuse = (code: BuilderRefusalCode, reason: string = BUILDER_REFUSALS[code]): BuilderRefusal => ({
  code,
  reason,
});

/**
 * Judges a kernel for both kinds of guests.
 *
 * @param otherLoader what `findOtherLoader` found in the file
 */
export function judgeByBuilder(
  { headers }: ElfImage,
  xen: XenNotes,
  otherLoader: OtherLoader | null,
): Omit<BuilderVerdict, 'takes'> {
  const subject: BuilderSubject = {
    xen,
    machine: readMachine(headers),
    isElf32: headers.format.class === 'ELF32',
    otherLoader,
  };
  const guestType = otherLoader === null ? pvGuestType(subject) : otherLoader.guestType;
  const pvWhy = refusePv(subject, guestType);
  const hvmWhy = refuseHvm(subject);
  return {
    pv: { ok: pvWhy === null, guestType, why: pvWhy },
    hvm: { ok: hvmWhy === null, why: hvmWhy },
  };
}

function refusePv(
  { xen: { pv }, machine, otherLoader }: BuilderSubject,
  guestType: PvGuestType | null,
): BuilderRefusal | null {
  if (otherLoader !== null) return otherLoader.why;
  if (!pv.ok) return refuse('no-loader');
  if (needsDom0(pv)) return refuse('no-unprivileged');
  if (guestType === null) return refuse('unknown-machine', `unknown image type ${machine}`);
  return refuseGuestType(guestType) ?? refuseStart(pv);
}

/** The verdict on a file that is no ELF image, for which the loader for ELF has no use. */
export function judgeOtherFile(otherLoader: OtherLoader | null): Omit<BuilderVerdict, 'takes'> {
  if (otherLoader === null) return refuseAll(refuse('no-loader'));
  const { guestType, why } = otherLoader;
  return { pv: { ok: why === null, guestType, why }, hvm: { ok: why === null, why } };
}

/** The verdict on a kernel that no loader sees or accepts. */
export const refuseAll = (why: BuilderRefusal): Omit<BuilderVerdict, 'takes'> => ({
  pv: { ok: false, guestType: null, why },
  hvm: { ok: false, why },
});

/** Xen has no 32-bit PV guests without PAE. */
const refuseGuestType = (guestType: PvGuestType | null): BuilderRefusal | null =>
  guestType === 'xen-3.0-x86_32'
    ? refuse('guest-type-unsupported', `guest type ${guestType} not supported by xen kernel, sorry`)
    : null;

function refuseHvm({ xen: { hvm }, isElf32, otherLoader }: BuilderSubject): BuilderRefusal | null {
  if (otherLoader !== null) return otherLoader.why;
  // The loader for firmware gets what the ELF library refuses.
  if (!hvm.ok) return refuse(isElf32 ? 'taken-as-firmware' : 'not-32bit');
  if (needsDom0(hvm)) return refuse('no-unprivileged');
  if (hvm.physEntry === null) return refuse('no-pvh-entry');
  return refuseStart(hvm);
}

const needsDom0 = ({ requiredFeatures }: GuestParameters): boolean => (requiredFeatures & DOM0_FEATURE) !== 0n;

const refuseStart = ({ virtKstart }: GuestParameters): BuilderRefusal | null =>
  virtKstart % PAGE_BYTES === 0n
    ? null
    : refuse('not-page-aligned', `segment boundary isn't page aligned (${hex(virtKstart)})`);

/** `PAE_MODE` decides for i386. Bimodal kernels run with PAE where Xen supports 32-bit PV. */
function pvGuestType({ machine, xen: { pv } }: BuilderSubject): PvGuestType | null {
  if (machine === EM_X86_64) return 'xen-3.0-x86_64';
  if (machine !== EM_386) return null;
  return pv.pae === 0 ? 'xen-3.0-x86_32' : 'xen-3.0-x86_32p';
}

/** A loader that the builder tries before the one for ELF. */
interface OtherLoader {
  readonly name: 'multiboot-binary' | 'bzImage';
  readonly guestType: PvGuestType | null;
  /** Null when it accepts the file. */
  readonly why: BuilderRefusal | null;
}

const MULTIBOOT_MAGIC = 0x336e_c578;
/** The table is sought at multiples of this in the first bytes of a file. */
const MULTIBOOT_STEP_BYTES = 4;
const MULTIBOOT_AREA_BYTES = 8192;
/** How much of a file `findOtherLoader` needs. */
export const LOADER_PROBE_BYTES = MULTIBOOT_AREA_BYTES;
/** All but bit 0 and bits 14 and 15, which give the guest's processor. */
const MULTIBOOT_FLAGS_MASK = ~((1 << 0) | (3 << 14));
const MULTIBOOT_FLAGS = 0x0001_0000;
/** By the value of bits 14 and 15. */
const MULTIBOOT_GUEST_TYPES: readonly PvGuestType[] = [
  'xen-3.0-x86_32',
  'xen-3.0-x86_32p',
  'xen-3.0-x86_64',
  'xen-3.0-x86_32p',
];

/**
 * Whether the builder leaves an ELF file to another loader: one for files with a multiboot table, or one for Linux.
 * The multiboot table is recognised, not modelled further.
 *
 * @param start the first `LOADER_PROBE_BYTES` of the file, or all of it
 * @param size bytes in the file
 */
export function findOtherLoader(start: Uint8Array, size: number): OtherLoader | null {
  return findMultibootTable(start) ?? findLinuxHeader(start, size);
}

function findMultibootTable(start: Uint8Array): OtherLoader | null {
  const data = dataOf(start);
  const end = Math.min(start.length, MULTIBOOT_AREA_BYTES);
  for (let at = 0; at + 4 <= end; at += MULTIBOOT_STEP_BYTES) {
    if (data.getUint32(at, true) !== MULTIBOOT_MAGIC || at + 12 > start.length) continue;
    const flags = data.getUint32(at + 4, true);
    if ((MULTIBOOT_MAGIC + flags + data.getUint32(at + 8, true)) % 2 ** 32 !== 0) continue;
    if ((flags & MULTIBOOT_FLAGS_MASK) !== MULTIBOOT_FLAGS) {
      const found = `0x${flags.toString(16).padStart(8, '0')}`;
      const why = refuse('multiboot-flags', `${BUILDER_REFUSALS['multiboot-flags']} found ${found}`);
      return { name: 'multiboot-binary', guestType: null, why };
    }
    const guestType = MULTIBOOT_GUEST_TYPES[(flags >>> 14) & 3] ?? null;
    return { name: 'multiboot-binary', guestType, why: refuseGuestType(guestType) };
  }
  return null;
}

const LINUX_MAGIC = [0x48, 0x64, 0x72, 0x53];
const LINUX_MAGIC_AT = 0x202;
const LINUX_VERSION_AT = 0x206;
const LINUX_SETUP_SECTS_AT = 0x1f1;
const LINUX_PAYLOAD_OFFSET_AT = 0x248;
const LINUX_PAYLOAD_LENGTH_AT = 0x24c;
const LINUX_HEADER_BYTES = 592;
const MIN_LINUX_VERSION = 0x0208;

/** An ELF file that has a Linux setup header: the probe fails early and leaves it to the loader for ELF, or refuses it. */
function findLinuxHeader(start: Uint8Array, size: number): OtherLoader | null {
  if (size < LINUX_HEADER_BYTES || start.length < LINUX_HEADER_BYTES) return null;
  if (!LINUX_MAGIC.every((byte, index) => start[LINUX_MAGIC_AT + index] === byte)) return null;
  const data = dataOf(start);
  if (data.getUint16(LINUX_VERSION_AT, true) < MIN_LINUX_VERSION) return null;
  const payload = ((start[LINUX_SETUP_SECTS_AT] ?? 0) + 1) * 512 + data.getUint32(LINUX_PAYLOAD_OFFSET_AT, true);
  if (payload >= size || payload + data.getUint32(LINUX_PAYLOAD_LENGTH_AT, true) > size) return null;
  return { name: 'bzImage', guestType: null, why: refuse('unknown-compression') };
}
