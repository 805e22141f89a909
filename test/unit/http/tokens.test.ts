import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import type { FastifyRequest } from 'fastify';
import { type Logger, pino } from 'pino';
import { afterAll, describe, expect, test } from 'vitest';
import { Problem } from '../../../src/http/problem.ts';
import { Tokens } from '../../../src/http/tokens.ts';
import { SOON } from '../../support/patience.ts';
import { TemporaryDirectory } from '../../support/temporary.ts';

const directory = new TemporaryDirectory();
afterAll(() => directory.remove());

/** A logger that keeps its lines. */
function keepLog(): { readonly log: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  return { log: pino({ level: 'trace' }, { write: (line: string) => lines.push(line) }), lines };
}

const open = (content: string): Tokens => Tokens.open(directory.write(content), keepLog().log);

/** What `require` does with an Authorization header: nothing, or the problem that it throws. */
function verdictOn(tokens: Tokens, authorization?: string): Problem | 'let in' {
  try {
    const headersDistinct = authorization === undefined ? {} : { authorization: [authorization] };
    tokens.require({ raw: { headersDistinct } } as FastifyRequest);
    return 'let in';
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}

const refusal = (detail: RegExp): object =>
  expect.objectContaining({
    code: 'unauthorized',
    status: 401,
    message: expect.stringMatching(detail) as string,
    headers: {
      'WWW-Authenticate': expect.stringMatching(/^Bearer realm="[^"]+"(?:, error="invalid_token")?$/) as string,
    },
  }) as object;

describe('the file', () => {
  test.each([
    ['one token', 'abc'],
    ['a line end', 'abc\n'],
    ['line ends of Windows', 'abc\r\nother\r\n'],
    ['a byte order mark', '\ufeffabc\n'],
    ['blanks around it', '  abc\t\n'],
    ['blank lines', '\n\n  \nabc\n\n'],
    ['comments', '# of the farm\nabc\n  # of nobody\n'],
    ['several', 'one\ntwo\nabc\nthree\n'],
    ['the same one twice', 'abc\nabc\n'],
    ['a name', 'farm-1:abc\n'],
    ['names and none', 'farm-1:xyz\nabc\nFarm_2.x:def\n'],
    ['a name for several', 'farm-1:old\nfarm-1:abc\n'],
  ])('may have %s', (_name, content) => {
    const tokens = open(content);
    expect(verdictOn(tokens, 'Bearer abc')).toBe('let in');
    expect(verdictOn(tokens, 'Bearer abd')).toEqual(refusal(/not known/));
  });

  test('lets every token in', () => {
    const tokens = open('one\ntwo\nthree\n');
    for (const token of ['one', 'two', 'three']) expect(verdictOn(tokens, `Bearer ${token}`)).toBe('let in');
  });

  test('names who is let in', () => {
    const tokens = open('farm-1:one\ntwo\nfarm-1:three\n');
    const names = ['one', 'two', 'three'].map((token) => tokens.find(token)?.name);
    expect(names).toEqual(['farm-1', null, 'farm-1']);
    expect(verdictOn(tokens, 'Bearer farm-1:one')).toEqual(refusal(/no bearer token/));
    expect(verdictOn(tokens, 'Bearer farm-1')).toEqual(refusal(/not known/));
  });

  test('may have every character of RFC 6750', () => {
    const token = 'ABYZabyz0189-._~+/==';
    expect(verdictOn(open(token), `Bearer ${token}`)).toBe('let in');
  });

  test.each([
    ['nothing', '', /no token/],
    ['blank lines only', ' \n\n', /no token/],
    ['comments only', '# abc\n#def\n', /no token/],
    ['a token with a blank', 'good\nse cret\n', /token 2 /],
    ['a token with a comment behind it', 'secret # mine\n', /token 1 /],
    ['the scheme before the token', 'Bearer secret\n', /token 1 /],
    ['quotes', '"secret"\n', /token 1 /],
    ['a letter beyond ASCII', 'sécret\n', /token 1 /],
    ['= in the middle', 'se=cret\n', /token 1 /],
    ['no text', '\u0000\u0001secret', /token 1 /],
    ['a name with a blank', 'farm 1:secret', /name of its token 1 /],
    ['an empty name', ':secret', /name of its token 1 /],
    ['a name that is too long', `${'x'.repeat(65)}:secret`, /name of its token 1 /],
    ['a blank after the name', 'farm: secret', /token 1 /],
    ['a name without a token', 'farm:', /token 1 /],
    ['two names', 'a:b:secret', /token 1 /],
    ['one token of two', 'a:secret\nb:secret', /token 2 has two names/],
    ['a token with a name and without', 'secret\nb:secret', /token 2 has two names/],
  ])('cannot have %s', (_name, content, words) => {
    expect(() => open(content)).toThrow(words);
    // A secret with a typing error is still nearly the secret.
    expect(() => open(content)).not.toThrow(/cret/);
  });

  test('must be there, and be a file', () => {
    const { log } = keepLog();
    mkdirSync(directory.file('folder'));
    expect(() => Tokens.open(directory.file('missing'), log)).toThrow(/ENOENT/);
    expect(() => Tokens.open(directory.file('folder'), log)).toThrow(/EISDIR/);
  });
});

describe('the Authorization header', () => {
  const tokens = open('secret\nA-second.one\n');

  test.each([
    'Bearer secret',
    'bearer secret',
    'BEARER secret',
    'bEaReR secret',
    'Bearer    secret',
    'Bearer secret   ',
    'Bearer A-second.one',
  ])('%s is let in', (authorization) => {
    expect(verdictOn(tokens, authorization)).toBe('let in');
  });

  test.each([
    undefined,
    '',
    'secret',
    'Bearer',
    'Bearer ',
    'Bearersecret',
    'Basic secret',
    'Basic c2VjcmV0OnNlY3JldA==',
    'Digest secret',
    'Token secret',
    'XBearer secret',
    'Bearer "secret"',
    'Bearer secret, Bearer secret',
    'Bearer secret secret',
    'Basic x, Bearer secret',
    'Bearer\tsecret',
  ])('%s has no bearer token', (authorization) => {
    expect(verdictOn(tokens, authorization)).toEqual(refusal(/no bearer token/));
  });

  test.each(['SECRET', 'secre', 'secrett', 'ecret', 'secret=', 'a-second.one', '#', 'x'.repeat(10_000)])(
    'Bearer %s is not known',
    (token) => {
      const verdict = verdictOn(tokens, `Bearer ${token}`);
      // `#` is no token at all.
      expect(verdict).toEqual(refusal(token === '#' ? /no bearer token/ : /not known/));
    },
  );

  test('a comment is never a token', () => {
    const commented = open('#hidden\nshown\n');
    expect(verdictOn(commented, 'Bearer hidden')).toEqual(refusal(/not known/));
    expect(verdictOn(commented, 'Bearer #hidden')).toEqual(refusal(/no bearer token/));
  });
});

describe('a changed file', () => {
  test('is read again, be it written, replaced, or behind a link that is', async () => {
    const { log, lines } = keepLog();
    const written = directory.write('before-1\n');
    const replaced = directory.write('before-2\n');
    const link = directory.file('link');
    symlinkSync(directory.write('before-3\n'), link);
    const all = [written, replaced, link].map((path) => Tokens.open(path, log));

    writeFileSync(written, 'after\n# with a comment\nand-one-more\n');
    renameSync(directory.write('after\n'), replaced);
    symlinkSync(directory.write('after\n'), directory.file('link.new'));
    renameSync(directory.file('link.new'), link);

    await expect
      .poll(() => all.map((tokens) => verdictOn(tokens, 'Bearer after')), SOON)
      .toEqual(all.map(() => 'let in'));
    for (const [index, tokens] of all.entries()) {
      expect(verdictOn(tokens, `Bearer before-${index + 1}`)).toEqual(refusal(/not known/));
    }
    const counts = lines.map((line) => (JSON.parse(line) as { tokens: number }).tokens);
    expect(counts.toSorted((a, b) => a - b)).toEqual([1, 1, 2]);
    expect(lines.join('')).not.toMatch(/before-|after|and-one-more/);
  });
});
