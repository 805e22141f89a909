/** Images of a few kilobytes that stand for a great deal: what the answers hold of it, and what they leave out and say so. */
import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SHT_STRTAB } from '../../src/elf/format.ts';
import type { FlatLayout, KernelReport, Layout, SymbolReport } from '../../src/report/schemas.ts';
import { kernel } from '../support/elf-builder.ts';
import { json, post } from '../support/http.ts';
import { mustSettle, type Service, startService } from '../support/service.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const MAX_LISTED = 1000;
const HEADERS = 65_535;
const WANTS_DIGEST = { 'want-repr-digest': 'sha-256=1' };

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => mustSettle(service));
afterAll(() => service.close());

interface Asked {
  readonly report: Readonly<Record<string, unknown>>;
  readonly bytes: number;
}

async function ask(path: string, image: Uint8Array): Promise<Asked> {
  const answer = await post(service, path, image, { accept: 'application/json' });
  expect(answer.status).toBe(200);
  return { report: json(answer), bytes: answer.body.length };
}

describe('a list', () => {
  test('of 65,535 segments from one header has a thousand entries, and counts the others', async () => {
    const { bytes: image } = kernel({ header: { e_phentsize: 0, e_phnum: HEADERS } });
    const { report, bytes } = await ask('/kernel', image);
    const { segments, unlistedSegments } = report as unknown as KernelReport;
    expect(segments.map(({ index }) => index)).toEqual(Array.from({ length: MAX_LISTED }, (_, index) => index));
    expect(unlistedSegments).toBe(HEADERS - MAX_LISTED);
    expect(bytes).toBeLessThan(200 * KIB);
  });

  test('of extents has a thousand entries, and counts the others', async () => {
    // Each segment is 32 bytes of the image and as many zeros.
    const segments = Array.from({ length: 700 }, (_, index) => ({
      section: '.text',
      paddr: 0x20_0000 + index * 64,
      memsz: 64,
    }));
    const { report, bytes } = await ask('/image', kernel({ segments }).bytes);
    const { extents, unlistedExtents } = report as unknown as FlatLayout;
    expect(extents).toHaveLength(MAX_LISTED);
    // The kernel's own segment, its zeros, the gap after it, and the others.
    expect(unlistedExtents).toBe(3 + 2 * 700 - MAX_LISTED);
    expect(bytes).toBeLessThan(200 * KIB);
  });

  test('of the tables of an older loader has a thousand entries, and counts the others', async () => {
    const before = Array.from({ length: 1500 }, () => ({ name: 'x', type: SHT_STRTAB, data: new Uint8Array(1) }));
    const { report, bytes } = await ask('/layout?loader=xen-4.6', kernel({ before }).bytes);
    const { bsdsyms } = report as unknown as Layout;
    expect(bsdsyms.sections.map(({ type }) => type).slice(0, 2)).toEqual(['NULL', 'STRTAB']);
    expect(bsdsyms.sections).toHaveLength(1 + MAX_LISTED);
    // Those of the kernel itself are .symtab, .strtab and .shstrtab.
    expect(bsdsyms.unlistedSections).toBe(1500 + 3 - MAX_LISTED);
    expect(bytes).toBeLessThan(250 * KIB);
  });

  test('that is whole has nothing besides', async () => {
    const { bytes: image } = kernel();
    expect((await ask('/kernel', image)).report).not.toHaveProperty('unlistedSegments');
    expect((await ask('/image', image)).report).not.toHaveProperty('unlistedExtents');
    expect((await ask('/layout', image)).report['bsdsyms']).not.toHaveProperty('unlistedSections');
  });
});

const spanning = (memsz: number): Uint8Array => kernel({ memsz }).bytes;

describe('the digest of a flat image', () => {
  const limit = 64 * MIB + 2 * spanning(1).length;

  test('is given as long as it is not much more than the image', async () => {
    const { status, headers, body } = await post(service, '/image', spanning(limit), WANTS_DIGEST);
    expect([status, body.length]).toEqual([200, limit]);
    expect(headers['repr-digest']).toBe(`sha-256=:${createHash('sha256').update(body).digest('base64')}:`);
  });

  test('is left out beyond that, and the bytes are sent all the same', async () => {
    const { status, headers, body } = await post(service, '/image', spanning(limit + 1), WANTS_DIGEST);
    expect([status, body.length, headers['content-length']]).toEqual([200, limit + 1, String(limit + 1)]);
    expect(headers).not.toHaveProperty('repr-digest');
  });
});

test('a million bytes of names that a few kilobytes stand for are cut, and every symbol is listed', async () => {
  const count = 2000;
  const image = kernel({
    symbols: Array.from({ length: count }, () => ({ name: '', nameOffset: 1 })),
    strtab: { data: Buffer.from(`\0${'n'.repeat(4000)}\0`) },
  }).bytes;
  const answer = await post(service, '/symbols', image, { accept: 'application/x-ndjson' });
  const lines = answer.text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as SymbolReport);
  expect(lines.map(({ index }) => index)).toEqual(Array.from({ length: count }, (_, index) => index + 1));
  const cut = lines.filter(({ nameCut }) => nameCut);
  expect(cut.length).toBe(count - Math.floor((MIB + 2 * image.length) / 4000));
  expect(cut.every(({ name }) => name === 'n'.repeat(64))).toBe(true);
});
