import type { FastifyRequest } from 'fastify';
import { describe, expect, test } from 'vitest';
import { negotiate, wantsSha256 } from '../../../src/http/negotiation.ts';
import { Problem } from '../../../src/http/problem.ts';

/** As much of a request as is looked at. */
const withHeaders = (headers: Readonly<Record<string, string | string[]>>): FastifyRequest =>
  ({ headers, raw: { headers } }) as unknown as FastifyRequest;

describe('negotiate', () => {
  const offered = ['a/first', 'a/second'] as const;

  test('takes the first one offered without a preference', () => {
    expect(negotiate(withHeaders({}), offered)).toBe('a/first');
    for (const accept of ['*/*', 'a/*', 'a/first', 'a/*, */*;q=0.1', '']) {
      expect([accept, negotiate(withHeaders({ accept }), offered)]).toEqual([accept, 'a/first']);
    }
  });

  test.each(['a/second', 'a/second, a/first', 'a/second, a/first;q=0.9', 'a/first;q=0, */*', 'b/x, a/second;q=0.1'])(
    'takes the preferred one: %s',
    (accept) => {
      expect(negotiate(withHeaders({ accept }), offered)).toBe('a/second');
    },
  );

  test.each(['b/*', 'text/html', '*/*;q=0', 'a/first;q=0', 'nonsense'])(
    'refuses when none is accepted: %s',
    (accept) => {
      expect(() => negotiate(withHeaders({ accept }), offered)).toThrow(
        new Problem('not-acceptable', 'This route answers with a/first or a/second.'),
      );
    },
  );
});

describe('wantsSha256', () => {
  const asking = [
    'sha-256=1',
    'sha-256=10',
    'sha-512=10, sha-256=1',
    '  sha-256=2',
    'sha-256=1;x=y',
    'sha-256=0, sha-256=3',
  ];
  const declining = ['', 'sha-256=0', 'sha-256=-1', 'sha-512=3', 'sha-256=(1)'];
  const unreadable = ['sha-256', 'sha-256=?1', 'sha-256=a', 'sha-256="3"', 'SHA-256=1', '=', 'sha-256=1,'];

  test.each(asking)('%s does', (value) => {
    expect(wantsSha256(withHeaders({ 'want-repr-digest': value }))).toBe(true);
  });

  test.each([...declining, ...unreadable])('%s does not', (value) => {
    expect(wantsSha256(withHeaders({ 'want-repr-digest': value }))).toBe(false);
  });

  test('no header does not', () => {
    expect(wantsSha256(withHeaders({}))).toBe(false);
  });
});
