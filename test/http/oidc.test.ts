/** Tokens that CI systems give to their jobs (OpenID Connect): who gets in, who does not, and what an issuer may do to the service. */
import { createHmac } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { exportSPKI, UnsecuredJWT } from 'jose';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config.ts';
import { buildApp } from '../../src/http/app.ts';
import { UPLOAD_PATHS } from '../support/document.ts';
import { kernel } from '../support/elf-builder.ts';
import { type Answer, post, problem, send, verdict } from '../support/http.ts';
import { AUDIENCE, CLAIMS, makeKey, TestIssuer, writeKeys } from '../support/issuer.ts';
import { SOON } from '../support/patience.ts';
import { scrape } from '../support/prometheus.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { type Service, settled, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const image = kernel({ symbols: 3 }).bytes;
const directory = new TemporaryDirectory();
let issuer: TestIssuer;
let service: Service | undefined;

beforeAll(async () => {
  issuer = await TestIssuer.start();
});
beforeEach(async () => {
  issuer.keys = [await makeKey('first')];
  issuer.misbehaviour = () => false;
  issuer.requests.length = 0;
});
afterEach(async () => {
  await service?.close();
  service = undefined;
});
afterAll(async () => {
  await issuer.close();
  directory.remove();
});

async function start(
  entry: Readonly<Record<string, unknown>> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<Service> {
  service = await startService({ BSDSYMS_OIDC_FILE: issuer.configure(directory, entry), ...env });
  return service;
}

const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });
const ask = (one: Service, token: string): Promise<Answer> => post(one, '/layout', image, bearer(token));
const statusOf = async (one: Service, token: string): Promise<number> => (await ask(one, token)).status;

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
/** A part of a token, changed. */
function change(token: string, part: 0 | 1 | 2, edit: (text: string) => string): string {
  const parts = token.split('.');
  parts[part] = edit(parts[part] ?? '');
  return parts.join('.');
}
const editJson =
  (members: Readonly<Record<string, unknown>>) =>
  (text: string): string =>
    encode({ ...(JSON.parse(Buffer.from(text, 'base64url').toString()) as object), ...members });

describe('a good token', () => {
  test.each(UPLOAD_PATHS)('is let in by %s', async (path) => {
    const one = await start();
    const body = path === '/verify' ? 'a blob' : image;
    const { status } = await post(one, path, body, bearer(await issuer.sign()));
    expect([200, 422]).toContain(status);
    expect((await post(one, path, body)).status).toBe(401);
  });

  test.each(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'])(
    'may be signed with %s',
    async (alg) => {
      issuer.keys = [await makeKey('one', alg)];
      expect(await statusOf(await start(), await issuer.sign())).toBe(200);
    },
  );

  test('may be meant for others as well, without a type, or as old as clocks differ', async () => {
    const one = await start();
    for (const token of [
      await issuer.sign({ claims: { aud: ['other', AUDIENCE] } }),
      await issuer.sign({ header: { typ: undefined } }),
      await issuer.sign({ header: { typ: 'at+jwt' } }),
      await issuer.sign({ claims: { nbf: Math.floor(Date.now() / 1000) - 5 } }),
    ]) {
      expect(await statusOf(one, token)).toBe(200);
    }
  });

  test('is taken beside tokens of the operator', async () => {
    const one = await start({}, { BSDSYMS_TOKENS_FILE: directory.write('farm:sesame\n') });
    expect(await statusOf(one, await issuer.sign())).toBe(200);
    expect(await statusOf(one, 'sesame')).toBe(200);
    expect(await statusOf(one, 'other')).toBe(401);
    // The other way round as well: that has the form of a signed one.
    const dotted = await startService({ BSDSYMS_TOKENS_FILE: directory.write('a.b.c\n') });
    expect(await statusOf(dotted, 'a.b.c')).toBe(200);
    expect(await statusOf(dotted, await issuer.sign())).toBe(401);
    await dotted.close();
  });
});

describe('what is let in', () => {
  test('follows the claims of an entry', async () => {
    const claims = {
      repository: ['bsd-kernels/netbsd', 'bsd-kernels/freebsd'],
      protected: true,
      run: 7,
      groups: 'kernel',
    };
    const one = await start({ claims });
    const good = { protected: true, run: 7, groups: ['users', 'kernel'] };
    expect(await statusOf(one, await issuer.sign({ claims: good }))).toBe(200);
    expect(await statusOf(one, await issuer.sign({ claims: { ...good, repository: 'bsd-kernels/freebsd' } }))).toBe(
      200,
    );
    for (const [name, value] of [
      ['repository', 'bsd-kernels/netbsd2'],
      ['repository', 'BSD-kernels/netbsd'],
      ['repository', undefined],
      ['repository', { 'bsd-kernels/netbsd': true }],
      ['protected', 'true'],
      ['protected', 1],
      ['run', '7'],
      ['groups', []],
      ['groups', 'kern'],
      ['groups', null],
    ] as const) {
      const answer = await ask(one, await issuer.sign({ claims: { ...good, [name]: value } }));
      expect([name, value, verdict(answer, name)]).toEqual([name, value, problem(403, 'forbidden')]);
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="bsdsyms", error="insufficient_scope"');
    }
  });

  test('may be one of several entries, which have names of their own', async () => {
    const entries = [
      issuer.entry({ name: 'netbsd', claims: { repository: 'bsd-kernels/netbsd' } }),
      issuer.entry({ name: 'others', claims: { repository_owner: 'bsd-kernels' } }),
      issuer.entry({ name: 'elsewhere', audience: ['a', 'b'], claims: { repository_owner: 'x' } }),
    ];
    const one = await startService({ BSDSYMS_OIDC_FILE: directory.write(JSON.stringify({ issuers: entries })) });
    service = one;
    for (const [claims, client] of [
      [{}, 'netbsd'],
      [{ repository: 'bsd-kernels/freebsd' }, 'others'],
      [{ repository_owner: 'x', aud: 'b' }, 'elsewhere'],
    ] as const) {
      const answer = await ask(one, await issuer.sign({ claims }));
      expect(answer.status).toBe(200);
      const line = await one.logged({ msg: 'request', reqId: answer.headers['x-request-id'] ?? '' });
      expect(line).toMatchObject({ client, subject: CLAIMS.sub });
    }
    // The audience of one with the claims of another.
    const foreign = { repository_owner: 'x', repository: 'x/y' };
    expect(await statusOf(one, await issuer.sign({ claims: foreign }))).toBe(403);
    expect(await statusOf(one, await issuer.sign({ claims: { aud: 'a' } }))).toBe(403);
    // Keys are those of the issuer: fetched once.
    expect(issuer.requests).toEqual(['/.well-known/openid-configuration', '/jwks']);
  });
});

/** Tokens that let nobody in, and a word of why. */
const BROKEN: Readonly<Record<string, readonly [make: () => Promise<string>, why: RegExp]>> = {
  'an expired one': [() => issuer.sign({ expires: -60 }), /expired/],
  'one that expired long ago': [() => issuer.sign({ expires: -1e9 }), /expired/],
  'one without exp': [() => issuer.sign({ expires: null }), /claim exp/],
  'one whose exp is text': [() => issuer.sign({ expires: null, claims: { exp: '9999999999' } }), /claim exp/],
  'one that is not valid yet': [() => issuer.sign({ notBefore: 300 }), /not valid yet/],
  'one whose nbf is text': [() => issuer.sign({ claims: { nbf: 'now' } }), /nbf/],
  'one of another issuer': [() => issuer.sign({ claims: { iss: 'https://elsewhere.example' } }), /issuer/],
  'one of an issuer that begins the same': [
    () => issuer.sign({ claims: { iss: `${issuer.url}.elsewhere.example` } }),
    /issuer/,
  ],
  'one of an issuer with a slash more': [() => issuer.sign({ claims: { iss: `${issuer.url}/` } }), /issuer/],
  'one of two issuers': [() => issuer.sign({ claims: { iss: [issuer.url] } }), /issuer/],
  'one without an issuer': [() => issuer.sign({ claims: { iss: undefined } }), /issuer/],
  'one for another audience': [() => issuer.sign({ claims: { aud: 'https://other.example' } }), /audience/],
  'one for an audience that begins the same': [() => issuer.sign({ claims: { aud: `${AUDIENCE}/x` } }), /audience/],
  'one for nobody': [() => issuer.sign({ claims: { aud: [] } }), /audience|aud/],
  'one without an audience': [() => issuer.sign({ claims: { aud: undefined } }), /claim aud/],
  'one without a subject': [() => issuer.sign({ claims: { sub: undefined } }), /claim sub/],
  'one without a signature': [
    async () => new UnsecuredJWT({ iss: issuer.url, aud: AUDIENCE, ...CLAIMS }).setExpirationTime('10m').encode(),
    /algorithm|malformed/,
  ],
  'one with the algorithm none and a signature': [
    async () => change(await issuer.sign(), 0, editJson({ alg: 'none' })),
    /algorithm|malformed/,
  ],
  'one with the algorithm None': [async () => change(await issuer.sign(), 0, editJson({ alg: 'None' })), /algorithm/],
  'one signed with the public key as a secret': [
    async () => {
      const secret = await exportSPKI(issuer.key.publicKey);
      const [, payload = ''] = (await issuer.sign()).split('.');
      const signed = `${encode({ alg: 'HS256', kid: 'first', typ: 'JWT' })}.${payload}`;
      return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
    },
    /algorithm/,
  ],
  'one signed with the public key in another form': [
    async () => {
      const secret = Buffer.from(issuer.key.jwk.n ?? '', 'base64url');
      const [, payload = ''] = (await issuer.sign()).split('.');
      const signed = `${encode({ alg: 'HS512', kid: 'first' })}.${payload}`;
      return `${signed}.${createHmac('sha512', secret).update(signed).digest('base64url')}`;
    },
    /algorithm/,
  ],
  'one signed with an unknown key': [async () => issuer.sign({ key: await makeKey('unknown') }), /key that its issuer/],
  'one signed with another key of the same name': [
    async () => issuer.sign({ key: await makeKey('first') }),
    /signature/,
  ],
  'one that brings its key': [
    async () => {
      const key = await makeKey('first');
      return issuer.sign({ key, header: { jwk: key.jwk } });
    },
    /signature/,
  ],
  'one that says where its key is': [
    async () => issuer.sign({ key: await makeKey('own'), header: { jku: `${issuer.url}/evil` } }),
    /key that its issuer/,
  ],
  'one with another algorithm than its key': [
    async () => change(await issuer.sign(), 0, editJson({ alg: 'RS512' })),
    /key that its issuer/,
  ],
  'one whose claims were changed': [
    async () =>
      change(
        await issuer.sign({ claims: { repository_owner: 'x' } }),
        1,
        editJson({ repository_owner: 'bsd-kernels' }),
      ),
    /signature/,
  ],
  'one whose signature was changed': [
    async () =>
      change(await issuer.sign(), 2, (text) => (text.startsWith('A') ? `B${text.slice(1)}` : `A${text.slice(1)}`)),
    /signature/,
  ],
  'one whose signature was cut': [async () => change(await issuer.sign(), 2, (text) => text.slice(0, -8)), /signature/],
  'one with an empty signature': [async () => change(await issuer.sign(), 2, () => ''), /signature|malformed/],
  'one with an extension that must be understood': [
    () =>
      issuer
        .sign({ header: { crit: ['exp'], exp: 1 } })
        .catch(async () => change(await issuer.sign(), 0, editJson({ crit: ['x'], x: 1 }))),
    /malformed|signature/,
  ],
  'one whose payload is not encoded': [
    async () => change(await issuer.sign(), 0, editJson({ b64: false, crit: ['b64'] })),
    /malformed|signature/,
  ],
  'one whose header is no JSON': [async () => change(await issuer.sign(), 0, () => 'AAAA'), /malformed/],
  'one whose payload is no JSON': [async () => change(await issuer.sign(), 1, () => 'AAAA'), /issuer/],
  'one whose payload is a list': [async () => change(await issuer.sign(), 1, () => encode(['x'])), /issuer/],
  'one of two parts': [async () => (await issuer.sign()).split('.').slice(0, 2).join('.'), /not known/],
  'one of five parts': [async () => `${await issuer.sign()}.a.b`, /not known/],
  'two at once': [async () => `${await issuer.sign()}${await issuer.sign()}`, /not known/],
};

describe('a broken token gets nobody in', () => {
  test('and there are enough of them', () => {
    expect(Object.keys(BROKEN).length).toBeGreaterThanOrEqual(30);
  });

  test.each(Object.entries(BROKEN))('%s', async (_name, [make, why]) => {
    const one = await start();
    const token = await make();
    const answer = await ask(one, token);
    expect(verdict(answer)).toEqual(problem(401, 'unauthorized'));
    expect(answer.text).toMatch(why);
    expect(answer.headers['www-authenticate']).toBe('Bearer realm="bsdsyms", error="invalid_token"');
    await one.logged({ msg: 'request', reqId: answer.headers['x-request-id'] ?? '' });
    // Neither the token nor a part of it.
    for (const part of token.split('.').filter((text) => text.length > 12)) {
      expect(answer.text).not.toContain(part);
      expect(one.logText()).not.toContain(part);
    }
    expect(issuer.requests.filter((path) => path === '/evil')).toEqual([]);
    expect(await statusOf(one, await issuer.sign())).toBe(200);
  });
});

describe('spellings of the Authorization header', () => {
  const GOOD = [
    (token: string) => `Bearer ${token}`,
    (token: string) => `bearer ${token}`,
    (token: string) => `BEARER   ${token}`,
    (token: string) => `Bearer ${token}  `,
  ];
  const BAD = [
    (token: string) => token,
    () => '',
    () => 'Bearer',
    () => 'Bearer ',
    (token: string) => `Bearer${token}`,
    (token: string) => `Bearer: ${token}`,
    (token: string) => `Bearer=${token}`,
    (token: string) => `Bearer\t${token}`,
    (token: string) => `Bearer "${token}"`,
    (token: string) => `Bearer '${token}'`,
    (token: string) => `Bearer <${token}>`,
    (token: string) => `Bearer token=${token}`,
    (token: string) => `Bearer ${token},`,
    (token: string) => `Bearer ${token}, Bearer ${token}`,
    (token: string) => `Bearer ${token} ${token}`,
    (token: string) => `Bearer Bearer ${token}`,
    (token: string) => `Basic x, Bearer ${token}`,
    (token: string) => `Basic ${token}`,
    (token: string) => `Basic ${Buffer.from(`:${token}`).toString('base64')}`,
    (token: string) => `Basic ${Buffer.from(`${token}:`).toString('base64')}`,
    (token: string) => `Digest ${token}`,
    (token: string) => `Token ${token}`,
    (token: string) => `JWT ${token}`,
    (token: string) => `DPoP ${token}`,
    (token: string) => `Negotiate ${token}`,
    (token: string) => `Bearer ${encodeURIComponent(`${token} `)}`,
    (token: string) => `Bearer ${token}%00`,
    (token: string) => `Bearer ${token}\u00a0`,
  ];

  test('that are good', async () => {
    const one = await start({}, { BSDSYMS_TOKENS_FILE: directory.write('farm:sesame\n') });
    for (const spell of GOOD) {
      for (const token of ['sesame', await issuer.sign()]) {
        const authorization = spell(token);
        expect([authorization, (await post(one, '/layout', image, { authorization })).status]).toEqual([
          authorization,
          200,
        ]);
      }
    }
  });

  test('that are not', async () => {
    expect(BAD.length).toBeGreaterThanOrEqual(23);
    const one = await start({}, { BSDSYMS_TOKENS_FILE: directory.write('farm:sesame\n') });
    for (const spell of BAD) {
      for (const token of ['sesame', await issuer.sign()]) {
        const authorization = spell(token);
        const answer = await post(one, '/layout', image, { authorization });
        expect([authorization, verdict(answer)]).toEqual([authorization, problem(401, 'unauthorized')]);
      }
    }
  });

  test('twice, which two readers could read differently', async () => {
    const one = await start({}, { BSDSYMS_TOKENS_FILE: directory.write('farm:sesame\n') });
    for (const pair of [
      ['sesame', 'other'],
      ['other', 'sesame'],
      ['sesame', 'sesame'],
    ]) {
      const connection = await RawConnection.open(one.port);
      const fields = pair.map((token) => `Authorization: Bearer ${token}\r\n`).join('');
      const request = head('POST', '/layout', { 'Content-Length': image.length });
      await connection.send(request.replace(/\r\n\r\n$/, `\r\n${fields}\r\n`), image);
      const answer = await connection.answer();
      expect([pair, answer.status, answer.headers['www-authenticate']]).toEqual([
        pair,
        400,
        'Bearer realm="bsdsyms", error="invalid_request"',
      ]);
      connection.destroy();
    }
  });

  test('and no other place', async () => {
    const one = await start({}, { BSDSYMS_TOKENS_FILE: directory.write('farm:sesame\n') });
    for (const token of ['sesame', await issuer.sign()]) {
      for (const headers of [
        { 'proxy-authorization': `Bearer ${token}` },
        { cookie: `token=${token}` },
        { 'x-api-key': token },
      ]) {
        expect((await post(one, '/layout', image, headers)).status).toBe(401);
      }
      expect((await post(one, `/layout?access_token=${token}`, image)).status).toBe(401);
    }
  });
});

/** What an issuer may do instead of answering. */
const TROUBLES: Readonly<Record<string, TestIssuer['misbehaviour']>> = {
  'answers 500': (_request, response) => {
    response.writeHead(500).end('{}');
    return true;
  },
  redirects: (_request, response) => {
    response.writeHead(302, { location: '/jwks' }).end();
    return true;
  },
  'closes the connection': (_request, response) => {
    response.destroy();
    return true;
  },
  'sends no JSON': (_request, response) => {
    response.end('<html>');
    return true;
  },
  'sends a list': (_request, response) => {
    response.end('[]');
    return true;
  },
  'sends null': (_request, response) => {
    response.end('null');
    return true;
  },
  'is another one': (_request, response) => {
    response.end(JSON.stringify({ issuer: 'https://other.example', jwks_uri: `${issuer.url}/jwks` }));
    return true;
  },
  'has no keys': (_request, response) => {
    response.end(JSON.stringify({ issuer: issuer.url }));
    return true;
  },
  'has its keys where anyone could change them': (_request, response) => {
    response.end(JSON.stringify({ issuer: issuer.url, jwks_uri: 'http://keys.example/jwks' }));
    return true;
  },
  'sends keys that are none': (request, response) => {
    if (request.url !== '/jwks') return false;
    response.end(JSON.stringify({ keys: 'x' }));
    return true;
  },
};

describe('the keys of an issuer', () => {
  test('are fetched with the first token, and not again', async () => {
    const one = await start();
    expect(issuer.requests).toEqual([]);
    const tokens = await Promise.all(Array.from({ length: 20 }, () => issuer.sign()));
    expect(new Set(await Promise.all(tokens.map((token) => statusOf(one, token))))).toEqual(new Set([200]));
    expect(issuer.requests).toEqual(['/.well-known/openid-configuration', '/jwks']);
  });

  test('are not fetched for what is no token of the issuer', async () => {
    const one = await start();
    for (const token of ['x', 'a.b.c', await issuer.sign({ claims: { iss: 'https://elsewhere.example' } })]) {
      expect(await statusOf(one, token)).toBe(401);
    }
    expect(issuer.requests).toEqual([]);
  });

  test('may be somewhere else', async () => {
    issuer.misbehaviour = (request, response) => {
      if (request.url !== '/elsewhere') return false;
      response.end(JSON.stringify(issuer.jwks));
      return true;
    };
    const one = await start({ jwksUrl: `${issuer.url}/elsewhere` });
    expect(await statusOf(one, await issuer.sign())).toBe(200);
    expect(issuer.requests).toEqual(['/elsewhere']);
  });

  test('may be in a file, which is read again when it changes', async () => {
    const path = writeKeys(directory, issuer);
    const one = await start({ jwksFile: path });
    const old = await issuer.sign();
    expect(await statusOf(one, old)).toBe(200);
    issuer.keys = [await makeKey('second')];
    const fresh = await issuer.sign();
    expect(await statusOf(one, fresh)).toBe(401);
    writeKeys(directory, issuer);
    await expect.poll(() => statusOf(one, fresh), SOON).toBe(200);
    expect(await statusOf(one, old)).toBe(401);
    expect(issuer.requests).toEqual([]);
  });

  test('that cannot be told apart let nobody in without a kid', async () => {
    issuer.keys = [await makeKey('first'), await makeKey('second')];
    const one = await start();
    const answer = await ask(one, await issuer.sign({ header: { kid: undefined } }));
    expect(verdict(answer, '(kid)')).toEqual(problem(401, 'unauthorized'));
  });

  test.each(Object.entries(TROUBLES))(
    'are not there when the issuer %s: 503, and one attempt',
    async (_name, misbehaviour) => {
      issuer.misbehaviour = misbehaviour;
      const one = await start();
      const token = await issuer.sign();
      const answers = [await ask(one, token), ...(await Promise.all([ask(one, token), ask(one, token)]))];
      for (const answer of answers) {
        expect(verdict(answer)).toEqual(problem(503, 'issuer-unavailable'));
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
        expect(Number(answer.headers['retry-after'])).toBeLessThanOrEqual(30);
      }
      expect(issuer.requests.length).toBeLessThanOrEqual(2);
      expect(one.logs('the keys of an issuer of tokens could not be fetched')).toHaveLength(1);
    },
  );

  test('are not waited for without end', async () => {
    let open = 0;
    issuer.misbehaviour = (_request, response) => {
      open += 1;
      response.on('close', () => {
        open -= 1;
      });
      return true;
    };
    const one = await start({ jwksUrl: `${issuer.url}/jwks` });
    expect(verdict(await ask(one, await issuer.sign()))).toEqual(problem(503, 'issuer-unavailable'));
    await expect.poll(() => open, SOON).toBe(0);
  });

  test('are not read beyond a size', async () => {
    let sent = 0;
    issuer.misbehaviour = (_request, response) => {
      const fill = (): void => {
        while (!response.destroyed && sent < 1 << 30) {
          sent += 65_536;
          if (!response.write(Buffer.alloc(65_536, ' '))) return;
        }
      };
      response.on('drain', fill);
      fill();
      return true;
    };
    const one = await start({ jwksUrl: `${issuer.url}/jwks` });
    expect(verdict(await ask(one, await issuer.sign()))).toEqual(problem(503, 'issuer-unavailable'));
    expect(sent).toBeLessThan(64 << 20);
  });

  test('that are not there keep no slot, no body, and nobody else waiting', async () => {
    issuer.misbehaviour = () => true;
    const one = await start(
      { jwksUrl: `${issuer.url}/jwks` },
      { BSDSYMS_TOKENS_FILE: directory.write('farm:sesame\n') },
    );
    const waiting = ask(one, await issuer.sign());
    await expect.poll(() => issuer.requests.length, SOON).toBe(1);
    expect(one.app.upload.admission.running).toBe(0);
    expect(await statusOf(one, 'sesame')).toBe(200);
    // A client that leaves meanwhile.
    const connection = await RawConnection.open(one.port);
    await connection.send(
      head('POST', '/layout', { 'Content-Length': image.length, Authorization: `Bearer ${await issuer.sign()}` }),
      image.subarray(0, 9),
    );
    connection.destroy();
    expect((await waiting).status).toBe(503);
    await settled(one);
  });
});

describe('the log and the metrics', () => {
  test('have the name of a token, and never a token', async () => {
    const one = await start({}, { BSDSYMS_TOKENS_FILE: directory.write('farm-1:sesame-1\nsesame-2\n') });
    expect((await scrape(one)).samples('bsdsyms_client_uploads_total')).toHaveLength(3 * 4);
    const stranger = await issuer.sign({ claims: { repository_owner: 'x', sub: 'somebody' } });
    const good = await issuer.sign({ claims: { sub: `a\nb${'x'.repeat(1000)}` } });
    for (const [token, body, status, who] of [
      ['sesame-1', image, 200, { client: 'farm-1' }],
      ['sesame-1', 'no ELF', 422, { client: 'farm-1' }],
      ['sesame-1', '', 400, { client: 'farm-1' }],
      ['sesame-2', image, 200, { client: null }],
      [good, image, 200, { client: 'kernels', subject: `a\nb${'x'.repeat(253)}` }],
      [stranger, image, 403, {}],
      ['sesame-3', image, 401, {}],
    ] as const) {
      const answer = await post(one, '/layout', body, bearer(token));
      expect(answer.status).toBe(status);
      const line = await one.logged({ msg: 'request', reqId: answer.headers['x-request-id'] ?? '' });
      expect({ client: line['client'], subject: line['subject'] }).toEqual({
        client: undefined,
        subject: undefined,
        ...who,
      });
    }
    expect((await scrape(one)).counts('bsdsyms_client_uploads_total')).toEqual({
      'farm-1 ok': 1,
      'farm-1 broken': 1,
      'farm-1 refused': 1,
      'unnamed ok': 1,
      'kernels ok': 1,
    });
    expect(one.logText()).not.toMatch(/sesame|eyJ/);
  });
});

/** A service that lets in the tokens `own`, but not yet `other`. */
async function startWithFile(): Promise<{ path: string; one: Service; own: string; other: string }> {
  const path = issuer.configure(directory);
  const one = await startService({ BSDSYMS_OIDC_FILE: path });
  service = one;
  const [own, other] = [await issuer.sign(), await issuer.sign({ claims: { repository_owner: 'other' } })];
  expect([await statusOf(one, own), await statusOf(one, other)]).toEqual([200, 403]);
  return { path, one, own, other };
}

describe('a changed file', () => {
  test('keeps the keys that were fetched, and watches the files with keys that it names now', async () => {
    const { path, one, own, other } = await startWithFile();
    issuer.misbehaviour = TROUBLES['answers 500'] ?? (() => false);
    writeFileSync(path, JSON.stringify({ issuers: [issuer.entry({ claims: { repository_owner: 'other' } })] }));
    await expect.poll(() => statusOf(one, other), SOON).toBe(200);

    const keys = directory.write('{"keys": []}');
    writeFileSync(path, JSON.stringify({ issuers: [issuer.entry({ jwksFile: keys })] }));
    await expect.poll(() => statusOf(one, own), SOON).toBe(401);
    writeFileSync(keys, JSON.stringify(issuer.jwks));
    await expect.poll(() => statusOf(one, own), SOON).toBe(200);
  });

  test('is in force soon; one that cannot be used leaves the one before in force', async () => {
    const { path, one, own, other } = await startWithFile();
    const told = 'issuers of tokens could not be read again; those before stay in force';
    writeFileSync(path, '{"issuers": []}');
    await expect.poll(() => one.logs(told).length, SOON).toBe(1);
    expect(await statusOf(one, own)).toBe(200);
    writeFileSync(path, JSON.stringify({ issuers: [issuer.entry({ claims: { repository_owner: 'other' } })] }));
    await expect.poll(() => statusOf(one, other), SOON).toBe(200);
    expect(await statusOf(one, own)).toBe(403);
  });
});

const entry = (members: Readonly<Record<string, unknown>>): unknown => ({ issuers: [issuer.entry(members)] });

describe('a file that cannot be used stops the start', () => {
  test.each<[string, () => unknown, RegExp]>([
    ['no JSON', () => '{', /it is not JSON/],
    ['a list', () => [], /no object/],
    ['no issuers', () => ({}), /issuers/],
    ['an empty list', () => ({ issuers: [] }), /issuers/],
    ['an unknown member', () => ({ issuers: [], issuer: 'x' }), /member "issuer"/],
    ['an unknown member of an entry', () => entry({ audiences: ['x'] }), /member "audiences"/],
    ['no name', () => entry({ name: undefined }), /issuers\[0\]\.name/],
    ['a bad name', () => entry({ name: 'a b' }), /issuers\[0\]\.name/],
    ['no issuer', () => entry({ issuer: undefined }), /\.issuer/],
    ['an issuer without https', () => entry({ issuer: 'http://issuer.example' }), /https/],
    ['no audience', () => entry({ audience: undefined }), /audience/],
    ['an empty audience', () => entry({ audience: '' }), /audience/],
    ['no audiences', () => entry({ audience: [] }), /audience/],
    ['no claims, which would let everyone in', () => entry({ claims: undefined }), /claims has to name/],
    ['empty claims', () => entry({ claims: {} }), /claims has to name/],
    ['a claim without values', () => entry({ claims: { sub: [] } }), /claims\.sub/],
    ['a claim that is an object', () => entry({ claims: { sub: {} } }), /claims\.sub/],
    ['a file and a URL', () => entry({ jwksFile: 'x', jwksUrl: 'https://x.example' }), /jwksFile and a jwksUrl/],
    ['a URL without https', () => entry({ jwksUrl: 'http://x.example/jwks' }), /https/],
    ['a file that is missing', () => entry({ jwksFile: 'missing.json' }), /ENOENT/],
    ['a file that is no key set', () => entry({ jwksFile: directory.write('{}') }), /JSON Web Key Set/],
    ['two entries of one name', () => ({ issuers: [issuer.entry(), issuer.entry()] }), /name of another/],
    [
      'two places of the keys of one issuer',
      () => ({ issuers: [issuer.entry(), issuer.entry({ name: 'b', jwksUrl: `${issuer.url}/x` })] }),
      /other keys/,
    ],
  ])('%s', async (_name, make, words) => {
    const content = make();
    const path = directory.write(typeof content === 'string' ? content : JSON.stringify(content));
    const error: unknown = await buildApp(loadConfig({ BSDSYMS_OIDC_FILE: path }), pino({ level: 'silent' })).then(
      () => 'it was built',
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).message).toMatch(/^BSDSYMS_OIDC_FILE: [^\n]+$/);
    expect((error as ConfigError).message).toMatch(words);
  });
});

test('what tells of the service stays open', async () => {
  const one = await start();
  for (const path of ['/healthz', '/readyz', '/version', '/metrics', '/problems']) {
    expect([path, (await send(one, path)).status]).toEqual([path, 200]);
  }
});
