/** What unusable requests get: a status, a code and a sentence that helps. The service goes on after each of them. */
import { strict as assert } from 'node:assert';
import { METHODS } from 'node:http';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { methodsOf, SERVICE_PATHS, UPLOAD_PATHS } from '../support/document.ts';
import { buildImage, kernel } from '../support/elf-builder.ts';
import { BOUNDARY, type Form, imageForm, imagePart, multipart, type Part } from '../support/forms.ts';
import { type Answer, json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { chunk, head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, occupied, type Service, settled, startService, uploading } from '../support/service.ts';

const image = kernel({ symbols: 20 }).bytes;
const MAX_IMAGE_BYTES = 256 * 1024;
const FORM_TYPE = `multipart/form-data; boundary=${BOUNDARY}`;

/** One for each test: what one of them leaves behind must not be found by another. */
let service: Service;
beforeEach(async () => {
  service = await startService({ BSDSYMS_MAX_IMAGE_BYTES: String(MAX_IMAGE_BYTES) });
});
afterEach(async () => {
  try {
    await checkService(service);
  } finally {
    await service.close();
  }
});

/** Whatever came before: the service is alive, takes uploads and has given everything back. */
async function checkService(checked: Service): Promise<void> {
  const answers = [
    await send(checked, '/healthz'),
    await post(checked, '/bsdsyms', image),
    await postForm(checked, '/bsdsyms', imageForm(image)),
  ];
  const left = await settled(checked);
  assert.deepEqual([answers.map(({ status }) => status), left], [[200, 200, 200], NOTHING_OCCUPIED]);
}

const bytes = (text: string): Buffer => Buffer.from(text);
const field = (name: string, value: string): Part => ({ name, value });

describe('a body that is not a usable image', () => {
  const listing = '<!DOCTYPE HTML>\n<html><head><title>Index of /kernels</title></head><body></body></html>\n';
  const stripped = buildImage({ segments: [{ paddr: 0x10_0000, memsz: 64 }], sections: [{ name: '.text' }] }).bytes;
  const object = buildImage({
    type: 1,
    sections: [
      { name: '.symtab', type: 2, link: '.strtab', entsize: 24, data: new Uint8Array(24) },
      { name: '.strtab', type: 3, data: new Uint8Array(1) },
    ],
  }).bytes;
  const cut = image.subarray(0, image.length - 100);

  const cases: [string, Uint8Array, number, string, string[]][] = [
    ['a text file', bytes('total 42\nkernel\nkernel.old\n'), 422, 'not-elf', ['text', '@']],
    ['a directory listing in HTML', bytes(listing), 422, 'not-elf', ['web page', 'downloaded']],
    ['a path instead of a file', bytes('/boot/kernel/kernel'), 422, 'not-elf', ['--data-binary @FILE']],
    ['one byte', bytes('x'), 422, 'not-elf', ['1 bytes']],
    [
      'a bzImage',
      Buffer.concat([new Uint8Array(0x202), bytes('HdrS'), new Uint8Array(600)]),
      415,
      'compression-unsupported',
      ['bzImage', 'protocol 0.00', 'vmlinux'],
    ],
    ['the start of an ELF image', image.subarray(0, 51), 422, 'not-elf', ['51 bytes', 'cut short']],
    ['a stripped kernel', stripped, 422, 'no-symbol-table', ['symbol']],
    ['an object file without segments', object, 422, 'load-address-unusable', ['loadAddress']],
    ['a truncated kernel', cut, 422, 'shdr-overflow', [String(cut.length), 'cut short']],
    [
      'a kernel packed with xz',
      Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 4]),
      400,
      'compressed-data-corrupt',
      ['xz', 'cut short'],
    ],
    ['a kernel packed with bzip2', bytes('BZh91AY&SY'), 400, 'compressed-data-corrupt', ['bzip2', 'cut short']],
    ['gzip cut short', gzipSync(image).subarray(0, 200), 400, 'compressed-data-corrupt', ['gzip', 'cut short']],
    [
      'gzip damaged',
      Buffer.concat([gzipSync(image).subarray(0, 60), new Uint8Array(300)]),
      400,
      'compressed-data-corrupt',
      ['gzip'],
    ],
    ['zstd cut short', zstdCompressSync(image).subarray(0, 100), 400, 'compressed-data-corrupt', ['zstd', 'cut short']],
    ['a form', multipart([imagePart(image)]).body, 400, 'multipart-in-body', ['multipart/form-data', 'twice']],
  ];

  test.each(cases)('%s', async (_name, body, status, code, words) => {
    expect(verdict(await post(service, '/bsdsyms', body), ...words)).toEqual(problem(status, code));
    expect(verdict(await postForm(service, '/bsdsyms', multipart([imagePart(body)], 'outer')), ...words)).toEqual(
      problem(status, code),
    );
    expect(verdict(await post(service, '/layout', body), ...words)).toEqual(problem(status, code));
  });

  test('an empty body', async () => {
    expect(verdict(await post(service, '/bsdsyms', ''), 'empty', '-T vmlinux', 'curl -F')).toEqual(
      problem(400, 'no-image'),
    );
    const chunked = await post(service, '/bsdsyms', '', { 'transfer-encoding': 'chunked' });
    expect(verdict(chunked, 'empty')).toEqual(problem(400, 'no-image'));
  });

  test('an empty file in a form', async () => {
    const answer = await postForm(service, '/bsdsyms', imageForm(new Uint8Array()));
    expect(verdict(answer, 'empty')).toEqual(problem(422, 'not-elf'));
  });

  test('a body that does not have its Content-Encoding', async () => {
    const answer = await post(service, '/bsdsyms', image, { 'content-encoding': 'gzip' });
    expect(verdict(answer, 'Content-Encoding')).toEqual(problem(400, 'compressed-data-corrupt'));
  });

  test('a damaged image that unpacks to more than the limit', async () => {
    const bomb = gzipSync(new Uint8Array(16 * MAX_IMAGE_BYTES));
    for (const answer of [
      await post(service, '/bsdsyms', bomb),
      await postForm(service, '/bsdsyms', imageForm(bomb)),
    ]) {
      expect(verdict(answer, String(MAX_IMAGE_BYTES), 'BSDSYMS_MAX_IMAGE_BYTES')).toEqual(
        problem(413, 'image-too-large'),
      );
    }
    const coded = await post(service, '/bsdsyms', bomb, { 'content-encoding': 'gzip' });
    expect(verdict(coded, String(MAX_IMAGE_BYTES))).toEqual(problem(413, 'image-too-large'));
  });
});

/** A form of parts with these header lines, and then the image. */
const formOf = (...parts: readonly (readonly string[])[]): Buffer =>
  Buffer.concat([
    ...parts.map((lines) => bytes(`--${BOUNDARY}\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\nx\r\n`)),
    imageForm(image).body,
  ]);
const sendForm = (body: Uint8Array): Promise<Answer> => post(service, '/layout', body, { 'content-type': FORM_TYPE });

describe('a form', () => {
  const good = imagePart(image);

  const cases: [string, Part[], string, string[]][] = [
    ['without a part', [], 'no-image', ['image', 'curl -F image=@']],
    ['without an image', [field('onBroken', 'load')], 'no-image', ['curl -F image=@']],
    ['with two images', [good, good], 'image-repeated', ['image']],
    [
      'with the image in another field',
      [{ name: 'file', data: image, filename: 'k' }],
      'field-unknown',
      ['"file"', 'image=@'],
    ],
    [
      'with a second file in another field',
      [good, { name: 'map', data: image, filename: 'k' }],
      'field-unknown',
      ['"map"'],
    ],
    ['with the image as text', [field('image', 'vmlinux')], 'no-image', ['text', 'image=@']],
    ['with an unknown field', [good, field('verbose', '1')], 'field-unknown', ['"verbose"']],
    ['with an unknown field first', [field('verbose', '1'), good], 'field-unknown', ['"verbose"']],
    ['with a field that differs in case', [good, field('loadaddress', '1')], 'field-unknown', ['"loadaddress"']],
    ['with an empty loadAddress', [good, field('loadAddress', '')], 'parameter-invalid', ['loadAddress', '0x hex']],
    [
      'with a loadAddress that is no number',
      [field('loadAddress', '0xZZ'), good],
      'parameter-invalid',
      ['"0xZZ"', '0x hex'],
    ],
    ['with a negative loadAddress', [good, field('loadAddress', '-1')], 'parameter-invalid', ['"-1"', '2^64-1']],
    ['with a fractional loadAddress', [good, field('loadAddress', '1.5')], 'parameter-invalid', ['"1.5"']],
    ['with a loadAddress of 2^64', [good, field('loadAddress', String(2n ** 64n))], 'parameter-invalid', ['2^64-1']],
    [
      'with a loadAddress of 17 hex digits',
      [good, field('loadAddress', '0x10000000000000000')],
      'parameter-invalid',
      ['2^64-1'],
    ],
    ['with an unknown loader', [good, field('loader', 'xen-3.0')], 'parameter-invalid', ['"xen-3.0"', 'xen-4.8']],
    ['with an unknown onBroken', [good, field('onBroken', 'LOAD')], 'parameter-invalid', ['"LOAD"', 'reject, load']],
    ['with a parameter as a file', [good, { name: 'onBroken', data: bytes('load') }], 'field-unknown', ['"onBroken"']],
    [
      'with a field that is too long',
      [good, field('loadAddress', '1'.repeat(100_000))],
      'parameter-invalid',
      ['loadAddress', '8192'],
    ],
    [
      'with too many fields',
      Array.from({ length: 500 }, () => field('onBroken', 'load')),
      'parameter-conflict',
      ['onBroken', 'more than once'],
    ],
    ['with too many files', Array.from({ length: 50 }, () => good), 'image-repeated', ['image']],
  ];

  test.each(cases)('%s', async (_name, parts, code, words) => {
    expect(verdict(await postForm(service, '/bsdsyms', multipart(parts)), ...words)).toEqual(problem(400, code));
    expect(verdict(await postForm(service, '/layout', multipart(parts)), ...words)).toEqual(problem(400, code));
  });

  test.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty'])('with the field %s', async (name) => {
    for (const parts of [[field(name, '1'), good], [good, field(name, '1')], [field(name, '1')]]) {
      expect(verdict(await postForm(service, '/bsdsyms', multipart(parts)))).toEqual(problem(400, 'field-unknown'));
    }
  });

  test.each([
    'Content-Disposition: form-data',
    'Content-Disposition: form-data;',
    'Content-Disposition: form-data; name',
    'Content-Disposition: form-data; filename="x"',
    'Content-Disposition: form-data; filename',
    'CONTENT-DISPOSITION: Form-Data; size=4',
  ])('with a part without a name: %s', async (line) => {
    const malformed = problem(400, 'multipart-malformed');
    expect(verdict(await sendForm(formOf([line])), 'without a name', 'form-data; name=')).toEqual(malformed);
    const file = formOf([line, 'Content-Type: application/octet-stream']);
    expect(verdict(await sendForm(file), 'without a name')).toEqual(malformed);
    // Last, and alone.
    const alone = bytes(`--${BOUNDARY}\r\n${line}\r\n\r\nx\r\n--${BOUNDARY}--\r\n`);
    expect(verdict(await sendForm(alone), 'without a name')).toEqual(malformed);
  });

  test.each([
    ['name=""', '""'],
    ['name="";filename="x"', '""'],
    ['name="é"', '"é"'],
    ['name="a\tb"', '"a\\tb"'],
    [`name="${'x'.repeat(5000)}"`, `"${'x'.repeat(40)}…"`],
    ["name*=utf-8''constructor", 'field'],
  ])('with a part of a name that is none of ours: %.30s', async (parameters, named) => {
    const answer = await sendForm(formOf([`Content-Disposition: form-data; ${parameters}`]));
    expect(verdict(answer, named)).toEqual(problem(400, 'field-unknown'));
  });

  test('with a part of more header fields than any client sends is read up to a limit', async () => {
    const other = Array.from({ length: 31 }, (_, index) => `X-${index}: 1`);
    const disposition = 'Content-Disposition: form-data; name="nonsense"';
    expect(verdict(await sendForm(formOf([...other, disposition])), '"nonsense"')).toEqual(
      problem(400, 'field-unknown'),
    );
    // Its disposition is not seen, and what has none is no part of the form.
    expect((await sendForm(formOf([...other, 'X-31: 1', disposition]))).status).toBe(200);
  });

  test.each<[string, string[]]>([
    ['of another disposition', ['Content-Disposition: attachment; name="image"']],
    ['of no disposition', ['Content-Type: text/plain']],
    ['of an empty disposition', ['Content-Disposition:']],
    ['without any header', []],
    ['with headers that are none', ['nonsense', ': x', 'Content-Disposition']],
  ])('with a part %s has no field by it', async (_what, lines) => {
    expect((await sendForm(formOf(lines))).status).toBe(200);
    const alone = formOf(lines).subarray(0, -imageForm(image).body.length);
    const answer = await sendForm(Buffer.concat([alone, bytes(`--${BOUNDARY}--\r\n`)]));
    expect(verdict(answer, 'image', 'curl -F')).toEqual(problem(400, 'no-image'));
  });

  test.each<[string, string]>([
    ['a charset without a value', 'text/plain; charset'],
    ['an unknown charset', 'text/plain; charset=x-unknown'],
    ['JSON', 'application/json'],
    ['a form', 'multipart/form-data; boundary=inner'],
    ['several things', 'multipart/mixed; boundary=inner'],
    ['nothing', ''],
    ['a semicolon', ';'],
  ])('whose field says that it is %s', async (_what, type) => {
    const lines = ['Content-Disposition: form-data; name="loadAddress"', `Content-Type: ${type}`];
    expect(verdict(await sendForm(formOf(lines)))).toEqual(problem(400, 'parameter-invalid'));
  });

  test('whose file is itself a form of several files', async () => {
    const inner = multipart([imagePart(image), imagePart(image)], 'inner');
    const outer = bytes(
      `--${BOUNDARY}\r\nContent-Disposition: form-data; name="image"\r\nContent-Type: ${inner.contentType}\r\n\r\n`,
    );
    const body = Buffer.concat([outer, inner.body, bytes(`\r\n--${BOUNDARY}--\r\n`)]);
    expect(verdict(await sendForm(body), 'text', 'image=@')).toEqual(problem(400, 'no-image'));
  });

  test.each<[string, Uint8Array]>([
    ['tiny fields', formOf(...Array.from({ length: 3000 }, () => ['Content-Disposition: form-data; name="address"']))],
    ['tiny files', formOf(...Array.from({ length: 3000 }, () => ['Content-Disposition: form-data; filename="x"']))],
    ['parts without anything', formOf(...Array.from({ length: 6000 }, () => []))],
  ])('of thousands of %s', async (_what, body) => {
    const { status, text } = await post(service, '/symbols', body, { 'content-type': FORM_TYPE });
    expect([status, ['multipart-malformed', 'parameter-invalid', 'image-too-large']]).toEqual([
      400,
      expect.arrayContaining([json({ text })['code']]),
    ]);
  });

  test('whose parts have very many header lines', async () => {
    const many = Array.from({ length: 3000 }, (_, index) => `X-${index}: y`);
    const last = formOf([...many, 'Content-Disposition: form-data; name="onBroken"']);
    expect([200, 400]).toContain((await sendForm(last)).status);
    const first = formOf(['Content-Disposition: form-data; name="onBroken"', ...many]);
    expect([200, 400]).toContain((await sendForm(first)).status);
  });

  test('whose boundary is too long to be looked for', async () => {
    const type = `multipart/form-data; boundary=${'x'.repeat(3000)}`;
    const answer = await post(service, '/layout', imageForm(image).body, { 'content-type': type });
    expect(verdict(answer)).toEqual(problem(400, 'multipart-malformed'));
  });

  test('wrapped twice', async () => {
    const inner = imageForm(image);
    expect(verdict(await postForm(service, '/bsdsyms', multipart([imagePart(inner.body)], 'outer')), 'twice')).toEqual(
      problem(400, 'multipart-in-body'),
    );
  });

  test.each(['multipart/form-data', 'multipart/form-data; boundary=', 'multipart/form-data; charset=utf-8'])(
    'without a boundary: %s',
    async (type) => {
      const answer = await post(service, '/bsdsyms', imageForm(image).body, { 'content-type': type });
      expect(verdict(answer)).toEqual(problem(400, 'multipart-malformed'));
    },
  );

  test('whose boundary differs from that of its Content-Type', async () => {
    const answer = await post(service, '/bsdsyms', imageForm(image).body, {
      'content-type': 'multipart/form-data; boundary=another',
    });
    expect([answer.status, ['no-image', 'multipart-malformed']]).toEqual([
      400,
      expect.arrayContaining([json(answer)['code']]),
    ]);
  });

  test.each([
    ['inside the image', (form: Form) => form.body.length / 2],
    ['before its end', (form: Form) => form.body.length - 10],
    ['inside the headers of its part', () => 40],
    ['before anything', () => 0],
  ])('truncated %s, with a matching Content-Length', async (_where, cut) => {
    const form = imageForm(image);
    const answer = await post(service, '/bsdsyms', form.body.subarray(0, Math.floor(cut(form))), {
      'content-type': form.contentType,
    });
    expect([answer.status, ['no-image', 'multipart-malformed']]).toEqual([
      400,
      expect.arrayContaining([json(answer)['code']]),
    ]);
  });

  test('of another multipart type is not an image', async () => {
    const answer = await post(service, '/bsdsyms', imageForm(image).body, {
      'content-type': `multipart/mixed; boundary=${BOUNDARY}`,
    });
    expect(verdict(answer, 'multipart/form-data')).toEqual(problem(400, 'multipart-in-body'));
  });
});

describe('the query', () => {
  test.each([
    ['loadaddress=1', 'parameter-unknown', ['"loadaddress"', 'loadAddress']],
    ['verbose', 'parameter-unknown', ['"verbose"', 'onBroken']],
    ['__proto__=1', 'parameter-unknown', ['__proto__']],
    ['constructor=1', 'parameter-unknown', ['constructor']],
    ['loadAddress=', 'parameter-invalid', ['loadAddress', '0x hex']],
    ['loadAddress=0xZZ', 'parameter-invalid', ['"0xZZ"']],
    ['loadAddress=-1', 'parameter-invalid', ['"-1"']],
    ['loadAddress=18446744073709551616', 'parameter-invalid', ['2^64-1']],
    ['loadAddress=0x1_0', 'parameter-invalid', ['0x1_0']],
    ['loadAddress=%00', 'parameter-invalid', ['loadAddress']],
    ['loadAddress=1%0A', 'parameter-invalid', ['loadAddress']],
    [`loadAddress=${'9'.repeat(5000)}`, 'parameter-invalid', ['…']],
    ['loader=', 'parameter-invalid', ['xen-4.8']],
    ['onBroken=ignore', 'parameter-invalid', ['"ignore"', 'reject, load']],
  ])('%s', async (query, code, words) => {
    expect(verdict(await post(service, `/bsdsyms?${query}`, image), ...words)).toEqual(problem(400, code));
    expect(verdict(await postForm(service, `/layout?${query}`, imageForm(image)), ...words)).toEqual(
      problem(400, code),
    );
  });

  test('is quoted only in part', async () => {
    const answer = await post(service, `/bsdsyms?loadAddress=${'9'.repeat(5000)}`, image);
    expect(answer.text.length).toBeLessThan(1000);
  });
});

describe('the route', () => {
  // Node's client does not send CONNECT as a request.
  const methods = METHODS.filter((method) => method !== 'CONNECT');

  test.each([...UPLOAD_PATHS, ...SERVICE_PATHS])('%s takes its methods only', async (path) => {
    const allowed = [...methodsOf(path), 'OPTIONS'].sort();
    const asked = await send(service, path, { method: 'OPTIONS' });
    expect([asked.status, asked.headers.allow, asked.text]).toEqual([204, allowed.join(', '), '']);
    for (const method of methods.filter((name) => !allowed.includes(name))) {
      const answer = await send(service, path, { method, headers: { 'content-length': 0 } });
      expect([method, answer.status, answer.headers.allow]).toEqual([method, 405, allowed.join(', ')]);
      // An answer to HEAD has no body.
      expect(method === 'HEAD' ? answer.text : verdict(answer, method, allowed.join(', '))).toEqual(
        method === 'HEAD' ? '' : problem(405, 'method-not-allowed'),
      );
    }
  });

  test('is refused before the body is read', async () => {
    const answer = await send(service, '/bsdsyms', {
      method: 'PATCH',
      body: '{',
      headers: { 'content-type': 'application/json', 'content-length': 1 },
    });
    expect(verdict(answer, 'POST')).toEqual(problem(405, 'method-not-allowed'));
  });

  test.each([
    ['GET', '/bsdsyms/'],
    ['POST', '/upload'],
    ['GET', '/favicon.ico'],
    ['GET', '/problems/no-such-code'],
    ['GET', '/problems/__proto__'],
    ['GET', '/problems/constructor'],
    ['GET', '/../etc/passwd'],
    ['GET', `/problems/${'x'.repeat(500)}`],
  ])('%s %s is not there', async (method, path) => {
    expect(verdict(await send(service, path, { method }), 'GET /')).toEqual(problem(404, 'not-found'));
  });

  test.each([
    ['PUT', '/check/vmlinux', 'write /check without it'],
    ['PUT', '/vmlinux', 'write one, such as /check'],
    ['POST', '/check/', 'Leave out the slash'],
    ['GET', '/healthz/', 'Leave out the slash'],
  ])('%s %s is not there, and what to do follows from what curl -T does', async (method, path, words) => {
    expect(verdict(await send(service, path, { method }), words)).toEqual(problem(404, 'not-found'));
  });

  test.each(['/%zz', '/problems/%', '/problems/%ff'])('%s is badly encoded', async (path) => {
    const answer = await send(service, path);
    expect(verdict(answer)).toEqual(problem(404, 'not-found'));
  });

  test('an unknown path with a body is 404, not what is wrong with the body', async () => {
    expect(verdict(await post(service, '/upload', '{', { 'content-type': 'application/json' }))).toEqual(
      problem(404, 'not-found'),
    );
  });
});

describe('a caller that wants plain text', () => {
  test.each<[string, () => Promise<Answer>, number, string]>([
    ['400', () => post(service, '/layout', '', { accept: 'text/plain' }), 400, 'no-image'],
    ['404', () => send(service, '/nowhere', { headers: { accept: 'text/plain' } }), 404, 'not-found'],
    ['404 by the router', () => send(service, '/%zz', { headers: { accept: 'text/plain' } }), 404, 'not-found'],
    [
      '405',
      () => send(service, '/layout', { method: 'DELETE', headers: { accept: 'text/plain' } }),
      405,
      'method-not-allowed',
    ],
    ['406', () => post(service, '/bsdsyms', image, { accept: 'text/plain' }), 406, 'not-acceptable'],
    ['422', () => post(service, '/layout', 'x', { accept: 'text/plain;q=0.9, text/html' }), 422, 'not-elf'],
  ])('gets `code: detail` on one line that ends with the request id: %s', async (_name, ask, status, code) => {
    const answer = await ask();
    expect([answer.status, answer.headers['content-type']]).toEqual([status, 'text/plain; charset=utf-8']);
    expect(answer.text).toMatch(
      new RegExp(`^${code}: [^\\n]+ X-Request-Id: ${String(answer.headers['x-request-id'])}\\n$`),
    );
  });

  test.each(['application/problem+json, text/plain', '*/*', 'application/json', 'text/plain;q=0.1, */*', 'image/png'])(
    'does not write Accept: %s',
    async (accept) => {
      const answer = await post(service, '/layout', 'x', { accept });
      expect(answer.headers['content-type']).toBe('application/problem+json');
      expect(verdict(answer)).toEqual(problem(422, 'not-elf'));
    },
  );
});

describe('bytes that are not HTTP', () => {
  test.each([
    ['garbage', 'nonsense\r\n\r\n', 400, 'bad-request'],
    ['a header without a colon', 'GET /healthz HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n', 400, 'bad-request'],
    [
      'two lengths',
      'POST /bsdsyms HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      400,
      'bad-request',
    ],
    [
      'a length and chunks',
      'POST /bsdsyms HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      400,
      'bad-request',
    ],
    [
      'headers without end',
      `GET /healthz HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
      431,
      'header-fields-too-large',
    ],
  ])('%s', async (_name, text, status, code) => {
    const connection = await RawConnection.open(service.port);
    await connection.send(text);
    const answer = await connection.answer();
    expect(verdict(answer)).toEqual(problem(status, code));
    expect(answer.headers).toMatchObject({ 'content-type': 'application/problem+json', connection: 'close' });
    expect(answer.headers['x-request-id']).toBe(json(answer)['instance']);
    expect(await connection.ended()).toBe('');
  });

  test('a chunk that is none', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Transfer-Encoding': 'chunked' }), chunk(image), 'zz\r\n');
    expect(verdict(await connection.answer())).toEqual(problem(400, 'bad-request'));
    expect(await connection.ended()).toBe('');
  });
});

describe('a body that does not come to its end', () => {
  const half = image.subarray(0, image.length / 2);
  const formHalf = imageForm(image).body.subarray(0, image.length / 2);
  const bodies: [string, Record<string, string | number>, Uint8Array][] = [
    ['raw', { 'Content-Length': image.length }, half],
    ['chunked', { 'Transfer-Encoding': 'chunked' }, chunk(half)],
    ['form', { 'Content-Type': FORM_TYPE, 'Content-Length': image.length }, formHalf],
    ['chunked form', { 'Content-Type': FORM_TYPE, 'Transfer-Encoding': 'chunked' }, chunk(formHalf)],
    ['gzip', { 'Content-Length': image.length }, gzipSync(image).subarray(0, 200)],
    ['with a coding', { 'Content-Encoding': 'gzip', 'Content-Length': image.length }, gzipSync(image).subarray(0, 200)],
  ];

  test.each(bodies)('aborted: %s', async (_name, headers, body) => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', headers), body);
    await uploading(service);
    connection.destroy();
    const line = await service.logged({ msg: 'request', status: 499 });
    expect(line).toMatchObject({ level: 30, method: 'POST', route: '/bsdsyms' });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect(service.logs().filter(({ level }) => Number(level) > 30)).toEqual([]);
    expect(service.logs('request')).toHaveLength(1);
  });

  test.each(bodies)('half-closed: %s', async (_name, headers, body) => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', headers), body);
    await uploading(service);
    connection.halfClose();
    expect(verdict(await connection.answer())).toEqual(problem(400, 'body-truncated'));
    expect(await connection.ended()).toBe('');
    await service.logged({ msg: 'request', route: '/bsdsyms' });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect(service.logs().filter(({ level }) => Number(level) > 30)).toEqual([]);
  });

  test('aborted many times, in both modes', async () => {
    for (let round = 0; round < 20; round++) {
      const connection = await RawConnection.open(service.port);
      const [, headers, body] = bodies[round % bodies.length] ?? ['', {}, half];
      await connection.send(head('POST', '/bsdsyms', headers), body);
      connection.destroy();
    }
    // Some are gone before the server has read a byte of them; none of them may stay.
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('aborted while spooled', async () => {
    const spooling = await startService({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
    try {
      const connection = await RawConnection.open(spooling.port);
      await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), half);
      await uploading(spooling);
      expect(occupied(spooling)).toMatchObject({ memory: 0, uploads: 1 });
      connection.destroy();
      await spooling.logged({ msg: 'request', status: 499 });
      expect(await settled(spooling)).toEqual(NOTHING_OCCUPIED);
      expect((await post(spooling, '/bsdsyms', image)).status).toBe(200);
    } finally {
      await spooling.close();
    }
  });
});

describe('a body that comes too slowly', () => {
  test.each([
    ['the whole of it', { BSDSYMS_UPLOAD_TIMEOUT_MS: '300' }],
    ['a pause in it', { BSDSYMS_STALL_TIMEOUT_MS: '200' }],
  ])('%s', async (_what, env) => {
    const hasty = await startService(env);
    try {
      for (const [type, body] of [
        ['application/octet-stream', image],
        [FORM_TYPE, imageForm(image).body],
      ] as const) {
        hasty.clearLogs();
        const connection = await RawConnection.open(hasty.port);
        const headers = { 'Content-Type': type, 'Content-Length': body.length };
        await connection.send(head('POST', '/bsdsyms', headers), body.subarray(0, 300));
        const answer = await connection.answer();
        expect(verdict(answer, 'BSDSYMS_')).toEqual(problem(408, 'request-timeout'));
        expect(answer.headers).toMatchObject({ 'content-type': 'application/problem+json', connection: 'close' });
        await connection.ended();
        await hasty.logged({ msg: 'request', status: 408 });
        expect(await settled(hasty)).toEqual(NOTHING_OCCUPIED);
      }
      expect((await send(hasty, '/healthz')).status).toBe(200);
    } finally {
      await hasty.close();
    }
  });
});

describe('a body over the limit', () => {
  const tooLarge = new Uint8Array(MAX_IMAGE_BYTES + 1);
  tooLarge.set(image);
  const limit = [String(MAX_IMAGE_BYTES), 'BSDSYMS_MAX_IMAGE_BYTES', 'objcopy'];

  test.each([
    ['raw', 'application/octet-stream', 1],
    ['form', FORM_TYPE, 100_000],
  ])('announced is refused before it is sent: %s', async (_name, type, beyond) => {
    const connection = await RawConnection.open(service.port);
    const headers = { 'Content-Type': type, 'Content-Length': MAX_IMAGE_BYTES + beyond };
    await connection.send(head('POST', '/bsdsyms', headers));
    expect(verdict(await connection.answer(), ...limit)).toEqual(problem(413, 'image-too-large'));
    connection.destroy();
  });

  test('announced with Expect is refused without an invitation', async () => {
    const connection = await RawConnection.open(service.port);
    const headers = { 'Content-Length': MAX_IMAGE_BYTES + 1, Expect: '100-continue' };
    await connection.send(head('POST', '/bsdsyms', headers));
    expect(verdict(await connection.answer(), ...limit)).toEqual(problem(413, 'image-too-large'));
    expect(await connection.ended()).toBe('');
  });

  test('a good one with Expect is invited', async () => {
    const connection = await RawConnection.open(service.port);
    const expecting = head('POST', '/bsdsyms', { 'Content-Length': image.length, Expect: '100-continue' });
    expect(await connection.sendInvited(expecting, image)).toEqual([100, 200]);
    connection.destroy();
  });

  test('chunked is refused when it is known', async () => {
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/bsdsyms', { 'Transfer-Encoding': 'chunked' }), chunk(tooLarge));
    // The last chunk has not been sent.
    expect(verdict(await connection.answer(), ...limit)).toEqual(problem(413, 'image-too-large'));
    connection.destroy();
  });

  test('in a form is refused when it is known', async () => {
    const form = imageForm(tooLarge);
    // With a length that leaves room for the rest of a form.
    expect(form.body.length).toBeLessThan(MAX_IMAGE_BYTES + 64 * 1024);
    expect(verdict(await postForm(service, '/bsdsyms', form), ...limit)).toEqual(problem(413, 'image-too-large'));
    const connection = await RawConnection.open(service.port);
    const headers = { 'Content-Type': form.contentType, 'Transfer-Encoding': 'chunked' };
    await connection.send(head('POST', '/bsdsyms', headers), chunk(form.body.subarray(0, -10)));
    expect(verdict(await connection.answer(), ...limit)).toEqual(problem(413, 'image-too-large'));
    connection.destroy();
  });

  test('can be read to its end by a client that reads no answer before', async () => {
    const body = new Uint8Array(8 * MAX_IMAGE_BYTES);
    expect(verdict(await post(service, '/bsdsyms', body), ...limit)).toEqual(problem(413, 'image-too-large'));
    const chunked = await post(service, '/bsdsyms', body, { 'transfer-encoding': 'chunked' });
    expect(verdict(chunked, ...limit)).toEqual(problem(413, 'image-too-large'));
  });

  test('at the limit is fine', async () => {
    const padded = new Uint8Array(MAX_IMAGE_BYTES);
    padded.set(image);
    expect((await post(service, '/bsdsyms', padded)).status).toBe(200);
    expect((await postForm(service, '/bsdsyms', imageForm(padded))).status).toBe(200);
  });
});

describe('a full service', () => {
  test('refuses at once and says when to try again', async () => {
    const small = await startService({ BSDSYMS_MAX_UPLOADS: '1', BSDSYMS_MAX_QUEUED_UPLOADS: '0' });
    try {
      const connection = await RawConnection.open(small.port);
      await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length }), image.subarray(0, 100));
      await uploading(small);
      const answer = await post(small, '/bsdsyms', image);
      expect(verdict(answer, 'Retry-After')).toEqual(problem(503, 'too-busy'));
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      expect((await send(small, '/healthz')).status).toBe(200);
      expect((await send(small, '/readyz')).status).toBe(200);
      await connection.send(image.subarray(100));
      expect((await connection.answer()).status).toBe(200);
      connection.destroy();
      expect(await settled(small)).toEqual(NOTHING_OCCUPIED);
      expect((await post(small, '/bsdsyms', image)).status).toBe(200);
    } finally {
      await small.close();
    }
  });

  test('also reports a full spool', async () => {
    const full = await startService({ BSDSYMS_MEMORY_BUDGET_BYTES: '0', BSDSYMS_SPOOL_BUDGET_BYTES: '64' });
    try {
      const answer = await post(full, '/bsdsyms', image);
      expect(verdict(answer, 'BSDSYMS_SPOOL_BUDGET_BYTES')).toEqual(problem(503, 'spool-full'));
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      expect(await settled(full)).toEqual(NOTHING_OCCUPIED);
    } finally {
      await full.close();
    }
  });

  test('that is closing refuses uploads and stays alive', async () => {
    const closing = await startService();
    try {
      closing.app.lifecycle.drain();
      for (const [method, path] of [
        ['POST', '/bsdsyms'],
        ['POST', '/layout'],
        ['GET', '/readyz'],
      ] as const) {
        const answer = await send(closing, path, { method, body: method === 'POST' ? image : '' });
        expect(verdict(answer, 'again')).toEqual(problem(503, 'shutting-down'));
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      }
      expect((await send(closing, '/healthz')).status).toBe(200);
    } finally {
      await closing.close();
    }
  });
});
