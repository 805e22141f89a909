/** What guards an upload on its way: digests that are verified, PUT that means POST, ranges that are refused. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ASKING_NOTES, kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { json, post, postForm, problem, send, verdict } from '../support/http.ts';
import { NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';
import { noise } from '../support/uploads.ts';

const image = kernel({ symbols: 50, notes: ASKING_NOTES, after: [{ name: '.noise', data: noise(300 * 1024) }] }).bytes;

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.close());

type Name = 'sha-256' | 'sha-512';
const digest = (name: Name, bytes: Uint8Array): string =>
  `${name}=:${createHash(name.replace('-', '')).update(bytes).digest('base64')}:`;

describe.each(['content-digest', 'repr-digest'])('%s', (field) => {
  const ask = (body: Uint8Array, value: string, headers = {}) =>
    post(service, '/layout', body, { ...headers, [field]: value });

  test.each<Name>(['sha-256', 'sha-512'])('%s is verified', async (name) => {
    expect((await ask(image, digest(name, image))).status).toBe(200);
    const damaged = Buffer.from(image);
    damaged[image.length - 1000] = (damaged[image.length - 1000] ?? 0) ^ 1;
    for (const sent of [damaged, image.subarray(0, -1)]) {
      const answer = await ask(sent, digest(name, image));
      const found = digest(name, sent).slice(9, -1);
      expect(verdict(answer, `${sent.length} bytes`, name, found)).toEqual(problem(400, 'digest-mismatch'));
    }
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });

  test('is that of the body as it is sent: compressed, coded, or a form', async () => {
    const packed = gzipSync(image);
    expect((await ask(packed, digest('sha-256', packed))).status).toBe(200);
    expect((await ask(packed, digest('sha-256', packed), { 'content-encoding': 'gzip' })).status).toBe(200);
    expect((await ask(packed, digest('sha-256', image), { 'content-encoding': 'gzip' })).status).toBe(400);
    const form = imageForm(image);
    expect((await postForm(service, '/layout', form, { [field]: digest('sha-256', form.body) })).status).toBe(200);
    const answer = await postForm(service, '/layout', form, { [field]: digest('sha-256', image) });
    expect(verdict(answer, 'whole form')).toEqual(problem(400, 'digest-mismatch'));
  });

  test('counts what follows a form', async () => {
    const { body, contentType } = imageForm(image);
    const whole = Buffer.concat([body, noise(200 * 1024)]);
    const headers = { 'content-type': contentType };
    expect((await ask(whole, digest('sha-256', whole), headers)).status).toBe(200);
    expect(json(await ask(whole, digest('sha-256', body), headers))['code']).toBe('digest-mismatch');
  });

  test('counts every algorithm, and ignores those that are not known', async () => {
    const good = digest('sha-256', image);
    expect((await ask(image, `${good}, ${digest('sha-512', image)}`)).status).toBe(200);
    expect((await ask(image, `${good}, ${digest('sha-512', image.subarray(1))}`)).status).toBe(400);
    expect((await ask(image, 'md5=:AAAA:, unixsum=30637')).status).toBe(200);
  });

  test.each([
    createHash('sha256').update(image).digest('hex'),
    `sha-256=${createHash('sha256').update(image).digest('hex')}`,
    'sha-256=:AAAA:',
    'sha-256',
    '=',
  ])('that cannot be read is refused: %s', async (value) => {
    expect(verdict(await ask(image, value), 'sha-256=:BASE64:')).toEqual(problem(400, 'bad-request'));
  });
});

test('a mismatch comes before what is wrong with the image', async () => {
  const answer = await post(service, '/check', 'no image', { 'content-digest': digest('sha-256', image) });
  expect(json(answer)['code']).toBe('digest-mismatch');
});

describe('PUT', () => {
  test.each(['/bsdsyms', '/layout', '/kernel', '/image', '/symbols', '/check'])('%s means POST', async (path) => {
    for (const body of [image, 'no image', '']) {
      const [put, posted] = [
        await send(service, path, { method: 'PUT', body, headers: { 'x-request-id': 'same' } }),
        await post(service, path, body, { 'x-request-id': 'same' }),
      ];
      expect([put.status, put.text]).toEqual([posted.status, posted.text]);
    }
  });

  test('is named where another method is refused', async () => {
    expect((await send(service, '/check', { method: 'DELETE' })).headers['allow']).toBe('GET, OPTIONS, POST, PUT');
    expect((await send(service, '/healthz', { method: 'PUT' })).status).toBe(405);
  });

  test('of a range is refused', async () => {
    const headers = { 'content-range': 'bytes 10-19/100' };
    const answer = await send(service, '/layout', { method: 'PUT', body: image, headers });
    expect(verdict(answer, 'Content-Range')).toEqual(problem(400, 'bad-request'));
  });
});
