/** URLs that must not lead anywhere, each tried against the running service: no way out of the list of sources. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ResolvedAddress } from '../../src/image/remote/origin.ts';
import { kernel } from '../support/elf-builder.ts';
import { json, send } from '../support/http.ts';
import { named, TestOrigin } from '../support/origin.ts';
import { mustSettle, type Service, startService } from '../support/service.ts';

const image = kernel({ symbols: 9 }).bytes;
/** The one that may be asked, under /kernels/. */
let origin: TestOrigin;
/** One that must never be asked: it stands for everything else on this machine. */
let forbidden: TestOrigin;
let service: Service;
/** What the next look-ups of a host give; the last answer stays. */
const answers = new Map<string, ResolvedAddress[][]>();
let lookups: string[] = [];

const v4 = (address: string): ResolvedAddress => ({ address, family: 4 });
const v6 = (address: string): ResolvedAddress => ({ address, family: 6 });

beforeAll(async () => {
  origin = await TestOrigin.start();
  forbidden = await TestOrigin.start();
  const hosts = ['named', 'mixed', 'rebinding', 'metadata', 'local', 'nowhere'].map(
    (name) => `http://${name}.example:${origin.port}/kernels/`,
  );
  const literals = [
    `http://127.0.0.1:${origin.port}/kernels/`,
    // Listed by mistake: still never asked.
    'http://169.254.169.254/',
    'http://[fd00:ec2::254]/',
    'http://[fe80::1]/',
    'http://0.0.0.0/',
    'http://100.100.100.200/',
    `http://[::ffff:169.254.169.254]/`,
    `http://[64:ff9b::a9fe:a9fe]/`,
    `http://[2002:a9fe:a9fe::]/`,
    `http://[2001:0:a9fe:a9fe::]/`,
    `http://[::169.254.169.254]/`,
    `http://[::]:${origin.port}/`,
  ];
  service = await startService(
    { BSDSYMS_IMAGE_SOURCES: [...hosts, ...literals, 'file:///srv/kernels/'].join(',') },
    {
      resolve(host) {
        lookups.push(host);
        const queue = answers.get(host) ?? [];
        const [next = []] = queue;
        if (queue.length > 1) queue.shift();
        return Promise.resolve(next);
      },
    },
  );
});
afterEach(async () => {
  await mustSettle(service);
  origin.reset();
  forbidden.reset();
  answers.clear();
  lookups = [];
});
afterAll(async () => {
  await service.close();
  origin.close();
  forbidden.close();
});

const REFUSALS = new Set(['source-invalid', 'source-not-allowed']);

/** {O} and {F} stand for host and port of the two origins, {P} for the port of the first one. */
const URLS = [
  // Other paths, and paths that some server reads as another one.
  'http://{{O}}/',
  'http://{{O}}/kernels',
  'http://{{O}}/kernelsX/k',
  'http://{{O}}/kernels-secret/k',
  'http://{{O}}/Kernels/k',
  'http://{{O}}/secret',
  'http://{{O}}/kernels/../secret',
  'http://{{O}}/kernels/./../secret',
  'http://{{O}}/kernels/%2e%2e/secret',
  'http://{{O}}/kernels/.%2E/secret',
  'http://{{O}}/kernels/%2e%2e%2fsecret',
  'http://{{O}}/kernels/..%2Fsecret',
  'http://{{O}}/kernels/..%5csecret',
  'http://{{O}}/kernels/..%5Csecret',
  'http://{{O}}/kernels/%252e%252e/secret',
  'http://{{O}}/kernels/%252e%252e%252fsecret',
  'http://{{O}}/kernels/%25252e%25252e/secret',
  'http://{{O}}/kernels/..%c0%afsecret',
  'http://{{O}}/kernels/..;/secret',
  'http://{{O}}/kernels/..;a=b/secret',
  'http://{{O}}/kernels/%2e%2e%3b/secret',
  'http://{{O}}/kernels/k%00.txt',
  'http://{{O}}/kernels/k%0d%0aHost:%20x',
  'http://{{O}}//kernels/k',
  'http://{{O}}/%2fkernels/k',
  'http://{{O}}/x/kernels/k',
  'http://{{O}}/kernels/a%2f..%2f..%2fsecret',
  // Other hosts, ports and schemes.
  'http://{F}/kernels/k',
  'https://{{O}}/kernels/k',
  'ftp://{{O}}/kernels/k',
  'gopher://{{O}}/kernels/k',
  'http://localhost:{P}/kernels/k',
  'http://127.0.0.2:{P}/kernels/k',
  'http://127.0.0.1.example:{P}/kernels/k',
  'http://[::1]:{P}/kernels/k',
  'http://[::ffff:127.0.0.1]:{P}/kernels/k',
  'http://[::ffff:7f00:1]:{P}/kernels/k',
  'http://[::127.0.0.1]:{P}/kernels/k',
  'http://[64:ff9b::7f00:1]:{P}/kernels/k',
  'http://[2002:7f00:1::]:{P}/kernels/k',
  'http://[::1%25lo]:{P}/kernels/k',
  'http://2130706434:{P}/kernels/k',
  'http://0x7f.0.0.2:{P}/kernels/k',
  'http://0177.0.0.2:{P}/kernels/k',
  'http://0:{P}/kernels/k',
  'http://127.0.0.1:1/kernels/k',
  'http://127.0.0.1/kernels/k',
  // User information, fragments, and what parsers disagree about.
  'http://user@{{O}}/kernels/k',
  'http://user:password@{{O}}/kernels/k',
  'http://@{{O}}/kernels/k',
  'http://{{O}}@{F}/kernels/k',
  'http://{{O}}%40{{F}}/kernels/k',
  'http://{F}#@{{O}}/kernels/k',
  'http://{F}?@{{O}}/kernels/k',
  'http://{{O}}\\@{F}/kernels/k',
  'http://{F}\\@{{O}}/kernels/k',
  'http:\\\\{{O}}/kernels/k',
  'http:{{O}}/kernels/k',
  'http:/{{O}}/kernels/k',
  'http:///{{O}}/kernels/k',
  '//{{O}}/kernels/k',
  'http://{{O}}/kernels/k#',
  'http://{{O}}/kernels/k#../../secret',
  ' http://{{O}}/kernels/k',
  'http://{{O}}/ker\tnels/k',
  'http://{{O}}/kernels/..\\secret',
  'http://{{O}}/kernels/k\r\nX: y',
  'http://１２７.0.0.1:{P}/kernels/k',
  'http://127。0。0。1:{P}/kernels/k',
  'http://{{O}}:{P}/kernels/k',
  // Addresses that are never asked, though they are listed.
  'http://169.254.169.254/latest/meta-data/',
  'http://2852039166/latest/meta-data/',
  'http://0xa9fea9fe/latest/meta-data/',
  'http://0251.0376.0251.0376/latest/meta-data/',
  'http://[::ffff:169.254.169.254]/latest/meta-data/',
  'http://[::ffff:a9fe:a9fe]/latest/meta-data/',
  'http://[::169.254.169.254]/latest/meta-data/',
  'http://[64:ff9b::a9fe:a9fe]/latest/meta-data/',
  'http://[2002:a9fe:a9fe::]/latest/meta-data/',
  'http://[2001:0:a9fe:a9fe::]/latest/meta-data/',
  'http://[fd00:ec2::254]/latest/meta-data/',
  'http://[fe80::1]/k',
  'http://100.100.100.200/latest/meta-data/',
  'http://0.0.0.0/k',
  'http://[::]:{P}/kernels/k',
  // Files.
  'file:///etc/passwd',
  'file:///srv/kernels',
  'file:///srv/kernels/../../etc/passwd',
  'file:///srv/kernels/%2e%2e/%2e%2e/etc/passwd',
  'file:///srv/kernels/..%2f..%2fetc/passwd',
  'file:///srv/kernels/..%5c..%5cetc/passwd',
  'file:///srv/kernels/%252e%252e/x',
  'file:///srv/kernels2/k',
  'file://localhost.example/srv/kernels/k',
  'file://{{O}}/srv/kernels/k',
  'file:/srv/kernels/k',
  'file:srv/kernels/k',
  'file:///srv/kernels/k%00',
  'file:///proc/self/environ',
  'FILE:///etc/shadow',
  '/etc/passwd',
  'data:application/octet-stream;base64,f0VMRg==',
];

test('there are sixty of them at least', () => {
  expect(new Set(URLS).size).toBe(URLS.length);
  expect(URLS.length).toBeGreaterThanOrEqual(60);
});

const serve = (one: TestOrigin): void => {
  one.misbehaviour = (request, response) => {
    one.sendFile(request, response, { bytes: image });
    return true;
  };
};

test.each(URLS)('%j is refused', async (template) => {
  serve(origin);
  serve(forbidden);
  const url = template
    .replaceAll('{O}', `127.0.0.1:${origin.port}`)
    .replaceAll('{F}', `127.0.0.1:${forbidden.port}`)
    .replaceAll('{P}', String(origin.port));
  const answer = await send(service, named('/layout', url));
  expect(REFUSALS).toContain(json(answer)['code']);
  expect([answer.status === 400 || answer.status === 403, origin.requests.length, forbidden.requests.length]).toEqual([
    true,
    0,
    0,
  ]);
});

test('a listed source is accepted', async () => {
  const url = origin.serve('/kernels/k', image);
  expect((await send(service, named('/layout', url))).status).toBe(200);
  expect((await send(service, named('/layout', url.replace('127.0.0.1', '0x7f.1')))).status).toBe(200);
});

const ask = async (host: string, path = '/kernels/k'): Promise<unknown> => {
  origin.serve(path, image);
  const answer = await send(service, named('/layout', `http://${host}.example:${origin.port}${path}`));
  return answer.status === 200 ? 200 : json(answer)['code'];
};

describe('names', () => {
  test.each([
    ['one allowed and one link-local address', [v4('10.0.0.1'), v4('169.254.169.254')]],
    ['one public and one loopback address', [v4('1.1.1.1'), v4('127.0.0.1')]],
    ['a metadata address last', [v6('2606:4700::1'), v4('1.1.1.1'), v6('fd00:ec2::254')]],
    ['a mapped address', [v6('::ffff:169.254.169.254')]],
    ['a mapped loopback address', [v6('::ffff:127.0.0.1')]],
    ['6to4', [v6('2002:a9fe:a9fe::1')]],
    ['Teredo', [v6('2001:0:a9fe:a9fe::1')]],
    ['NAT64', [v6('64:ff9b::a9fe:a9fe')]],
    ['a zone', [v6('fe80::1%lo')]],
    ['nothing but zeros', [v4('0.0.0.0')]],
    ['all zeros in IPv6', [v6('::')]],
    ['loopback', [v4('127.0.0.1')]],
    ['no address at all', [{ address: 'not-an-address', family: 4 }]],
  ])('%s', async (_what, addresses) => {
    answers.set('mixed.example', [addresses]);
    expect(await ask('mixed')).toBe('source-not-allowed');
    expect([origin.requests.length, lookups]).toEqual([0, ['mixed.example']]);
  });

  test('that have none are unavailable', async () => {
    answers.set('nowhere.example', [[]]);
    expect(await ask('nowhere')).toBe('source-unavailable');
  });

  test('are looked up once: what they lead to later is never asked', async () => {
    // An address of this machine that is not loopback stands for a private origin.
    const own = await startService(
      { BSDSYMS_IMAGE_SOURCES: `http://rebinding.localhost:${origin.port}/` },
      {
        resolve(host) {
          lookups.push(host);
          return Promise.resolve([lookups.length === 1 ? v4('127.0.0.1') : v4('169.254.169.254')]);
        },
      },
    );
    try {
      const large = kernel({ symbols: 9, text: { data: new Uint8Array(500_000) }, memsz: 0x100000 }).bytes;
      origin.serve('/k', large);
      // Every answer closes the connection, so that each request has to connect anew.
      origin.misbehaviour = (_request, response) => {
        response.setHeader('Connection', 'close');
        return false;
      };
      const answer = await send(own, named('/bsdsyms', `http://rebinding.localhost:${origin.port}/k`));
      expect(answer.status).toBe(200);
      expect(origin.requests.length).toBeGreaterThan(1);
      expect(lookups).toEqual(['rebinding.localhost']);
      // The next request looks again, and is refused.
      const again = await send(own, named('/bsdsyms', `http://rebinding.localhost:${origin.port}/k`));
      expect(json(again)['code']).toBe('source-not-allowed');
    } finally {
      await own.close();
    }
  });

  test('a redirect to a name passes the same gate', async () => {
    answers.set('metadata.example', [[v4('169.254.169.254')]]);
    origin.misbehaviour = (_request, response) => {
      response.writeHead(302, { Location: `http://metadata.example:${origin.port}/kernels/k` }).end();
      return true;
    };
    const answer = await send(service, named('/layout', `${origin.url}/kernels/from`));
    expect(json(answer)['code']).toBe('source-not-allowed');
    expect(origin.requests).toHaveLength(1);
  });
});
