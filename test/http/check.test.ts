/** `POST /check`: one verdict on a kernel, in three representations. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ASKING_NOTES, kernel, xenString } from '../support/elf-builder.ts';
import { imageForm, imagePart, multipart } from '../support/forms.ts';
import { json, post, postForm, problem, verdict } from '../support/http.ts';
import { type Service, startService } from '../support/service.ts';
import { parseXml } from '../support/xml.ts';

const guestOs = (name: string) => xenString(6, name);
const freebsd = kernel({ symbols: 10, notes: [...ASKING_NOTES, guestOs('FreeBSD')] }).bytes;
const linux = kernel({ notes: [xenString(8, 'generic'), xenString(5, 'xen-3.0'), guestOs('linux')] }).bytes;
const program = kernel().bytes;
const stripped = kernel({ symtab: { type: 1 }, notes: ASKING_NOTES }).bytes;
const broken = kernel({ symtab: { header: { sh_size: 0x10_0000 } }, notes: ASKING_NOTES }).bytes;

let service: Service;
beforeAll(async () => {
  service = await startService();
});
beforeEach(() => service.clearLogs());
afterAll(() => service.close());

interface Required {
  readonly name: string;
  readonly met: boolean;
  readonly code: string | null;
  readonly detail: string;
}
const requirements = (answer: { readonly text: string }): Record<string, string | true> =>
  Object.fromEntries(
    (json(answer)['requirements'] as Required[]).map(({ name, met, code }) => [name, met || (code ?? '')]),
  );

describe('the default', () => {
  test('is met by a kernel that asks for its symbols, and whose guest finds them', async () => {
    const answer = await post(service, '/check', freebsd);
    expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/json; charset=utf-8']);
    expect(requirements(answer)).toEqual({ symbols: true, 'symbols-requested': true, freebsd: true });
    const { image, kernel: range, bsdsyms, warnings } = json(await post(service, '/layout', freebsd));
    expect(json(answer)).toMatchObject({ image, kernel: range, bsdsyms, warnings, broken: null });
  });

  test.each([
    ['a user-space program', program, { symbols: true, 'symbols-requested': 'no-xen-notes' }],
    ['a kernel that does not ask', linux, { symbols: true, 'symbols-requested': 'symbols-not-requested' }],
    ['a stripped kernel', stripped, { symbols: 'no-symbol-table', 'symbols-requested': true }],
    ['a cut symbol table', broken, { symbols: 'out-of-range-access', 'symbols-requested': true }],
    [
      'a guest that looks elsewhere',
      kernel({
        symbols: [{ name: 'end', value: 0x10_1000n }],
        notes: [...ASKING_NOTES, guestOs('NetBSD')],
      }).bytes,
      { symbols: true, 'symbols-requested': true, netbsd: 'end-symbol-elsewhere' },
    ],
  ])('is not met by %s', async (_, image, expected) => {
    const answer = await post(service, '/check', image);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(verdict(answer)).toEqual(problem(422, 'check-failed'));
    expect(requirements(answer)).toEqual(expected);
    expect(json(answer)['instance']).toBe(answer.headers['x-request-id']);
    const failed = Object.entries(expected).filter(([, code]) => code !== true);
    for (const [name, code] of failed) expect(json(answer)['detail']).toContain(`${name} (${String(code)})`);
  });
});

describe('require', () => {
  test('is repeatable, in the query and in the form', async () => {
    const query = await post(service, '/check?require=pv&require=symbols', program);
    expect(requirements(query)).toEqual({ symbols: true, pv: 'no-loader' });
    const fields = ['symbols', 'pvh'].map((value) => ({ name: 'require', value }));
    const form = await postForm(service, '/check', multipart([...fields, imagePart(program)]));
    expect(requirements(form)).toEqual({ symbols: true, pvh: 'not-32bit' });
  });

  test('takes nothing else', async () => {
    const answer = await post(service, '/check?require=everything', program);
    expect(verdict(answer, 'symbols-requested')).toEqual(problem(400, 'parameter-invalid'));
  });

  test('a recorded reason is not a success, even with onBroken=load', async () => {
    const answer = await post(service, '/check?onBroken=load&require=symbols&require=freebsd', broken);
    expect(answer.status).toBe(422);
    expect(requirements(answer)['symbols']).toBe('out-of-range-access');
    expect(json(answer)['bsdsyms']).not.toBeNull();
    expect(json(await post(service, '/check?require=symbols', broken))['bsdsyms']).toBeNull();
  });
});

test('an image that cannot be read is the problem that it always was, whatever the Accept', async () => {
  for (const accept of ['*/*', 'text/plain', 'application/xml']) {
    const answer = await post(service, '/check', freebsd.subarray(0, -100), { accept });
    expect([answer.status, answer.text]).toEqual([422, expect.stringContaining('shdr-overflow')]);
  }
});

test('as text it is a line each, and a failure ends with the request id', async () => {
  const headers = { accept: 'text/plain', 'x-request-id': 'job-7' };
  const good = await post(service, '/check', freebsd, headers);
  expect([good.status, good.headers['content-type']]).toEqual([200, 'text/plain; charset=utf-8']);
  expect(good.text).toMatch(/^ok: symbols: .*\nok: symbols-requested: .*\nok: freebsd: FreeBSD finds 11 symbols\.\n$/);
  const bad = await postForm(service, '/check', imageForm(linux), headers);
  expect(bad.status).toBe(422);
  expect(bad.text).toMatch(
    /^ok: symbols: .*\nFAILED: symbols-requested: symbols-not-requested: .*\nwarning: symbols-not-requested: .*\ncheck-failed: 1 of 2 requirements are not met: .* X-Request-Id: job-7\n$/,
  );
});

const junit = async (image: Uint8Array, query = '') =>
  post(service, `/check${query}`, image, { accept: 'application/xml' });

describe('as JUnit XML', () => {
  test('there is a test case for each requirement', async () => {
    const good = await junit(freebsd);
    expect([good.status, good.headers['content-type']]).toEqual([200, 'application/xml; charset=utf-8']);
    const suites = parseXml(good.text);
    expect([suites.name, suites.attributes]).toEqual([
      'testsuites',
      { tests: '3', failures: '0', errors: '0', skipped: '0' },
    ]);
    expect(
      suites.children[0]?.children.map(({ attributes, children }) => [attributes['name'], children.length]),
    ).toEqual([
      ['symbols', 0],
      ['symbols-requested', 0],
      ['freebsd', 0],
    ]);
    const bad = await junit(linux);
    expect(bad.status).toBe(422);
    const [suite] = parseXml(bad.text).children;
    expect(suite?.attributes).toMatchObject({ name: 'bsdsyms', tests: '2', failures: '1' });
    const [failure] = suite?.children[1]?.children ?? [];
    expect([failure?.name, failure?.attributes['type']]).toEqual(['failure', 'symbols-not-requested']);
    expect(failure?.text).toBe(failure?.attributes['message']);
  });

  test('strings of an image cannot break out of it, nor out of a line', async () => {
    const evil = kernel({
      notes: [xenString(8, 'generic'), xenString(5, '<&>"\']]>\u0001\n\r')],
    }).bytes;
    const [suite] = parseXml((await junit(evil, '?require=pv')).text).children;
    const [failure] = suite?.children[0]?.children ?? [];
    expect(failure?.attributes['message']).toContain('<&>"\']]>\\x01\\x0a\\x0d');
    const text = await post(service, '/check?require=pv', evil, { accept: 'text/plain' });
    expect(text.text.split('\n').map((line) => line.split(':')[0])).toEqual(['FAILED', 'warning', 'check-failed', '']);
  });
});

test('a failed check has its code in the log, and the reason a line of its own', async () => {
  await post(service, '/check', stripped);
  expect(await service.logged({ msg: 'request' })).toMatchObject({ status: 422, code: 'check-failed' });
  expect(service.logs('broken ELF')).toMatchObject([{ broken: { code: 'no-symbol-table' }, loadAddress: '0x102000' }]);
});
