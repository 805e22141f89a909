/** `POST /verify`: what guests make of a blob. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ELF64, type Field } from '../../src/elf/format.ts';
import type { VerifyReport } from '../../src/report/schemas.ts';
import { GUEST_FINDINGS } from '../../src/xen/guests/judge.ts';
import { kernel, writeField } from '../support/elf-builder.ts';
import { imageForm, json, post, postForm, problem, type Service, startService, verdict } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { MIB, noise } from '../support/uploads.ts';

const SYMBOLS = 10;
const { blob, plan } = await mustLoad(kernel({ symbols: SYMBOLS }).bytes);
const { blob: old } = await mustLoad(kernel({ symbols: SYMBOLS }).bytes, { loader: 'xen-4.6' });

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.close());

async function verify(bytes: Uint8Array, query = ''): Promise<VerifyReport> {
  const answer = await post(service, `/verify${query}`, bytes);
  expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/json; charset=utf-8']);
  return json(answer) as unknown as VerifyReport;
}

const { elfHeader, sectionHeader, symbol } = ELF64;
const ELF = 4;
const SIZE_WORD: Field = { name: 'size word', offset: 0, width: 4 };
const SECTIONS = ELF + 64;
/** A field of section header 1 or 2. */
const inSection = (index: number, { offset, width }: Field): Field => ({
  name: 'a field',
  offset: index * sectionHeader.size + offset,
  width,
});

/** The blob with one field changed. */
function changed(at: number, field: Field, value: number | bigint, bytes = blob): Uint8Array {
  const copy = bytes.slice();
  writeField(copy, at, field, value, true);
  return copy;
}

const good = { found: true, why: null, symbols: SYMBOLS + 1, firstMisfit: null };

test('a blob is found by all guests', async () => {
  const { blob: about, guests } = await verify(blob, `?address=0x${plan.pstart.toString(16)}`);
  expect(guests).toEqual({ freebsd: good, netbsd: good, openbsd: good, xtf: { ...good, symbols: null } });
  expect(about).toEqual({
    size: blob.length,
    address: `0x${plan.pstart.toString(16)}`,
    sizeWord: plan.sizeWord,
    end: blob.length,
    class: 'ELF64',
    byteOrder: 'little-endian',
    machine: 'x86-64',
    loader: 'xen-4.8',
    sections: 3,
    symtab: { offset: 264, size: (SYMBOLS + 1) * symbol.size, address: `0x${(plan.pstart + 264n).toString(16)}` },
    strtab: plan.tables.slice(1).map(({ offset, size }) => ({
      offset,
      size,
      address: `0x${(plan.pstart + BigInt(offset)).toString(16)}`,
    }))[0],
  });
});

test('memory behind the blob does not matter', async () => {
  const { blob: about, guests } = await verify(Buffer.concat([blob, noise(300 * 1024)]));
  expect(guests.freebsd).toEqual(good);
  expect([about.size, about.end]).toEqual([blob.length + 300 * 1024, blob.length]);
});

test('a blob of an older loader is told as such', async () => {
  const { blob: about, guests } = await verify(old);
  expect([about.loader, about.sections]).toEqual(['xen-4.6', 5]);
  expect(guests.freebsd).toEqual(good);
  expect([guests.netbsd, guests.openbsd]).toEqual([good, good]);
  expect(guests.xtf.why?.code).toBe('section-count');
});

type Codes = Partial<Record<'freebsd' | 'netbsd' | 'openbsd' | 'xtf', string>>;

const all = (code: string): Codes => ({ freebsd: code, netbsd: code, openbsd: code, xtf: code });
const readers = (code: string): Codes => ({ freebsd: code, netbsd: code, openbsd: code });

describe('what guests stumble over', () => {
  const fields = elfHeader.fields;
  const [symtabAt, strtabSize] = [264, plan.tables[1]?.size ?? 0];
  const cases: readonly (readonly [string, Uint8Array, string, Codes])[] = [
    ['nothing of it', Buffer.from('no blob at all'), '', all('no-elf-header')],
    ['three bytes', new Uint8Array(3), '', all('no-elf-header')],
    ['a class that there is not', changed(ELF, { name: 'EI_CLASS', offset: 4, width: 1 }, 3), '', all('no-elf-header')],
    ['half a header', blob.subarray(0, 60), '', all('no-elf-header')],
    ['no size word', blob.subarray(4), '', all('size-word-missing')],
    ['an odd address', blob, '?address=0x100001', all('address-unaligned')],
    ['another version', changed(ELF, fields.e_version, 2), '', { freebsd: 'elf-version', netbsd: 'elf-version' }],
    ['a size word of 0', changed(0, SIZE_WORD, 0), '', { netbsd: 'size-word-unusable' }],
    ['a negative size word', changed(0, SIZE_WORD, 0x8000_0000), '', { netbsd: 'size-word-unusable' }],
    ['a size word that is too small', changed(0, SIZE_WORD, 300), '', { netbsd: 'table-outside-size' }],
    ['a machine without OpenBSD', changed(ELF, fields.e_machine, 8), '', { openbsd: 'machine-unknown' }],
    [
      'an e_shstrndx beyond the sections',
      changed(ELF, fields.e_shstrndx, 3),
      '',
      { openbsd: 'section-names-outside', netbsd: 'section-names-sought' },
    ],
    ['section headers cut off', blob.subarray(0, 140), '', readers('headers-cut')],
    [
      'no section header',
      changed(ELF, fields.e_shnum, 0),
      '',
      { ...readers('no-symbol-table'), openbsd: 'section-names-outside', xtf: 'section-count' },
    ],
    [
      'a symbol table at 0',
      changed(SECTIONS, inSection(1, sectionHeader.fields.sh_offset), 0),
      '',
      readers('no-symbol-table'),
    ],
    [
      'a string table at 0',
      changed(SECTIONS, inSection(2, sectionHeader.fields.sh_offset), 0),
      '',
      readers('no-symbol-table'),
    ],
    [
      'a link beyond the section headers',
      changed(SECTIONS, inSection(1, sectionHeader.fields.sh_link), 3),
      '',
      readers('link-outside'),
    ],
    [
      'section headers beyond the dump, and nothing but zeros up to its end',
      changed(ELF, fields.e_shoff, 2n ** 40n, blob.subarray(0, SECTIONS)),
      '',
      all('headers-cut'),
    ],
    ['more section headers', changed(ELF, fields.e_shnum, 4), '', { xtf: 'section-count' }],
    [
      'stack behind the header',
      changed(ELF, { name: 'e_ehsize', offset: 52, width: 2 }, 40),
      '',
      { xtf: 'header-leak' },
    ],
    ['a string table cut off', blob.subarray(0, symtabAt + symbol.size * (SYMBOLS + 1) + 8), '', readers('table-cut')],
    [
      'a name outside',
      changed(symtabAt + 5 * symbol.size, symbol.fields.st_name, strtabSize),
      '',
      readers('symbol-name-outside'),
    ],
  ];

  test.each(cases)('%s', async (_name, bytes, query, expected) => {
    const { guests } = await verify(bytes, query);
    const told = Object.entries(guests).flatMap(([guest, { why, firstMisfit }]) => {
      const finding = why ?? firstMisfit;
      return finding === null ? [] : [[guest, finding.code]];
    });
    expect(Object.fromEntries(told)).toEqual(expected);
  });

  test('a name that has no end, and which symbol it is of', async () => {
    const { blob: endless } = await mustLoad(
      kernel({ symbols: 3, strtab: { data: Buffer.from('\0sym_0\0sym_1x') } }).bytes,
    );
    const { guests } = await verify(endless);
    expect(guests.freebsd).toMatchObject({ found: true, symbols: 4 });
    expect(guests.freebsd.firstMisfit).toMatchObject({ code: 'symbol-name-unterminated', symbol: 2 });
  });

  test('all of it is tried', () => {
    const tried = new Set(cases.flatMap(([, , , codes]) => Object.values(codes)));
    expect([...tried, 'symbol-name-unterminated'].toSorted()).toEqual(Object.keys(GUEST_FINDINGS).toSorted());
  });
});

test('a blob in a form, with its address as a field', async () => {
  const answer = await postForm(service, '/verify', imageForm(blob, { address: '4096' }));
  expect(json(answer)['blob']).toMatchObject({ address: '0x1000' });
});

test('it is not unpacked, nor taken for a form', async () => {
  for (const bytes of [gzipSync(blob), imageForm(blob).body, Buffer.from('fd377a585a00', 'hex')]) {
    const { blob: about, guests } = await verify(bytes);
    expect([about.size, guests.freebsd.why?.code]).toEqual([bytes.length, 'no-elf-header']);
  }
});

test('a spooled one is judged alike', async () => {
  const spooling = await startService({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
  const { blob: large } = await mustLoad(kernel({ symbols: 60_000 }).bytes, { maxBlobBytes: 16 * MIB });
  const [held, spooled] = await Promise.all([post(service, '/verify', large), post(spooling, '/verify', large)]);
  expect(json(spooled)).toEqual(json(held));
  expect(json(held)['guests']).toMatchObject({ freebsd: { found: true, symbols: 60_001 } });
  await spooling.close();
});

test.each([
  ['?address=x', 'parameter-invalid'],
  ['?address=0x10000000000000000', 'parameter-invalid'],
  ['?loader=xen-4.6', 'parameter-unknown'],
])('%s is refused', async (query, code) => {
  expect(verdict(await post(service, `/verify${query}`, blob))).toEqual(problem(400, code));
});

test('nothing at all is refused', async () => {
  expect(verdict(await post(service, '/verify', ''))).toEqual(problem(400, 'no-image'));
  const form = imageForm(new Uint8Array(), { address: '0x1000' });
  expect(verdict(await postForm(service, '/verify', form), 'empty')).toEqual(problem(400, 'no-image'));
});

describe('a name beyond the string table', () => {
  const { st_name } = symbol.fields;
  const name = (index: number, value: number, bytes = blob): Uint8Array =>
    changed(264 + index * symbol.size, st_name, value, bytes);
  const strtabSize = plan.tables[1]?.size ?? 0;

  test('keeps OpenBSD from all symbols, and misleads the others', async () => {
    const { guests } = await verify(name(5, strtabSize + 1));
    expect(guests.openbsd).toMatchObject({ found: false, why: { code: 'symbol-name-outside', symbol: 5 }, symbols: 0 });
    for (const { found, symbols, firstMisfit } of [guests.freebsd, guests.netbsd]) {
      expect([found, symbols, firstMisfit?.symbol]).toEqual([true, SYMBOLS + 1, 5]);
    }
  });

  test('is found behind one that lies at its end, which OpenBSD takes', async () => {
    const { guests } = await verify(name(7, 0xffff_ffff, name(3, strtabSize)));
    expect(guests.openbsd.why?.symbol).toBe(7);
    expect(guests.freebsd.firstMisfit?.symbol).toBe(3);
    expect((await verify(name(3, strtabSize))).guests.openbsd).toMatchObject({
      found: true,
      firstMisfit: { symbol: 3 },
    });
  });

  test('is found in blocks that are read later', async () => {
    const many = await mustLoad(kernel({ symbols: 30_000 }).bytes, { maxBlobBytes: 16 * MIB });
    const { guests } = await verify(name(29_999, 0xffff_ffff, many.blob));
    expect([guests.openbsd.why?.symbol, guests.freebsd.firstMisfit?.symbol]).toEqual([29_999, 29_999]);
  });
});

test('OpenBSD alone looks at section 0', async () => {
  const { sh_type, sh_offset, sh_size, sh_link } = sectionHeader.fields;
  // What is section header 1 stands in section header 0 instead.
  const bytes = blob.slice();
  bytes.set(blob.subarray(SECTIONS + sectionHeader.size, SECTIONS + 2 * sectionHeader.size), SECTIONS);
  for (const field of [sh_type, sh_offset, sh_size, sh_link]) {
    writeField(bytes, SECTIONS, inSection(1, field), 0, true);
  }
  const { guests } = await verify(bytes);
  expect(guests.openbsd).toEqual(good);
  expect([guests.freebsd.why?.code, guests.netbsd.why?.code]).toEqual(['no-symbol-table', 'no-symbol-table']);
});

test.each(['xen-4.8', 'xen-4.7', 'xen-4.6', 'libxc-4.6'] as const)(
  'a blob of %s ends where it does',
  async (loader) => {
    const { blob: one } = await mustLoad(kernel({ symbols: 5 }).bytes, { loader });
    expect((await verify(one)).blob.end).toBe(one.length);
    expect((await verify(one.subarray(0, 300))).blob).toMatchObject({ size: 300, end: one.length });
    expect((await verify(one.subarray(4))).blob).toMatchObject({ sizeWord: null, end: null });
  },
);
