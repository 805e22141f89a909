/** `POST /symbols`: what is asked, in which form, and what is told. */
import { strict as assert } from 'node:assert';
import { gunzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { SymbolReport, SymbolsReport } from '../../src/report/schemas.ts';
import { kernel, makeSymbols } from '../support/elf-builder.ts';
import { imageForm, imagePart, multipart, type Part } from '../support/forms.ts';
import { type Answer, json, post, postForm, problem, verdict } from '../support/http.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { mustSettle, NOTHING_OCCUPIED, type Service, settled, startService } from '../support/service.ts';

const NDJSON = 'application/x-ndjson';
const JSON_TYPE = 'application/json; charset=utf-8';

const built = kernel({
  before: [{ name: '.code', flags: 2, addr: 0x1000, data: new Uint8Array(0x100) }],
  symbols: [
    { name: 'start', value: 0x1000, size: 0x10, info: 0x12, shndx: 2 },
    { name: 'buffer', value: 0x1020, size: 8, info: 0x11, other: 2, shndx: 2 },
    { name: 'twice', value: 0x1040, size: 4, info: 0x02, shndx: 2 },
    { name: 'twice', value: 0x1050, size: 4, info: 0x02, shndx: 2 },
    { name: 'extern', info: 0x20, shndx: 0 },
    { name: 'größe & co', value: 1, info: 0x10, shndx: 0xfff1 },
  ],
});
const image = built.bytes;
const large = kernel({ symbols: makeSymbols(20_000) }).bytes;

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => mustSettle(service));
afterAll(() => service.close());

const ask = (query: string, accept = 'application/json', body = image): Promise<Answer> =>
  post(service, `/symbols${query}`, body, { accept });
const reportOf = (answer: Answer): SymbolsReport => json(answer) as unknown as SymbolsReport;
const linesOf = (answer: Answer): SymbolReport[] =>
  answer.text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as SymbolReport);
const names = (symbols: readonly SymbolReport[] | undefined): (string | null)[] | undefined =>
  symbols?.map(({ name }) => name);

const queryOf = (list: string[]): string =>
  `?${new URLSearchParams(list.map((name): [string, string] => ['name', name])).toString()}`;

const formOf = (list: string[]) => multipart([imagePart(image), ...list.map((value) => ({ name: 'name', value }))]);

describe('symbols by name', () => {
  test('come with their table, and with the names that were not found', async () => {
    const answer = await ask('?name=buffer&name=none');
    expect([answer.status, answer.headers['content-type']]).toEqual([200, JSON_TYPE]);
    expect(reportOf(answer)).toMatchObject({
      image: { size: image.length, class: 'ELF64', compression: null },
      symtab: { index: built.section('.symtab').index, entries: 7 },
      broken: null,
      symbols: [
        {
          index: 2,
          name: 'buffer',
          value: '0x1020',
          size: 8,
          type: 'OBJECT',
          bind: 'GLOBAL',
          visibility: 'HIDDEN',
          section: 2,
        },
      ],
      notFound: ['none'],
    });
    expect(Object.keys(reportOf(answer)).sort()).toEqual(['broken', 'image', 'notFound', 'symbols', 'symtab']);
  });

  test('are all that have it, each on a line when lines are asked for', async () => {
    const answer = await ask('?name=twice&name=none', NDJSON);
    expect([answer.status, answer.headers['content-type']]).toEqual([200, NDJSON]);
    expect(linesOf(answer).map(({ index }) => index)).toEqual([3, 4]);
  });

  test('are found by any text, from the query and from the form', async () => {
    expect(names(reportOf(await ask(`?name=${encodeURIComponent('größe & co')}`)).symbols)).toEqual(['größe & co']);
    const parts: Part[] = [
      { name: 'name', value: 'größe & co' },
      imagePart(image),
      { name: 'name', value: 'start' },
      { name: 'name', value: 'twice' },
    ];
    const { symbols } = reportOf(await postForm(service, '/symbols?name=buffer', multipart(parts)));
    expect(names(symbols)).toEqual(['start', 'buffer', 'twice', 'twice', 'größe & co']);
  });

  test('may be a hundred, in the query or in the form, and not one more', async () => {
    const many = Array.from({ length: 100 }, (_, index) => `n${index}`);
    expect(reportOf(await ask(queryOf(many))).notFound).toEqual(many);
    expect(reportOf(await postForm(service, '/symbols', formOf(many))).notFound).toEqual(many);
    const refused = problem(400, 'parameter-invalid');
    expect(verdict(await ask(queryOf([...many, 'x'])), 'name', '100')).toEqual(refused);
    expect(verdict(await postForm(service, '/symbols', formOf([...many, 'x'])), 'name', '100')).toEqual(refused);
    expect(verdict(await postForm(service, '/symbols?name=x', formOf(many)), 'name', '100')).toEqual(refused);
  });
});

describe('symbols by address', () => {
  test('come with the bytes to the address, in the order asked', async () => {
    const { addresses, ...rest } = reportOf(await ask('?address=0x1024&address=4096&address=0xFFF&address=0x1018'));
    expect(addresses?.map(({ address, symbol, offset }) => [address, symbol?.name, offset])).toEqual([
      ['0x1024', 'buffer', 4],
      ['0x1000', 'start', 0],
      ['0xfff', undefined, null],
      ['0x1018', 'start', 0x18],
    ]);
    expect(Object.keys(rest).sort()).toEqual(['broken', 'image', 'symtab']);
  });

  test('are a line for each address when lines are asked for', async () => {
    const answer = await ask('?address=0x1024&address=0', NDJSON);
    const lines = answer.text.split('\n').map((line) => (line === '' ? null : (JSON.parse(line) as unknown)));
    expect(lines).toMatchObject([
      { address: '0x1024', symbol: { name: 'buffer' }, offset: 4 },
      { address: '0x0', symbol: null, offset: null },
      null,
    ]);
  });
});

describe('all symbols', () => {
  test('come in pages of a thousand as JSON', async () => {
    const seen: (string | null)[] = [];
    const sizes: number[] = [];
    for (let next: number | null | undefined = 0; typeof next === 'number'; ) {
      const answer = await ask(`?after=${next}`, 'application/json', large);
      const { symbols = [], next: following } = reportOf(answer);
      sizes.push(symbols.length);
      seen.push(...symbols.map(({ name }) => name));
      next = following;
    }
    expect(sizes).toEqual(Array.from({ length: 20 }, () => 1000));
    expect(seen).toEqual(makeSymbols(20_000).map(({ name }) => name));
  });

  test('come at once as lines', async () => {
    const answer = await ask('', NDJSON, large);
    expect(answer.headers['transfer-encoding']).toBe('chunked');
    expect(names(linesOf(answer))).toEqual(makeSymbols(20_000).map(({ name }) => name));
  });

  test('come at once as JSON when as many are asked for', async () => {
    const { symbols, next } = reportOf(await ask('?limit=1000000', 'application/json', large));
    expect([symbols?.length, next]).toEqual([20_000, null]);
  });

  test.each([
    ['?type=FUNC', ['start', 'twice', 'twice']],
    ['?type=FUNC&type=OBJECT&bind=GLOBAL', ['start', 'buffer']],
    ['?bind=WEAK', ['extern']],
    ['?prefix=t', ['twice', 'twice']],
    ['?prefix=gr%C3%B6', ['größe & co']],
    ['?type=TLS', []],
    ['?limit=2&after=1', ['buffer', 'twice']],
  ])('can be fewer: %s', async (query, expected) => {
    expect(names(reportOf(await ask(query)).symbols)).toEqual(expected);
    expect(names(linesOf(await ask(query, NDJSON)))).toEqual(expected);
  });

  test('can be broken off by the client', async () => {
    service.clearLogs();
    const huge = kernel({ symbols: makeSymbols(60_000) }).bytes;
    const connection = await RawConnection.open(service.port);
    await connection.send(head('POST', '/symbols', { 'Content-Length': huge.length, Accept: NDJSON }), huge);
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
    await service.logged({ msg: 'request', route: '/symbols', status: 499 });
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
    expect(service.logs().filter(({ level }) => Number(level) >= 50)).toEqual([]);
  });
});

describe('a wrong query', () => {
  test.each([
    ['?name=', 'parameter-invalid', ['name', '1 to 1024']],
    ['?name', 'parameter-invalid', ['name']],
    [`?name=${'n'.repeat(1025)}`, 'parameter-invalid', ['name', '1 to 1024']],
    ['?name=start%00twice', 'parameter-invalid', ['name']],
    ['?prefix=%00', 'parameter-invalid', ['prefix']],
    ['?prefix=a&prefix=b', 'parameter-conflict', ['prefix', 'more than once']],
    ['?address=0x', 'parameter-invalid', ['address', '0 .. 2^64-1']],
    ['?address=0x10000000000000000', 'parameter-invalid', ['address']],
    ['?address=1&address=-1', 'parameter-invalid', ['address', '"-1"']],
    ['?type=func', 'parameter-invalid', ['"func"', 'FUNC, SECTION']],
    ['?type=FUNC&type=NONE', 'parameter-invalid', ['"NONE"']],
    ['?bind=0', 'parameter-invalid', ['LOCAL, GLOBAL, WEAK, UNIQUE']],
    ['?limit=0', 'parameter-invalid', ['limit', '1 to 1000000']],
    ['?limit=1000001', 'parameter-invalid', ['limit']],
    ['?limit=1.5', 'parameter-invalid', ['limit']],
    ['?limit=0x10', 'parameter-invalid', ['limit']],
    ['?limit=1&limit=2', 'parameter-conflict', ['limit']],
    ['?after=-1', 'parameter-invalid', ['after']],
    ['?after=9007199254740992', 'parameter-invalid', ['after']],
    ['?name=a&address=1', 'parameter-conflict', ['name and address', 'exclude']],
    ['?name=a&limit=1', 'parameter-conflict', ['name and limit']],
    ['?address=1&type=FUNC', 'parameter-conflict', ['address and type']],
    ['?symbol=a', 'parameter-unknown', ['name, address, type, bind, prefix, limit, after']],
  ])('%s', async (query, code, words) => {
    expect(verdict(await ask(query), ...words)).toEqual(problem(400, code));
  });

  test('is refused even if only the form shows it', async () => {
    const form = imageForm(image, { address: '0x1000' });
    expect(verdict(await postForm(service, '/symbols?name=a', form), 'name and address')).toEqual(
      problem(400, 'parameter-conflict'),
    );
  });
});

describe('an image', () => {
  test.each([
    ['without symbols', kernel({ symtab: { type: 1 } }).bytes, 'no-symbol-table'],
    ['without its string table', kernel({ symtab: { link: '.text' } }).bytes, 'strtab-link-invalid'],
    ['whose table is outside', kernel({ symtab: { header: { sh_size: 2 ** 20 } } }).bytes, 'out-of-range-access'],
    ['that is none', Buffer.from('hello'), 'not-elf'],
  ])('%s is refused, counted and logged', async (_what, body, code) => {
    service.clearLogs();
    for (const accept of ['application/json', NDJSON]) {
      expect(verdict(await ask('', accept, Buffer.from(body)))).toEqual(problem(422, code));
    }
    expect(service.logs('broken ELF')).toMatchObject([{ broken: { code } }, { broken: { code } }]);
  });

  test('with a reason elsewhere is read, and the reason is reported', async () => {
    const odd = kernel({ symbols: 3, header: { e_phoff: 2n ** 64n - 56n } }).bytes;
    const [document, lines] = [await ask('', 'application/json', odd), await ask('', NDJSON, odd)];
    expect(reportOf(document).broken).toMatchObject({ code: 'out-of-range-access', stage: 'segments' });
    expect(lines.headers['bsdsyms-broken']).toBe('out-of-range-access');
    expect(linesOf(lines)).toEqual(reportOf(document).symbols);
    for (const answer of [document, await ask('', NDJSON)]) expect(answer.headers).not.toHaveProperty('bsdsyms-broken');
  });
});

describe('spooled', () => {
  let spooling: Service;
  beforeAll(async () => {
    spooling = await startService({ BSDSYMS_MEMORY_BUDGET_BYTES: '0' });
  });
  afterEach(async () => {
    assert.deepEqual(await settled(spooling), NOTHING_OCCUPIED);
  });
  afterAll(() => spooling.close());

  test.each(['', '?name=sym_9xxxx&name=sym_a', '?address=0x100009', '?prefix=sym_1&limit=5'])(
    'an image gives the same: %s',
    async (query) => {
      for (const accept of ['application/json', NDJSON]) {
        const spooled = await post(spooling, `/symbols${query}`, large, { accept });
        expect(spooled.status).toBe(200);
        expect(spooled.text).toBe((await ask(query, accept, large)).text);
      }
    },
  );
});

const askCoded = (query: string, coding: string | undefined, accept = NDJSON, body = large): Promise<Answer> =>
  post(service, `/symbols${query}`, body, { accept, ...(coding === undefined ? {} : { 'accept-encoding': coding }) });

describe('Accept-Encoding', () => {
  test.each([
    ['gzip', 'gzip'],
    ['GZIP', 'gzip'],
    ['deflate, gzip, br, zstd', 'gzip'],
    ['identity;q=0.5, gzip', 'gzip'],
    ['*', 'gzip'],
    ['identity;q=0, gzip;q=0.1', 'gzip'],
    [undefined, undefined],
    ['', undefined],
    ['identity', undefined],
    ['br', undefined],
    ['gzip;q=0', undefined],
    ['gzip;q=0, *', undefined],
    ['identity, gzip;q=0.5', undefined],
    // Neither is accepted: better than no answer.
    ['identity;q=0', undefined],
  ])('%s is honoured', async (given, coding) => {
    // Sent in one piece, and as it comes.
    for (const query of ['?limit=100', '']) {
      for (const accept of ['application/json', NDJSON]) {
        const plain = await askCoded(query, undefined, accept);
        const answer = await askCoded(query, given, accept);
        expect([answer.status, answer.headers['content-encoding'], answer.headers.vary]).toEqual([
          200,
          coding,
          'Accept, Accept-Encoding',
        ]);
        expect(answer.headers['content-type']).toBe(plain.headers['content-type']);
        const body = coding === undefined ? answer.body : gunzipSync(answer.body);
        expect(body.equals(plain.body)).toBe(true);
        expect(answer.body.length < plain.body.length / 3).toBe(coding === 'gzip');
      }
    }
  });

  test('does not matter for an answer that is short, or a problem', async () => {
    const short = await askCoded('?name=none', 'gzip', 'application/json', image);
    expect([short.status, short.headers['content-encoding']]).toEqual([200, undefined]);
    expect(json(short)).toMatchObject({ notFound: ['none'] });
    const refused = await askCoded('', 'gzip', NDJSON, kernel({ symtab: { type: 1 } }).bytes);
    expect([refused.status, refused.headers['content-encoding'], refused.headers.vary]).toEqual([
      422,
      undefined,
      undefined,
    ]);
  });

  test('leaves nothing behind when the caller leaves', async () => {
    const connection = await RawConnection.open(service.port);
    const fields = { 'Content-Length': large.length, Accept: NDJSON, 'Accept-Encoding': 'gzip' };
    await connection.send(head('POST', '/symbols', fields), large);
    // Its head.
    expect((await connection.answer()).status).toBe(200);
    connection.destroy();
    expect(await settled(service)).toEqual(NOTHING_OCCUPIED);
  });
});
