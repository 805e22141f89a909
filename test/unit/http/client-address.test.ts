import { assert, ipV4, ipV6, nat, property } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { clientKey, parseAddress, trustAddresses } from '../../../src/http/client-address.ts';

const isSame = (one: string, other: string): void => expect(parseAddress(one)).toEqual(parseAddress(other));
const keyOf = (ip: string): string => clientKey({ ip });

describe('an address', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    [' 192.0.2.1\t', '192.0.2.1'],
    ['192.0.2.1:80', '192.0.2.1'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:443', '2001:db8::1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['[fe80::1%eth0]:80', 'fe80::1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:c000:0201', '192.0.2.1'],
    ['[::ffff:192.0.2.1]:80', '192.0.2.1'],
    ['::', '::'],
    // Only looks like an IPv4 address in IPv6.
    ['::ffff:1:2:3', '::ffff:1:2:3'],
  ])('%j is read', (written, text) => {
    expect(parseAddress(written)).toEqual({ text, family: text.includes(':') ? 'ipv6' : 'ipv4' });
  });

  test.each([
    '',
    ' ',
    'unknown',
    '_hidden',
    'localhost',
    '192.0.2',
    '192.0.2.256',
    '192.0.2.01',
    '0x7f.0.0.1',
    '2130706433',
    '192.0.2.1:',
    '192.0.2.1:x',
    '192.0.2.1:123456',
    '192.0.2.1:80:80',
    '[192.0.2.1]:80',
    '[2001:db8::1',
    '[2001:db8::1]80',
    '[2001:db8::1]x',
    'x[2001:db8::1]',
    '[]',
    '2001:db8::1::2',
    '1:2:3:4:5:6:7:8:80',
    'for=192.0.2.1',
    '"192.0.2.1"',
    '192.0.2.1/24',
  ])('%j is none', (written) => {
    expect(parseAddress(written)).toBeNull();
  });

  test('is the same with and without a port', () => {
    assert(
      property(ipV4(), ipV6(), nat(65_535), (four, six, port) => {
        isSame(`${four}:${port}`, four);
        isSame(`[${six}]:${port}`, six);
        isSame(`::ffff:${four}`, four);
      }),
    );
  });
});

describe('an address is trusted', () => {
  test.each([
    ['10.0.0.1', '10.0.0.1', true],
    ['10.0.0.1', '10.0.0.1:4711', true],
    ['10.0.0.1', '::ffff:10.0.0.1', true],
    ['10.0.0.1', '10.0.0.2', false],
    ['::ffff:10.0.0.1', '10.0.0.1', true],
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.1', false],
    ['10.0.0.0/8', '2001:db8::1', false],
    ['10.0.0.0/8', 'unknown', false],
    ['0.0.0.0/0', '192.0.2.1', true],
    ['::ffff:10.0.0.0/104', '10.1.2.3', true],
    ['::ffff:10.0.0.0/104', '11.1.2.3', false],
    ['2001:db8::/32', '[2001:db8:5::1]:80', true],
    ['2001:db8::/32', '2001:db9::1', false],
  ])('by %s: %s, %s', (trusted, written, expected) => {
    expect(trustAddresses(['192.0.2.200', trusted])(written)).toBe(expected);
  });
});

describe('the key of a client', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001::', '2001:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::2:3:4:5:6:7', '0:0:2:3::/64'],
    ['::192.0.2.1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ])('%s is %s', (ip, key) => {
    expect(keyOf(ip)).toBe(key);
  });

  test('is the same for all addresses of a network, and another one in the next', () => {
    expect(keyOf('2001:db8:1:2::1')).toBe(keyOf('2001:db8:1:2:ffff:ffff:ffff:ffff'));
    expect(keyOf('2001:db8:1:2::1')).not.toBe(keyOf('2001:db8:1:3::1'));
  });

  test('is that of the last address that can be read', () => {
    const proxies = ['10.0.0.1', '10.0.0.2:80'];
    expect(clientKey({ ip: 'x', ips: [...proxies, '192.0.2.1:4711'] })).toBe('192.0.2.1');
    for (const garbage of ['unknown', '', '192.0.2.1:port', "'; drop"]) {
      expect(clientKey({ ip: garbage, ips: [...proxies, garbage] })).toBe('10.0.0.2');
    }
  });

  test('of a socket that is gone is one for all of them', () => {
    expect(keyOf('')).toBe('unknown');
  });
});
