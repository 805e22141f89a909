import { availableParallelism } from 'node:os';
import { describe, expect, test } from 'vitest';
import {
  type Config,
  ConfigError,
  describeRelations,
  describeSettings,
  loadConfig,
  MAX_MILLISECONDS,
  RELATIONS,
  readSettings,
  SETTING_KEYS,
  SETTINGS,
} from '../../src/config.ts';

const settings = Object.entries(SETTINGS).map(([key, setting]) => Object.assign({ key: key as keyof Config }, setting));
type AnySetting = (typeof settings)[number];

/** Texts of each kind of value, by what the setting itself says that it accepts. */
interface Samples {
  readonly good: readonly (readonly [text: string, value: unknown])[];
  readonly bad: readonly string[];
}

const NOT_INTEGERS = [
  'x',
  '-1',
  '+1',
  '1.5',
  '1e3',
  '0x10',
  '1_000',
  '1k',
  '1 ',
  ' 1',
  '１',
  'NaN',
  'Infinity',
  '9'.repeat(17),
];

function integers(min: number, max: number): Samples {
  const below = min > 0 ? [String(min - 1)] : [];
  const above = max < Number.MAX_SAFE_INTEGER ? [String(max + 1)] : [String(2n ** 53n)];
  const good = [min, min + 1, max].map((value) => [String(value), value] as const);
  return { good: [...good, [`00${min}`, min]], bad: [...NOT_INTEGERS, ...below, ...above] };
}

function samplesOf({ name, kind: { accepts } }: AnySetting): Samples {
  const range = /^a whole number from (\d+)(?: on| to (\d+))$/.exec(accepts);
  if (range !== null) return integers(Number(range[1]), Number(range[2] ?? Number.MAX_SAFE_INTEGER));
  if (accepts.startsWith('an absolute path')) {
    return { good: ['/', '/var/spool/x y'].map((path) => [path, path]), bad: ['relative', './here', '~', ' /tmp'] };
  }
  if (accepts === 'a host name or an IP address') {
    const good = ['localhost', '0.0.0.0', '::1', 'a-b.example'];
    return { good: good.map((host) => [host, host]), bad: ['a b', 'http://x', 'a/b', '[::1]', 'x'.repeat(254)] };
  }
  if (accepts.startsWith('`auto`')) {
    const { bad } = integers(1, 256);
    return {
      good: [
        ['auto', availableParallelism()],
        ['1', 1],
        ['256', 256],
      ],
      bad: [...bad, 'AUTO'],
    };
  }
  if (accepts.startsWith('IP addresses')) {
    return {
      good: [
        ['10.0.0.1', ['10.0.0.1']],
        ['10.0.0.0/8, ::1', ['10.0.0.0/8', '::1']],
        ['fd00::/128,0.0.0.0/0', ['fd00::/128', '0.0.0.0/0']],
      ],
      bad: [
        'proxy.example',
        '10.0.0',
        '10.0.0.0/33',
        '::/129',
        '10.0.0.0/8/8',
        '10.0.0.1,',
        ',',
        '10.0.0.0/',
        '10.0.0.1 ::1',
      ],
    };
  }
  if (accepts.startsWith('URLs that begin with')) {
    return {
      good: [
        ['https://a.example/', ['https://a.example/']],
        ['https://a.example/x/, file:///srv/', ['https://a.example/x/', 'file:///srv/']],
        ['http://10.0.0.1:8080/k/', ['http://10.0.0.1:8080/k/']],
      ],
      bad: ['ftp://a.example/', 'file://a.example/x/', 'file:///', 'https://', 'a.example', 'https://a.example/,'],
    };
  }
  if (/^\w+(, \w+)+$/.test(accepts)) {
    const values = accepts.split(', ');
    return {
      good: values.map((value) => [value, value]),
      bad: ['x', ...values.flatMap((value) => [value.toUpperCase(), ` ${value}`, `${value},`])],
    };
  }
  throw new Error(`${name} accepts ${accepts}: add samples of that to this test`);
}

const allOf = (kind: keyof Samples): (readonly [string, AnySetting, string, unknown])[] =>
  settings.flatMap((setting) =>
    samplesOf(setting)[kind].map((sample) =>
      typeof sample === 'string'
        ? ([setting.name, setting, sample, undefined] as const)
        : ([setting.name, setting, sample[0], sample[1]] as const),
    ),
  );

const defaults = Object.fromEntries(settings.map(({ key, fallback }) => [key, fallback]));

describe('loadConfig', () => {
  test('has defaults for everything', () => {
    expect(loadConfig({})).toEqual(defaults);
  });

  test('gives settings that cannot be changed', () => {
    expect(Object.isFrozen(loadConfig({}))).toBe(true);
  });

  test.each(allOf('good'))('%s takes good values', (name, { key }, text, value) => {
    expect(readSettings({ [name]: text }, SETTING_KEYS)).toEqual({ ...defaults, [key]: value });
  });

  test.each(allOf('bad'))('%s refuses bad values', (name, { kind }, text) => {
    expect(() => loadConfig({ [name]: text })).toThrow(
      new ConfigError(`${name}: must be ${kind.accepts}, not ${JSON.stringify(text)}`),
    );
  });

  test.each(settings)('$name is unset when it is empty or missing', ({ name }) => {
    expect(loadConfig({ [name]: '' })).toEqual(defaults);
    expect(loadConfig({ [name]: undefined })).toEqual(defaults);
  });

  test.each(settings)('$name is told on one line, whatever it was', ({ name }) => {
    const message = messageOf(() => loadConfig({ [name]: 'a\nb\r\u2028"' }));
    expect(message).toMatch(new RegExp(`^${name}: `));
    expect(message).not.toMatch(/[\r\n]/);
  });

  test.each(['BSDSYMS_', 'BSDSYMS_PORT', 'BSDSYMS_MAX_IMAGE_BYTE', 'BSDSYMS_max_uploads', 'BSDSYMS___proto__'])(
    'there is no setting %s',
    (name) => {
      for (const value of ['1', '']) {
        expect(() => loadConfig({ [name]: value })).toThrow(new ConfigError(`${name}: there is no such setting`));
      }
    },
  );

  test('leaves the variables of others alone', () => {
    expect(loadConfig({ PATH: '/bin', bsdsyms_port: '1', XBSDSYMS_X: '1', MAX_UPLOADS: 'x' })).toEqual(defaults);
  });

  test('takes many settings at once', () => {
    const config = loadConfig({ PORT: '0', LOG_LEVEL: 'silent', BSDSYMS_MAX_UPLOADS: '3' });
    expect(config).toEqual({ ...defaults, port: 0, logLevel: 'silent', maxUploads: 3 });
  });
});

const refusalOf = (env: Readonly<Record<string, string>>): string => messageOf(() => loadConfig(env));
const automaticWorkers = (env: Readonly<Record<string, string>>): number =>
  loadConfig({ BSDSYMS_WORKERS: 'auto', ...env }).workers;

describe('settings that cannot work together', () => {
  const GiB = 1024 ** 3;

  test.each<[string, Readonly<Record<string, string>>, readonly (keyof Config)[]]>([
    ['an image that no budget holds', { BSDSYMS_SPOOL_BUDGET_BYTES: '0' }, ['maxImageBytes', 'spoolBudgetBytes']],
    [
      'an image that only both budgets together would hold',
      {
        BSDSYMS_MAX_IMAGE_BYTES: '1001',
        BSDSYMS_MEMORY_BUDGET_BYTES: '1000',
        BSDSYMS_SPOOL_BUDGET_BYTES: '1000',
      },
      ['maxImageBytes', 'memoryBudgetBytes', 'spoolBudgetBytes'],
    ],
    ['an image that no part of a budget holds', { BSDSYMS_WORKERS: '5' }, ['maxImageBytes', 'workers']],
    [
      'fewer connections than workers',
      { BSDSYMS_WORKERS: '4', BSDSYMS_MAX_CONNECTIONS: '3' },
      ['maxConnections', 'workers'],
    ],
    [
      'a wait in the queue that is longer than the request may be',
      { BSDSYMS_QUEUE_TIMEOUT_MS: '300000' },
      ['queueTimeoutMs', 'uploadTimeoutMs'],
    ],
    ['a certificate without its key', { BSDSYMS_TLS_CERT_FILE: '/x' }, ['tlsCertFile', 'tlsKeyFile']],
    ['a key without its certificate', { BSDSYMS_TLS_KEY_FILE: '/x' }, ['tlsCertFile', 'tlsKeyFile']],
  ])('are refused in one line that names them: %s', (_what, env, keys) => {
    const message = refusalOf(env);
    expect(keys.map((key) => SETTINGS[key].name).filter((name) => !message.includes(name))).toEqual([]);
    expect(message).toMatch(/^BSDSYMS_\w+: [^\n]+$/);
  });

  test.each<Readonly<Record<string, string>>>([
    { BSDSYMS_SPOOL_BUDGET_BYTES: String(2 * GiB), BSDSYMS_MEMORY_BUDGET_BYTES: '0' },
    { BSDSYMS_SPOOL_BUDGET_BYTES: '0', BSDSYMS_MEMORY_BUDGET_BYTES: String(2 * GiB) },
    { BSDSYMS_WORKERS: '4', BSDSYMS_MAX_CONNECTIONS: '4' },
    { BSDSYMS_WORKERS: '5', BSDSYMS_SPOOL_BUDGET_BYTES: String(10 * GiB) },
    { BSDSYMS_QUEUE_TIMEOUT_MS: '299999' },
    { BSDSYMS_QUEUE_TIMEOUT_MS: '300000', BSDSYMS_MAX_QUEUED_UPLOADS: '0' },
    { BSDSYMS_TLS_CERT_FILE: '/x', BSDSYMS_TLS_KEY_FILE: '/y' },
  ])('are accepted at their limit: %o', (env) => {
    expect(refusalOf(env)).toBe('nothing was thrown');
  });

  test('do not matter when only some settings are read', () => {
    expect(readSettings({ BSDSYMS_MAX_IMAGE_BYTES: String(100 * GiB) }, ['maxImageBytes'])).toEqual({
      maxImageBytes: 100 * GiB,
    });
  });

  test('do not stop `auto`: it starts no more workers than each have room for an image', () => {
    const cores = availableParallelism();
    expect(automaticWorkers({})).toBe(Math.min(cores, 4));
    expect(automaticWorkers({ BSDSYMS_MAX_IMAGE_BYTES: String(8 * GiB) })).toBe(1);
    expect(automaticWorkers({ BSDSYMS_MAX_IMAGE_BYTES: '1' })).toBe(cores);
    expect(refusalOf({ BSDSYMS_WORKERS: 'auto', BSDSYMS_MAX_IMAGE_BYTES: String(8 * GiB + 1) })).toMatch(
      /^BSDSYMS_MAX_IMAGE_BYTES: /,
    );
  });

  test('are described, each with the names', () => {
    const lines = describeRelations().split('\n');
    expect(lines).toHaveLength(RELATIONS.length);
    RELATIONS.forEach(({ settings: keys, rule }, index) => {
      for (const part of [...keys.map((key) => SETTINGS[key].name), rule]) expect(lines[index]).toContain(part);
    });
  });
});

test('no sum of two times and what is added to it is more than a timer takes', () => {
  expect(2 * MAX_MILLISECONDS + 60_000).toBeLessThan(2 ** 31);
});

describe('the settings', () => {
  test('have names of their own, with the prefix except for three', () => {
    const names = settings.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((name) => !/^BSDSYMS_[A-Z_]+$/.test(name))).toEqual(['PORT', 'HOST', 'LOG_LEVEL']);
  });

  test('carry the units of their numbers in their names', () => {
    const units = settings.filter(({ kind }) => kind.parse(String(MAX_MILLISECONDS)) === MAX_MILLISECONDS);
    expect(units.length).toBeGreaterThan(5);
    expect(units.filter(({ name }) => !/_(BYTES|BYTES_PER_SECOND|MS)$/.test(name)).map(({ name }) => name)).toEqual([]);
  });

  test('have defaults that they would take themselves', () => {
    for (const { name, kind, fallback } of settings) {
      const isUnset = fallback === null || typeof fallback === 'object';
      expect([name, isUnset || kind.parse(String(fallback)) === fallback]).toEqual([name, true]);
    }
  });

  test('are all described', () => {
    const rows = describeSettings().split('\n').slice(2);
    expect(rows).toHaveLength(settings.length);
    settings.forEach(({ name, purpose, kind }, index) => {
      for (const part of [`| \`${name}\` |`, purpose, kind.accepts]) expect(rows[index]).toContain(part);
    });
  });
});

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return 'nothing was thrown';
}
