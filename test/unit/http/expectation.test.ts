/** Which clients wait for an invitation. That they get it: test/http/admission.test.ts. */
import type { FastifyRequest } from 'fastify';
import { expect, test } from 'vitest';
import { isWaiting } from '../../../src/http/expectation.ts';

test.each([
  ['100-continue', '1.1', true],
  ['100-Continue', '1.1', true],
  [' 100-continue ', '1.1', true],
  ['100-continue;x=1', '1.1', true],
  ['other, 100-continue', '1.1', true],
  ['not-100-continue', '1.1', false],
  ['100-continued', '1.1', false],
  ['100', '1.1', false],
  ['', '1.1', false],
  [undefined, '1.1', false],
  ['100-continue', '1.0', false],
])('Expect: %j in HTTP/%s: %s', (expected, httpVersion, waits) => {
  const request = { raw: { httpVersion, headers: { expect: expected } } };
  expect(isWaiting(request as unknown as FastifyRequest)).toBe(waits);
});
