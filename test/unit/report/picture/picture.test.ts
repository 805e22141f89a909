import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../../src/image/memory.ts';
import { type LoadedImage, type LoadRequest, loadImage } from '../../../../src/inspect/load.ts';
import { MAX_TABLE_PARTS } from '../../../../src/report/picture/blob-parts.ts';
import {
  drawPicture,
  MAX_SEGMENT_GROUPS,
  type PictureOptions,
  toPicture,
} from '../../../../src/report/picture/picture.ts';
import { type LookName, lookOf, PICTURE_CSS } from '../../../../src/report/picture/theme.ts';
import { groupSegments } from '../../../../src/xen/segment-groups.ts';
import { type KernelSpec, kernel } from '../../../support/elf-builder.ts';
import { findFlaws, type PicturedRegion, readPicture } from '../../../support/picture.ts';

async function load(spec: KernelSpec = {}, request: LoadRequest = {}): Promise<LoadedImage> {
  const loaded = await loadImage(new MemorySource([kernel(spec).bytes]), request);
  if (!loaded.ok) throw new Error(loaded.broken.detail);
  return loaded;
}

const draw = async (spec: KernelSpec = {}, request: LoadRequest = {}) => {
  const picture = readPicture(await toPicture(await load(spec, request)));
  expect(findFlaws(picture)).toEqual([]);
  return picture;
};

const names = (regions: readonly PicturedRegion[]): string[] => regions.map(({ name }) => name);

/** Regions by name. */
function named(regions: readonly PicturedRegion[], name: string): PicturedRegion {
  const found = regions.find((region) => region.name === name);
  if (found === undefined) throw new Error(`there is no region ${name}`);
  return found;
}

describe('a picture of a kernel', () => {
  test('shows segments, the gap, the symbols, and what these consist of', async () => {
    const { regions } = await draw(
      { symbols: 10, segments: [{ paddr: 0x30_0000, memsz: 0x1234, flags: 6 }] },
      { loadAddress: 0x40_0001n },
    );
    expect(names(regions)).toEqual([
      'segment-0',
      'gap-0x102000',
      'segment-1',
      'gap-0x301234',
      'symbols',
      'size-word',
      'elf-header',
      'section-header-0',
      'section-header-1',
      'section-header-2',
      'padding-260',
      'section-1',
      'section-2',
      'tail',
    ]);
    expect(named(regions, 'segment-1')).toMatchObject({
      data: { start: '0x300000', end: '0x301234' },
      lines: ['segment 1 RW', '4,660 bytes', 'all zeros'],
    });
    expect(named(regions, 'symbols').data['start']).toBe('0x400008');
    expect(named(regions, 'size-word').lines[1]).toMatch(/^4 bytes · says \d+$/);
    expect(named(regions, 'section-1')).toMatchObject({
      data: { offset: '264', size: '264' },
      lines: ['symbol table', '264 bytes', 'sh_offset 260'],
    });
    expect(named(regions, 'section-1').title).toMatch(
      /^symbol table: 0x400110 to 0x400218, .* 11 entries\. Copied from/,
    );
  });

  test('labels the addresses where something begins or ends', async () => {
    const { labels } = await draw({}, { loadAddress: 0x10_2003n });
    for (const label of ['0x100000', 'kernel pstart', '0x102000', 'kernel pend', '0x102003', 'load address']) {
      expect(labels).toContain(label);
    }
    expect(labels).toEqual(expect.arrayContaining(['0x102008', 'symbols pstart', 'symbols pend', '+264', '0x102110']));
  });

  test('says what is counted from where', async () => {
    const loaded = await load({ symbols: 10 });
    const { labels } = await draw({ symbols: 10 });
    expect(labels).toContain('sh_offset counts from the ELF header');
    expect(labels).toContain(`size word: ${loaded.plan.sizeWord} bytes from here`);
    expect(labels).toContain(`Xen reserves ${loaded.plan.size} bytes`);
    expect(labels.some((label) => label.includes('after the region'))).toBe(false);
  });

  test('shows what is written after the region', async () => {
    const { plan } = await load({ class: 'ELF32', symbols: 10 });
    const reserved = Number(plan.xenReservedEnd - plan.pstart);
    const { labels } = await draw({ class: 'ELF32', symbols: 10 });
    expect(labels).toContain(`Xen reserves ${reserved} bytes`);
    expect(labels).toContain(`load writes up to +${plan.sizeWord + 4}`);
    expect(labels).toContain(`${plan.sizeWord + 4 - reserved} bytes after the region`);
  });

  test('puts symbols that lie over segments beside them', async () => {
    const { regions, labels } = await draw({}, { loadAddress: 0x10_1000n });
    const [segment, symbols] = [named(regions, 'segment-0'), named(regions, 'symbols')];
    expect(symbols.x).toBe(segment.x + segment.width);
    expect(symbols.y).toBeGreaterThan(segment.y);
    expect(symbols.y + symbols.height).toBeLessThan(segment.y + segment.height);
    expect(labels).toContain('The symbols lie over segments of the kernel.');
  });

  test('shows an empty table', async () => {
    const { regions } = await draw({ symtab: { data: new Uint8Array() } });
    expect(named(regions, 'section-1')).toMatchObject({ data: { offset: '264', size: '0' } });
  });

  test('shows 4 bytes and 4 EiB', async () => {
    const { regions } = await draw({ memsz: 2n ** 62n });
    expect(named(regions, 'segment-0').lines[1]).toBe('4.0 EiB');
    expect(named(regions, 'size-word').height).toBeGreaterThan(20);
    expect(named(regions, 'segment-0').height).toBeLessThan(500);
  });

  test('shows a table that is not copied, and says what was recorded', async () => {
    const spec: KernelSpec = { symtab: { header: { sh_offset: 2 ** 40 } } };
    const { regions, labels } = await draw(spec, { onBroken: 'load' });
    expect(named(regions, 'section-1').lines[1]).toMatch(/ · not copied$/);
    expect(labels).toContain('Recorded against the image, and loaded all the same: out-of-range-access.');
  });

  test('shows a blob that has no headers', async () => {
    const loaded = await load();
    const headless = { ...loaded, plan: { ...loaded.plan, headers: null, tables: loaded.plan.tables.slice(0, 1) } };
    const picture = readPicture(drawPicture(headless, groupSegments(loaded.elf, 4)));
    expect(findFlaws(picture)).toEqual([]);
    expect(names(picture.regions)).toEqual(['segment-0', 'symbols', 'padding-0', 'section-1', 'tail']);
    expect(picture.labels.some((label) => label.startsWith('size word'))).toBe(false);
  });

  test('shows a blob that nothing is written to', async () => {
    const loaded = await load();
    const [symtab] = loaded.plan.tables;
    if (symtab === undefined) throw new Error('no table');
    const tables = [{ ...symtab, fileOffset: null }];
    const empty = { ...loaded, plan: { ...loaded.plan, headers: null, tables } };
    const picture = readPicture(drawPicture(empty, groupSegments(loaded.elf, 4)));
    expect(findFlaws(picture)).toEqual([]);
    expect(picture.labels).toContain('load writes up to +0');
  });

  test('names warnings', async () => {
    const { labels } = await draw();
    expect(labels).toContain('Warnings: no-xen-notes');
  });

  test('says that there are no segments', async () => {
    const loaded = await load({ segment: { type: 4 } }, { loadAddress: 0x1000n });
    const picture = readPicture(await toPicture(loaded));
    expect(names(picture.regions)[0]).toBe('symbols');
    expect(picture.root.children.find(({ name }) => name === 'desc')?.text).toMatch(/^The kernel has no segments\./);
  });
});

describe('a comparison', () => {
  test('shows both blobs side by side, and marks what differs', async () => {
    const { regions, labels } = await draw({ symbols: 10 }, { compareWith: 'xen-4.6' });
    const own = named(regions, 'section-1');
    const others = regions.filter(({ name }) => name.startsWith('other-'));
    const other = others.find(({ lines }) => lines[0] === 'symbol table');
    expect(own.lines.at(-1)).toBe(`↕ at +${other?.data['offset']} with the other`);
    expect(other?.lines.at(-1)).toBe('↕ at +264 with the other');
    expect(other?.x).toBeGreaterThan(own.x + own.width);
    expect(named(regions, 'elf-header').lines.at(-1)).toBe('≠ e_shnum, e_shstrndx');
    expect(named(regions, 'other-section-headers').lines.at(-1)).toMatch(/^≠ \d+ differences$/);
    // The string table of section names, which Xen leaves out today.
    expect(others.findLast(({ lines }) => lines[0] === 'string table')?.lines.at(-1)).toBe('+ only with this loader');
    expect(labels.some((label) => /^\d+ differences to xen-4\.6: /.test(label))).toBe(true);
  });

  test('marks what the other loader leaves out', async () => {
    const { regions } = await draw({ symbols: 10 }, { loader: 'xen-4.6', compareWith: 'xen-4.8' });
    const left = regions.findLast(({ name, lines }) => !name.startsWith('other-') && lines[0] === 'string table');
    expect(left?.lines.at(-1)).toBe('− only with this loader');
  });

  test('of the same bytes says so', async () => {
    const { regions, labels } = await draw({}, { compareWith: 'xen-4.8' });
    expect(labels).toContain('xen-4.8 writes the same bytes.');
    expect(regions.some(({ lines }) => lines.some((line) => /^[≠↕−+] /.test(line)))).toBe(false);
  });

  test('with a loader that refuses the image says why', async () => {
    const { regions, labels } = await draw({ class: 'ELF32' }, { compareWith: 'xen-4.7' });
    expect(labels).toContain('xen-4.7 does not load this image: loader-unsupported-class.');
    expect(names(regions).some((name) => name.startsWith('other-'))).toBe(false);
  });

  test('leads from each part to the same part of the other', async () => {
    const svg = await toPicture(await load({ symbols: 10 }, { compareWith: 'libxc-4.6' }));
    const bands = readPicture(svg).root.children.filter(({ name, attributes }) => {
      return name === 'polygon' && (attributes['class'] ?? '').startsWith('band ');
    });
    // Size word, ELF header, three section headers, unused bytes, two tables.
    expect(bands).toHaveLength(8);
  });
});

/** Segments with gaps between them. */
const spread = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ paddr: 0x20_0000 + index * 0x1_0000, memsz: 0x8000 }));

describe('many', () => {
  test('segments are drawn in groups, which count them', async () => {
    const { regions, labels } = await draw({ segments: spread(999) });
    const segments = regions.filter(({ name }) => name.startsWith('segment'));
    expect(segments).toHaveLength(MAX_SEGMENT_GROUPS);
    const drawn = segments.map(({ lines }) => Number(/^(\d+) segments/.exec(lines[0] ?? '')?.[1] ?? 1));
    expect(drawn.reduce((sum, one) => sum + one, 0)).toBe(1000);
    const joined = drawn.filter((one) => one > 1).reduce((sum, one) => sum + one, 0);
    expect(labels).toContain(`${joined} of 1,000 segments are drawn together with others.`);
  });

  test('tables and section headers are drawn as one, which counts them', async () => {
    const tables = Array.from({ length: 300 }, (_, index) => ({ name: `${index}`, type: 3, data: new Uint8Array(9) }));
    const { regions } = await draw({ after: tables }, { loader: 'xen-4.6' });
    expect(named(regions, 'section-headers').lines[0]).toBe('305 section headers');
    // .symtab, .strtab, .shstrtab and these.
    expect(named(regions, 'tables').lines[0]).toBe(`${303 - MAX_TABLE_PARTS} further tables`);
    expect(names(regions).filter((name) => /^section-\d+$/.test(name))).toHaveLength(MAX_TABLE_PARTS);
  });

  test('never make a picture large', async () => {
    const tables = Array.from({ length: 3000 }, (_, index) => ({ name: `${index}`, type: 3, data: new Uint8Array(9) }));
    const spec = { segments: spread(3000), after: tables };
    const svg = await toPicture(await load(spec, { loader: 'xen-4.6', compareWith: 'libxc-4.6' }));
    expect(Buffer.byteLength(svg)).toBeLessThan(100_000);
    expect(readPicture(svg).height).toBeLessThan(3000);
  });
});

describe('as a document', () => {
  test('it says what it is without being seen', async () => {
    const { root } = await draw({ symbols: 10 });
    expect(root.attributes).toMatchObject({ role: 'img', xmlns: 'http://www.w3.org/2000/svg' });
    const [title, desc] = root.children;
    expect(root.attributes['aria-labelledby']).toBe(`${title?.attributes['id']} ${desc?.attributes['id']}`);
    expect([title?.name, title?.text]).toEqual(['title', 'A kernel and its symbols in guest memory']);
    expect(desc?.text).toMatch(/^The kernel takes 0x100000 to 0x102000 in 1 segment\. The symbols take 0x102000 to/);
    expect(desc?.text).toContain('symbol table, 264 bytes at 264');
  });

  test('it has its own style sheet, unless it is to be part of a page', async () => {
    const loaded = await load();
    const drawn = (options: PictureOptions) => drawPicture(loaded, groupSegments(loaded.elf, 4), options);
    const file = drawn({});
    expect(file).toContain(`<style>${PICTURE_CSS}</style>`);
    const inline = drawn({ inline: true });
    expect(inline).toMatch(/^<svg [^>]*role="group"/);
    expect(inline).not.toContain('<style');
    const { root } = readPicture(`<?xml version="1.0" encoding="UTF-8"?>\n${inline}`);
    expect(root.attributes).not.toHaveProperty('width');
    expect(names(readPicture(file).regions)).toEqual(
      names(readPicture(`<?xml version="1.0" encoding="UTF-8"?>\n${inline}`).regions),
    );
  });

  test('whatever a text holds, it is text', async () => {
    const loaded = await load();
    const { identity } = loaded.image;
    if (identity === null) throw new Error('no ELF header');
    const machine = '</text><script>alert(1)</script>&amp;"\'\u0000\u0008\ud800\uffff]]>';
    const svg = drawPicture(
      { ...loaded, image: { ...loaded.image, identity: { ...identity, machine } } },
      groupSegments(loaded.elf, 4),
    );
    const picture = readPicture(svg);
    expect(findFlaws(picture)).toEqual([]);
    expect(picture.labels.join('\n')).toContain('</text><script>alert(1)</script>&amp;"\'\ufffd\ufffd\ufffd\ufffd]]>');
  });
});

/** Relative luminance of `#rrggbb` (WCAG 2.2). */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return channel <= 0.040_45 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Contrast of two colours (WCAG 2.2). */
function contrast(one: string, other: string): number {
  const [light = 0, dark = 0] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

const light = (name: LookName): string => lookOf(name)['fill'] ?? '';
const dark = (name: LookName): string =>
  new RegExp(`\\.bsdsyms-picture \\.${name} \\{ fill: (#[0-9a-f]{6})`).exec(PICTURE_CSS)?.[1] ?? '';

describe.each([
  ['light', light],
  ['dark', dark],
])('in %s colours', (_, colour) => {
  test.each(['paper', 'segment', 'symbols', 'gap', 'word', 'header', 'symtab', 'strtab', 'unused'] as const)(
    'text on %s is readable',
    (name) => {
      expect(contrast(colour('ink'), colour(name))).toBeGreaterThan(7);
    },
  );

  test.each(['faint', 'alarm'] as const)('%s text is readable', (name) => {
    expect(contrast(colour(name), colour('paper'))).toBeGreaterThan(4.5);
  });
});
