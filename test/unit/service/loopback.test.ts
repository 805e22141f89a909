import { expect, test } from 'vitest';
import { isLoopback } from '../../../src/service/loopback.ts';

test.each(['127.0.0.1', '127.0.0.2', '127.255.255.255', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1', 'localhost'])(
  '%s is reached from this machine only',
  (host) => {
    expect(isLoopback(host)).toBe(true);
  },
);

test.each([
  '0.0.0.0',
  '::',
  '10.0.0.1',
  '126.255.255.255',
  '128.0.0.0',
  '192.168.0.1',
  '::2',
  'fe80::1',
  '2001:db8::1',
  '::ffff:10.0.0.1',
  'example.org',
  'localhost.example.org',
  '127.0.0.1.example.org',
  '127.1.example',
  '',
])('%s may be reached from elsewhere', (host) => {
  expect(isLoopback(host)).toBe(false);
});
