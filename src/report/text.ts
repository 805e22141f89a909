/** Reports as text for people on a terminal: facts, one a line, and tables. The columns may change; JSON is for programs. */

import type { CheckReport, GuestReport, KernelReport, Layout, VerifyReport } from './schemas.ts';
import { printable, writeFacts, writeTable } from './table.ts';

type GuestsReport = VerifyReport['guests'];
type Section = Layout['bsdsyms']['sections'][number];

/** The text of `layout`. */
export const writeLayoutText = (layout: Layout): string =>
  joinBlocks([
    writeFacts([
      ...imageFacts(layout.image),
      ...kernelFacts(layout.kernel),
      ['loader', layout.bsdsyms.loader],
      ...symbolFacts(layout.bsdsyms),
      ...brokenFacts(layout.broken),
    ]),
    writeTable(['ADDRESS', 'OFFSET', 'SIZE', 'FILE OFFSET', 'CONTENT'], listContents(layout.bsdsyms), 'rrrrl'),
    layout.comparison === undefined ? '' : writeComparison(layout.comparison),
    layout.guests === undefined ? '' : writeGuests(layout.guests),
    writeWarnings(layout.warnings),
  ]);

/** The text of `kernel`. */
export const writeKernelText = (report: KernelReport): string =>
  joinBlocks([
    writeFacts([
      ...imageFacts(report.image),
      ...kernelFacts(report.kernel),
      ['asks for symbols', report.xen.pv.bsdSymtab || report.xen.hvm.bsdSymtab ? 'yes' : 'no'],
      ...brokenFacts(report.broken),
    ]),
    writeTable(
      ['SEGMENT', 'FLAGS', 'PADDR', 'VADDR', 'OFFSET', 'FILESZ', 'MEMSZ', 'ALIGN'],
      [
        ...report.segments.map(({ index, flags, paddr, vaddr, offset, filesz, memsz, align }) => [
          String(index),
          flags,
          paddr,
          vaddr,
          offset,
          filesz,
          memsz,
          align,
        ]),
        ...unlisted(report.unlistedSegments),
      ],
      'rlrrrrrr',
    ),
    writeTable(['NOTE', 'VALUE'], Object.entries(report.notes), 'll'),
    writeTable(
      ['WHO', 'VERDICT', 'WHY'],
      [
        ['ELF library, PV', ...libraryVerdict(report.xen.pv)],
        ['ELF library, HVM', ...libraryVerdict(report.xen.hvm)],
        ['builder, file', ...builderVerdict(report.builder.takes, 'takes it', 'refuses it')],
        ['builder, PV', ...builderVerdict(report.builder.pv, 'starts', 'does not start')],
        ['builder, PVH', ...builderVerdict(report.builder.hvm, 'starts', 'does not start')],
      ],
      'lll',
    ),
    writeWarnings(report.warnings),
  ]);

/** The text of `check`. */
export const writeCheckTable = ({ image, kernel, requirements, warnings }: CheckReport): string =>
  joinBlocks([
    writeFacts([...imageFacts(image), ...kernelFacts(kernel)]),
    writeTable(
      ['RESULT', 'REQUIREMENT', 'WHAT WAS FOUND'],
      requirements.map(({ name, met, code, detail }) => [
        met ? 'ok' : 'FAILED',
        name,
        code === null ? detail : `${code}: ${detail}`,
      ]),
      'lll',
    ),
    writeWarnings(warnings),
  ]);

/** The text of `verify`. */
export const writeVerifyText = ({ blob, guests }: VerifyReport): string =>
  joinBlocks([
    writeFacts([
      ['file', bytes(blob.size)],
      ['address', blob.address ?? 'not given'],
      ['size word', blob.sizeWord === null ? 'missing' : String(blob.sizeWord)],
      ['end of the blob', blob.end === null ? 'unknown' : bytes(blob.end)],
      ['ELF header', [blob.class, blob.byteOrder, blob.machine].filter((fact) => fact !== null).join(' ') || 'none'],
      ['loader', blob.loader ?? 'unknown'],
    ]),
    writeTable(
      ['TABLE', 'OFFSET', 'SIZE', 'ADDRESS'],
      (['symtab', 'strtab'] as const).flatMap((name) => {
        const table = blob[name];
        return table === null ? [] : [[name, String(table.offset), String(table.size ?? '-'), table.address ?? '-']];
      }),
      'lrrr',
    ),
    writeGuests(guests),
  ]);

type Facts = [string, string][];

const imageFacts = ({
  size,
  class: elfClass,
  byteOrder,
  type,
  machine,
  entry,
  buildId,
  compression,
  container,
}: Layout['image']): Facts => [
  ['image', [elfClass, byteOrder, type, machine].join(' ')],
  ['size', bytes(size)],
  ['entry', entry],
  ...(buildId === null ? [] : [['build ID', buildId] satisfies [string, string]]),
  ...(compression === null ? [] : [['compression', compression] satisfies [string, string]]),
  ...(container === null ? [] : [['container', container] satisfies [string, string]]),
];

const kernelFacts = ({ pstart, pend, align }: Layout['kernel']): Facts => [
  ['kernel', `${pstart} to ${pend}, aligned to ${align}`],
];

const symbolFacts = ({ pstart, pend, size, sizeWord, xenReservedEnd }: Layout['bsdsyms']): Facts => [
  ['symbols', `${pstart} to ${pend}, ${bytes(size)}`],
  ['size word', String(sizeWord)],
  ...(xenReservedEnd === pend ? [] : [['Xen reserves to', xenReservedEnd] satisfies [string, string]]),
];

const brokenFacts = (broken: Layout['broken']): Facts =>
  broken === null ? [] : [['broken', `${broken.code}: ${broken.detail}`]];

/** What the blob consists of, in its order. */
function listContents({ pstart, elfHeader, sections, unlistedSections }: Layout['bsdsyms']): string[][] {
  const header =
    elfHeader === null
      ? []
      : [[elfHeader.address, String(elfHeader.offset), String(elfHeader.size), '-', 'ELF header']];
  const tables = sections
    .filter(({ type }) => type !== 'NULL')
    .map((section) => [
      section.address ?? '-',
      String(section.offset ?? '-'),
      String(section.size ?? '-'),
      // Null when Xen skips the copy.
      String(section.fileOffset ?? '-'),
      describeSection(section),
    ]);
  return [[pstart, '0', '4', '-', 'size word'], ...header, ...tables, ...unlisted(unlistedSections)];
}

const describeSection = ({ index, type, entries, firstGlobal }: Section): string =>
  type === 'SYMTAB'
    ? `section ${index}: symbols, ${entries ?? 0} entries, the first global one is ${firstGlobal ?? 0}`
    : `section ${index}: strings`;

const unlisted = (count: number | undefined): string[][] => (count === undefined ? [] : [['…', `${count} more`]]);

function writeComparison({
  loader,
  broken,
  size,
  identical,
  differences,
  unlisted: more,
}: NonNullable<Layout['comparison']>): string {
  if (broken !== null) return `${loader} does not load the symbols: ${printable(`${broken.code}: ${broken.detail}`)}\n`;
  if (identical) return `${loader} writes the same ${bytes(size ?? 0)}.\n`;
  const rows = differences.map(({ kind, what, range, otherRange, meaning }) => [
    kind,
    what,
    range === null ? '-' : String(range.offset),
    otherRange === null ? '-' : String(otherRange.offset),
    meaning,
  ]);
  return writeTable(
    ['DIFFERENCE', 'WHAT', 'OFFSET', `IN ${loader}`, 'MEANING'],
    [...rows, ...unlisted(more === 0 ? undefined : more)],
    'llrrl',
  );
}

const writeGuests = (guests: GuestsReport): string =>
  writeTable(
    ['GUEST', 'SYMBOLS', 'COUNT', 'WHY', 'WARNINGS'],
    Object.entries(guests).map(([name, { outcome, why, symbols, warnings }]) => [
      name,
      outcome,
      symbols === null ? '-' : String(symbols),
      why ?? '-',
      warnings.join(', ') || '-',
    ]),
    'llrll',
  );

const writeWarnings = (warnings: Layout['warnings']): string =>
  writeTable(
    ['WARNING', 'WHAT WAS FOUND'],
    warnings.map(({ code, detail }) => [code, detail]),
    'll',
  );

const libraryVerdict = ({ ok, error, broken }: GuestReport): string[] => [
  ok ? 'accepts' : 'refuses',
  error ?? broken ?? '-',
];

function builderVerdict(
  { ok, why }: { readonly ok: boolean; readonly why: { readonly code: string; readonly reason: string } | null },
  yes: string,
  no: string,
): string[] {
  return [ok ? yes : no, why === null ? '-' : `${why.code}: ${why.reason}`];
}

/** A number of bytes with its digits in groups. */
const bytes = (count: number): string => `${String(count).replaceAll(/\B(?=(?:\d{3})+$)/g, ',')} bytes`;

/** Blocks with a blank line between them; those that are empty are left out. */
const joinBlocks = (blocks: readonly string[]): string => blocks.filter((block) => block !== '').join('\n');
