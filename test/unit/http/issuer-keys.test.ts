/** How often an issuer is asked for its keys, and how long they are used: on a clock of the test's. */
import * as jose from 'jose';
import { pino } from 'pino';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { IssuerKeys, KeysUnavailable } from '../../../src/http/issuer-keys.ts';
import { makeKey, TestIssuer } from '../../support/issuer.ts';
import { SOON } from '../../support/patience.ts';

const issuer = await TestIssuer.start();
afterAll(() => issuer.close());

let now: number;
/** Attempts that have failed. */
let failures: number;
let keys: IssuerKeys;
const SECONDS = 1000;
const MINUTES = 60 * SECONDS;

beforeEach(async () => {
  now = 1000;
  failures = 0;
  issuer.keys = [await makeKey('first')];
  issuer.misbehaviour = () => false;
  issuer.requests.length = 0;
  const jwksUrl = new URL(`${issuer.url}/jwks`);
  keys = new IssuerKeys(
    jose,
    { issuer: issuer.url, jwksUrl },
    pino(
      { level: 'error' },
      {
        write: () => {
          failures += 1;
        },
      },
    ),
    { now: () => now },
  );
});

const fail = (): void => {
  issuer.misbehaviour = (_request, response) => {
    response.writeHead(500).end();
    return true;
  };
};
const verify = async (token: string): Promise<string> => {
  try {
    await jose.jwtVerify(token, keys.find);
    return 'good';
  } catch (error) {
    return error instanceof KeysUnavailable ? 'unavailable' : ((error as { readonly code?: string }).code ?? 'other');
  }
};

describe('keys', () => {
  test('that are unknown are fetched once in 30 s, whoever asks', async () => {
    expect(await verify(await issuer.sign())).toBe('good');
    const strange = await issuer.sign({ key: await makeKey('strange') });
    for (let round = 0; round < 10; round++) {
      now += 1 * SECONDS;
      expect(await verify(strange)).toBe('ERR_JWKS_NO_MATCHING_KEY');
    }
    expect(issuer.requests).toHaveLength(1);
    now += 21 * SECONDS;
    const answers = await Promise.all(Array.from({ length: 10 }, () => verify(strange)));
    expect(new Set(answers)).toEqual(new Set(['ERR_JWKS_NO_MATCHING_KEY']));
    expect(issuer.requests).toHaveLength(2);
  });

  test('that are new are found, and those that are gone let nobody in', async () => {
    const old = await issuer.sign();
    expect(await verify(old)).toBe('good');
    issuer.keys = [await makeKey('second')];
    now += 31 * SECONDS;
    expect(await verify(await issuer.sign())).toBe('good');
    expect(issuer.requests).toHaveLength(2);
    now += 31 * SECONDS;
    expect(await verify(old)).toBe('ERR_JWKS_NO_MATCHING_KEY');
  });

  test('that are 10 minutes old are fetched again while they are used', async () => {
    const old = await issuer.sign();
    expect(await verify(old)).toBe('good');
    issuer.keys = [await makeKey('second')];
    now += 11 * MINUTES;
    expect(await verify(old)).toBe('good');
    await expect.poll(() => verify(old), SOON).toBe('ERR_JWKS_NO_MATCHING_KEY');
    expect(issuer.requests).toHaveLength(2);
  });

  test('outlive an issuer that is down by an hour, and no longer', async () => {
    const token = await issuer.sign({ expires: 36_000 });
    expect(await verify(token)).toBe('good');
    fail();
    for (let minutes = 0; minutes < 59; minutes++) {
      now += 1 * MINUTES;
      expect(await verify(token)).toBe('good');
      // After ten minutes each goes with an attempt, which has to come to its end.
      await expect.poll(() => failures, SOON).toBe(Math.max(0, minutes - 9));
    }
    now += 2 * MINUTES;
    expect(await verify(token)).toBe('unavailable');
    // It is back.
    issuer.misbehaviour = () => false;
    expect(await verify(token)).toBe('unavailable');
    now += 31 * SECONDS;
    expect(await verify(token)).toBe('good');
  });

  test('of which nobody knows whether they are there are unavailable, not wrong', async () => {
    expect(await verify(await issuer.sign())).toBe('good');
    fail();
    const fresh = await issuer.sign({ key: await makeKey('second') });
    now += 31 * SECONDS;
    expect(await verify(fresh)).toBe('unavailable');
    expect(await verify(fresh)).toBe('unavailable');
    expect(issuer.requests).toHaveLength(2);
  });
});
