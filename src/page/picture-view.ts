/** The picture with its regions as buttons, and the panel that explains the one that was picked. */

import type { KernelReport, Layout } from '../report/schemas.ts';
import { el, facts, scrolling, table } from './elements.ts';
import type { BytesOf } from './messages.ts';
import { explainRegion, type RegionInfo, readFields, SHOWN_BYTES } from './regions.ts';
import { parsePicture } from './trust.ts';
import { group, hexdump } from './words.ts';

/** Reads bytes of the blob, of the other one, or of the image. */
export type ReadBytes = (of: BytesOf, offset: number, length: number) => Promise<Uint8Array>;

export interface Shown {
  readonly layout: Layout;
  readonly picture: string;
  /** Known later than the picture. */
  readonly kernel: () => KernelReport | null;
  readonly readBytes: ReadBytes;
}

/** So much of the panel has to be on the screen. */
const SEEN_PIXELS = 150;
/** Wider pictures have the panel below them. */
const MAX_BESIDE_WIDTH = 960;

export function showPicture({ layout, picture, kernel, readBytes }: Shown): HTMLElement {
  const svg = parsePicture(picture);
  const { width, height } = svg.viewBox.baseVal;
  svg.setAttribute('width', String(width));
  svg.setAttribute('height', String(height));
  // There before it has text, so that what it says later is announced.
  const panel = el('div', { class: 'panel', 'aria-live': 'polite', hidden: true });
  const regions = [...svg.querySelectorAll<SVGGElement>('[data-region]')];
  let picked = 0;

  const pick = async (region: SVGGElement): Promise<void> => {
    for (const other of regions) other.setAttribute('aria-pressed', String(other === region));
    picked += 1;
    const own = picked;
    panel.hidden = false;
    const title = titleOf(region);
    const info = explainRegion(region.dataset['region'] ?? '', rangeOf(region), layout, kernel());
    const bytes = await readShown(info, readBytes);
    // Another one may have been picked meanwhile.
    if (own !== picked) return;
    panel.replaceChildren(...explain(title, info, bytes, layout, region));
    // Below a picture that fills the screen it would go unnoticed.
    if (panel.getBoundingClientRect().top > innerHeight - SEEN_PIXELS) panel.scrollIntoView({ block: 'nearest' });
  };

  for (const region of regions) {
    // Their titles are their names.
    for (const [name, value] of Object.entries({ role: 'button', tabindex: '0', 'aria-pressed': 'false' })) {
      region.setAttribute(name, value);
    }
    region.addEventListener('click', () => void pick(region));
    region.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      void pick(region);
    });
  }
  const box = scrollingPicture(svg);
  const sideways = el(
    'p',
    { class: 'sideways', hidden: true },
    'The picture is wider than the screen: scroll it sideways.',
  );
  new ResizeObserver(() => {
    sideways.hidden = box.scrollWidth <= box.clientWidth;
  }).observe(box);
  return el(
    'section',
    { 'aria-labelledby': 'picture-title' },
    el('h2', { id: 'picture-title' }, 'Where everything lies in guest memory'),
    el('p', {}, 'Choose a part of it to see its fields, its bytes, and the rule that places it.'),
    sideways,
    el('div', { class: width <= MAX_BESIDE_WIDTH ? 'split narrow' : 'split' }, box, panel),
  );
}

const titleOf = (region: SVGGElement): string => region.querySelector('title')?.textContent ?? '';

function scrollingPicture(svg: SVGSVGElement): HTMLElement {
  const box = scrolling('Picture');
  box.append(svg);
  return box;
}

function rangeOf(region: SVGGElement): { readonly offset: number; readonly size: number } | null {
  const { offset, size } = region.dataset;
  return offset === undefined || size === undefined ? null : { offset: Number(offset), size: Number(size) };
}

async function readShown({ bytes, struct }: RegionInfo, readBytes: ReadBytes): Promise<Uint8Array | string> {
  if (bytes === null || bytes.size === 0) return new Uint8Array(0);
  const wanted = Math.max(SHOWN_BYTES, struct === null ? 0 : struct.at + struct.of.size);
  try {
    return await readBytes(bytes.of, bytes.offset, Math.min(bytes.size, wanted));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function explain(
  title: string,
  info: RegionInfo,
  bytes: Uint8Array | string,
  layout: Layout,
  region: SVGGElement,
): readonly Node[] {
  const [name = '', ...rest] = title.split(/: (.*)/s);
  const text = rest.join('');
  const nodes: Node[] = [
    el('h3', {}, name.charAt(0).toUpperCase() + name.slice(1)),
    ...(text === '' ? [] : [el('p', {}, text)]),
    ...info.rules.map((rule) => el('p', {}, rule)),
  ];
  if (info.facts.length > 0) nodes.push(facts(info.facts.map(([key, value]) => [key, el('code', {}, value)])));
  if (typeof bytes === 'string') return [...nodes, el('p', {}, bytes)];
  if (info.struct !== null) {
    const fields = readFields(bytes, info.struct, layout.image.byteOrder === 'little-endian');
    if (fields.length > 0) {
      const rows = fields.map(({ name: field, offset, value, replaced }) => [
        el('code', {}, field),
        el('code', { class: replaced ? 'replaced' : null }, `${value}${replaced ? ' *' : ''}`),
        `+${offset}`,
      ]);
      nodes.push(table(`${info.struct.name}: fields`, ['Field', 'Value', 'At'], rows));
      if (fields.some(({ replaced }) => replaced))
        nodes.push(el('p', {}, '* Written by Xen. All other fields are the kernel’s.'));
    }
  }
  if (info.bytes !== null && bytes.length > 0) {
    const shown = bytes.subarray(0, SHOWN_BYTES);
    const first = info.bytes.of === 'image' ? BigInt(info.bytes.offset) : BigInt(region.dataset['offset'] ?? 0);
    const what = info.bytes.of === 'image' ? 'in the file' : 'in the blob';
    const label =
      shown.length < info.bytes.size
        ? `The first ${shown.length} of ${group(info.bytes.size)} bytes`
        : 'All of its bytes';
    nodes.push(
      el('h3', {}, `${label}, by their offset ${what}`),
      scrolling(label, el('pre', {}, hexdump(shown, first))),
    );
  }
  return nodes;
}
