import { describe, expect, test } from 'vitest';
import {
  isProblemCode,
  PROBLEM_KINDS,
  Problem,
  type ProblemCode,
  problemDocument,
  toProblem,
} from '../../../src/http/problem.ts';
import { ImageError, type ImageErrorCode } from '../../../src/inspect/image-error.ts';
import { BROKEN_KINDS, broken } from '../../../src/xen/broken.ts';

const codes = Object.keys(PROBLEM_KINDS) as ProblemCode[];

describe('PROBLEM_KINDS', () => {
  test('has a status, a title and an explanation for every code', () => {
    for (const [code, { status, title, explanation }] of Object.entries(PROBLEM_KINDS)) {
      expect(code).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
      expect([code, status >= 400 && status < 600]).toEqual([code, true]);
      // A title is a name, an explanation says sentences.
      expect([code, title]).toEqual([code, expect.stringMatching(/^[A-Z].*[^.]$/)]);
      expect([code, explanation]).toEqual([code, expect.stringMatching(/^(?:[A-Z]|e_).*\.$/s)]);
    }
  });

  test('has every reason against an image as a 422', () => {
    for (const code of Object.keys(BROKEN_KINDS)) {
      expect([code, isProblemCode(code) && PROBLEM_KINDS[code].status]).toEqual([code, 422]);
    }
    const others = codes.filter((code) => PROBLEM_KINDS[code].status === 422 && !(code in BROKEN_KINDS));
    expect(others).toEqual(['not-a-blob', 'source-scattered', 'check-failed']);
  });

  test('knows its codes, and nothing that objects inherit', () => {
    expect(codes.every(isProblemCode)).toBe(true);
    for (const name of ['', 'toString', '__proto__', 'constructor', 'NOT-ELF']) expect(isProblemCode(name)).toBe(false);
  });
});

describe('toProblem', () => {
  test('leaves problems as they are', () => {
    const problem = new Problem('no-image', 'Nothing.');
    expect(toProblem(problem)).toBe(problem);
  });

  /** Every code that storing an image can fail with. */
  const imageErrors: Readonly<Record<ImageErrorCode, number>> = {
    'image-too-large': 413,
    'compression-unsupported': 415,
    'compressed-data-corrupt': 400,
    'memory-full': 503,
    'not-a-blob': 422,
    'spool-full': 503,
    'spool-unavailable': 503,
    'source-invalid': 400,
    'source-not-allowed': 403,
    'source-changed': 409,
    'source-scattered': 422,
    'source-refused': 424,
    'source-unavailable': 502,
    'source-unusable': 502,
    'source-timeout': 504,
  };
  test.each(Object.entries(imageErrors) as [ImageErrorCode, number][])(
    'answers a failure of an image: %s with %s',
    (code, status) => {
      const cause = new Error('ENOSPC');
      const problem = toProblem(new ImageError(code, 'For the caller.', cause));
      expect([problem.code, problem.status, problem.message, problem.cause]).toEqual([
        code,
        status,
        'For the caller.',
        cause,
      ]);
      expect('Retry-After' in problem.headers).toBe(status === 503);
    },
  );

  test('does not repeat a path that is none', () => {
    const problem = toProblem(Object.assign(new Error("'/%zz' is not valid"), { code: 'FST_ERR_BAD_URL' }));
    expect(problem.code).toBe('not-found');
    expect(problem.message).not.toContain('%zz');
  });

  test.each([
    ['FST_ERR_CTP_INVALID_MEDIA_TYPE', 'media-type-unsupported'],
    ['FST_ERR_CTP_EMPTY_TYPE', 'media-type-unsupported'],
    ['FST_ERR_CTP_INVALID_CONTENT_LENGTH', 'bad-request'],
  ])("knows the framework's %s", (frameworkCode, code) => {
    const problem = toProblem(Object.assign(new Error('What happened.'), { code: frameworkCode }));
    expect(problem.code).toBe(code);
    expect(problem.message).toBe(
      `What happened. ${problem.code in PROBLEM_KINDS ? PROBLEM_KINDS[problem.code].explanation : ''}`,
    );
  });

  test.each([
    new Error('/etc/passwd: secret'),
    new TypeError('secret'),
    Object.assign(new Error('secret'), { code: 'EIO' }),
    Object.assign(new Error('secret'), { code: 'FST_ERR_NOBODY_KNOWS' }),
    Object.assign(new Error('secret'), { code: 42, statusCode: 418 }),
    'secret',
    undefined,
    null,
    { message: 'secret', statusCode: 404 },
  ])('reveals nothing about an unknown error: %s', (error) => {
    const problem = toProblem(error);
    expect([problem.code, problem.status, problem.cause]).toEqual(['internal-error', 500, error]);
    expect(JSON.stringify(problemDocument(problem, 'id'))).not.toContain('secret');
  });
});

describe('problemDocument', () => {
  test.each(codes)('has the members of RFC 9457 for %s', (code) => {
    expect(problemDocument(new Problem(code, 'What was found.'), 'req-1')).toEqual({
      type: `/problems/${code}`,
      title: PROBLEM_KINDS[code].title,
      status: PROBLEM_KINDS[code].status,
      detail: 'What was found.',
      code,
      instance: 'req-1',
    });
  });

  const reason = broken('no-symbol-table', 'parse', { what: 'x', offset: null, length: null, detail: 'None.' });
  const identity = { class: 'ELF32', byteOrder: 'big-endian', type: 'EXEC', machine: 'MIPS', entry: 0n } as const;

  test('has what is known about the image', () => {
    const subject = { broken: reason, image: { size: 9, identity, buildId: 'secret', container: null } };
    expect(problemDocument(new Problem('no-symbol-table', 'None.', { subject }), 'req-1')).toEqual({
      type: '/problems/no-symbol-table',
      title: BROKEN_KINDS['no-symbol-table'].title,
      status: 422,
      detail: 'None.',
      code: 'no-symbol-table',
      reason: 'invalid ELF handle for symtab section',
      stage: 'parse',
      instance: 'req-1',
      image: { size: 9, class: 'ELF32', machine: 'MIPS' },
    });
  });

  test('has the size of an image without a header', () => {
    const subject = { broken: reason, image: { size: 9, identity: null, buildId: null, container: null } };
    expect(problemDocument(new Problem('not-elf', 'None.', { subject }), 'req-1').image).toEqual({ size: 9 });
  });
});
