/** `POST /verify`: what guests make of a blob. */
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { VerifyReport } from '../../src/report/schemas.ts';
import { GUEST_FINDINGS, GUEST_OUTCOMES, GUESTS } from '../../src/xen/guests/verdict.ts';
import { type BlobSpec, buildBlob } from '../support/blob-builder.ts';
import { ASKING_NOTES, kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { json, post, postForm, problem, verdict } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { type Service, startService } from '../support/service.ts';
import { MIB, noise } from '../support/uploads.ts';
import { blobOf, expectedVerdict, readGuestsVectors } from '../support/vectors.ts';

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

/** A verdict of `found`, by the guest's own count of symbols. */
const found = (symbols: number, ...warnings: string[]) => ({ outcome: 'found', why: null, symbols, warnings });
const no = (outcome: 'none' | 'undefined', why: string) => ({ outcome, why, symbols: null, warnings: [] });

test('a blob is found by the guests of its class', async () => {
  const { blob: about, guests } = await verify(blob, `?address=0x${plan.pstart.toString(16)}`);
  expect(guests).toEqual({
    freebsd: found(SYMBOLS + 1),
    netbsd: found(SYMBOLS),
    netbsdKdtrace: found(SYMBOLS + 1),
    xtf: no('none', 'other-class'),
  });
  const symtabBytes = (SYMBOLS + 1) * 24;
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
    symtab: { offset: 264, size: symtabBytes, address: `0x${(plan.pstart + 264n).toString(16)}` },
    strtab: plan.tables.slice(1).map(({ offset, size }) => ({
      offset,
      size,
      address: `0x${(plan.pstart + BigInt(offset)).toString(16)}`,
    }))[0],
  });
});

test('a blob of an older loader is recognised', async () => {
  const { blob: about, guests } = await verify(old);
  expect([about.loader, about.sections]).toEqual(['xen-4.6', 5]);
  expect([guests.freebsd, guests.netbsd]).toEqual([found(SYMBOLS + 1), found(SYMBOLS)]);
});

test('a big-endian one is read as little-endian guests do', async () => {
  const { blob: big } = await mustLoad(kernel({ byteOrder: 'big', symbols: SYMBOLS }).bytes);
  const { blob: about, guests } = await verify(big);
  expect(about).toMatchObject({ byteOrder: 'big-endian', machine: 'x86-64', sections: 3, symtab: null });
  // Xen does not replace the types of sections, so there is no SYMTAB.
  expect(guests.freebsd).toEqual(no('none', 'no-symbol-table'));
});

test('the memory after a blob matters only to a guest that reads it', async () => {
  const { blob: about, guests } = await verify(Buffer.concat([blob, noise(300 * 1024)]));
  expect(guests).toEqual((await verify(blob)).guests);
  expect([about.size, about.end]).toEqual([blob.length + 300 * 1024, blob.length]);

  const { blob: endless } = await mustLoad(
    kernel({ strtab: { data: Buffer.from('\0sym_0\0sym_1x\0sym_2xxx') } }).bytes,
  );
  // Zeros for padding are part of the blob.
  const cut = endless.subarray(0, endless.lastIndexOf(0x78) + 1);
  expect((await verify(cut)).guests.netbsd).toEqual(no('undefined', 'symbol-name-outside'));
  expect((await verify(Buffer.concat([cut, Buffer.from('y\0')]))).guests.netbsd).toEqual(found(3, 'name-unterminated'));
});

const wide = (spec: BlobSpec): Uint8Array => buildBlob(spec).bytes;
const narrow = (spec: BlobSpec): Uint8Array => wide({ ...spec, class: 'ELF32' });

describe('the verdict on a guest', () => {
  const bigEndian = wide({});
  bigEndian[4 + 5] = 2;
  const gap = narrow({ header: { e_shoff: 1000 } }).fill(0, 56);
  const ctf: BlobSpec = {
    strtab: Buffer.from('\0one\0two\0.SUNW_ct'),
    sections: { 3: { sh_type: 1, sh_name: 9 } },
    header: { e_shstrndx: 2 },
  };
  const cases: readonly (readonly [string, Uint8Array, string, string])[] = [
    ['size-word-missing', blob.subarray(4), '', 'freebsd'],
    ['size-word-unusable', wide({ sizeWord: 0 }), '', 'netbsd'],
    ['no-elf-header', Buffer.from('no blob at all'), '', 'freebsd'],
    ['other-class', narrow({}), '', 'freebsd'],
    ['elf-version', wide({ header: { e_version: 2 } }), '', 'netbsd'],
    ['no-symbol-table', wide({ header: { e_shnum: 1 } }), '', 'freebsd'],
    ['symbol-table-empty', wide({ sections: { 1: { sh_size: 0 } } }), '', 'freebsd'],
    ['section-count', narrow({ header: { e_shnum: 4 } }), '', 'xtf'],
    ['header-leak', narrow({ header: { e_ehsize: 40 } }), '', 'xtf'],
    ['size-word-outside', new Uint8Array(3), '', 'netbsd'],
    ['elf-header-outside', blob.subarray(0, 60), '', 'freebsd'],
    ['section-header-outside', blob.subarray(0, 140), '', 'freebsd'],
    ['linked-header-outside', wide({ sections: { 1: { sh_link: 99 } } }), '', 'freebsd'],
    ['name-header-outside', wide({ header: { e_shstrndx: 99 } }), '', 'netbsdKdtrace'],
    ['section-name-outside', wide(ctf), '', 'netbsdKdtrace'],
    ['symbol-outside', blob.subarray(0, 300), '', 'netbsd'],
    ['symbol-name-outside', wide({ symbols: [{ name: 'x', nameOffset: 99 }] }), '', 'netbsd'],
    ['symbol-map-outside', wide({ sections: { 1: { sh_size: 0xffff_ffff } } }), '', 'netbsdKdtrace'],
    ['header-gap-outside', gap, '', 'xtf'],
    ['address-unaligned', wide({}), '?address=0x100001', 'freebsd'],
    ['byte-order-ignored', bigEndian, '', 'freebsd'],
    ['header-size-ignored', wide({ header: { e_shentsize: 40 } }), '', 'freebsd'],
    ['link-outside', wide({ sections: { 1: { sh_link: 3 } }, symbols: [{ name: 'x', size: 300 }] }), '', 'freebsd'],
    ['link-not-strtab', wide({ sections: { 2: { sh_type: 1 } } }), '', 'netbsd'],
    ['table-outside-size', wide({ sizeWord: 100 }), '', 'netbsd'],
    ['table-cut', wide({ sections: { 2: { sh_size: 1000 } } }), '', 'netbsd'],
    ['table-size-odd', wide({ sections: { 1: { sh_size: 73 } } }), '', 'freebsd'],
    ['tables-overlap', wide({ symtabAt: 300, strtabAt: 270, strtab: new Uint8Array(100) }), '', 'netbsd'],
    ['symbols-cut-off', wide({ sections: { 1: { sh_size: 2n ** 32n + 48n } } }), '', 'netbsd'],
    ['name-outside-table', wide({ sections: { 2: { sh_size: 5 } } }), '', 'netbsd'],
    ['name-unterminated', wide({ sections: { 2: { sh_size: 7 } } }), '', 'freebsd'],
    ['section-names-missing', wide({ header: { e_shstrndx: 1 } }), '', 'netbsdKdtrace'],
  ];

  test.each(cases)('%s', async (code, bytes, query, guest) => {
    const { guests } = await verify(bytes, query);
    const { outcome, why, warnings } = guests[guest as keyof typeof guests];
    const finding = GUEST_FINDINGS[code as keyof typeof GUEST_FINDINGS];
    expect([outcome, why ?? warnings.find((warning) => warning === code)]).toEqual([finding.outcome, code]);
  });

  test('is all tried', () => {
    // The last one is about a kernel, and is told with its layout.
    const tried = [...cases.map(([code]) => code), 'end-symbol-elsewhere'];
    expect(tried.toSorted()).toEqual(Object.keys(GUEST_FINDINGS).toSorted());
    expect(new Set(Object.values(GUEST_FINDINGS).map(({ outcome }) => outcome))).toEqual(new Set(GUEST_OUTCOMES));
  });
});

test('the measured answers of guests are those of the service', async () => {
  const vectors = readGuestsVectors().filter((_, index) => index % 4 === 0);
  const wrong: unknown[] = [];
  for (const vector of vectors) {
    const { guests } = await verify(blobOf(vector));
    for (const guest of GUESTS) {
      const { outcome, symbols } = guests[guest];
      // Beyond 2^53 in hex.
      const actual = { outcome, symbols: symbols === null ? null : String(BigInt(symbols)) };
      const expected = expectedVerdict(vector, guest);
      if (actual.outcome !== expected.outcome || actual.symbols !== expected.symbols)
        wrong.push([vector.name, guest, actual]);
    }
  }
  expect(wrong).toEqual([]);
  expect(vectors).toHaveLength(559);
});

test('what has 64 bits is exact', async () => {
  const sections = { 1: { sh_size: 2n ** 63n - 1n, sh_offset: 2n ** 64n - 1n }, 2: { sh_offset: 2n ** 62n + 1n } };
  const { blob: about, guests } = await verify(buildBlob({ sections }).bytes, '?address=0x10');
  expect(guests.freebsd).toMatchObject({ outcome: 'found', symbols: '0x555555555555556' });
  // As the guest counts, which wraps.
  expect(about.symtab).toEqual({ offset: 3, size: '0x7fffffffffffffff', address: '0x13' });
  expect(about.strtab).toMatchObject({ offset: '0x4000000000000005', address: '0x4000000000000015' });
});

test('a blob in a form, with its address as a field', async () => {
  const answer = await postForm(service, '/verify', imageForm(blob, { address: '4096' }));
  expect(json(answer)['blob']).toMatchObject({ address: '0x1000' });
});

test('the file is neither unpacked nor read as a form', async () => {
  for (const bytes of [gzipSync(blob), imageForm(blob).body, Buffer.from('fd377a585a00fd37', 'hex')]) {
    const { blob: about, guests } = await verify(bytes);
    expect([about.size, guests.freebsd.why]).toEqual([bytes.length, 'no-elf-header']);
  }
});

test('a spooled one is judged alike', async () => {
  const spooling = await startService({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
  onTestFinished(() => spooling.close());
  const { blob: large } = await mustLoad(kernel({ symbols: 60_000 }).bytes, { maxBlobBytes: 16 * MIB });
  const [held, spooled] = await Promise.all([post(service, '/verify', large), post(spooling, '/verify', large)]);
  expect(json(spooled)).toEqual(json(held));
  expect(json(held)['guests']).toMatchObject({ freebsd: found(60_001), netbsd: found(60_000) });
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

test.each(['xen-4.8', 'xen-4.7', 'xen-4.6', 'libxc-4.6'] as const)(
  'a blob of %s ends where it does',
  async (loader) => {
    const { blob: one } = await mustLoad(kernel({ symbols: 5 }).bytes, { loader });
    expect((await verify(one)).blob.end).toBe(one.length);
    expect((await verify(one.subarray(0, 300))).blob).toMatchObject({ size: 300, end: one.length });
    expect((await verify(one.subarray(4))).blob).toMatchObject({ sizeWord: null, end: null });
  },
);

describe('with the image at hand', () => {
  const image = kernel({ symbols: SYMBOLS }).bytes;

  test.each(['/layout', '/bsdsyms'])('%s has the verdicts on its blob', async (path) => {
    const answer = await post(service, path, image, { accept: 'application/json' });
    expect(answer.status).toBe(200);
    expect(json(answer)['guests']).toEqual((await verify(blob, `?address=0x${plan.pstart.toString(16)}`)).guests);
  });

  test.each(['xen-4.7', 'xen-4.6', 'libxc-4.6'] as const)('they are those on the blob of %s', async (loader) => {
    const { blob: one } = await mustLoad(image, { loader });
    const answer = json(await post(service, `/layout?loader=${loader}`, image));
    expect(answer['guests']).toEqual((await verify(one)).guests);
  });

  test('a kernel that goes on after its symbol end is warned of, whatever is answered', async () => {
    const symbols = [{ name: 'end', value: 0x10_1000, info: 0x10 }];
    const { bytes } = kernel({ symbols, notes: ASKING_NOTES });
    const layout = json(await post(service, '/layout', bytes));
    expect(layout['warnings']).toMatchObject([{ code: 'end-symbol-elsewhere' }]);
    expect(layout['guests']).toMatchObject({
      freebsd: found(2, 'end-symbol-elsewhere'),
      netbsdKdtrace: found(2, 'end-symbol-elsewhere'),
    });
    const { headers } = await post(service, '/bsdsyms', bytes);
    expect(headers['bsdsyms-warnings']).toBe('end-symbol-elsewhere');
  });
});
