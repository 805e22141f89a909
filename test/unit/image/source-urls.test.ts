/** Which URLs name an image, which are under a prefix, where addresses lead, and which header fields go where. */
import { describe, expect, test } from 'vitest';
import { reachOf } from '../../../src/image/remote/addresses.ts';
import { parsePrefixes, SourcePrefix } from '../../../src/image/remote/allow-list.ts';
import { AllowedSources } from '../../../src/image/remote/authority.ts';
import { Credentials } from '../../../src/image/remote/credentials.ts';
import { isSourceUrl } from '../../../src/image/remote/is-source-url.ts';
import { isPlainSegment, parseSourceUrl, placeOf } from '../../../src/image/remote/source-url.ts';

const codeOf = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return (error as { readonly code?: string }).code ?? (error as Error).message;
  }
};

test.each([
  [200, `/${'k'.repeat(199)}`],
  [201, `/${'k'.repeat(199)}…`],
])('of a path of %i characters at most 200 are shown', (length, shown) => {
  expect(placeOf(new URL(`https://artifacts.example/${'k'.repeat(length - 1)}`)).path).toBe(shown);
});

describe('parseSourceUrl', () => {
  test.each([
    'https://artifacts.example/kernels/vmlinux',
    'HTTP://10.0.0.5:8000/a%20b?X-Amz-Signature=abc&x=%2F',
    'http://[::1]:8080/vmlinux',
    'file:///srv/kernels/vmlinux',
  ])('takes %s', (url) => {
    expect(parseSourceUrl(url)).toBeInstanceOf(URL);
  });

  test.each([
    '',
    'vmlinux',
    '/srv/kernels/vmlinux',
    'ftp://artifacts.example/x',
    'data:text/plain,x',
    'https:artifacts.example/x',
    'https:/artifacts.example/x',
    'https:\\\\artifacts.example/x',
    'https://',
    'https://user@artifacts.example/x',
    'https://user:password@artifacts.example/x',
    'https://@artifacts.example/x',
    'https://artifacts.example/x#fragment',
    'https://artifacts.example/x#',
    'https://artifacts.example/a b',
    'https://artifacts.example/a\tb',
    'https://artifacts.example/a\nb',
    ' https://artifacts.example/x',
    'https://artifacts.example\\x',
    'https://ärtifacts.example/x',
    'https://１２７.0.0.1/x',
    'https://artifacts.example/%',
    'https://artifacts.example/%2',
    'https://artifacts.example/%zz',
    'https://artifacts.example:99999/x',
    'https://art ifacts.example/x',
    'https://256.1.1.1/x',
    'https://[::1/x',
    'file://host/srv/x',
    'file:///srv/x?query',
    `https://artifacts.example/${'x'.repeat(9000)}`,
  ])('refuses %s', (url) => {
    expect(codeOf(() => parseSourceUrl(url))).toBe('source-invalid');
  });

  test('what is shown of a URL is never its query', () => {
    const url = new URL('https://artifacts.example:8443/a/b?X-Amz-Signature=secret');
    expect(placeOf(url)).toEqual({ origin: 'https://artifacts.example:8443', path: '/a/b' });
    expect(['https://x', 'FILE:///x', 'http:x', './https://', '-'].map(isSourceUrl)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });
});

const covers = (prefix: string, url: string): boolean => new SourcePrefix(prefix).covers(parseSourceUrl(url));

describe('a prefix', () => {
  const PREFIX = 'https://artifacts.example/kernels/';

  test.each([
    [PREFIX, 'https://artifacts.example/kernels/vmlinux'],
    [PREFIX, 'https://ARTIFACTS.example:443/kernels/a/b/vmlinux?q=../..'],
    [PREFIX, 'https://artifacts.example/%6bernels/vmlinux'],
    [PREFIX, 'https://artifacts.example/x/../kernels/vmlinux'],
    [PREFIX, 'https://artifacts.example/kernels/a%20b'],
    [PREFIX, 'https://artifacts.example/kernels/.../vm..linux'],
    ['https://artifacts.example', 'https://artifacts.example/any/thing'],
    ['https://artifacts.example/kernels', 'https://artifacts.example/kernels'],
    ['https://artifacts.example/kernels', 'https://artifacts.example/kernels/vmlinux'],
    ['https://gitlab.example/projects/a%2fb/', 'https://gitlab.example/projects/a%2Fb/vmlinux'],
    ['http://[::1]:80/', 'http://[0:0:0:0:0:0:0:1]/x'],
    ['file:///srv/kernels/', 'file:///srv/kernels/6.1/vmlinux'],
  ])('%s covers %s', (prefix, url) => {
    expect(covers(prefix, url)).toBe(true);
  });

  test.each([
    [PREFIX, 'http://artifacts.example/kernels/vmlinux'],
    [PREFIX, 'https://artifacts.example:8443/kernels/vmlinux'],
    [PREFIX, 'https://artifacts.example./kernels/vmlinux'],
    [PREFIX, 'https://artifacts.example.evil.example/kernels/vmlinux'],
    [PREFIX, 'https://artifacts.example/kernels'],
    [PREFIX, 'https://artifacts.example/kernels-secret/vmlinux'],
    [PREFIX, 'https://artifacts.example/Kernels/vmlinux'],
    [PREFIX, 'https://artifacts.example/kernels/../secret'],
    [PREFIX, 'https://artifacts.example/kernels/%2e%2e/secret'],
    [PREFIX, 'https://artifacts.example/kernels/%252e%252e/secret'],
    [PREFIX, 'https://artifacts.example/kernels/..%2fsecret'],
    [PREFIX, 'https://artifacts.example/kernels/..%5csecret'],
    [PREFIX, 'https://artifacts.example/kernels/..%252fsecret'],
    [PREFIX, 'https://artifacts.example/kernels/..%25252525252fsecret'],
    [PREFIX, 'https://artifacts.example/kernels/..;/secret'],
    [PREFIX, 'https://artifacts.example/kernels/%2e%2e;x=1/secret'],
    [PREFIX, 'https://artifacts.example/kernels/a%00b'],
    [PREFIX, 'https://artifacts.example/kernels/..%c0%afsecret'],
    [PREFIX, 'https://artifacts.example/kernels/a%0d%0ab'],
    [PREFIX, 'https://artifacts.example/%2fkernels/vmlinux'],
    [PREFIX, 'https://artifacts.example//kernels/vmlinux'],
    ['file:///srv/kernels/', 'file:///srv/kernels/../secret'],
    ['file:///srv/kernels/', 'file:///srv/kernels/%2e%2e%2fsecret'],
    ['file:///srv/kernels/', 'file:///srv/kernels2/vmlinux'],
  ])('%s does not cover %s', (prefix, url) => {
    expect(covers(prefix, url)).toBe(false);
  });

  test.each([
    'https://artifacts.example/?q',
    'https://u@artifacts.example/',
    'https://artifacts.example/#',
    'file:///',
    'https://a/b//c/',
  ])('%s cannot be one', (prefix) => {
    expect(() => parsePrefixes([prefix])).toThrow(prefix);
  });
  test('segments are plain when no server reads them as a path', () => {
    expect(['a', '.a', '...', 'a;b', 'a%20b', '%C3%84', '%E2%82%AC'].every(isPlainSegment)).toBe(true);
    expect(['.', '..', '.;a', '%2e', 'a%2fb', '%25%32%66'].some(isPlainSegment)).toBe(false);
  });
});

describe('reachOf', () => {
  test.each([
    [
      'public',
      [
        '1.1.1.1',
        '172.32.0.1',
        '100.63.255.255',
        '2606:4700::1111',
        '::ffff:1.1.1.1',
        '64:ff9b::1.1.1.1',
        '2002:101:101::',
      ],
    ],
    [
      'private',
      [
        '10.0.0.5',
        '172.16.0.1',
        '172.31.255.255',
        '192.168.1.1',
        '100.64.0.1',
        '198.18.0.1',
        'fd12::1',
        '::ffff:10.0.0.5',
        '::10.0.0.5',
        '::ffff:0:10.0.0.5',
        '64:ff9b::a00:5',
        '64:ff9b:1::a00:5',
        '2002:a00:5::1',
        '2001:0:a00:5::fefe:fefe',
        '2606:4700::5efe:10.0.0.5',
        'fd12::1%eth0',
      ],
    ],
    [
      'loopback',
      [
        '127.0.0.1',
        '127.255.255.254',
        '::1',
        '0:0:0:0:0:0:0:1',
        '::ffff:127.0.0.1',
        '::ffff:7f00:1',
        '::127.0.0.1',
        '64:ff9b::7f00:1',
        '2002:7f00:1::',
        '2001:0:101:101:0:0:80ff:fffe',
        '::1%lo',
        '::ffff:127.0.0.1%lo',
      ],
    ],
    [
      'forbidden',
      [
        '0.0.0.0',
        '0.1.2.3',
        '169.254.169.254',
        '169.254.0.1',
        '100.100.100.200',
        '168.63.129.16',
        '192.0.0.192',
        '224.0.0.1',
        '255.255.255.255',
        '::',
        'fe80::1',
        'fe80::1%eth0',
        'fec0::1',
        'ff02::1',
        'fd00:ec2::254',
        'fd20:ce::254',
        '2001:db8::1',
        '4000::1',
        '::ffff:169.254.169.254',
        '::ffff:a9fe:a9fe',
        '::169.254.169.254',
        '64:ff9b::a9fe:a9fe',
        '2002:a9fe:a9fe::',
        '2001:0:a9fe:a9fe::',
        '::ffff:0.0.0.0',
        'nonsense',
        '',
      ],
    ],
  ] as const)('%s', (reach, addresses) => {
    expect(addresses.map((address) => [address, reachOf(address)])).toEqual(
      addresses.map((address) => [address, reach]),
    );
  });
});

describe('addresses of a listed host', () => {
  const sources = new AllowedSources(parsePrefixes(['https://artifacts.example/']));
  const judge = (host: string, ...addresses: string[]): unknown =>
    codeOf(() => sources.admitAddresses(host, addresses)) ?? 'admitted';

  test('may be private, and this machine only when the host says so', () => {
    expect(judge('artifacts.example', '10.0.0.5', '1.1.1.1', 'fd12::1')).toBe('admitted');
    expect(judge('localhost', '127.0.0.1', '::1')).toBe('admitted');
    expect(judge('127.0.0.1', '127.0.0.1')).toBe('admitted');
    expect(judge('artifacts.example', '127.0.0.1')).toBe('source-not-allowed');
    expect(judge('artifacts.example', '1.1.1.1', '::ffff:127.0.0.1')).toBe('source-not-allowed');
    expect(judge('artifacts.example', '1.1.1.1', '169.254.169.254')).toBe('source-not-allowed');
    expect(judge('localhost', '169.254.169.254')).toBe('source-not-allowed');
    expect(judge('169.254.169.254', '169.254.169.254')).toBe('source-not-allowed');
  });
});

describe('credentials', () => {
  const credentials = Credentials.parse(
    JSON.stringify({
      'https://artifacts.example/': { Authorization: 'Bearer outer' },
      'https://artifacts.example/kernels/': { Authorization: 'Bearer inner', 'X-Key': '1' },
    }),
  );
  test.each([
    ['https://artifacts.example/kernels/vmlinux', { Authorization: 'Bearer inner', 'X-Key': '1' }],
    ['https://artifacts.example/other', { Authorization: 'Bearer outer' }],
    ['http://artifacts.example/kernels/vmlinux', {}],
    ['https://artifacts.example:444/kernels/vmlinux', {}],
    ['https://evil.example/kernels/vmlinux', {}],
  ])('for %s', (url, fields) => {
    expect(credentials.fieldsFor(new URL(url))).toEqual(fields);
  });

  test.each([
    ['not json with a secret', 'not JSON'],
    ['[]', 'not an object'],
    ['{"https://a/": []}', 'not an object'],
    ['{"https://a/": {"Host": "b"}}', 'set by the service'],
    ['{"https://a/": {"rAnGe": "b"}}', 'set by the service'],
    ['{"https://a/": {"a b": "b"}}', 'is not a valid field name'],
    ['{"https://a/": {"A": "secret\\r\\nB: c"}}', 'no usable value'],
    ['{"https://a/": {"A": 1}}', 'no usable value'],
    ['{"file:///a/": {"A": "1"}}', 'no header fields'],
    ['{"a": {}}', 'must begin with'],
  ])('%s is refused', (text, message) => {
    expect(() => Credentials.parse(text)).toThrow(message);
    expect(String(codeOf(() => Credentials.parse(text)))).not.toContain('secret');
  });
});
