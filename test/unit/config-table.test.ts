/** Every setting of the table: what it takes, and that what it does not take is refused in one line that names it. */
import { availableParallelism } from 'node:os';
import { describe, expect, test } from 'vitest';
import {
  type Config,
  ConfigError,
  describeSettings,
  loadConfig,
  readSettings,
  SETTING_KEYS,
  SETTINGS,
} from '../../src/config.ts';

type Key = keyof typeof SETTINGS;
const keys = Object.keys(SETTINGS) as Key[];

/** What no number is. */
const NO_NUMBERS = [
  '-1',
  '1.5',
  '1e3',
  '0x10',
  '+1',
  ' 1',
  '1 ',
  '1\n',
  '1_000',
  '1,000',
  'one',
  'NaN',
  'Infinity',
  '١',
];
const TOO_LARGE = ['9007199254740992', '9999999999999999', '10000000000000000', '1'.repeat(400)];
const BYTES = [...NO_NUMBERS, ...TOO_LARGE, '2GiB', '1k'];
const TIMES = [...NO_NUMBERS, ...TOO_LARGE, '1000000001', '2147483647', '10s'];
const PATHS = ['relative', './relative', '../relative', '~/file', 'file:///x', ' /x', '.'];

/** Wrong values of each setting; a setting without any does not compile. */
const WRONG: Readonly<Record<Key, readonly [string, ...string[]]>> = {
  port: ['-1', '65536', 'http', ...NO_NUMBERS, ...TOO_LARGE],
  host: ['a b', 'http://x', 'x/24', '[::1]', 'x\ny', 'ä', 'x'.repeat(254)],
  logLevel: ['loud', 'INFO', ' info', 'info,debug', '30', 'constructor'],
  page: ['On', 'true', '1', 'on,off'],
  maxImageBytes: ['0', ...BYTES],
  maxBlobBytes: ['0', ...BYTES],
  maxFlatBytes: ['0', ...BYTES],
  memoryBudgetBytes: ['-0', ...BYTES],
  spoolDir: ['', ...PATHS].slice(1) as [string, ...string[]],
  spoolBudgetBytes: ['-0', ...BYTES],
  maxConnections: ['0', '1000001', ...NO_NUMBERS, ...TOO_LARGE],
  maxUploads: ['0', '10001', ...NO_NUMBERS, ...TOO_LARGE],
  maxUploadsPerClient: ['-0', '10001', ...NO_NUMBERS, ...TOO_LARGE],
  maxQueuedUploads: ['10001', ...NO_NUMBERS, ...TOO_LARGE],
  queueTimeoutMs: ['-0', ...TIMES],
  stallTimeoutMs: ['0', '99', ...TIMES],
  minAnswerBytesPerSecond: ['-0', ...BYTES],
  uploadTimeoutMs: ['0', '99', ...TIMES],
  keepAliveTimeoutMs: ['0', ...TIMES],
  shutdownGraceMs: ['-0', ...TIMES],
  shutdownDelayMs: ['-0', ...TIMES],
  workers: ['0', '257', 'Auto', 'all', ...NO_NUMBERS, ...TOO_LARGE],
  tokensFile: ['tokens', ...PATHS],
  metricsTokensFile: ['tokens', ...PATHS],
  oidcFile: ['oidc.json', ...PATHS],
  rateLimitPerMinute: ['1000001', ...NO_NUMBERS, ...TOO_LARGE],
  trustProxy: [
    'true',
    '*',
    'localhost',
    '10.0.0.1,',
    ',',
    '10.0.0.1 10.0.0.2',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0/8',
    '::/129',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    '256.0.0.1',
  ],
  imageSources: ['artifacts.example', 'ftp://artifacts.example/', 'file://host/x', 'https://', 'https://a/ x', ','],
  imageSourceHeadersFile: ['relative', './relative'],
  sourceMaxRequests: ['0', ...NO_NUMBERS],
  sourceConnectTimeoutMs: ['0', ...TIMES],
  sourceStallTimeoutMs: ['0', ...TIMES],
  sourceTimeoutMs: ['0', ...TIMES],
  tlsCertFile: ['cert.pem', ...PATHS],
  tlsKeyFile: ['key.pem', ...PATHS],
};

/** Values at the edges of what is taken, and what becomes of them. */
const RIGHT: { readonly [K in Key]: readonly (readonly [string, Config[K]])[] } = {
  port: [
    ['0', 0],
    ['65535', 65_535],
    ['0080', 80],
  ],
  host: [
    ['0.0.0.0', '0.0.0.0'],
    ['::', '::'],
    ['a-b.example.org', 'a-b.example.org'],
  ],
  logLevel: [
    ['silent', 'silent'],
    ['trace', 'trace'],
  ],
  page: [
    ['on', 'on'],
    ['off', 'off'],
  ],
  maxImageBytes: [
    ['1', 1],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ],
  maxBlobBytes: [['1', 1]],
  maxFlatBytes: [['1', 1]],
  memoryBudgetBytes: [['0', 0]],
  spoolDir: [['/', '/']],
  spoolBudgetBytes: [['0', 0]],
  maxConnections: [
    ['1', 1],
    ['1000000', 1_000_000],
  ],
  maxUploads: [
    ['1', 1],
    ['10000', 10_000],
  ],
  maxUploadsPerClient: [['0', 0]],
  maxQueuedUploads: [
    ['0', 0],
    ['10000', 10_000],
  ],
  queueTimeoutMs: [
    ['0', 0],
    ['1000000000', 1_000_000_000],
  ],
  stallTimeoutMs: [
    ['100', 100],
    ['1000000000', 1_000_000_000],
  ],
  minAnswerBytesPerSecond: [['0', 0]],
  uploadTimeoutMs: [['100', 100]],
  keepAliveTimeoutMs: [['1', 1]],
  shutdownGraceMs: [['0', 0]],
  shutdownDelayMs: [['0', 0]],
  workers: [
    ['1', 1],
    ['256', 256],
    ['auto', availableParallelism()],
  ],
  tokensFile: [['/x/tokens', '/x/tokens']],
  metricsTokensFile: [['/x/tokens', '/x/tokens']],
  oidcFile: [['/x/oidc.json', '/x/oidc.json']],
  rateLimitPerMinute: [
    ['0', 0],
    ['1000000', 1_000_000],
  ],
  trustProxy: [
    ['10.0.0.1', ['10.0.0.1']],
    ['10.0.0.0/8, ::1,fc00::/7', ['10.0.0.0/8', '::1', 'fc00::/7']],
    ['0.0.0.0/0,::/128', ['0.0.0.0/0', '::/128']],
  ],
  imageSources: [
    ['https://artifacts.example/kernels/', ['https://artifacts.example/kernels/']],
    ['http://10.0.0.5:8000/, file:///srv/kernels/', ['http://10.0.0.5:8000/', 'file:///srv/kernels/']],
  ],
  imageSourceHeadersFile: [['/etc/bsdsyms/headers.json', '/etc/bsdsyms/headers.json']],
  sourceMaxRequests: [
    ['1', 1],
    ['1000000', 1_000_000],
  ],
  sourceConnectTimeoutMs: [['1', 1]],
  sourceStallTimeoutMs: [['15000', 15_000]],
  sourceTimeoutMs: [['1000000000', 1_000_000_000]],
  tlsCertFile: [['/x/cert.pem', '/x/cert.pem']],
  tlsKeyFile: [['/x/key.pem', '/x/key.pem']],
};

function refusal(env: Readonly<Record<string, string>>): string {
  try {
    loadConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return 'it was taken';
}

describe.each(keys)('%s', (key) => {
  const { name, kind, fallback } = SETTINGS[key];

  test.each([...WRONG[key]].map((value) => [JSON.stringify(value).slice(0, 40), value]))(
    'refuses %s',
    (_shown, value) => {
      const message = refusal({ [name]: value });
      const start = `${name}: must be ${kind.accepts}, not `;
      expect(message.slice(0, start.length)).toBe(start);
      expect(message).not.toMatch(/[\r\n\u2028\u2029]/);
    },
  );

  test.each(RIGHT[key].map(([text, value]) => [text, value]))('takes %s', (text, value) => {
    expect(readSettings({ [name]: text }, SETTING_KEYS)).toEqual({ ...loadConfig({}), [key]: value });
  });

  test('has its default when it is unset or empty', () => {
    expect(loadConfig({})[key]).toEqual(fallback);
    expect(loadConfig({ [name]: '' })[key]).toEqual(fallback);
  });

  test('takes its own default', () => {
    const isText = typeof fallback === 'string' || typeof fallback === 'number';
    const text = isText ? String(fallback) : '';
    expect(loadConfig({ [name]: text })).toEqual(loadConfig({}));
  });

  test('is documented by its name', () => {
    const rows = describeSettings().split('\n');
    expect(rows.filter((row) => row.startsWith(`| \`${name}\` |`))).toHaveLength(1);
  });
});

test('the names differ, and are those of the environment', () => {
  const names = Object.values(SETTINGS).map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^(?:PORT|HOST|LOG_LEVEL|BSDSYMS_[A-Z_]+)$/);
});

test.each(['BSDSYMS_', 'BSDSYMS_PORT', 'BSDSYMS_WORKER', 'BSDSYMS_TOKENS', 'BSDSYMS_MAX_image_bytes'])(
  '%s is refused, as there is no such setting',
  (name) => {
    expect(refusal({ [name]: '1' })).toBe(`${name}: there is no such setting`);
    expect(refusal({ [name]: '' })).toBe(`${name}: there is no such setting`);
  },
);

test('what does not begin like a setting is none of ours', () => {
  expect(loadConfig({ PATH: '/bin', XBSDSYMS_PORT: '1', bsdsyms_port: '1', OTEL_SDK_DISABLED: 'true' })).toEqual(
    loadConfig({}),
  );
});

test('the settings in use cannot be changed', () => {
  const config = loadConfig({});
  expect(Object.isFrozen(config)).toBe(true);
});
