/** The layout of a loaded image as JSON. */
import { ELF32, ELF64 } from '../elf/format.ts';
import { hex } from '../elf/hex.ts';
import type { Compression } from '../inspect/image-source.ts';
import type { ImageFacts, LoadedImage } from '../inspect/load.ts';
import type { Broken } from '../xen/broken.ts';
import type { Comparison } from '../xen/compare.ts';
import { MAX_LISTED } from '../xen/listed.ts';
import { SIZE_WORD_BYTES, type SymbolPlan } from '../xen/loaders/bsdsyms.ts';
import type { PlannedTable } from '../xen/loaders/layout.ts';
import type { KernelRange } from '../xen/segments.ts';
import { describeGuests } from './guests.ts';
import type { Layout } from './schemas.ts';

/** The JSON of `POST /layout`. @param compression how the image was compressed */
export function toLayout(
  { image, kernel, plan, broken, warnings, comparison, guests }: LoadedImage,
  compression: Compression | null,
): Layout {
  return {
    image: describeImage(image, compression),
    kernel: describeKernel(kernel),
    bsdsyms: describeSymbols(image, plan),
    broken: describeBroken(broken),
    warnings: [...warnings],
    ...(comparison === null ? {} : { comparison: describeComparison(comparison) }),
    ...(guests === null ? {} : { guests: describeGuests(guests) }),
  };
}

export const describeKernel = ({ pstart, pend, align }: KernelRange): Layout['kernel'] => ({
  pstart: hex(pstart),
  pend: hex(pend),
  align: hex(align),
});

/** Where the symbols lie and what they consist of. */
export function describeSymbols({ identity }: ImageFacts, plan: SymbolPlan): Layout['bsdsyms'] {
  const { symbol } = identity?.class === 'ELF64' ? ELF64 : ELF32;
  const tables = plan.tables.slice(0, MAX_LISTED);
  const unlistedSections = plan.tables.length - tables.length;
  return {
    loader: plan.loader,
    loadAddress: hex(plan.loadAddress),
    pstart: hex(plan.pstart),
    pend: hex(plan.pend),
    size: plan.size,
    sizeWord: plan.sizeWord,
    xenReservedEnd: hex(plan.xenReservedEnd),
    elfHeader:
      plan.headers === null
        ? null
        : { address: addressOf(plan, SIZE_WORD_BYTES), offset: SIZE_WORD_BYTES, size: plan.headers.elfHeaderSize },
    sections: [{ index: 0, type: 'NULL' }, ...tables.map((table) => describeTable(plan, table, symbol.size))],
    ...(unlistedSections > 0 ? { unlistedSections } : {}),
  };
}

function describeComparison(comparison: Comparison): NonNullable<Layout['comparison']> {
  const { loader, broken } = comparison;
  if (broken !== null) {
    return { loader, broken: describeBroken(broken), size: null, identical: false, differences: [], unlisted: 0 };
  }
  const { plan, differences, unlisted } = comparison;
  return {
    loader,
    broken,
    size: plan.size,
    identical: differences.length === 0,
    differences: differences.map(({ kind, what, range, otherRange, fields, meaning }) => ({
      kind,
      what,
      range,
      otherRange,
      fields: fields.map(({ name, value, other }) => ({ name, value: hex(value), other: hex(other) })),
      meaning,
    })),
    unlisted,
  };
}

export function describeBroken(broken: Broken | null): Layout['broken'] {
  if (broken === null) return null;
  const { code, reason, stage, detail } = broken;
  return { code, reason, stage, detail };
}

export function describeImage(
  { size, identity, buildId, container }: ImageFacts,
  compression: Compression | null,
): Layout['image'] {
  if (identity === null) throw new Error('an image without an ELF header has no layout');
  return { size, ...identity, entry: hex(identity.entry), buildId, compression, container };
}

function describeTable(
  plan: SymbolPlan,
  table: PlannedTable,
  symbolSize: number,
): Layout['bsdsyms']['sections'][number] {
  const { index, type, offset, size, shOffset, fileOffset } = table;
  const section = { index, type, address: addressOf(plan, offset), offset, size, shOffset, fileOffset };
  return type === 'SYMTAB' ? { ...section, entries: Math.floor(size / symbolSize), firstGlobal: table.info } : section;
}

const addressOf = (plan: SymbolPlan, offset: number): string => hex(plan.pstart + BigInt(offset));
