/** Who may upload, who may read the metrics, and how often. */

import { renameSync, writeFileSync } from 'node:fs';
import { pino } from 'pino';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { ConfigError, loadConfig } from '../../src/config.ts';
import { buildApp } from '../../src/http/app.ts';
import { goodFor, SERVICE_PATHS, UPLOAD_PATHS } from '../support/document.ts';
import { kernel } from '../support/elf-builder.ts';
import { imageForm } from '../support/forms.ts';
import { type Answer, post, postForm, problem, send, verdict } from '../support/http.ts';
import { SOON } from '../support/patience.ts';
import { Processes } from '../support/process.ts';
import { Exposition } from '../support/prometheus.ts';
import { head, RawConnection } from '../support/raw-http.ts';
import { NOTHING_OCCUPIED, occupied, type Service, startService } from '../support/service.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const image = kernel().bytes;
/** The metrics can have tokens of their own. */
const OPEN = SERVICE_PATHS.filter((path) => path !== '/metrics');

const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });

const directory = new TemporaryDirectory();
afterAll(() => directory.remove());

let service: Service | undefined;
async function start(env: Readonly<Record<string, string>>): Promise<Service> {
  service = await startService(env);
  return service;
}
afterEach(async () => {
  await service?.close();
  service = undefined;
});

/** The answer to one who has no (good) token. */
function expectUnauthorized(answer: Answer): void {
  expect(verdict(answer)).toEqual(problem(401, 'unauthorized'));
  expect(answer.headers['www-authenticate']).toMatch(/^Bearer realm="bsdsyms"(?:, error="invalid_token")?$/);
  expect(answer.headers['content-type']).toBe('application/problem+json');
  expect(answer.headers['x-request-id']).toMatch(/./);
}

const from = (address: string): Record<string, string> => ({ 'x-forwarded-for': address });

const statusWith = async (closed: Service, token: string): Promise<number> =>
  (await post(closed, '/bsdsyms', image, bearer(token))).status;

/** Uploads one after the other. @returns their status codes */
async function upload(limited: Service, count: number, headers: Record<string, string> = {}): Promise<number[]> {
  const codes: number[] = [];
  for (let sent = 0; sent < count; sent++) codes.push((await post(limited, '/bsdsyms', image, headers)).status);
  return codes;
}

describe('tokens', () => {
  test('are not asked for by default', async () => {
    const open = await start({});
    for (const path of UPLOAD_PATHS) expect((await post(open, path, goodFor(path))).status).toBe(200);
    expect((await post(open, '/bsdsyms', image, bearer('whatever'))).status).toBe(200);
  });

  test.each(UPLOAD_PATHS)('are asked for by %s', async (path) => {
    const good = goodFor(path);
    const closed = await start({ BSDSYMS_TOKENS_FILE: directory.write('# farm\nright-1\nright-2\n') });
    const wrong = [
      {},
      bearer(''),
      bearer('wrong'),
      bearer('right-1right-2'),
      bearer('# farm'),
      { authorization: 'right-1' },
      { authorization: 'Basic right-1' },
      { authorization: 'Digest username="right-1"' },
      { 'proxy-authorization': 'Bearer right-1' },
      { cookie: 'token=right-1' },
    ];
    for (const headers of wrong) expectUnauthorized(await post(closed, path, good, headers));
    expectUnauthorized(await post(closed, `${path}?access_token=right-1`, good));
    expectUnauthorized(await postForm(closed, path, imageForm(good, { access_token: 'right-1' })));
    for (const authorization of ['Bearer right-1', 'bearer right-2', 'BEARER right-1']) {
      expect((await post(closed, path, good, { authorization })).status).toBe(200);
    }
    expect((await postForm(closed, path, imageForm(good), bearer('right-2'))).status).toBe(200);
  });

  test('are looked at before anything else of an upload', async () => {
    const closed = await start({ BSDSYMS_TOKENS_FILE: directory.write('right\n'), BSDSYMS_MAX_UPLOADS: '1' });
    expectUnauthorized(await post(closed, '/bsdsyms?unknown=1', '', { 'content-type': 'text/plain', accept: '*/*' }));
    // A body that nobody invited is not sent, and takes no place.
    const connection = await RawConnection.open(closed.port);
    await connection.send(head('POST', '/bsdsyms', { 'Content-Length': image.length, Expect: '100-continue' }));
    const answer = await connection.answer();
    expect([answer.status, answer.headers['connection']]).toEqual([401, 'close']);
    expect(await connection.ended()).toBe('');
    expect(occupied(closed)).toEqual(NOTHING_OCCUPIED);
  });

  test('are asked for even when a large body is on its way', async () => {
    const closed = await start({ BSDSYMS_TOKENS_FILE: directory.write('right\n') });
    const large = new Uint8Array(8 << 20);
    expectUnauthorized(await post(closed, '/bsdsyms', large));
    expect(occupied(closed)).toEqual(NOTHING_OCCUPIED);
    expect((await post(closed, '/bsdsyms', image, bearer('right'))).status).toBe(200);
  });

  test('are not asked for by what tells of the service', async () => {
    const closed = await start({ BSDSYMS_TOKENS_FILE: directory.write('right\n') });
    for (const path of SERVICE_PATHS) {
      expect([path, (await send(closed, path)).status]).toEqual([path, 200]);
      expect([path, (await send(closed, path, { headers: bearer('wrong') })).status]).toEqual([path, 200]);
    }
    expect((await send(closed, '/nowhere')).status).toBe(404);
    expect((await send(closed, '/bsdsyms', { method: 'DELETE' })).status).toBe(405);
  });

  test('are never in the log, right or wrong, nor in an answer', async () => {
    const closed = await start({
      BSDSYMS_TOKENS_FILE: directory.write('sesame-right\n'),
      BSDSYMS_METRICS_TOKENS_FILE: directory.write('sesame-metrics\n'),
      LOG_LEVEL: 'trace',
    });
    const answers = [
      await post(closed, '/bsdsyms', image, bearer('sesame-right')),
      await post(closed, '/bsdsyms', 'no ELF', bearer('sesame-right')),
      await post(closed, '/bsdsyms', image, bearer('sesame-wrong')),
      await post(closed, '/bsdsyms', image, { authorization: 'Basic sesame-basic' }),
      await send(closed, '/metrics', { headers: bearer('sesame-metrics') }),
      await send(closed, '/metrics', { headers: bearer('sesame-right') }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 422, 401, 401, 200, 401]);
    await closed.logged({ msg: 'request', reqId: answers.at(-1)?.headers['x-request-id'] ?? '' });
    expect(closed.logs('request').length).toBe(answers.length);
    expect(closed.logText()).not.toContain('sesame');
    for (const { text } of answers) expect(text).not.toContain('sesame');
  });
});

describe('tokens of the metrics', () => {
  test('are their own', async () => {
    const closed = await start({
      BSDSYMS_TOKENS_FILE: directory.write('upload\n'),
      BSDSYMS_METRICS_TOKENS_FILE: directory.write('metrics\n'),
    });
    expectUnauthorized(await send(closed, '/metrics'));
    expectUnauthorized(await send(closed, '/metrics', { headers: bearer('upload') }));
    expectUnauthorized(await post(closed, '/bsdsyms', image, bearer('metrics')));
    const { status, text } = await send(closed, '/metrics', { headers: bearer('metrics') });
    expect(status).toBe(200);
    expect(new Exposition(text).counts('bsdsyms_http_requests_total')).toMatchObject({ '/metrics GET 401': 2 });
    for (const path of OPEN) expect([path, (await send(closed, path)).status]).toEqual([path, 200]);
  });

  test('leave uploads open when only they are set', async () => {
    const half = await start({ BSDSYMS_METRICS_TOKENS_FILE: directory.write('metrics\n') });
    expect((await post(half, '/bsdsyms', image)).status).toBe(200);
    expectUnauthorized(await send(half, '/metrics'));
  });
});

describe('a changed tokens file', () => {
  test('is in force soon; one that cannot be used leaves those before in force, and is told', async () => {
    const path = directory.write('first\n');
    const closed = await start({ BSDSYMS_TOKENS_FILE: path });
    expect([await statusWith(closed, 'first'), await statusWith(closed, 'second')]).toEqual([200, 401]);

    writeFileSync(path, '# rotated\nsecond\nthird\n');
    await expect.poll(() => statusWith(closed, 'second'), SOON).toBe(200);
    expect([await statusWith(closed, 'first'), await statusWith(closed, 'third')]).toEqual([401, 200]);

    const told = 'tokens could not be read again; those before stay in force';
    renameSync(directory.write('not a token: fourth\n'), path);
    await expect.poll(() => closed.logs(told).length, SOON).toBe(1);
    expect(closed.logs(told)[0]).toMatchObject({ level: 50 });
    expect([await statusWith(closed, 'second'), await statusWith(closed, 'fourth')]).toEqual([200, 401]);

    writeFileSync(path, 'fifth\n');
    await expect.poll(() => statusWith(closed, 'fifth'), SOON).toBe(200);
    expect(await statusWith(closed, 'second')).toBe(401);
    expect(closed.logText()).not.toMatch(/first|second|third|fourth|fifth/);
  });
});

describe.each(['BSDSYMS_TOKENS_FILE', 'BSDSYMS_METRICS_TOKENS_FILE'])('%s', (name) => {
  test.each([
    ['that is missing', () => directory.file('missing')],
    ['that is a directory', () => directory.path],
    ['without a token', () => directory.write('# nothing\n\n')],
    ['with what is no token', () => directory.write('sesame open\n')],
  ])('stops the start for a file %s', async (_name, makePath) => {
    const building = buildApp(loadConfig({ [name]: makePath() }), pino({ level: 'silent' }));
    const error: unknown = await building.then(
      () => 'it was built',
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ConfigError);
    const { message } = error as ConfigError;
    expect(message).toMatch(new RegExp(`^${name}: [^\\n]+$`));
    expect(message).not.toContain('sesame');
  });
});

describe('the rate limit', () => {
  test('is off by default', async () => {
    const open = await start({});
    expect(new Set(await upload(open, 60))).toEqual(new Set([200]));
    const { headers } = await post(open, '/bsdsyms', image);
    expect(Object.keys(headers).filter((name) => /ratelimit|retry-after/.test(name))).toEqual([]);
  });

  test('is told with every answer, and refuses what is beyond', async () => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '3' });
    for (const remaining of ['2', '1', '0']) {
      const { status, headers } = await post(limited, '/bsdsyms', image);
      expect([status, headers['ratelimit-limit'], headers['ratelimit-remaining']]).toEqual([200, '3', remaining]);
      expect(Number(headers['ratelimit-reset'])).toBeGreaterThan(0);
      expect(Number(headers['ratelimit-reset'])).toBeLessThanOrEqual(60);
      expect(headers['retry-after']).toBeUndefined();
    }
    for (let refused = 0; refused < 2; refused++) {
      const answer = await post(limited, '/bsdsyms', image);
      expect(verdict(answer, '3 uploads a minute')).toEqual(problem(429, 'rate-limited'));
      expect(answer.headers['content-type']).toBe('application/problem+json');
      expect([answer.headers['ratelimit-limit'], answer.headers['ratelimit-remaining']]).toEqual(['3', '0']);
      for (const name of ['retry-after', 'ratelimit-reset']) {
        expect(answer.headers[name]).toMatch(/^\d+$/);
        expect(Number(answer.headers[name])).toBeGreaterThan(0);
        expect(Number(answer.headers[name])).toBeLessThanOrEqual(60);
      }
    }
    expect(occupied(limited)).toEqual(NOTHING_OCCUPIED);
  });

  test('counts uploads only', async () => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '1' });
    for (let round = 0; round < 3; round++) {
      for (const path of SERVICE_PATHS) expect([path, (await send(limited, path)).status]).toEqual([path, 200]);
      expect((await send(limited, '/bsdsyms', { method: 'DELETE' })).status).toBe(405);
    }
    expect(await upload(limited, 2)).toEqual([200, 429]);
    for (const path of SERVICE_PATHS) expect([path, (await send(limited, path)).status]).toEqual([path, 200]);
  });

  test('is one for all routes that take an upload', async () => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: String(UPLOAD_PATHS.length - 1) });
    const codes: number[] = [];
    for (const path of UPLOAD_PATHS) codes.push((await post(limited, path, goodFor(path))).status);
    expect(codes).toEqual(UPLOAD_PATHS.map((_, index) => (index < UPLOAD_PATHS.length - 1 ? 200 : 429)));
  });

  test('counts attempts without a good token, too', async () => {
    const limited = await start({
      BSDSYMS_RATE_LIMIT_PER_MINUTE: '3',
      BSDSYMS_TOKENS_FILE: directory.write('right\n'),
    });
    expect(await upload(limited, 2, bearer('guess'))).toEqual([401, 401]);
    expect(await upload(limited, 2, bearer('right'))).toEqual([200, 429]);
    expect(await upload(limited, 1, bearer('guess'))).toEqual([429]);
  });

  test('counts the clients behind a trusted proxy apart', async () => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '2', BSDSYMS_TRUST_PROXY: '127.0.0.1,10.9.0.0/16' });
    expect(await upload(limited, 3, from('192.0.2.1'))).toEqual([200, 200, 429]);
    expect(await upload(limited, 3, from('192.0.2.2'))).toEqual([200, 200, 429]);
    // Through a second trusted proxy it is still the first client.
    expect(await upload(limited, 1, from('192.0.2.1, 10.9.8.7'))).toEqual([429]);
    // What stands left of the client was written by the client.
    expect(await upload(limited, 1, from('192.0.2.99, 192.0.2.2'))).toEqual([429]);
    // The proxy itself is a client, too.
    expect(await upload(limited, 3)).toEqual([200, 200, 429]);
  });

  test('counts a client behind a proxy once, however the proxy writes its address', async () => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '2', BSDSYMS_TRUST_PROXY: '127.0.0.1,10.9.0.0/16' });
    const codes: number[] = [];
    for (const address of [
      '192.0.2.1:1001',
      '192.0.2.1:1002',
      '::ffff:192.0.2.1',
      '[::ffff:192.0.2.1]:9, 10.9.1.1:80',
    ]) {
      codes.push(...(await upload(limited, 1, from(address))));
    }
    expect(codes).toEqual([200, 200, 429, 429]);
  });

  test('counts what a proxy writes that is no address as the proxy', async () => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '2', BSDSYMS_TRUST_PROXY: '127.0.0.1' });
    const codes: number[] = [];
    for (const garbage of ['unknown', '_a1', "'; drop", '192.0.2.1:port']) {
      codes.push(...(await upload(limited, 1, from(garbage))));
    }
    expect(codes).toEqual([200, 200, 429, 429]);
    expect(await upload(limited, 1)).toEqual([429]);
  });

  test('counts all addresses of an IPv6 network together', async () => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '2', BSDSYMS_TRUST_PROXY: '127.0.0.1' });
    const codes: number[] = [];
    for (const host of [':1', 'ffff:1:2:3', ':abcd:0']) {
      codes.push(...(await upload(limited, 1, from(`2001:db8:0:1:${host}`))));
    }
    expect(codes).toEqual([200, 200, 429]);
    expect(await upload(limited, 1, from('2001:db8:0:2::1'))).toEqual([200]);
  });

  test.each([
    ['nobody', ''],
    ['others only', '10.0.0.0/8,::1'],
  ])('does not believe X-Forwarded-For when %s may send it', async (_name, trusted) => {
    const limited = await start({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '2', BSDSYMS_TRUST_PROXY: trusted });
    const codes: number[] = [];
    for (let client = 1; client <= 3; client++) {
      const address = `192.0.2.${client}`;
      codes.push(...(await upload(limited, 1, { 'x-forwarded-for': address, forwarded: `for=${address}` })));
    }
    expect(codes).toEqual([200, 200, 429]);
  });
});

describe.concurrent('a start without tokens', () => {
  const processes = new Processes();
  afterAll(() => processes.endAll());
  /** An address of documentation (RFC 5737) that no machine has: the process warns, then cannot listen. */
  const NOWHERE = '192.0.2.1';

  test('on a public address is warned of in one line', async () => {
    const child = processes.start({ HOST: NOWHERE });
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(child.logs({ level: 40 })).toEqual([
      expect.objectContaining({ host: NOWHERE, msg: expect.stringContaining('BSDSYMS_TOKENS_FILE') as string }),
    ]);
    expect(child.logs({ msg: 'cannot listen' })).toHaveLength(1);
  });

  test('is not warned of with tokens', async () => {
    const child = processes.start({ HOST: NOWHERE, BSDSYMS_TOKENS_FILE: directory.write('right\n') });
    expect(await child.exited).toEqual({ code: 1, signal: null });
    expect(child.logs().map(({ msg }) => msg)).toEqual(['cannot listen']);
  });

  test('is not warned of on the loopback', async () => {
    const child = processes.start({ HOST: 'localhost' });
    await child.listening();
    expect(child.logs({ level: 40 })).toEqual([]);
  });
});
