/** What a good upload gets: the blob or its layout, whichever way the image and the parameters come. */
import { createHash } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import request, { type Response, type Test } from 'supertest';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Layout } from '../../src/report/schemas.ts';
import { ASKING_NOTES, type BuiltImage, kernel } from '../support/elf-builder.ts';
import { BOUNDARY, imageForm, imagePart, multipart, type Part } from '../support/forms.ts';
import { json, post, postForm, send } from '../support/http.ts';
import { mustLoad } from '../support/load.ts';
import { mustSettle, type Service, startService } from '../support/service.ts';

const BLOB = 'application/octet-stream';
const JSON_TYPE = 'application/json; charset=utf-8';

const image = kernel({ symbols: 12, notes: ASKING_NOTES });
/** One with everything a warning can be about: ELF32, big-endian, an odd load address. */
const oddImage = kernel({ class: 'ELF32', byteOrder: 'big', memsz: 0x2001 });
/** Its symbol table claims more than the image has. Xen skips that copy and goes on. */
const brokenImage = kernel({ symtab: { header: { sh_size: 2n ** 20n } } });

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => mustSettle(service));
afterAll(() => service.close());

/** Sends an image as the raw body. superagent would turn some bodies into a form by their type; this one never. */
const upload = (path: string, { bytes }: Pick<BuiltImage, 'bytes'> = image): Test =>
  request(service.url)
    .post(path)
    .serialize((body: unknown) => body as string)
    .buffer(true)
    .parse((response, done) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => done(null, Buffer.concat(chunks)));
    })
    .send(Buffer.from(bytes));

const layoutOf = (response: Response): Layout => JSON.parse(bodyOf(response).toString()) as Layout;
const bodyOf = (response: Response): Buffer => response.body as Buffer;
/** An address in a blob that lies behind the kernel of the builder. */
const at = (offset: number): string => `0x${(0x10_2000 + offset).toString(16)}`;
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64');

describe('content negotiation', () => {
  test.each([
    [undefined, BLOB],
    ['', BLOB],
    ['*/*', BLOB],
    ['application/*', BLOB],
    [BLOB, BLOB],
    ['application/json', JSON_TYPE],
    ['Application/JSON', JSON_TYPE],
    ['application/json, application/octet-stream', JSON_TYPE],
    ['application/octet-stream, application/json', BLOB],
    ['application/json;q=0.5, application/octet-stream;q=0.9', BLOB],
    ['application/octet-stream;q=0.5, application/json;q=0.9', JSON_TYPE],
    ['application/json;q=0.5, */*;q=0.1', JSON_TYPE],
    ['application/octet-stream;q=0, */*', JSON_TYPE],
    ['text/html, application/json;q=0.1', JSON_TYPE],
    ['text/html, */*;q=0.1', BLOB],
  ])('Accept: %s gives %s', async (accept, type) => {
    const asked = upload('/bsdsyms');
    const response = await (accept === undefined ? asked.unset('Accept') : asked.set('Accept', accept));
    expect([response.status, response.headers['content-type']]).toEqual([200, type]);
  });

  test.each(['text/html', 'text/plain', 'image/png', 'application/xml', '*/*;q=0', 'application/json;q=0'])(
    'Accept: %s gets 406 with what there is',
    async (accept) => {
      const response = await upload('/bsdsyms').set('Accept', accept);
      expect(response.status).toBe(406);
      expect(bodyOf(response).toString()).toContain('not-acceptable');
      expect(bodyOf(response).toString()).toContain('application/octet-stream or application/json or image/svg+xml');
    },
  );

  test.each(['text/html', 'application/octet-stream', 'application/json', '*/*', 'image/png;q=0.1'])(
    '/layout gives JSON to Accept: %s',
    async (accept) => {
      const response = await upload('/layout').set('Accept', accept);
      expect([response.status, response.headers['content-type']]).toEqual([200, JSON_TYPE]);
      expect(layoutOf(response).bsdsyms.loader).toBe('xen-4.8');
    },
  );
});

describe('the blob', () => {
  test('is what the core loads, with its length and its place', async () => {
    const { plan, blob } = await mustLoad(image.bytes);
    const response = await upload('/bsdsyms');
    expect(bodyOf(response).equals(blob)).toBe(true);
    expect(response.headers).toMatchObject({
      'content-type': BLOB,
      'content-length': String(blob.length),
      'content-disposition': 'attachment; filename="bsdsyms.bin"',
      'bsdsyms-pstart': `0x${plan.pstart.toString(16)}`,
      'bsdsyms-pend': `0x${plan.pend.toString(16)}`,
    });
    for (const name of ['bsdsyms-warnings', 'bsdsyms-broken', 'repr-digest', 'transfer-encoding']) {
      expect(response.headers).not.toHaveProperty(name);
    }
  });

  test('larger than what is sent in one piece is whole, too', async () => {
    const large = kernel({ symbols: 20_000 });
    const { blob } = await mustLoad(large.bytes);
    const response = await upload('/bsdsyms', large);
    expect(response.headers['content-length']).toBe(String(blob.length));
    expect(bodyOf(response).equals(blob)).toBe(true);
  });

  test('is sent without a warning of too many listeners', async () => {
    const warnings: string[] = [];
    const listener = ({ name }: Error): void => void warnings.push(name);
    process.on('warning', listener);
    await upload('/bsdsyms', kernel({ symbols: 20_000 }));
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listener);
    expect(warnings).toEqual([]);
  });

  test('carries the codes of its warnings', async () => {
    const response = await upload('/bsdsyms', oddImage);
    expect(response.status).toBe(200);
    expect(response.headers['bsdsyms-warnings']).toBe(
      'big-endian-mixed, elf32-under-reserved, load-address-unaligned, no-xen-notes',
    );
  });

  test('is the same every time', async () => {
    const [first, second] = [await upload('/bsdsyms'), await upload('/bsdsyms')];
    expect(bodyOf(first).equals(bodyOf(second))).toBe(true);
  });

  test('is 422 for a broken image, and 200 with the code when that is wanted', async () => {
    const refused = await upload('/bsdsyms', brokenImage);
    expect(refused.status).toBe(422);
    expect(json({ text: bodyOf(refused).toString() })).toMatchObject({
      type: '/problems/out-of-range-access',
      status: 422,
      code: 'out-of-range-access',
      reason: 'out of range access',
      stage: 'load',
      image: { size: brokenImage.bytes.length, class: 'ELF64', machine: 'x86-64' },
    });
    expect(refused.headers).not.toHaveProperty('bsdsyms-pstart');

    const { blob } = await mustLoad(brokenImage.bytes, { maxBlobBytes: 2 ** 24 });
    const loaded = await upload('/bsdsyms?onBroken=load', brokenImage);
    expect([loaded.status, loaded.headers['bsdsyms-broken']]).toEqual([200, 'out-of-range-access']);
    expect(bodyOf(loaded).equals(blob)).toBe(true);
  });

  test('of an image without symbols does not exist in either mode', async () => {
    const stripped = kernel({ symtab: { type: 1 } });
    for (const path of ['/bsdsyms', '/bsdsyms?onBroken=load']) {
      const response = await upload(path, stripped);
      expect([response.status, json({ text: bodyOf(response).toString() })['code']]).toEqual([422, 'no-symbol-table']);
    }
  });

  test('does not exist beyond the limit, in either mode', async () => {
    const limited = await startService({ BSDSYMS_MAX_BLOB_BYTES: '400' });
    try {
      for (const path of ['/bsdsyms', '/bsdsyms?onBroken=load', '/layout']) {
        const answer = await post(limited, path, image.bytes);
        expect([answer.status, json(answer)['code']]).toEqual([422, 'region-too-large']);
      }
      // The setting stands in the explanation: the sentence of the core is also that of the command and the library.
      expect((await send(limited, '/problems/region-too-large')).text).toContain('BSDSYMS_MAX_BLOB_BYTES');
    } finally {
      await limited.close();
    }
  });
});

describe('Want-Repr-Digest', () => {
  test.each(['sha-256=1', 'sha-256=10', 'sha-256=3, sha-512=10', 'md5=1, sha-256=1', 'sha-512=0,sha-256=5'])(
    '%s gets the digest of the blob',
    async (wanted) => {
      const response = await upload('/bsdsyms').set('Want-Repr-Digest', wanted);
      expect(response.headers['repr-digest']).toBe(`sha-256=:${sha256(bodyOf(response))}:`);
    },
  );

  test.each(['sha-256=0', 'sha-512=10', 'md5=1', 'sha-256', 'sha-256=x', 'sha-256="1"', 'sha-256=1;;', '=', '☃', ''])(
    '%s gets none',
    async (wanted) => {
      const value = Buffer.from(wanted).toString('latin1');
      const answer = await post(service, '/bsdsyms', image.bytes, { 'want-repr-digest': value });
      expect(answer.status).toBe(200);
      expect(answer.headers).not.toHaveProperty('repr-digest');
    },
  );
});

describe('the layout', () => {
  test('agrees with the blob, byte for byte', async () => {
    for (const each of [image, oddImage, kernel({ class: 'ELF32' }), kernel({ byteOrder: 'big' })]) {
      const blobResponse = await upload('/bsdsyms', each);
      const blob = bodyOf(blobResponse);
      const { bsdsyms, warnings } = layoutOf(await upload('/bsdsyms', each).set('Accept', 'application/json'));
      expect([bsdsyms.pstart, bsdsyms.pend, bsdsyms.size, bsdsyms.sizeWord]).toEqual([
        blobResponse.headers['bsdsyms-pstart'],
        blobResponse.headers['bsdsyms-pend'],
        blob.length,
        blob.readUInt32LE(0),
      ]);
      expect(blobResponse.headers['bsdsyms-warnings'] ?? '').toBe(warnings.map(({ code }) => code).join(', '));
      expect(bsdsyms.elfHeader).toMatchObject({ offset: 4, size: each.format.elfHeader.size });
      expect(blob.subarray(4, 20).equals(each.bytes.subarray(0, 16))).toBe(true);
      for (const section of bsdsyms.sections.slice(1)) {
        const { offset = -1, size = 0, shOffset, address, fileOffset } = section;
        const inImage = Number(fileOffset);
        expect(blob.subarray(offset, offset + size).equals(each.bytes.subarray(inImage, inImage + size))).toBe(true);
        expect(size).toBeGreaterThan(0);
        expect(shOffset).toBe(offset - 4);
        expect(BigInt(address ?? 0)).toBe(BigInt(bsdsyms.pstart) + BigInt(offset));
      }
    }
  });

  test('is the document of the contract', async () => {
    const { plan } = await mustLoad(image.bytes);
    const strtabAt = 264 + image.section('.symtab').data.length;
    const strtabBytes = image.section('.strtab').data.length;
    const end = plan.pstart + BigInt(plan.size);
    expect(layoutOf(await upload('/layout'))).toEqual({
      image: {
        size: image.bytes.length,
        class: 'ELF64',
        byteOrder: 'little-endian',
        type: 'EXEC',
        machine: 'x86-64',
        entry: '0x100000',
        buildId: null,
        container: null,
        compression: null,
      },
      kernel: { pstart: '0x100000', pend: '0x102000', align: '0x1000' },
      bsdsyms: {
        loader: 'xen-4.8',
        loadAddress: '0x102000',
        pstart: '0x102000',
        pend: `0x${end.toString(16)}`,
        size: strtabAt + Math.ceil(strtabBytes / 8) * 8,
        sizeWord: strtabAt + strtabBytes - 4,
        xenReservedEnd: `0x${end.toString(16)}`,
        elfHeader: { address: at(4), offset: 4, size: 64 },
        sections: [
          { index: 0, type: 'NULL' },
          {
            index: 1,
            type: 'SYMTAB',
            address: at(264),
            offset: 264,
            size: 13 * 24,
            shOffset: 260,
            fileOffset: image.section('.symtab').offset,
            entries: 13,
            firstGlobal: 1,
          },
          {
            index: 2,
            type: 'STRTAB',
            address: at(strtabAt),
            offset: strtabAt,
            size: strtabBytes,
            shOffset: strtabAt - 4,
            fileOffset: image.section('.strtab').offset,
          },
        ],
      },
      broken: null,
      warnings: [],
      guests: {
        freebsd: { outcome: 'found', why: null, symbols: 13, warnings: [] },
        // It drops the null symbol.
        netbsd: { outcome: 'found', why: null, symbols: 12, warnings: [] },
        netbsdKdtrace: { outcome: 'found', why: null, symbols: 13, warnings: [] },
        xtf: { outcome: 'none', why: 'other-class', symbols: null, warnings: [] },
      },
    });
  });

  test('is the same from both routes and in both modes of upload', async () => {
    const expected = layoutOf(await upload('/layout'));
    expect(layoutOf(await upload('/bsdsyms').set('Accept', 'application/json'))).toEqual(expected);
    expect(json(await postForm(service, '/layout', imageForm(image.bytes)))).toEqual(expected);
    expect(json(await postForm(service, '/bsdsyms', imageForm(image.bytes), { accept: 'application/json' }))).toEqual(
      expected,
    );
  });

  test('has the reason against an image that was loaded all the same', async () => {
    const { broken, bsdsyms } = layoutOf(await upload('/layout?onBroken=load', brokenImage));
    expect(broken).toEqual({
      code: 'out-of-range-access',
      reason: 'out of range access',
      stage: 'load',
      detail: expect.stringContaining('1048576') as string,
    });
    expect(bsdsyms.sections[1]).toMatchObject({ type: 'SYMTAB', size: 1048576, fileOffset: null });
  });

  test('is refused as the blob is', async () => {
    const response = await upload('/layout', brokenImage);
    expect([response.status, json({ text: bodyOf(response).toString() })['code']]).toEqual([
      422,
      'out-of-range-access',
    ]);
  });

  test.each([
    ['gzip', gzipSync(image.bytes)],
    ['zstd', zstdCompressSync(image.bytes)],
  ])('says that the image was compressed with %s', async (compression, bytes) => {
    const layout = layoutOf(await upload('/layout', { bytes }));
    expect(layout.image).toMatchObject({ compression, size: image.bytes.length });
    expect(json(await postForm(service, '/layout', imageForm(bytes)))).toEqual(layout);
    expect(layout.bsdsyms).toEqual(layoutOf(await upload('/layout')).bsdsyms);
  });
});

describe('the raw body', () => {
  test.each([
    undefined,
    'application/octet-stream',
    'application/x-www-form-urlencoded',
    'application/gzip',
    'application/x-elf',
    'application/x-executable',
    'application/zstd',
    'APPLICATION/OCTET-STREAM; charset=binary',
  ])('with the content type %s is the image', async (type) => {
    const { blob } = await mustLoad(image.bytes);
    const response = await (type === undefined ? upload('/bsdsyms') : upload('/bsdsyms').set('Content-Type', type));
    expect(response.status).toBe(200);
    expect(bodyOf(response).equals(blob)).toBe(true);
  });

  test.each([
    'application/json',
    'application/json; charset=utf-8',
    'APPLICATION/JSON',
    'application/problem+json',
    'application/xml',
    'text/plain',
    'text/html; charset=utf-8',
  ])('with the content type %s is 415 and named', async (type) => {
    const answer = await post(service, '/bsdsyms', image.bytes, { 'content-type': type });
    expect([answer.status, json(answer)['code']]).toEqual([415, 'media-type-unsupported']);
    expect(json(answer)['detail']).toContain(type.split(';')[0]?.toLowerCase());
    expect(json(answer)['detail']).toContain('multipart/form-data');
  });

  test.each([
    ['gzip', gzipSync(image.bytes)],
    ['zstd', zstdCompressSync(image.bytes)],
  ])('with Content-Encoding %s is undone, and does not count as a compressed image', async (coding, body) => {
    const answer = await post(service, '/layout', body, { 'content-encoding': coding });
    expect(answer.status).toBe(200);
    expect(json(answer)['image']).toMatchObject({ compression: null, size: image.bytes.length });
  });

  test('with an unknown Content-Encoding is 415 and named', async () => {
    const answer = await post(service, '/bsdsyms', image.bytes, { 'content-encoding': 'compress' });
    expect([answer.status, json(answer)['code']]).toEqual([415, 'coding-unsupported']);
    expect(json(answer)['detail']).toContain('"compress"');
    expect(answer.headers['accept-encoding']).toContain('gzip');
  });
});

describe('the form', () => {
  const address: Part = { name: 'loadAddress', value: '0x8000001' };
  const mode: Part = { name: 'onBroken', value: 'load' };

  test.each<[string, Part[]]>([
    ['before the file', [address, mode, imagePart(brokenImage.bytes)]],
    ['behind the file', [imagePart(brokenImage.bytes), address, mode]],
    ['around the file', [mode, imagePart(brokenImage.bytes), address]],
  ])('may have its fields %s', async (_where, parts) => {
    const answer = await postForm(service, '/bsdsyms', multipart(parts));
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      'bsdsyms-pstart': '0x8000008',
      'bsdsyms-broken': 'out-of-range-access',
      'bsdsyms-warnings': expect.stringContaining('load-address-unaligned') as string,
    });
  });

  test.each(['application/octet-stream', 'text/plain', 'application/json', 'application/x-elf'])(
    'takes a file part of the type %s',
    async (type) => {
      const { blob } = await mustLoad(image.bytes);
      const form = multipart([{ name: 'image', data: image.bytes, filename: 'kernel', type }]);
      const answer = await postForm(service, '/bsdsyms', form);
      expect(answer.status).toBe(200);
      expect(answer.body.equals(blob)).toBe(true);
    },
  );

  test('may hold the boundary of another form in its image', async () => {
    const decoy = kernel({ before: [{ name: '.data', data: Buffer.from(`\r\n--${BOUNDARY}x\r\n\r\n`) }] });
    const { blob } = await mustLoad(decoy.bytes);
    const answer = await postForm(service, '/bsdsyms', multipart([imagePart(decoy.bytes)], 'other'));
    expect(answer.body.equals(blob)).toBe(true);
  });

  test('may have a quoted boundary and a type in other letters', async () => {
    const form = imageForm(image.bytes);
    const answer = await post(service, '/bsdsyms', form.body, {
      'content-type': `Multipart/Form-Data; boundary="${BOUNDARY}"`,
    });
    expect(answer.status).toBe(200);
  });

  test('may be sent with a Content-Encoding', async () => {
    const form = imageForm(image.bytes, { loadAddress: '0x5000' });
    const answer = await post(service, '/bsdsyms', gzipSync(form.body), {
      'content-type': form.contentType,
      'content-encoding': 'gzip',
    });
    expect([answer.status, answer.headers['bsdsyms-pstart']]).toEqual([200, '0x5000']);
  });
});

describe('the parameters', () => {
  test.each([
    ['0x5000', '0x5000'],
    ['0X5000', '0x5000'],
    ['20480', '0x5000'],
    ['0x0000000000005000', '0x5000'],
    ['1', '0x8'],
    ['0xFFFFFFFFFFFF0000', '0xffffffffffff0000'],
    [String(2n ** 64n - 65_536n), '0xffffffffffff0000'],
  ])('loadAddress=%s puts the symbols at %s', async (loadAddress, pstart) => {
    const response = await upload('/bsdsyms').query({ loadAddress });
    expect([response.status, response.headers['bsdsyms-pstart']]).toEqual([200, pstart]);
    const answer = await postForm(service, '/bsdsyms', imageForm(image.bytes, { loadAddress }));
    expect([answer.status, answer.headers['bsdsyms-pstart']]).toEqual([200, pstart]);
  });

  test.each(['0', '0x0', '0xffffffffffffffff', '0xffffffffffffff00'])(
    'loadAddress=%s is fine as a number and unusable as a place',
    async (loadAddress) => {
      for (const onBroken of ['reject', 'load']) {
        const answer = await post(service, `/bsdsyms?loadAddress=${loadAddress}&onBroken=${onBroken}`, image.bytes);
        expect([answer.status, json(answer)['code']]).toEqual([422, 'load-address-unusable']);
      }
    },
  );

  test('may stand in the query and in the form when they are equal', async () => {
    const form = imageForm(image.bytes, { loadAddress: '0x5000', onBroken: 'load' });
    const answer = await postForm(service, '/bsdsyms?loadAddress=0x5000&loader=xen-4.8&onBroken=load', form);
    expect([answer.status, answer.headers['bsdsyms-pstart']]).toEqual([200, '0x5000']);
  });

  test('may be split between the query and the form', async () => {
    const form = imageForm(brokenImage.bytes, { loadAddress: '0x5000' });
    const answer = await postForm(service, '/bsdsyms?onBroken=load', form);
    expect([answer.status, answer.headers['bsdsyms-pstart']]).toEqual([200, '0x5000']);
  });

  test.each([
    ['loadAddress', '0x5000', '0x6000'],
    ['onBroken', 'load', 'reject'],
  ])('must not differ between the query and the form: %s', async (name, inQuery, inForm) => {
    const answer = await postForm(service, `/bsdsyms?${name}=${inQuery}`, imageForm(image.bytes, { [name]: inForm }));
    expect([answer.status, json(answer)['code']]).toEqual([400, 'parameter-conflict']);
    for (const word of [name, inQuery, inForm]) expect(json(answer)['detail']).toContain(word);
  });

  test.each([
    ['loadAddress=1&loadAddress=2', 'loadAddress'],
    ['loader=xen-4.8&loader=xen-4.8', 'loader'],
  ])('must not stand twice in the query: %s', async (query, name) => {
    const answer = await post(service, `/bsdsyms?${query}`, image.bytes);
    expect([answer.status, json(answer)['code']]).toEqual([400, 'parameter-conflict']);
    expect(json(answer)['detail']).toContain(name);
  });

  // As /problems/parameter-conflict says.
  test.each([
    ['different', '0x5000', '0x6000'],
    ['equal', '0x5000', '0x5000'],
  ])('must not stand twice in the form: %s', async (_how, first, second) => {
    const fields: Part[] = [first, second].map((value) => ({ name: 'loadAddress', value }));
    for (const parts of [
      [...fields, imagePart(image.bytes)],
      [imagePart(image.bytes), ...fields],
    ]) {
      const answer = await postForm(service, '/layout', multipart(parts));
      expect([answer.status, json(answer)['code']]).toEqual([400, 'parameter-conflict']);
    }
  });
});
