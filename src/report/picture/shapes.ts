/** What the columns of a picture are made of. */
import { element, textElement } from './svg.ts';
import { type LookName, lookOf } from './theme.ts';
import { fit, textWidth } from './words.ts';

const MONOSPACE = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';
/** Of one character of `MONOSPACE`, in parts of the font's size. */
const MONOSPACE_WIDTH = 0.61;
export const ADDRESS_SIZE = 11;
const DETAIL_SIZE = 11;
const NAME_SIZE = 12;
const LINE_HEIGHT = 14;
const PADDING = 8;

/** The width of addresses up to this many characters. */
export const addressWidth = (characters: number): number => Math.ceil(characters * ADDRESS_SIZE * MONOSPACE_WIDTH);

export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A region of memory or of a blob: a rectangle with its texts in it. */
export interface Region extends Rectangle {
  /** What a page finds it by; unique within the picture. */
  readonly name: string;
  readonly look: LookName;
  /** Drawn with a dashed line. */
  readonly dashed: boolean;
  /** The first is its name. Lines that have no room are left out. */
  readonly lines: readonly string[];
  /** Lines about the difference to the other column. */
  readonly mark: { readonly look: LookName; readonly lines: readonly string[] } | null;
  /** All that is known about it, as sentences. */
  readonly title: string;
  /** For a page: attributes without their `data-`. */
  readonly data: Readonly<Record<string, string | number>>;
}

/** The lowest height that has room for this many lines. */
export const heightOfLines = (lines: number): number => PADDING + lines * LINE_HEIGHT;

export function drawRegion(region: Region): string {
  const { x, y, width, height, look, lines, mark } = region;
  const stripe = mark === null ? 0 : STRIPE;
  const room = Math.max(1, Math.floor((height - PADDING) / LINE_HEIGHT));
  const marked = mark?.lines ?? [];
  const texts = [...lines.slice(0, Math.max(1, room - marked.length)), ...marked];
  const middle = y + height / 2;
  const first = middle - ((texts.length - 1) * LINE_HEIGHT) / 2 + 4;
  const data = Object.entries(region.data).map(([key, value]) => [`data-${key}`, value] as const);
  return element(
    'g',
    { class: 'region', 'data-region': region.name, ...Object.fromEntries(data) },
    textElement('title', {}, region.title),
    element('rect', { ...lookOf(look), x, y, width, height, ...(region.dashed ? { 'stroke-dasharray': '4 3' } : {}) }),
    ...(mark === null
      ? []
      : [element('rect', { ...lookOf(mark.look), class: `mark ${mark.look}`, x, y, width: stripe, height })]),
    ...texts.map((text, index) => {
      const size = index === 0 ? NAME_SIZE : DETAIL_SIZE;
      return textElement(
        'text',
        {
          ...lookOf('ink'),
          x: x + stripe + PADDING,
          y: first + index * LINE_HEIGHT,
          'font-size': size,
          ...(index === 0 ? { 'font-weight': 600 } : {}),
        },
        fit(text, width - stripe - 2 * PADDING, size),
      );
    }),
  );
}

const STRIPE = 8;

/** A text beside a column. */
export function drawLabel(
  text: string,
  x: number,
  y: number,
  { anchor, look, size, monospace }: { anchor: 'start' | 'end'; look: LookName; size: number; monospace: boolean },
): string {
  return textElement(
    'text',
    {
      ...lookOf(look),
      x,
      y,
      'font-size': size,
      ...(anchor === 'end' ? { 'text-anchor': 'end' } : {}),
      ...(monospace ? { 'font-family': MONOSPACE } : {}),
    },
    text,
  );
}

/** From the base line of its text to a rail: no letter reaches the marks of the rail. */
const TEXT_DISTANCE = 8;
/** How wide a rail with its text is. */
export const RAIL_WIDTH = 20;

/** A range beside a column: a line with ends, and a text along it. */
export interface Rail {
  readonly name: string;
  readonly y: number;
  readonly end: number;
  readonly text: string;
  readonly look: 'line' | 'alarm';
  /** Where else the line has a mark. */
  readonly ticks: readonly number[];
}

/** @param x of its left edge @param top of the column; no text begins above it */
export function drawRail({ name, y, end, text, look, ticks }: Rail, x: number, top: number): string {
  const line = x + RAIL_WIDTH - 5;
  // A text that is longer than its rail reaches above it, as long as there is room.
  const half = textWidth(text, 10) / 2;
  const middle = Math.round(Math.max(Math.min((y + end) / 2, end - half), top + half));
  const alarm = look === 'alarm';
  const cap = (at: number): string => `M${line - 3} ${at}H${line + 3}`;
  const colours = lookOf(alarm ? 'missing' : 'line');
  return element(
    'g',
    { class: 'rail', 'data-rail': name },
    element('path', { ...colours, d: `M${line} ${y}V${end}${[y, end, ...ticks].map(cap).join('')}` }),
    textElement(
      'text',
      {
        ...lookOf(alarm ? 'alarm' : 'faint'),
        x: line - TEXT_DISTANCE,
        y: middle,
        'font-size': 10,
        'text-anchor': 'middle',
        transform: `rotate(-90 ${line - TEXT_DISTANCE} ${middle})`,
      },
      text,
    ),
  );
}
