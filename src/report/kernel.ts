/** What is known about a kernel, as JSON. */

import { hex } from '../elf/hex.ts';
import type { Compression } from '../inspect/image-source.ts';
import type { FlattenedImage, InspectedKernel } from '../inspect/load.ts';
import { BROKEN_KINDS, reportRecorded } from '../xen/broken.ts';
import { MAX_LISTED } from '../xen/listed.ts';
import type { GuestParameters, NoteName } from '../xen/notes/guest-parameters.ts';
import type { Segment } from '../xen/segments.ts';
import { describeBroken, describeImage, describeKernel } from './layout.ts';
import type { FlatLayout, GuestReport, KernelReport } from './schemas.ts';

/** The JSON of `POST /kernel`. @param compression how the image was compressed */
export function toKernelReport(inspected: InspectedKernel, compression: Compression | null): KernelReport {
  const { image, kernel, segments, unlistedSegments, xen, builder, elf, warnings } = inspected;
  return {
    image: describeImage(image, compression),
    kernel: describeKernel(kernel),
    segments: segments.map(describeSegment),
    ...(unlistedSegments > 0 ? { unlistedSegments } : {}),
    notes: describeNotes(xen.hvm.notes),
    xen: { pv: describeGuest(xen.pv), hvm: describeGuest(xen.hvm) },
    builder,
    broken: describeBroken(reportRecorded(elf.recorded)),
    warnings: [...warnings],
  };
}

/** The JSON of `POST /image`. @param compression how the image was compressed */
export function toFlatLayout(flattened: FlattenedImage, compression: Compression | null): FlatLayout {
  const { image, kernel, plan, symbols, broken } = flattened;
  const unlistedExtents = plan.extents.length - MAX_LISTED;
  let offset = 0;
  return {
    image: describeImage(image, compression),
    kernel: describeKernel(kernel),
    flat: { pstart: hex(plan.pstart), pend: hex(plan.pend), size: plan.size },
    bsdsyms: symbols === null ? null : { pstart: hex(symbols.pstart), pend: hex(symbols.pend) },
    extents: plan.extents.slice(0, MAX_LISTED).map((extent) => {
      const at = offset;
      offset += extent.length;
      const described = {
        address: hex(plan.pstart + BigInt(at)),
        offset: at,
        size: extent.length,
        content: extent.kind,
      };
      if (extent.kind === 'copy') return Object.assign(described, { fileOffset: extent.offset });
      return extent.kind === 'fill' ? Object.assign(described, { byte: 0 }) : described;
    }),
    ...(unlistedExtents > 0 ? { unlistedExtents } : {}),
    broken: describeBroken(broken),
  };
}

const describeSegment = (segment: Segment): KernelReport['segments'][number] => ({
  index: segment.index,
  offset: hex(segment.offset),
  vaddr: hex(segment.vaddr),
  paddr: hex(segment.paddr),
  filesz: hex(segment.filesz),
  memsz: hex(segment.memsz),
  flags: [segment.flags & 4 ? 'R' : '', segment.flags & 2 ? 'W' : '', segment.flags & 1 ? 'X' : ''].join(''),
  align: hex(segment.align),
});

const hexOrNull = (value: bigint | null): string | null => (value === null ? null : hex(value));

function describeNotes(notes: GuestParameters['notes']): Record<string, string> {
  const entries = Object.entries(notes) as [NoteName, string | bigint][];
  return Object.fromEntries(entries.map(([name, value]) => [name, typeof value === 'bigint' ? hex(value) : value]));
}

function describeGuest(guest: GuestParameters): GuestReport {
  const { bsdsyms } = guest;
  return {
    ok: guest.ok,
    error: guest.error,
    broken: guest.broken === null ? null : BROKEN_KINDS[guest.broken.code].reason,
    notes: describeNotes(guest.notes),
    guestOs: guest.guestOs,
    guestVersion: guest.guestVersion,
    xenVersion: guest.xenVersion,
    loader: guest.loader,
    pae: guest.pae,
    bsdSymtab: guest.bsdSymtab,
    unmappedInitrd: guest.unmappedInitrd,
    physReloc: guest.physReloc,
    supportedFeatures: hex(guest.supportedFeatures),
    requiredFeatures: hex(guest.requiredFeatures),
    physEntry: hexOrNull(guest.physEntry),
    physAlign: hexOrNull(guest.physAlign),
    physMin: hexOrNull(guest.physMin),
    physMax: hexOrNull(guest.physMax),
    virtBase: hexOrNull(guest.virtBase),
    virtEntry: hexOrNull(guest.virtEntry),
    virtHypercall: hexOrNull(guest.virtHypercall),
    virtHvStartLow: hexOrNull(guest.virtHvStartLow),
    p2mBase: hexOrNull(guest.p2mBase),
    elfPaddrOffset: hexOrNull(guest.elfPaddrOffset),
    virtKstart: hexOrNull(guest.virtKstart),
    virtKend: hexOrNull(guest.virtKend),
    bsdsyms: bsdsyms === null ? null : { pstart: hex(bsdsyms.pstart), pend: hex(bsdsyms.pend) },
  };
}
