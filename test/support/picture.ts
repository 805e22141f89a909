/** Reads a picture back: its regions, and what is wrong with it whatever it shows. */
import { parseXml, type XmlElement } from './xml.ts';

export interface PicturedRegion {
  readonly name: string;
  readonly title: string;
  /** The lines of text in it. */
  readonly lines: readonly string[];
  readonly data: Readonly<Record<string, string>>;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface ReadPicture {
  readonly root: XmlElement;
  readonly width: number;
  readonly height: number;
  readonly regions: readonly PicturedRegion[];
  /** All texts outside of regions. */
  readonly labels: readonly string[];
}

const ELEMENTS = new Set(['svg', 'title', 'desc', 'style', 'g', 'rect', 'text', 'polygon', 'path']);
const ATTRIBUTES =
  /^(?:xmlns|class|id|role|viewBox|width|height|x|y|d|points|fill|stroke(?:-[a-z]+)?|opacity|transform|text-anchor|font-[a-z]+|aria-labelledby|data-[a-z]+)$/;

/** @throws Error for what is not well-formed */
export function readPicture(svg: string): ReadPicture {
  const root = parseXml(svg);
  const [, , width = 0, height = 0] = (root.attributes['viewBox'] ?? '').split(' ').map(Number);
  const groups = root.children.filter(({ attributes }) => attributes['data-region'] !== undefined);
  return {
    root,
    width,
    height,
    regions: groups.map(readRegion),
    labels: [...walk(root)].filter(({ name }) => name === 'text').map(({ text }) => text),
  };
}

function readRegion({ attributes, children }: XmlElement): PicturedRegion {
  const rect = children.find(({ name }) => name === 'rect')?.attributes ?? {};
  const number = (name: string): number => Number(rect[name] ?? Number.NaN);
  return {
    name: attributes['data-region'] ?? '',
    title: children.find(({ name }) => name === 'title')?.text ?? '',
    lines: children.filter(({ name }) => name === 'text').map(({ text }) => text),
    data: Object.fromEntries(
      Object.entries(attributes).flatMap(([name, value]) =>
        name.startsWith('data-') && name !== 'data-region' ? [[name.slice('data-'.length), value]] : [],
      ),
    ),
    x: number('x'),
    y: number('y'),
    width: number('width'),
    height: number('height'),
  };
}

function* walk(element: XmlElement): Generator<XmlElement, void> {
  yield element;
  for (const child of element.children) yield* walk(child);
}

/** What no picture may have: anything active, regions that overlap or leave the paper, names that are used twice. */
export function findFlaws({ root, width, height, regions }: ReadPicture): string[] {
  const flaws: string[] = [];
  const top = Math.min(...regions.map(({ y }) => y));
  for (const element of walk(root)) {
    const { name, attributes } = element;
    if (!ELEMENTS.has(name)) flaws.push(`an element ${name}`);
    for (const [key, value] of Object.entries(attributes)) {
      if (!ATTRIBUTES.test(key)) flaws.push(`an attribute ${key}`);
      if (/NaN|Infinity|undefined|null/.test(value)) flaws.push(`${key} is ${value}`);
      if (/^(?:x|y|width|height)$/.test(key) && (Number(value) < 0 || Number(value) > 1e5))
        flaws.push(`${key}=${value}`);
    }
    if (name === 'text') flaws.push(...findTextFlaws(element, { width, height, top }));
  }
  for (const [index, one] of regions.entries()) {
    if (!(one.width > 0 && one.height > 0)) flaws.push(`${one.name} has no area`);
    if (one.x < 0 || one.y < 0 || one.x + one.width > width || one.y + one.height > height) {
      flaws.push(`${one.name} is not on the paper`);
    }
    if (one.lines.length === 0 || one.title === '') flaws.push(`${one.name} says nothing`);
    for (const other of regions.slice(index + 1)) {
      if (other.name === one.name) flaws.push(`two regions ${one.name}`);
      const apart =
        one.x + one.width <= other.x ||
        other.x + other.width <= one.x ||
        one.y + one.height <= other.y ||
        other.y + other.height <= one.y;
      if (!apart) flaws.push(`${one.name} overlaps ${other.name}`);
    }
  }
  return flaws;
}

/** A text has to have room on the paper, and one along a column below its heading; even in a font that is not wide. */
function findTextFlaws(
  { attributes, text }: XmlElement,
  { width, height, top }: { readonly width: number; readonly height: number; readonly top: number },
): string[] {
  const [x, y] = [Number(attributes['x']), Number(attributes['y'])];
  const length = Array.from(text).length * Number(attributes['font-size']) * 0.45;
  const anchor = attributes['text-anchor'] ?? 'start';
  const before = anchor === 'end' ? length : anchor === 'middle' ? length / 2 : 0;
  const isRotated = attributes['transform'] !== undefined;
  const [start, end] = isRotated ? [y - length + before, y + before] : [x - before, x - before + length];
  const fits = isRotated
    ? start >= top && end <= height && x >= 0 && x <= width
    : start >= 0 && end <= width && y >= 0 && y <= height;
  return fits ? [] : [`no room for ${text} at ${x} ${y}`];
}

/** What is wrong with the regions of a blob: it is made of them, from its start to its end, one below the other. */
export function findBlobFlaws(regions: readonly PicturedRegion[], size: number): string[] {
  const flaws: string[] = [];
  let end = 0;
  let bottom: number | null = null;
  for (const { name, data, y, height } of regions) {
    if (Number(data['offset']) !== end) flaws.push(`${name} begins at ${data['offset']}, not at ${end}`);
    if (bottom !== null && y !== bottom) flaws.push(`${name} is at ${y}, not at ${bottom}`);
    end = Number(data['offset']) + Number(data['size']);
    bottom = y + height;
  }
  if (end < size) flaws.push(`the blob ends at ${size}, its regions at ${end}`);
  return flaws;
}

/** What is wrong with the regions of memory: their addresses are in the order of their places. */
export function findMemoryFlaws(regions: readonly PicturedRegion[]): string[] {
  const start = ({ data }: PicturedRegion): bigint => BigInt(data['start'] ?? -1);
  const end = ({ data }: PicturedRegion): bigint => BigInt(data['end'] ?? -1);
  const flaws = regions.filter((one) => start(one) >= end(one)).map(({ name }) => `${name} is empty`);
  for (const one of regions) {
    for (const other of regions) {
      if (start(one) < start(other) !== one.y < other.y) flaws.push(`${one.name} and ${other.name} start in disorder`);
      const [bottom, otherBottom] = [one.y + one.height, other.y + other.height];
      if (end(one) < end(other) !== bottom < otherBottom) flaws.push(`${one.name} and ${other.name} end in disorder`);
    }
  }
  return flaws;
}
