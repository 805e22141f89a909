/** `POST /kernel` and `POST /image`: what Xen makes of a kernel, and how it lies in memory. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request as sendRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FlatLayout, KernelReport, Layout } from '../../src/report/schemas.ts';
import { ASKING_NOTES, KERNEL_MEMORY_BYTES, KERNEL_PSTART, kernel } from '../support/elf-builder.ts';
import { json, post, problem, send, verdict } from '../support/http.ts';
import { bzImage, lz4Zeros } from '../support/packed.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { MIB, memoryInUse } from '../support/uploads.ts';
import { hex, imageOf, readFlatImageVectors, readNotesVectors } from '../support/vectors.ts';

const TAKEN = 8;
/** Every eighth, which makes it all kinds of them. */
const some = <T>(items: readonly T[]): T[] => items.filter((_, index) => index % TAKEN === 0);

const text = (value: string): Uint8Array => new TextEncoder().encode(`${value}\0`);
/** Says all that a PV guest has to say. */
const note = (type: number, value: string) => ({ name: 'Xen', type, desc: text(value) });
const LOADER = note(8, 'generic');
const XEN_VERSION = note(5, 'xen-3.0');
const BSD_SYMTAB = note(11, 'yes');

const silent = kernel({ symbols: 100 });
const asking = kernel({ symbols: 100, notes: [LOADER, XEN_VERSION, BSD_SYMTAB] });
const notAsking = kernel({ symbols: 100, notes: [LOADER, XEN_VERSION] });
const stripped = kernel({ symtab: { type: 1 } });

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.close());

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function report(image: Uint8Array): Promise<KernelReport> {
  const answer = await post(service, '/kernel', image);
  expect(answer.status).toBe(200);
  return json(answer) as unknown as KernelReport;
}

async function warningsOf(image: Uint8Array): Promise<string[]> {
  const { warnings } = json(await post(service, '/layout', image)) as unknown as Layout;
  return warnings.map(({ code }) => code);
}

describe('POST /kernel', () => {
  test('gives the verdict of the reference for both kinds of guests', async () => {
    const mismatches: unknown[] = [];
    for (const vector of some(readNotesVectors())) {
      const { xen } = await report(imageOf(vector));
      for (const kind of ['pv', 'hvm'] as const) {
        const [actual, expected]: Record<string, unknown>[] = [xen[kind], vector.expect[kind]];
        const keys = Object.keys({ ...actual, ...expected });
        const differing = keys.filter((key) => !sameValue(actual?.[key], expected?.[key]));
        if (differing.length > 0) mismatches.push([vector.name, kind, differing]);
      }
    }
    expect(mismatches).toEqual([]);
  });

  test('has the kernel, its segments and the notes as found', async () => {
    const { image, kernel: range, segments, notes, broken } = await report(asking.bytes);
    const pend = KERNEL_PSTART + KERNEL_MEMORY_BYTES;
    expect(image).toMatchObject({ size: asking.bytes.length, class: 'ELF64', machine: 'x86-64', compression: null });
    expect(range).toEqual({ pstart: hex(KERNEL_PSTART), pend: hex(pend), align: '0x1000' });
    expect(segments).toEqual([
      {
        index: 0,
        offset: hex(BigInt(asking.section('.text').offset)),
        vaddr: hex(KERNEL_PSTART),
        paddr: hex(KERNEL_PSTART),
        filesz: '0x20',
        memsz: hex(KERNEL_MEMORY_BYTES),
        flags: 'RX',
        align: '0x1000',
      },
    ]);
    expect(notes).toEqual({ LOADER: 'generic', XEN_VERSION: 'xen-3.0', BSD_SYMTAB: 'yes' });
    expect(broken).toBeNull();
  });

  test('takes a kernel without symbols', async () => {
    const { xen, broken } = await report(stripped.bytes);
    expect([xen.pv.ok, xen.pv.bsdsyms, broken]).toEqual([false, null, null]);
  });

  test('reports a recorded reason, and refuses nothing for it', async () => {
    const many = kernel({ header: { e_shnum: 60_000, e_shentsize: 0 } });
    const { broken } = await report(many.bytes);
    expect(broken).toMatchObject({
      code: 'too-many-section-headers',
      reason: 'far too many section headers',
      stage: 'init',
    });
  });

  test('refuses what does not pass init, and logs it', async () => {
    service.clearLogs();
    expect(verdict(await post(service, '/kernel', 'no kernel'))).toEqual(problem(422, 'not-elf'));
    expect(verdict(await post(service, '/kernel', silent.bytes.subarray(0, -100)))).toEqual(
      problem(422, 'shdr-overflow'),
    );
    const logged = service.logs('broken ELF').map(({ broken }) => (broken as { code: string }).code);
    expect(logged).toEqual(['not-elf', 'shdr-overflow']);
  });
});

describe('the warning of a kernel that does not ask for its symbols', () => {
  test.each([
    ['without Xen notes', silent, ['no-xen-notes']],
    ['with notes that ask', asking, []],
    ['with notes that do not', notAsking, ['symbols-not-requested']],
  ])('%s', async (_name, { bytes }, expected) => {
    expect(await warningsOf(bytes)).toEqual(expected);
    const { headers } = await post(service, '/bsdsyms', bytes);
    expect(headers['bsdsyms-warnings']).toBe(expected.length === 0 ? undefined : expected.join(', '));
  });
});

describe('POST /image', () => {
  test('answers with the bytes of the reference', async () => {
    const mismatches: unknown[] = [];
    for (const { name, image, expect: expected } of some(readFlatImageVectors())) {
      const answer = await post(service, '/image?onBroken=load', imageOf({ image }));
      const actual = [answer.headers['bsdsyms-kernel-pstart'], answer.body.length, sha256(answer.body)];
      const wanted = [expected.pstart, expected.length, expected.sha256];
      if (JSON.stringify(actual) !== JSON.stringify(wanted)) mismatches.push([name, actual, wanted]);
    }
    expect(mismatches).toEqual([]);
  });

  test.each([
    ['auto', silent, false],
    ['auto', notAsking, false],
    ['auto', asking, true],
    ['always', silent, true],
    ['always', notAsking, true],
    ['never', asking, false],
  ])('symbols=%s places them where the notes or the caller ask for them', async (choice, { bytes }, placed) => {
    const flat = await post(service, `/image?symbols=${choice}`, bytes);
    const blob = await post(service, '/bsdsyms', bytes);
    const end = placed ? blob.headers['bsdsyms-pend'] : hex(KERNEL_PSTART + KERNEL_MEMORY_BYTES);
    expect(flat.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(flat.body.length),
      'content-disposition': 'attachment; filename="kernel.bin"',
      'bsdsyms-kernel-pstart': hex(KERNEL_PSTART),
      'bsdsyms-kernel-pend': end,
    });
    expect(BigInt(flat.body.length)).toBe(BigInt(String(end)) - KERNEL_PSTART);
    const at = Number(BigInt(String(blob.headers['bsdsyms-pstart'])) - KERNEL_PSTART);
    expect(flat.body.subarray(0, 32).every((byte) => byte === 0xcc)).toBe(true);
    expect(flat.body.subarray(32, at).every((byte) => byte === 0)).toBe(true);
    expect(flat.body.subarray(at).equals(placed ? blob.body : Buffer.alloc(flat.body.length - at))).toBe(true);
  });

  test('its extents are the same bytes, without a gap', async () => {
    const accept = { accept: 'application/json' };
    const layout = json(await post(service, '/image?symbols=always', asking.bytes, accept)) as unknown as FlatLayout;
    const { body } = await post(service, '/image?symbols=always', asking.bytes);
    let offset = 0;
    for (const extent of layout.extents) {
      expect([extent.offset, BigInt(extent.address)]).toEqual([offset, KERNEL_PSTART + BigInt(offset)]);
      const { size, content, fileOffset = Number.NaN, byte = 0 } = extent;
      const actual = body.subarray(offset, offset + size);
      // What is in neither has to be taken for what it is.
      const stated = {
        bytes: actual,
        copy: asking.bytes.subarray(fileOffset, fileOffset + size),
        fill: Buffer.alloc(size, byte),
      };
      expect(actual.equals(stated[content])).toBe(true);
      offset += size;
    }
    expect([offset, layout.flat.size]).toEqual([body.length, body.length]);
    expect(layout.bsdsyms?.pend).toBe(layout.flat.pend);
  });

  test('a digest is given when it is asked for', async () => {
    const { headers, body } = await post(service, '/image', silent.bytes, { 'want-repr-digest': 'sha-256=1' });
    expect(headers['repr-digest']).toBe(`sha-256=:${createHash('sha256').update(body).digest('base64')}:`);
  });

  test('an image with a recorded reason is refused, or sent with that reason', async () => {
    const beyond = kernel({
      segments: [{ paddr: 0x10_0000, memsz: 0x1000, header: { p_offset: 99_999_999, p_filesz: 64 } }],
    });
    expect(verdict(await post(service, '/image', beyond.bytes))).toEqual(problem(422, 'out-of-range-access'));
    const lenient = await post(service, '/image?onBroken=load', beyond.bytes);
    expect([lenient.status, lenient.headers['bsdsyms-broken']]).toEqual([200, 'out-of-range-access']);
    expect(lenient.body.length).toBe(Number(KERNEL_MEMORY_BYTES));
  });

  test('one that is larger than allowed is refused', async () => {
    const small = await startService({ BSDSYMS_MAX_FLAT_BYTES: '8191' });
    const answer = await post(small, '/image', silent.bytes);
    expect(verdict(answer, '8192', '8191')).toEqual(problem(422, 'segments-too-large'));
    await small.close();
  });

  test('a gap of half a gigabyte takes no memory, and others are answered meanwhile', async () => {
    const gap = 512 * MIB;
    const { bytes } = kernel({ segments: [{ paddr: Number(KERNEL_PSTART) + gap, memsz: 0x1000 }] });
    const before = await memoryInUse();
    const request = sendRequest({ host: '127.0.0.1', port: service.port, path: '/image', method: 'POST' });
    request.end(bytes);
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    expect(response.headers['content-length']).toBe(String(gap + 0x1000));
    let [received, healthy, most] = [0, 0, 0];
    for await (const chunk of response) {
      received += (chunk as Buffer).length;
      if (received < (healthy + 1) * 128 * MIB) continue;
      expect((await send(service, '/healthz')).status).toBe(200);
      healthy += 1;
      most = Math.max(most, (await memoryInUse()) - before);
    }
    expect([received, healthy]).toEqual([gap + 0x1000, 4]);
    expect(most).toBeLessThan(16 * MIB);
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('a client that leaves in the midst of it gives everything back', async () => {
    const { bytes } = kernel({ segments: [{ paddr: Number(KERNEL_PSTART) + 1024 * MIB, memsz: 0x1000 }] });
    service.clearLogs();
    const request = sendRequest({ host: '127.0.0.1', port: service.port, path: '/image', method: 'POST' });
    request.end(bytes);
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    await once(response, 'data');
    response.destroy();
    expect(await service.logged({ msg: 'request' })).toMatchObject({ status: 499, route: '/image' });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect(service.logs().filter(({ level }) => Number(level) > 30)).toEqual([]);
  });
});

const word = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
const taken = (container: string | null, kernelSize: number): object => ({
  takes: { ok: true, container, kernelSize, why: null },
  pv: { ok: true, guestType: 'xen-3.0-x86_64', why: null },
});
const notTaken = (container: string | null, code: string): object => ({
  takes: { ok: false, container, kernelSize: null, why: { code } },
  pv: { ok: false, guestType: null, why: { code } },
  hvm: { ok: false, why: { code } },
});

describe('what Xen does with a file in which there is no image here', () => {
  const { bytes } = kernel({ symbols: 10, notes: ASKING_NOTES });
  const gzip = gzipSync(bytes);
  const damaged = Buffer.from(gzip);
  damaged.writeUInt32LE(1, gzip.length - 8);
  const sizeWord = 40 * MIB;
  const lz4 = lz4Zeros(sizeWord);

  test.each<[string, Uint8Array, object]>([
    ['gzip with its size after it', Buffer.concat([gzip, word(bytes.length)]), taken('gzip', bytes.length + 16)],
    ['gzip with a wrong checksum', damaged, notTaken('gzip', 'gzip-inflate-failed')],
    [
      'gzip that is cut',
      gzip.subarray(0, 200),
      { takes: { ok: false, container: 'gzip' }, pv: { ok: false }, hvm: { ok: false } },
    ],
    ['a bzImage with another size', bzImage(gzip, { sizeWord: bytes.length - 1 }), taken('bzImage', bytes.length + 15)],
    ['a bzImage that is cut', bzImage(gzip, {}).subarray(0, -1100), notTaken('bzImage', 'no-loader')],
    [
      'a bzImage that is damaged early, and goes on',
      bzImage(Buffer.concat([Buffer.from('1f8b0800', 'hex'), Buffer.alloc(6), Buffer.alloc(MIB, 7)]), {
        sizeWord: 1000,
      }),
      notTaken('bzImage', 'gzip-inflate-failed'),
    ],
    ['lz4 with another size', bzImage(lz4, { sizeWord: sizeWord - 1 }), notTaken('bzImage', 'payload-damaged')],
    ['lz4 that is cut', bzImage(lz4.subarray(0, -50), { sizeWord }), notTaken('bzImage', 'payload-damaged')],
    ['a file of lz4 that is cut', lz4.subarray(0, -50), notTaken('lz4', 'no-loader')],
  ])('%s', async (_name, file, builder) => {
    const answer = await post(service, '/kernel', file);
    expect(verdict(answer)).toEqual(problem(400, 'compressed-data-corrupt'));
    expect(json(answer)).toMatchObject({ builder });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('a file that is none', async () => {
    const answer = await post(service, '/kernel', Buffer.from('nothing'));
    expect(json(answer)).toMatchObject({
      code: 'not-elf',
      builder: {
        takes: { ok: true, container: null, kernelSize: 7 },
        pv: { ok: false, why: { code: 'no-loader' } },
        hvm: { ok: false, why: { code: 'no-loader' } },
      },
    });
  });

  test('is not told of what cannot be unpacked', async () => {
    const answer = await post(service, '/kernel', bzImage(new Uint8Array(), {}));
    expect([json(answer)['code'], json(answer)['builder']]).toEqual(['compression-unsupported', undefined]);
  });
});

test('a bzImage for i386 is unpacked, and Xen starts it where it has 32-bit guests', async () => {
  const { bytes } = kernel({ class: 'ELF32', notes: ASKING_NOTES });
  const { image, builder } = await report(bzImage(gzipSync(bytes), {}));
  expect(image).toMatchObject({ class: 'ELF32', machine: 'i386', compression: 'gzip', container: 'bzImage' });
  expect(builder.pv).toMatchObject({ ok: false, guestType: 'xen-3.0-x86_32', why: { code: 'guest-type-unsupported' } });
});

/** Members of objects have no order. */
function sameValue(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  const keys = Object.keys({ ...a, ...b });
  return keys.every((key) => sameValue((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}
