/** Pictures of all images that the reference was measured with, and of images that lie. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { type LoadedImage, type LoadRequest, loadImage } from '../../src/inspect/load.ts';
import { MAX_HEADER_PARTS, MAX_TABLE_PARTS } from '../../src/report/picture/blob-parts.ts';
import { MAX_SEGMENT_GROUPS, toPicture } from '../../src/report/picture/picture.ts';
import { LOADERS } from '../../src/xen/loaders/bsdsyms.ts';
import { listSegments } from '../../src/xen/segments.ts';
import { anyAddress, anyKernel, lie } from '../support/arbitraries.ts';
import { writeField } from '../support/elf-builder.ts';
import { MIB } from '../support/load.ts';
import { findBlobFlaws, findFlaws, findMemoryFlaws, type PicturedRegion, readPicture } from '../support/picture.ts';
import { imageOf, loadAddressOf, readBsdsymsVectors, readHistoricalVectors } from '../support/vectors.ts';

const U64_END = 2n ** 64n;
const MAX_PICTURE_BYTES = 100_000;

const startOf = ({ data }: PicturedRegion): bigint => BigInt(data['start'] ?? -1);
const endOf = ({ data }: PicturedRegion): bigint => BigInt(data['end'] ?? -1);

/** What the picture of an image does not show of it, or shows wrongly. */
async function complaints(loaded: LoadedImage): Promise<string[]> {
  const svg = await toPicture(loaded);
  const picture = readPicture(svg);
  const { regions } = picture;
  const memory = regions.filter(({ data }) => data['start'] !== undefined);
  const own = regions.filter(({ name, data }) => data['offset'] !== undefined && !name.startsWith('other-'));
  const others = regions.filter(({ name, data }) => data['offset'] !== undefined && name.startsWith('other-'));
  const { plan, comparison } = loaded;
  return [
    ...(Buffer.byteLength(svg) > MAX_PICTURE_BYTES ? [`${Buffer.byteLength(svg)} bytes`] : []),
    ...findFlaws(picture),
    ...findMemoryFlaws(memory),
    ...missingMemory(loaded, memory),
    ...findBlobFlaws(own, plan.size),
    ...missingParts(plan, own, ''),
    ...(comparison?.broken === null
      ? [...findBlobFlaws(others, comparison.plan.size), ...missingParts(comparison.plan, others, 'other-')]
      : others.map(({ name }) => `${name} without a comparison`)),
  ];
}

/** Each segment lies in one region; regions and gaps are all memory from the lowest to the highest. */
function missingMemory({ elf, plan }: LoadedImage, memory: readonly PicturedRegion[]): string[] {
  const wrong: string[] = [];
  const drawn = memory.filter(({ name }) => name.startsWith('segment'));
  const segments = listSegments(elf).filter(({ memsz }) => memsz > 0n);
  for (const { index, paddr, memsz } of segments) {
    const end = paddr + memsz > U64_END ? U64_END : paddr + memsz;
    const around = drawn.filter((region) => startOf(region) <= paddr && endOf(region) >= end);
    if (around.length !== 1) wrong.push(`segment ${index} is in ${around.length} regions`);
  }
  if (drawn.length > Math.min(segments.length, MAX_SEGMENT_GROUPS)) wrong.push(`${drawn.length} regions of segments`);
  const symbols = memory.filter(({ name }) => name === 'symbols');
  if (symbols.length !== 1 || symbols.some((one) => startOf(one) !== plan.pstart || endOf(one) !== plan.pend)) {
    wrong.push('the symbols are not where they are');
  }
  let end: bigint | null = null;
  for (const region of memory.toSorted((one, other) => Number(startOf(one) > startOf(other)) * 2 - 1)) {
    if (end !== null && startOf(region) > end) wrong.push(`nothing before ${region.name}`);
    if (end !== null && region.name.startsWith('gap') && startOf(region) < end) wrong.push(`${region.name} is no gap`);
    if (end === null || endOf(region) > end) end = endOf(region);
  }
  return wrong;
}

/** Each header and each table is one region, or in one that stands for several. */
function missingParts(
  { headers, tables }: LoadedImage['plan'],
  regions: readonly PicturedRegion[],
  prefix: string,
): string[] {
  const has = (name: string, offset: number, size: number): boolean =>
    regions.some(({ name: found, data }) => {
      return found === `${prefix}${name}` && data['offset'] === `${offset}` && data['size'] === `${size}`;
    });
  const wrong = tables
    .slice(0, MAX_TABLE_PARTS)
    .filter(({ index, offset, size }) => !has(`section-${index}`, offset, size))
    .map(({ index }) => `no section ${index}`);
  if (headers === null) return has('size-word', 0, 4) ? ['a size word that nobody wrote'] : wrong;
  const { elfHeaderSize, sectionHeaders } = headers;
  const { offset, size, count } = sectionHeaders;
  if (!has('size-word', 0, 4)) wrong.push('no size word');
  if (!has('elf-header', 4, elfHeaderSize)) wrong.push('no ELF header');
  if (count > MAX_HEADER_PARTS)
    return has('section-headers', offset, size * count) ? wrong : [...wrong, 'no section headers'];
  for (let index = 0; index < count; index++) {
    if (!has(`section-header-${index}`, offset + index * size, size)) wrong.push(`no section header ${index}`);
  }
  return wrong;
}

/** Every n-th of a long list. */
const sample = <T>(all: readonly T[], every: number): readonly T[] => all.filter((_, index) => index % every === 0);

describe('the picture of a measured image shows all of it', () => {
  test('as Xen loads it now', async () => {
    let drawn = 0;
    for (const vector of sample(readBsdsymsVectors(), 5)) {
      const request = { loadAddress: loadAddressOf(vector), onBroken: 'load', compareWith: 'xen-4.6' } as const;
      const loaded = await loadImage(new MemorySource([imageOf(vector)]), request);
      if (!loaded.ok) continue;
      drawn += 1;
      expect([vector.name, await complaints(loaded)]).toEqual([vector.name, []]);
    }
    expect(drawn).toBeGreaterThan(200);
  });

  test('as earlier loaders did, next to what it is now', async () => {
    const compared = new Set<string>();
    for (const vector of sample(readHistoricalVectors(), 5)) {
      const { loader } = vector;
      const request = { loader, loadAddress: loadAddressOf(vector), compareWith: 'xen-4.8' } as const;
      const loaded = await loadImage(new MemorySource([imageOf(vector)]), request);
      if (!loaded.ok) continue;
      if (loaded.comparison?.broken === null) compared.add(loader);
      expect([vector.name, await complaints(loaded)]).toEqual([vector.name, []]);
    }
    expect(compared.size).toBe(3);
  });
});

test('the picture of an image that lies shows what is made of it', async () => {
  const seen = { drawn: 0, compared: 0 };
  const lies = anyKernel.chain((image) => {
    const { programHeader, sectionHeader } = image.format;
    const fields = [
      ...Object.values(programHeader.fields).map((field) => ({ at: image.programHeadersAt, field })),
      ...image.sections.flatMap(({ headerAt }) =>
        Object.values(sectionHeader.fields).map((field) => ({ at: headerAt, field })),
      ),
    ];
    const one = fc.record({ where: fc.constantFrom(...fields), value: lie(image.bytes.length) });
    return fc.tuple(fc.constant(image), fc.array(one, { maxLength: 3 }));
  });
  const requests = fc.record({
    loader: fc.constantFrom(...LOADERS),
    compareWith: fc.constantFrom(...LOADERS),
    loadAddress: fc.option(anyAddress),
  });
  await fc.assert(
    fc.asyncProperty(lies, requests, async ([image, told], chosen) => {
      const bytes = image.bytes.slice();
      for (const { where, value } of told) writeField(bytes, where.at, where.field, value, image.littleEndian);
      const request: LoadRequest = { ...chosen, onBroken: 'load', maxBlobBytes: MIB };
      const loaded = await loadImage(new MemorySource([bytes]), request);
      if (!loaded.ok) return;
      seen.drawn += 1;
      if (loaded.comparison?.broken === null) seen.compared += 1;
      expect(await complaints(loaded)).toEqual([]);
    }),
    { numRuns: 600 },
  );
  expect(seen.drawn).toBeGreaterThan(100);
  expect(seen.compared).toBeGreaterThan(20);
});
