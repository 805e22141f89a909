/** The layout as a picture: `Accept: image/svg+xml` on `/layout` and `/bsdsyms`. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { loadImage } from '../../src/inspect/load.ts';
import { toPicture } from '../../src/report/picture/picture.ts';
import { kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { named, TestOrigin } from '../support/origin.ts';
import { findFlaws, readPicture } from '../support/picture.ts';
import { type Service, startService } from '../support/service.ts';

const SVG = 'image/svg+xml';
const { bytes: image } = kernel({ symbols: 10 });
const { bytes: broken } = kernel({ symtab: { header: { sh_offset: 2 ** 40 } } });
const { bytes: stripped } = kernel({ symtab: { type: 1 } });

let service: Service;
let origin: TestOrigin;
beforeAll(async () => {
  origin = await TestOrigin.start();
  service = await startService({ BSDSYMS_IMAGE_SOURCES: `${origin.url}/` });
});
afterAll(async () => {
  await service.close();
  origin.close();
});

const draw = async (request = {}): Promise<string> => {
  const loaded = await loadImage(new MemorySource([image]), request);
  if (!loaded.ok) throw new Error(loaded.broken.detail);
  return toPicture(loaded);
};

describe.each(['/layout', '/bsdsyms'])('%s', (path) => {
  test('answers with a picture when that is asked for', async () => {
    const answer = await post(service, path, image, { accept: SVG });
    expect([answer.status, answer.headers['content-type']]).toEqual([200, SVG]);
    expect(answer.text).toBe(await draw());
    expect(findFlaws(readPicture(answer.text))).toEqual([]);
    const form = await postForm(service, path, imageForm(image, { loadAddress: '0x400000' }), { accept: SVG });
    expect(form.text).toBe(await draw({ loadAddress: 0x40_0000n }));
  });

  test('gives it no leave to load or run anything', async () => {
    const { headers } = await post(service, path, image, { accept: SVG });
    expect(headers['content-security-policy']).toBe("default-src 'none'; style-src 'unsafe-inline'; sandbox");
    expect((await post(service, path, image)).headers).not.toHaveProperty('content-security-policy');
  });

  test.each([
    ['image/*', SVG],
    // Of an <img> in a browser.
    ['image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8', SVG],
    ['image/svg+xml;q=0.5, application/json;q=0.4', SVG],
    ['image/svg+xml;q=0.4, application/json;q=0.5', 'application/json; charset=utf-8'],
    // Of a page in a browser.
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8', null],
  ])('weighs Accept: %s', async (accept, expected) => {
    const answer = await post(service, path, image, { accept });
    const preferred = path === '/layout' ? 'application/json; charset=utf-8' : 'application/octet-stream';
    expect(answer.headers['content-type']).toBe(expected ?? preferred);
  });

  test('draws an image by reference, and tells its tag from that of the JSON', async () => {
    const url = origin.serve('/kernel', image);
    const answer = await send(service, named(path, url), { headers: { accept: SVG } });
    expect([answer.status, answer.text]).toEqual([200, await draw()]);
    expect(answer.headers).toMatchObject({ vary: 'Accept', 'cache-control': 'no-cache' });
    const { etag = '' } = answer.headers;
    const again = await send(service, named(path, url), { headers: { accept: SVG, 'if-none-match': etag } });
    expect(again.status).toBe(304);
    const asJson = await send(service, named(path, url), {
      headers: { accept: 'application/json', 'if-none-match': etag },
    });
    expect(asJson.status).toBe(200);
  });

  test('refuses a broken image in JSON, as ever', async () => {
    for (const [bad, code] of [
      [stripped, 'no-symbol-table'],
      [broken, 'out-of-range-access'],
      [Buffer.from('no image'), 'not-elf'],
    ] as const) {
      const answer = await post(service, path, bad, { accept: SVG });
      expect(answer.headers['content-type']).toBe('application/problem+json');
      expect(verdict(answer)).toEqual(problem(422, code));
      const { instance: _, ...told } = json(answer);
      const { instance: __, ...usual } = json(await post(service, path, bad, { accept: 'application/json' }));
      expect(told).toEqual(usual);
    }
  });

  test('names in header fields what programs want to know of it', async () => {
    const odd = await post(service, `${path}?onBroken=load`, broken, { accept: SVG });
    expect(odd.headers).toMatchObject({
      'bsdsyms-pstart': '0x102000',
      'bsdsyms-broken': 'out-of-range-access',
      'bsdsyms-warnings': 'no-xen-notes',
    });
    expect(odd.text).toContain('out-of-range-access');
  });
});

test('/bsdsyms names it among its types, /layout gives JSON to those who take neither', async () => {
  const refused = await post(service, '/bsdsyms', image, { accept: 'image/png' });
  expect(verdict(refused, SVG)).toEqual(problem(406, 'not-acceptable'));
  const answer = await post(service, '/layout', image, { accept: 'image/png, image/svg+xml;q=0' });
  expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/json; charset=utf-8']);
});

test('a comparison is drawn side by side', async () => {
  const answer = await post(service, '/layout?compareWith=xen-4.6', image, { accept: SVG });
  expect(answer.text).toBe(await draw({ compareWith: 'xen-4.6' }));
  expect(readPicture(answer.text).regions.some(({ name }) => name === 'other-elf-header')).toBe(true);
});

test('65,535 segments of a few hundred bytes make no large picture', async () => {
  const { bytes } = kernel({ header: { e_phentsize: 0, e_phnum: 65_535 } });
  const answer = await post(service, '/layout', bytes, { accept: SVG });
  expect([answer.status, answer.body.length < 20_000]).toEqual([200, true]);
  expect(answer.text).toContain('65,535 of 65,535 segments are drawn together with others.');
});
