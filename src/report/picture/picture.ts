/**
 * A picture of where a kernel and its symbols lie in guest memory, as SVG.
 *
 * On the left is guest memory, from the lowest segment to the end of the symbols; next to it the symbols opened up, and
 * on the right, when two loaders are compared, those of the other one. Its size and cost are bounded, whatever the image.
 */
import { ELF32, ELF64 } from '../../elf/format.ts';
import { hex } from '../../elf/hex.ts';
import type { Steps } from '../../elf/steps.ts';
import type { LoadedImage } from '../../inspect/load.ts';
import { runInSteps } from '../../inspect/turn.ts';
import type { SymbolPlan } from '../../xen/loaders/bsdsyms.ts';
import { groupSegmentsInSteps, type SegmentMap } from '../../xen/segment-groups.ts';
import { hasSegments } from '../../xen/segments.ts';
import { drawBands } from './bands.ts';
import { BLOB_WIDTH, type Blob, besideWidth, drawBlobColumn } from './blob-column.ts';
import { type BlobPart, listBlobParts } from './blob-parts.ts';
import { type BlobComparison, findMarks, type Side } from './marks.ts';
import { drawMemoryColumn } from './memory-column.ts';
import { listMemoryRegions } from './memory-regions.ts';
import { addressWidth, drawLabel } from './shapes.ts';
import { element, textElement } from './svg.ts';
import { type LookName, lookOf, PICTURE_CLASS, PICTURE_CSS } from './theme.ts';
import { bytes, counted, group, wrap } from './words.ts';

/** What a picture shows. */
type Pictured = Pick<LoadedImage, 'image' | 'kernel' | 'plan' | 'broken' | 'warnings' | 'comparison'>;

/** How a picture is to be used. */
export interface PictureOptions {
  /**
   * For a document that the picture becomes a part of, instead of a file or an `<img>`: without an XML declaration and
   * without a style sheet, which the page's policy may forbid; `PICTURE_CSS` is that style sheet. Its regions are not
   * hidden from screen readers then, so that a page can make them buttons. Default: false.
   */
  readonly inline?: boolean;
}

/** How many segments, or groups of them, are drawn. */
export const MAX_SEGMENT_GROUPS = 16;

/**
 * The picture of a loaded image, as an SVG document of at most 100 KB.
 *
 * @returns XML without scripts and without references to anything outside of it
 */
export const toPicture = (loaded: LoadedImage, options: PictureOptions = {}): Promise<string> =>
  runInSteps(drawInSteps(loaded, options));

function* drawInSteps(loaded: LoadedImage, options: PictureOptions): Steps<string> {
  const segments = yield* groupSegmentsInSteps(loaded.elf, MAX_SEGMENT_GROUPS);
  return drawPicture(loaded, segments, options);
}

const MARGIN = 20;
const COLUMNS_Y = 100;
const WEDGE_WIDTH = 60;
const RAIL_GAP = 8;
const BAND_WIDTH = 80;
const LINE_HEIGHT = 16;

/** The picture, from what is known. */
export function drawPicture(pictured: Pictured, segments: SegmentMap, { inline = false }: PictureOptions = {}): string {
  const { image, kernel, plan, comparison } = pictured;
  const symbolSize = (image.identity?.class === 'ELF64' ? ELF64 : ELF32).symbol.size;
  const compared = comparison?.broken === null ? comparison : null;
  const toBlob = (side: Side, of: SymbolPlan): Blob => {
    const parts = listBlobParts(of);
    return { side, plan: of, parts, symbolSize, marks: compared === null ? null : findMarks(parts, compared, side) };
  };
  const own = toBlob('own', plan);
  const other = compared === null ? null : toBlob('other', compared.plan);

  const memory = listMemoryRegions(kernel, plan, segments);
  const longest = Math.max(...memory.addresses.map((address) => hex(address).length), 'symbols pstart'.length);
  const memoryX = MARGIN + addressWidth(longest) + 6;
  const memoryColumn = drawMemoryColumn(memory, memoryX, COLUMNS_Y);
  const wedgeEnd = memoryColumn.right + WEDGE_WIDTH;
  const ownX = wedgeEnd + RAIL_GAP + besideWidth(own);
  const ownColumn = drawBlobColumn(own, ownX, COLUMNS_Y);
  const otherX = ownX + BLOB_WIDTH + BAND_WIDTH;
  const otherColumn = other === null ? null : drawBlobColumn(other, otherX, COLUMNS_Y);

  const bottom = Math.max(memoryColumn.bottom, ownColumn.bottom, otherColumn?.bottom ?? 0);
  const right = other === null ? ownX + BLOB_WIDTH : otherX + BLOB_WIDTH + besideWidth(other);
  const width = Math.max(right + MARGIN, MIN_WIDTH);
  const notes = listNotes(pictured, segments, memory.overlap);
  const notesY = bottom + 50;
  const height = notesY + notes.length * LINE_HEIGHT + 10;

  const { symbols } = memoryColumn;
  const wedge = [
    [symbols.x + symbols.width, symbols.y],
    [wedgeEnd, COLUMNS_Y],
    [wedgeEnd, ownColumn.bottom],
    [symbols.x + symbols.width, symbols.y + symbols.height],
  ];
  const heading = (text: string, x: number): string =>
    drawLabel(text, x, COLUMNS_Y - 14, { anchor: 'start', look: 'ink', size: 13, monospace: false });
  const drawn = [
    element('rect', { ...lookOf('paper'), x: 0, y: 0, width, height }),
    drawLabel(TITLE, MARGIN, 34, { anchor: 'start', look: 'ink', size: 19, monospace: false }),
    drawLabel(subtitle(pictured), MARGIN, 55, { anchor: 'start', look: 'faint', size: 12, monospace: false }),
    element('polygon', { ...lookOf('zoom'), points: wedge.map((point) => point.join(',')).join(' ') }),
    heading('Guest memory', memoryX),
    heading(`The symbols of ${plan.loader}`, ownX),
    memoryColumn.svg,
    ...(compared === null || other === null || otherColumn === null
      ? []
      : [
          drawBands(compared, { ...own, ...ownColumn }, { ...other, ...otherColumn }, ownX + BLOB_WIDTH, BAND_WIDTH),
          heading(`The symbols of ${compared.loader}`, otherX),
        ]),
    ownColumn.svg,
    otherColumn?.svg ?? '',
    ...notes.map(({ text, look }, index) =>
      drawLabel(text, MARGIN, notesY + index * LINE_HEIGHT, { anchor: 'start', look, size: 12, monospace: false }),
    ),
  ];
  const svg = element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      class: PICTURE_CLASS,
      viewBox: `0 0 ${width} ${height}`,
      ...(inline ? {} : { width, height }),
      role: inline ? 'group' : 'img',
      'aria-labelledby': `${PICTURE_CLASS}-title ${PICTURE_CLASS}-desc`,
      'font-family': SANS_SERIF,
    },
    textElement('title', { id: `${PICTURE_CLASS}-title` }, TITLE),
    textElement('desc', { id: `${PICTURE_CLASS}-desc` }, describePicture(pictured, segments, own.parts)),
    ...(inline ? [] : [textElement('style', {}, PICTURE_CSS)]),
    ...drawn,
  );
  return inline ? svg : `<?xml version="1.0" encoding="UTF-8"?>\n${svg}\n`;
}

const TITLE = 'A kernel and its symbols in guest memory';
const SANS_SERIF = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const MIN_WIDTH = 760;
const MAX_NOTE_CHARACTERS = 100;
const MAX_WARNING_LINES = 3;

function subtitle({ image, plan, comparison }: Pictured): string {
  const { identity, size } = image;
  const kind = identity === null ? [] : [identity.class, identity.machine, identity.byteOrder];
  const loaders = comparison === null ? plan.loader : `${plan.loader}, compared with ${comparison.loader}`;
  return [...kind, `image of ${bytes(size)}`, `loader ${loaders}`].join(' · ');
}

interface Note {
  readonly text: string;
  readonly look: LookName;
}

function listNotes({ broken, warnings, comparison }: Pictured, segments: SegmentMap, overlap: boolean): Note[] {
  const notes: Note[] = [];
  const say = (text: string, look: LookName = 'faint'): void => void notes.push({ text, look });
  if (broken !== null) say(`Recorded against the image, and loaded all the same: ${broken.code}.`, 'alarm');
  if (warnings.length > 0) {
    const [first = '', ...others] = new Set(warnings.map(({ code }) => code));
    const lines = wrap([`Warnings: ${first}`, ...others], MAX_NOTE_CHARACTERS, MAX_WARNING_LINES);
    for (const line of lines) say(line, 'alarm');
  }
  if (overlap) say('The symbols lie over segments of the kernel.', 'alarm');
  if (comparison !== null) {
    if (comparison.broken !== null) {
      say(`${comparison.loader} does not load this image: ${comparison.broken.code}.`, 'alarm');
    } else {
      say(summarize(comparison), 'ink');
    }
  }
  say('Addresses grow downwards. Heights are logarithmic: in a column, each doubling of the bytes adds the same.');
  const joined = segments.groups.filter(({ count }) => count > 1).reduce((sum, { count }) => sum + count, 0);
  if (joined > 0) say(`${group(joined)} of ${counted(segments.count, 'segment')} are drawn together with others.`);
  if (segments.empty > 0) say(`Not drawn, as they take no memory: ${counted(segments.empty, 'segment')}.`);
  return notes;
}

function summarize({ loader, differences, unlisted }: BlobComparison): string {
  if (differences.length === 0) return `${loader} writes the same bytes.`;
  const all = differences.length + unlisted;
  const listed = unlisted > 0 ? ` The first ${group(differences.length)} are marked.` : '';
  const signs = '≠ other bytes, ↕ at another offset, − or + only in one of them.';
  return `${counted(all, 'difference')} to ${loader}: ${signs}${listed}`;
}

function describePicture(
  { kernel, plan, comparison }: Pictured,
  segments: SegmentMap,
  parts: readonly BlobPart[],
): string {
  const sentences = [
    hasSegments(kernel)
      ? `The kernel takes ${hex(kernel.pstart)} to ${hex(kernel.pend)} in ${counted(segments.count, 'segment')}.`
      : 'The kernel has no segments.',
    `The symbols take ${hex(plan.pstart)} to ${hex(plan.pend)}, ${bytes(plan.size)}.`,
    `They consist of: ${parts.map(({ name, offset, size }) => `${name}, ${bytes(size)} at ${group(offset)}`).join('; ')}.`,
  ];
  if (comparison?.broken === null) sentences.push(summarize(comparison));
  return sentences.join(' ');
}
