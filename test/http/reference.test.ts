/** Images by reference: the same answers as for uploads, from as few bytes as they need. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { entityTag } from '../../src/http/reference.ts';
import { kernel } from '../support/elf-builder.ts';
import { imagePart, multipart } from '../support/forms.ts';
import { json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { named, TestOrigin } from '../support/origin.ts';
import { bzImage } from '../support/packed.ts';
import { SOON } from '../support/patience.ts';
import { scrape } from '../support/prometheus.ts';
import { compareWithUpload, IMAGE_ROUTES } from '../support/references.ts';
import { mustSettle, type Service, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';
import { readBsdsymsVectors, readHistoricalVectors } from '../support/vectors.ts';

const SECRET = 'X-Amz-Signature=a-secret-of-these-tests';
const image = kernel({ symbols: 9 }).bytes;
/** Larger than a page, with tables that need more than one request. */
const large = kernel({ symbols: 20_000, text: { data: new Uint8Array(2_000_000) }, memsz: 0x200000 }).bytes;

let origin: TestOrigin;
let other: TestOrigin;
let service: Service;
/** Without the flat images of gigabytes that some vectors ask for. */
let vectorService: Service;
const directory = new TemporaryDirectory();
const shared = directory.file('shared');

beforeAll(async () => {
  mkdirSync(join(shared, 'deep'), { recursive: true });
  origin = await TestOrigin.start();
  other = await TestOrigin.start();
  const headers = directory.write(
    JSON.stringify({ [`${origin.url}/guarded/`]: { Authorization: 'Bearer of-the-operator' } }),
  );
  service = await startService({
    BSDSYMS_IMAGE_SOURCES: `${origin.url}/, ${other.url}/open/, file://${shared}/`,
    BSDSYMS_IMAGE_SOURCE_HEADERS_FILE: headers,
    BSDSYMS_MAX_IMAGE_BYTES: '8388608',
    BSDSYMS_SOURCE_MAX_REQUESTS: '24',
  });
  vectorService = await startService({ BSDSYMS_IMAGE_SOURCES: `${origin.url}/`, BSDSYMS_MAX_FLAT_BYTES: '1048576' });
});
afterEach(async () => {
  await mustSettle(service);
  origin.reset();
  other.reset();
  service.clearLogs();
});
afterAll(async () => {
  await service.close();
  await vectorService.close();
  origin.close();
  other.close();
  directory.remove();
});

const layout = (url: string, headers = {}) => send(service, named('/layout', url), { headers });

describe('the answers are those of the upload', () => {
  test.each([
    ['small', image],
    ['large', large],
    ['gzip', gzipSync(large)],
    ['zstd', zstdCompressSync(large)],
    ['no ELF', Buffer.from('no image')],
    ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3, 4])],
    ['a bzImage', bzImage(gzipSync(large), {})],
    ['damaged gzip', gzipSync(large).subarray(0, 1000)],
    ['a form', multipart([imagePart(image)]).body],
  ])('%s', async (name, bytes) => {
    expect(await compareWithUpload(service, origin, name, bytes)).toEqual([]);
  });

  test('one in twenty-five vectors of the reference, and of the historical loaders', async () => {
    const differences: string[] = [];
    for (const { name, image: text, loadAddress } of readBsdsymsVectors().filter((_, index) => index % 25 === 0)) {
      const parameters = loadAddress === null ? {} : { loadAddress: `0x${loadAddress.replace(/^0x/, '')}` };
      differences.push(
        ...(await compareWithUpload(vectorService, origin, name, Buffer.from(text, 'base64'), parameters)),
      );
    }
    for (const { name, image: text, loader } of readHistoricalVectors().filter((_, index) => index % 25 === 0)) {
      differences.push(
        ...(await compareWithUpload(vectorService, origin, name, Buffer.from(text, 'base64'), { loader })),
      );
    }
    expect(differences).toEqual([]);
  });

  test('also when the origin knows no ranges', async () => {
    const url = origin.serve('/x', large);
    origin.misbehaviour = (_request, response) => {
      response.writeHead(200, { ETag: '"1"' }).end(large);
      return true;
    };
    const [sent, referred] = [await post(service, '/bsdsyms', large), await send(service, named('/bsdsyms', url))];
    expect(referred.body.equals(sent.body)).toBe(true);
    expect(origin.requests).toHaveLength(1);
  });

  test('from a file, in a form and in the query', async () => {
    writeFileSync(join(shared, 'deep', 'a kernel'), image);
    const url = `file://${shared}/deep/a%20kernel`;
    const sent = await post(service, '/layout', image);
    expect((await layout(url)).text).toBe(sent.text);
    expect((await send(service, named('/layout', url), { method: 'POST' })).text).toBe(sent.text);
    const form = multipart([{ name: 'imageUrl', value: url }]);
    expect((await postForm(service, '/layout', form)).text).toBe(sent.text);
  });
});

describe('what moves', () => {
  test('a blob costs its tables and a few pages, and the first request is a GET with a range', async () => {
    const url = origin.serve('/large', large);
    const blob = await send(service, named('/bsdsyms', url));
    expect(blob.status).toBe(200);
    expect(origin.bytesSent).toBeLessThanOrEqual(1.05 * blob.body.length + 512 * 1024);
    expect(origin.requests.length).toBeLessThanOrEqual(8);
    const [first, ...rest] = origin.requests;
    expect(first?.headers).toMatchObject({ range: 'bytes=0-65535', 'accept-encoding': 'identity' });
    expect(first?.headers['if-range']).toBeUndefined();
    expect(rest.every(({ headers }) => headers['if-range'] === '"1"')).toBe(true);
  });

  test('a weak or missing ETag is compared, but not sent as a condition', async () => {
    const url = origin.serve('/large', large, { etag: 'W/"1"', lastModified: 'Mon, 01 Jan 2024 00:00:00 GMT' });
    expect((await layout(url)).status).toBe(200);
    expect(origin.requests.every(({ headers }) => headers['if-range'] === undefined)).toBe(true);
  });

  test('headers that lie far apart cost so many requests and no more', async () => {
    const scattered = Buffer.alloc(8_000_000);
    const start = kernel({ symbols: 1, header: { e_phnum: 100, e_phentsize: 65_000 } }).bytes;
    scattered.set(start);
    const url = origin.serve('/scattered', scattered);
    expect(verdict(await layout(url), 'BSDSYMS_SOURCE_MAX_REQUESTS')).toEqual(problem(422, 'source-scattered'));
    expect(origin.requests).toHaveLength(24);
  });
});

describe('conditional requests', () => {
  test('an unchanged image is a 304 after one request, a changed one is not', async () => {
    const url = origin.serve('/k', large);
    const first = await layout(url);
    const etag = first.headers.etag ?? '';
    expect(etag).toMatch(/^W\/".{32}"$/);
    expect(first.headers).toMatchObject({ 'cache-control': 'no-cache', vary: 'Accept' });
    origin.requests.length = 0;
    for (const given of [etag, etag.slice(2), `"x", ${etag}`]) {
      const again = await layout(url, { 'if-none-match': given });
      expect([again.status, again.text, again.headers.etag]).toEqual([304, '', etag]);
    }
    expect(origin.requests).toHaveLength(3);
    for (const given of ['"x"', '*', etag.slice(3)]) {
      expect((await layout(url, { 'if-none-match': given })).status).toBe(200);
    }
    origin.serve('/k', large, { etag: '"2"' });
    expect((await layout(url, { 'if-none-match': etag })).status).toBe(200);
  });

  test('the tag depends on parameters, type and route, not on the query of the image', async () => {
    const url = origin.serve('/k', image);
    const tags = [
      await layout(url),
      await send(service, named('/layout', url, { loadAddress: '0x40000000' })),
      await send(service, named('/bsdsyms', url)),
      await send(service, named('/bsdsyms', url), { headers: { accept: 'application/json' } }),
      await send(service, named('/kernel', url)),
    ].map(({ headers }) => headers.etag);
    expect(new Set(tags).size).toBe(5);
    expect((await layout(`${url}?${SECRET}`)).headers.etag).toBe(tags[0]);
  });

  test.each([
    ['a weak ETag', (version: number) => ({ etag: `W/"${version}"` })],
    ['Last-Modified alone', (version: number) => ({ lastModified: `Mon, 01 Jan 2024 00:00:0${version} GMT` })],
  ])('the tag follows %s', async (_what, validators) => {
    const before = (await layout(origin.serve('/k', image, validators(1)))).headers.etag;
    expect(before).toMatch(/^W\//);
    expect((await layout(origin.serve('/k', image, validators(1)), { 'if-none-match': before })).status).toBe(304);
    expect((await layout(origin.serve('/k', image, validators(2)), { 'if-none-match': before })).status).toBe(200);
  });

  test('the tag depends on where the image is', () => {
    const answer = { route: '/layout', mediaType: 'application/json', parameters: {}, version: '1.0.0' };
    const tags = ['https://a/k', 'https://b/k', 'https://a/l'].map((url) => entityTag(url, '"1"', answer));
    expect(new Set(tags).size).toBe(3);
  });

  test('the tag depends on the version of the service', () => {
    const answer = { route: '/layout', mediaType: 'application/json', parameters: {} };
    const tags = ['1.0.0', '1.0.1'].map((version) => entityTag('https://a/k', '"1"', { ...answer, version }));
    expect(new Set(tags).size).toBe(2);
  });

  test('without a validator there is none, and a problem has none', async () => {
    expect((await layout(origin.serve('/k', image, {}))).headers.etag).toBeUndefined();
    const refused = await layout(origin.serve('/bad', Buffer.from('no image')));
    expect([refused.status, refused.headers.etag, refused.headers.vary]).toEqual([422, undefined, undefined]);
    expect(refused.headers['cache-control']).toBe('no-store');
  });
});

describe('wrong requests', () => {
  test('a body or a file besides imageUrl', async () => {
    const url = origin.serve('/k', image);
    const conflict = problem(400, 'parameter-conflict');
    expect(verdict(await post(service, named('/layout', url), image))).toEqual(conflict);
    const field = { name: 'imageUrl', value: url };
    for (const parts of [
      [field, imagePart(image)],
      [imagePart(image), field],
    ]) {
      expect(verdict(await postForm(service, '/layout', multipart(parts)))).toEqual(conflict);
    }
    expect(verdict(await postForm(service, named('/layout', url), multipart([imagePart(image)])))).toEqual(conflict);
    const two = await postForm(service, named('/layout', `${url}?${SECRET}`), multipart([field]));
    expect(verdict(two)).toEqual(conflict);
    expect(two.text).not.toContain(SECRET);
    expect(origin.requests).toEqual([]);
  });

  test('the form of a GET is not read', async () => {
    const { body, contentType } = multipart([imagePart(image)]);
    const headers = { 'Content-Type': contentType, 'Content-Length': body.length };
    expect(verdict(await send(service, '/layout', { headers, body }))).toEqual(problem(400, 'no-image'));
  });

  test.each(IMAGE_ROUTES)('GET %s without imageUrl has no image', async (route) => {
    expect(verdict(await send(service, route), 'imageUrl')).toEqual(problem(400, 'no-image'));
  });

  test('an empty image, from an origin and from a file', async () => {
    writeFileSync(join(shared, 'empty'), '');
    for (const url of [origin.serve('/empty', new Uint8Array()), `file://${shared}/empty`]) {
      expect(verdict(await layout(url))).toEqual(problem(400, 'no-image'));
    }
  });

  test('an image over the limit, announced and not', async () => {
    const huge = Buffer.alloc(9_000_000);
    const url = origin.serve('/huge', huge);
    expect(verdict(await layout(url))).toEqual(problem(413, 'image-too-large'));
    expect(origin.bytesSent).toBeLessThan(100_000);
    origin.misbehaviour = (_request, response) => {
      response.writeHead(200).end(huge);
      return true;
    };
    expect(verdict(await layout(url))).toEqual(problem(413, 'image-too-large'));
    // Announced, it is refused before any of it has come.
    origin.misbehaviour = (_request, response) => {
      response.writeHead(200, { 'Content-Length': huge.length }).flushHeaders();
      return true;
    };
    expect(verdict(await layout(url))).toEqual(problem(413, 'image-too-large'));
    writeFileSync(join(shared, 'huge'), huge);
    expect(verdict(await layout(`file://${shared}/huge`))).toEqual(problem(413, 'image-too-large'));
  });

  test('no image can be named unless the operator lists its source', async () => {
    const plain = await startService();
    try {
      expect(verdict(await send(plain, named('/layout', origin.serve('/k', image))), 'BSDSYMS_IMAGE_SOURCES')).toEqual(
        problem(403, 'source-not-allowed'),
      );
    } finally {
      await plain.close();
    }
    expect(origin.requests).toEqual([]);
  });
});

describe('what holds for uploads', () => {
  test.each(IMAGE_ROUTES)('tokens and the rate limit: GET %s', async (route) => {
    const path = named(route, origin.serve('/k', image));
    const own = await startService({
      BSDSYMS_IMAGE_SOURCES: `${origin.url}/`,
      BSDSYMS_TOKENS_FILE: directory.write('right\n'),
      BSDSYMS_RATE_LIMIT_PER_MINUTE: '2',
    });
    try {
      const headers = { authorization: 'Bearer right' };
      expect(verdict(await send(own, path))).toEqual(problem(401, 'unauthorized'));
      expect(origin.requests).toEqual([]);
      expect((await send(own, path, { headers })).status).not.toBe(429);
      const asked = origin.requests.length;
      expect(asked).toBeGreaterThan(0);
      const codes: unknown[] = [];
      for (let again = 0; again < 2; again++) codes.push((await send(own, path, { headers })).status);
      expect(codes).toContain(429);
    } finally {
      await own.close();
    }
  });

  test('presigned URLs: every request is a GET', async () => {
    const url = `${origin.serve('/k', large)}?${SECRET}`;
    expect((await send(service, named('/bsdsyms', url))).status).toBe(200);
    expect((await send(service, named('/bsdsyms', url), { method: 'POST' })).status).toBe(200);
    const sent = new Set(origin.requests.map((request) => `${request.method} ${request.url}`));
    expect([...sent]).toEqual([`GET /k?${SECRET}`]);
  });
});

describe('credentials', () => {
  test('are those of the prefix, and never follow elsewhere', async () => {
    origin.serve('/guarded/k', image);
    const url = other.serve('/open/k', image);
    origin.misbehaviour = (request, response) => {
      if (request.url !== '/guarded/moved') return false;
      response.writeHead(302, { Location: url }).end();
      return true;
    };
    expect((await layout(`${origin.url}/guarded/k`)).status).toBe(200);
    expect((await layout(`${origin.url}/guarded/moved`)).status).toBe(200);
    expect((await layout(origin.serve('/k', image))).status).toBe(200);
    expect(origin.requests.map(({ headers }) => headers.authorization)).toEqual([
      'Bearer of-the-operator',
      'Bearer of-the-operator',
      undefined,
    ]);
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  test('those of the caller stay with the service', async () => {
    const url = origin.serve('/k', image);
    await layout(url, { authorization: 'Bearer of-the-caller', cookie: 'a=b', 'x-forwarded-for': '1.2.3.4' });
    expect(Object.keys(origin.requests[0]?.headers ?? {}).sort()).toEqual([
      'accept-encoding',
      'connection',
      'host',
      'range',
      'user-agent',
    ]);
  });

  test('are read again when their file changes', async () => {
    const path = directory.write('{}');
    const own = await startService({
      BSDSYMS_IMAGE_SOURCES: `${origin.url}/`,
      BSDSYMS_IMAGE_SOURCE_HEADERS_FILE: path,
    });
    onTestFinished(() => own.close());
    writeFileSync(path, JSON.stringify({ [`${origin.url}/`]: { 'X-Key': 'new' } }));
    await own.logged({ msg: 'header fields for sources were read again' });
    const url = origin.serve('/k', image);
    await send(own, named('/layout', url));
    expect(origin.requests[0]?.headers['x-key']).toBe('new');
    writeFileSync(path, 'no json');
    await own.logged({ msg: 'header fields for sources could not be read again; those before stay in force' });
    await send(own, named('/layout', url));
    expect(origin.requests.at(-1)?.headers['x-key']).toBe('new');
  });

  test.each([
    ['BSDSYMS_IMAGE_SOURCES', 'https://user:password@artifacts.example/'],
    ['BSDSYMS_IMAGE_SOURCES', 'file:///'],
    ['BSDSYMS_IMAGE_SOURCE_HEADERS_FILE', '/nowhere/headers.json'],
  ])('an unusable %s stops the start', async (name, value) => {
    await expect(startService({ [name]: value })).rejects.toThrow(name);
  });
});

const redirect = (location: string, status = 302): void => {
  origin.misbehaviour = (request, response) => {
    if (request.url?.startsWith('/from') !== true) return false;
    response.writeHead(status, { Location: location }).end('moved');
    return true;
  };
};

describe('redirects', () => {
  test.each([301, 302, 303, 307, 308])('%s is followed, and what follows is asked there', async (status) => {
    origin.serve('/to', large);
    // A fragment is for the client.
    redirect(`/to?${SECRET}#part`, status);
    expect((await layout(`${origin.url}/from`)).status).toBe(200);
    expect(origin.requests.at(-1)?.url).toBe(`/to?${SECRET}`);
    expect(origin.requests.filter(({ url }) => url === '/from')).toHaveLength(1);
  });

  test.each([
    ['to another path of another origin', () => `${other.url}/closed/k`],
    ['to another port', () => 'http://127.0.0.1:1/k'],
    ['to a file', () => `file://${shared}/x`],
    ['to metadata', () => 'http://169.254.169.254/latest/meta-data'],
    ['with user information', () => `http://user:secret@127.0.0.1:${origin.port}/to`],
    ['to another scheme', () => 'gopher://127.0.0.1/'],
  ])('%s is not', async (_name, location) => {
    origin.serve('/to', image);
    redirect(location());
    const answer = await layout(`${origin.url}/from`);
    expect(verdict(answer)).toEqual(problem(403, 'source-not-allowed'));
    expect(answer.text).not.toContain('secret');
    expect([origin.requests.length, other.requests.length]).toEqual([1, 0]);
  });

  test('without end', async () => {
    redirect('/from');
    expect(verdict(await layout(`${origin.url}/from`))).toEqual(problem(424, 'source-refused'));
    expect(origin.requests).toHaveLength(5);
  });
});

const at = (name: string): string => `file://${shared}/${name}`;

describe('files', () => {
  test('outside the directory, or not a regular file', async () => {
    const outside = directory.write(image);
    symlinkSync(outside, join(shared, 'link-out'));
    symlinkSync(directory.path, join(shared, 'directory-out'));
    mkdirSync(`${shared}-secret`);
    writeFileSync(`${shared}-secret/k`, image);
    symlinkSync(`${shared}-secret/k`, join(shared, 'link-beside'));
    symlinkSync('/dev/zero', join(shared, 'device'));
    symlinkSync('loop', join(shared, 'loop'));
    execFileSync('mkfifo', [join(shared, 'pipe')]);
    writeFileSync(join(shared, 'inside'), image);
    symlinkSync('inside', join(shared, 'link-in'));
    const codes: [string, unknown][] = [];
    const names = [
      'link-out',
      'link-beside',
      `directory-out/${outside.split('/').at(-1)}`,
      'device',
      '../file-1',
      '%2e%2e/file-1',
      'deep/..%2f..%2ffile-1',
    ];
    for (const name of [...names, 'pipe', 'deep', 'deep/', 'loop', 'nowhere', 'inside/x', 'link-in']) {
      const answer = await layout(at(name));
      codes.push([name, answer.status === 200 ? 200 : json(answer)['code']]);
    }
    expect(codes).toEqual([
      ...names.map((name) => [name, 'source-not-allowed']),
      ['pipe', 'source-refused'],
      ['deep', 'source-refused'],
      ['deep/', 'source-refused'],
      ['loop', 'source-refused'],
      ['nowhere', 'source-refused'],
      ['inside/x', 'source-refused'],
      ['link-in', 200],
    ]);
  });

  test('one that is replaced is another version, and its old one is read to its end', async () => {
    const path = join(shared, 'replaced');
    writeFileSync(path, image);
    utimesSync(path, 1, 1);
    const before = await layout(at('replaced'));
    writeFileSync(`${path}.new`, large);
    renameSync(`${path}.new`, path);
    const after = await layout(at('replaced'), { 'if-none-match': before.headers.etag });
    expect([before.status, after.status]).toEqual([200, 200]);
    expect((await layout(at('replaced'), { 'if-none-match': after.headers.etag })).status).toBe(304);
  });
});

describe('what is logged', () => {
  test('the query of the image is in no log, no metric and no problem', async () => {
    const url = `${origin.serve('/a/k', large)}?${SECRET}`;
    const answers = [
      await layout(url),
      await layout(`${origin.url}/none?${SECRET}`),
      await layout(`https://x.example/?${SECRET}`),
    ];
    answers.push(await layout(`${url}#x`), await layout(`http://u:${SECRET}@127.0.0.1/`));
    answers.push(await send(service, `/layout?imageUrl=${url}&${SECRET}`), await layout(`${url}&${'x'.repeat(9000)}`));
    expect(answers.map(({ status }) => status)).toEqual([200, 424, 403, 400, 400, 400, 400]);
    await expect.poll(() => service.logs('request').length, SOON).toBe(answers.length);
    const everything = [
      service.logText(),
      (await send(service, '/metrics')).text,
      ...answers.map(({ text }) => text),
    ].join('\n');
    expect(everything).not.toContain('a-secret-of-these-tests');
    const [line] = service.logs('request');
    expect(line?.['source']).toMatchObject({ origin: origin.url, path: '/a/k' });
    expect(line?.['source']).toMatchObject({ requests: origin.requests.length - 1 });
  });

  test('the line of a request has what was read of a file, and of an origin, by then', async () => {
    writeFileSync(join(shared, 'logged'), image);
    await layout(at('logged'));
    await layout(origin.serve('/logged', image));
    await expect.poll(() => service.logs('request').length, SOON).toBe(2);
    const [file, url] = service.logs('request').map((line) => line['source'] as Readonly<Record<string, unknown>>);
    expect(file).toMatchObject({ origin: 'file://', path: join(shared, 'logged'), requests: 1 });
    expect(file?.['bytes']).toBeGreaterThanOrEqual(image.length);
    expect(url).toEqual({ origin: origin.url, path: '/logged', requests: 1, bytes: image.length });
  });

  test('an answer without ranges that turns out to be known counts as aborted', async () => {
    const own = await startService({ BSDSYMS_IMAGE_SOURCES: `${origin.url}/` });
    try {
      const url = origin.serve('/k', image);
      origin.misbehaviour = (_request, response) => {
        response.writeHead(200, { ETag: '"1"' }).end(image);
        return true;
      };
      const { headers } = await send(own, named('/layout', url));
      const again = await send(own, named('/layout', url), { headers: { 'if-none-match': headers.etag } });
      expect(again.status).toBe(304);
      expect((await scrape(own)).counts('bsdsyms_source_requests_total')).toEqual({ ok: 1, aborted: 1 });
    } finally {
      await own.close();
    }
  });

  test('requests and bytes are counted by result, from 0 on', async () => {
    const own = await startService({ BSDSYMS_IMAGE_SOURCES: `${origin.url}/` });
    try {
      const before = (await scrape(own)).samples('bsdsyms_source_requests_total');
      expect(before).toHaveLength(9);
      expect(before.every(({ value }) => value === 0)).toBe(true);
      await send(own, named('/layout', origin.serve('/k', image)));
      await send(own, named('/layout', `${origin.url}/none`));
      redirect('/k');
      await send(own, named('/layout', `${origin.url}/from`));
      const after = await scrape(own);
      expect(after.counts('bsdsyms_source_requests_total')).toEqual({ ok: 2, redirect: 1, 'source-refused': 1 });
      expect(after.counts('bsdsyms_source_bytes_total')).toEqual({ ok: 2 * image.length });
      expect(after.counts('bsdsyms_uploads_refused_total')).toEqual({ 'source-refused': 1 });
    } finally {
      await own.close();
    }
  });
});
