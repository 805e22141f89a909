/** The settings. One table says how the environment is read and checked, and gives the documentation. */
import { isIP } from 'node:net';
import { availableParallelism, tmpdir } from 'node:os';
import { isAbsolute } from 'node:path';
import { DEFAULT_MAX_BLOB_BYTES, DEFAULT_MAX_FLAT_BYTES } from './inspect/limits.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** The values that a setting accepts. */
interface Kind<T> {
  /** For the error message and the documentation. */
  readonly accepts: string;
  /** @returns undefined for a text that is not accepted */
  parse(text: string): T | undefined;
}

/** A setting, and its environment variable. */
interface Setting<T> {
  readonly name: string;
  readonly kind: Kind<T>;
  /** The value when the variable is not set. */
  readonly fallback: T;
  /** For the documentation. */
  readonly purpose: string;
}

const integer = (min: number, max: number): Kind<number> => ({
  accepts: max === Number.MAX_SAFE_INTEGER ? `a whole number from ${min} on` : `a whole number from ${min} to ${max}`,
  parse(text) {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

/** A size; the unit is in the setting's name. */
const bytes = (min: number): Kind<number> => integer(min, Number.MAX_SAFE_INTEGER);
/** Node's timers accept at most 2^31-1 ms. This leaves room for the sum of two settings and a margin. */
export const MAX_MILLISECONDS = 1_000_000_000;
const milliseconds = (min: number): Kind<number> => integer(min, MAX_MILLISECONDS);

const oneOf = <const T extends string>(...values: T[]): Kind<T> => ({
  accepts: values.join(', '),
  parse: (text) => values.find((value) => value === text),
});

const host: Kind<string> = {
  accepts: 'a host name or an IP address',
  parse: (text) => (/^[A-Za-z0-9.:_-]{1,253}$/.test(text) ? text : undefined),
};

const directory: Kind<string> = {
  accepts: 'an absolute path',
  parse: (text) => (isAbsolute(text) ? text : undefined),
};

const optionalFile: Kind<string | null> = {
  accepts: 'an absolute path of a file',
  parse: (text) => directory.parse(text),
};

/** The value of BSDSYMS_WORKERS with which the machine and the other settings decide. */
export const AUTO = 'auto';

const workers: Kind<number> = {
  accepts: '`auto` for one a core, as far as the budgets allow, or a whole number from 1 to 256',
  parse: (text) => (text === AUTO ? availableParallelism() : integer(1, 256).parse(text)),
};

const addresses: Kind<readonly string[]> = {
  accepts: 'IP addresses and CIDR ranges, separated by commas',
  parse(text) {
    const list = text.split(',').map((address) => address.trim());
    return list.every(isAddressOrRange) ? list : undefined;
  },
};

/** Checks the scheme only; the rest of a prefix is checked when it is parsed (src/image/remote/allow-list.ts). */
const urlPrefixes: Kind<readonly string[]> = {
  accepts: 'URLs that begin with https://, http:// or file:///, separated by commas',
  parse(text) {
    const list = text.split(',').map((prefix) => prefix.trim());
    return list.every((prefix) => /^(?:https?:\/\/|file:\/\/\/)\S+$/i.test(prefix)) ? list : undefined;
  },
};

function isAddressOrRange(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  return bits === undefined || integer(0, version === 4 ? 32 : 128).parse(bits) !== undefined;
}

const setting = <T>(name: string, kind: Kind<T>, fallback: T, purpose: string): Setting<T> => ({
  name,
  kind,
  fallback,
  purpose,
});

export const SETTINGS = {
  port: setting('PORT', integer(0, 65_535), 8080, 'TCP port; 0 picks a free one'),
  host: setting('HOST', host, '127.0.0.1', 'address to listen on'),
  logLevel: setting<'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'>(
    'LOG_LEVEL',
    oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    'info',
    'least severe level that is logged',
  ),
  page: setting<'on' | 'off'>('BSDSYMS_PAGE', oneOf('on', 'off'), 'on', 'whether browsers get a page at `/`'),
  maxImageBytes: setting('BSDSYMS_MAX_IMAGE_BYTES', bytes(1), 2 * GiB, 'largest image'),
  maxBlobBytes: setting('BSDSYMS_MAX_BLOB_BYTES', bytes(1), DEFAULT_MAX_BLOB_BYTES, 'largest symbol blob'),
  maxFlatBytes: setting('BSDSYMS_MAX_FLAT_BYTES', bytes(1), DEFAULT_MAX_FLAT_BYTES, 'largest flat image'),
  memoryBudgetBytes: setting(
    'BSDSYMS_MEMORY_BUDGET_BYTES',
    bytes(0),
    GiB,
    'images held in memory and what unpacks them, all requests together; what exceeds it is spooled',
  ),
  spoolDir: setting('BSDSYMS_SPOOL_DIR', directory, tmpdir(), 'where images are spooled'),
  spoolBudgetBytes: setting('BSDSYMS_SPOOL_BUDGET_BYTES', bytes(0), 8 * GiB, 'images spooled, all requests together'),
  maxConnections: setting(
    'BSDSYMS_MAX_CONNECTIONS',
    integer(1, 1_000_000),
    4096,
    'connections at once; more are closed',
  ),
  maxUploads: setting('BSDSYMS_MAX_UPLOADS', integer(1, 10_000), 16, 'uploads under way at once'),
  maxUploadsPerClient: setting(
    'BSDSYMS_MAX_UPLOADS_PER_CLIENT',
    integer(0, 10_000),
    0,
    'uploads that one client address may have under way or waiting; 0 for no limit',
  ),
  maxQueuedUploads: setting('BSDSYMS_MAX_QUEUED_UPLOADS', integer(0, 10_000), 16, 'uploads that may wait for a slot'),
  queueTimeoutMs: setting('BSDSYMS_QUEUE_TIMEOUT_MS', milliseconds(0), 1000, 'how long they may wait'),
  stallTimeoutMs: setting(
    'BSDSYMS_STALL_TIMEOUT_MS',
    milliseconds(100),
    30_000,
    'how long a body may pause, or a client fall behind with reading an answer',
  ),
  minAnswerBytesPerSecond: setting(
    'BSDSYMS_MIN_ANSWER_BYTES_PER_SECOND',
    bytes(0),
    64 * KiB,
    'least rate at which a client must read an answer; 0 for none',
  ),
  uploadTimeoutMs: setting(
    'BSDSYMS_UPLOAD_TIMEOUT_MS',
    milliseconds(100),
    300_000,
    'time for a whole request to arrive',
  ),
  keepAliveTimeoutMs: setting(
    'BSDSYMS_KEEP_ALIVE_TIMEOUT_MS',
    // Node treats 0 as no limit.
    milliseconds(1),
    72_000,
    "time an idle connection is kept; longer than the load balancer's",
  ),
  shutdownGraceMs: setting(
    'BSDSYMS_SHUTDOWN_GRACE_MS',
    milliseconds(0),
    10_000,
    'time that running requests then have to finish',
  ),
  shutdownDelayMs: setting(
    'BSDSYMS_SHUTDOWN_DELAY_MS',
    milliseconds(0),
    0,
    'time after SIGTERM in which connections are still accepted, so that balancers notice that the service is not ready',
  ),
  workers: setting('BSDSYMS_WORKERS', workers, 1, 'processes that share port and budgets'),
  tokensFile: setting(
    'BSDSYMS_TOKENS_FILE',
    optionalFile,
    null,
    'bearer tokens for uploads, `name:token` or a token a line; read again on change',
  ),
  metricsTokensFile: setting('BSDSYMS_METRICS_TOKENS_FILE', optionalFile, null, 'the same for /metrics'),
  oidcFile: setting(
    'BSDSYMS_OIDC_FILE',
    optionalFile,
    null,
    'whose signed tokens (OpenID Connect) let them upload, as JSON; read again on change',
  ),
  rateLimitPerMinute: setting(
    'BSDSYMS_RATE_LIMIT_PER_MINUTE',
    integer(0, 1_000_000),
    0,
    'uploads a minute that one client address may start; 0 for no limit',
  ),
  trustProxy: setting('BSDSYMS_TRUST_PROXY', addresses, [], 'proxies whose X-Forwarded-* header fields are believed'),
  imageSources: setting(
    'BSDSYMS_IMAGE_SOURCES',
    urlPrefixes,
    [],
    'prefixes of the URLs that `imageUrl` may name; without them none',
  ),
  imageSourceHeadersFile: setting(
    'BSDSYMS_IMAGE_SOURCE_HEADERS_FILE',
    optionalFile,
    null,
    'header fields for origins, such as credentials: JSON, prefix to fields; read again on change',
  ),
  sourceMaxRequests: setting(
    'BSDSYMS_SOURCE_MAX_REQUESTS',
    integer(1, 1_000_000),
    256,
    'requests to the origin of one image',
  ),
  sourceConnectTimeoutMs: setting(
    'BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS',
    milliseconds(1),
    5000,
    'time to find and connect to an origin',
  ),
  sourceStallTimeoutMs: setting(
    'BSDSYMS_SOURCE_STALL_TIMEOUT_MS',
    milliseconds(1),
    15_000,
    'how long an origin may pause',
  ),
  sourceTimeoutMs: setting(
    'BSDSYMS_SOURCE_TIMEOUT_MS',
    milliseconds(1),
    120_000,
    'time that one image may wait for its origin in all',
  ),
  tlsCertFile: setting('BSDSYMS_TLS_CERT_FILE', optionalFile, null, 'certificate chain (PEM); read again on change'),
  tlsKeyFile: setting('BSDSYMS_TLS_KEY_FILE', optionalFile, null, 'its private key (PEM)'),
} as const satisfies Record<string, Setting<unknown>>;

/** The keys of all settings. */
export const SETTING_KEYS = Object.keys(SETTINGS) as (keyof typeof SETTINGS)[];

/** The values of the settings. */
export type Config = Readonly<{ [Key in keyof typeof SETTINGS]: (typeof SETTINGS)[Key]['fallback'] }>;

type Budget = 'memoryBudgetBytes' | 'spoolBudgetBytes' | 'maxConnections';

/** One worker's part of a budget that is divided among the workers. */
export const shareOf = (config: Pick<Config, 'workers' | Budget>, budget: Budget): number =>
  Math.floor(config[budget] / config.workers);

/** A rule between settings, each of which has a valid value. */
interface Relation {
  readonly settings: readonly (keyof Config)[];
  /** For the documentation. */
  readonly rule: string;
  /** What is wrong with the first of the settings, naming the others; null when nothing is. */
  readonly rejection: (config: Config) => string | null;
}

const nameOf = (key: keyof Config): string => SETTINGS[key].name;
const show = (config: Config, key: keyof Config): string => `${nameOf(key)}=${String(config[key])}`;
const unless = (holds: boolean, rejection: string): string | null => (holds ? null : rejection);

/** All rules between settings. */
export const RELATIONS: readonly Relation[] = [
  {
    settings: ['maxImageBytes', 'memoryBudgetBytes', 'spoolBudgetBytes', 'workers'],
    rule: 'A whole image is held in memory or in the spool, so one of the budgets must have room for the largest image. With several workers, the part of each worker must.',
    rejection: (config) => {
      const parts = [shareOf(config, 'memoryBudgetBytes'), shareOf(config, 'spoolBudgetBytes')] as const;
      const each =
        config.workers === 1 ? '' : `, of which each of ${show(config, 'workers')} gets ${parts.join(' and ')}`;
      return unless(
        config.maxImageBytes <= Math.max(...parts),
        `an image of ${config.maxImageBytes} bytes fits neither into ${show(config, 'memoryBudgetBytes')} nor into ${show(config, 'spoolBudgetBytes')}${each}`,
      );
    },
  },
  {
    settings: ['maxConnections', 'workers'],
    rule: 'Connections are divided among the workers, and each worker needs at least one.',
    rejection: (config) =>
      unless(
        config.maxConnections >= config.workers,
        `${config.maxConnections} is less than one connection for each of ${show(config, 'workers')}`,
      ),
  },
  {
    settings: ['queueTimeoutMs', 'uploadTimeoutMs'],
    rule: 'The time in the queue is part of the time for the whole request, so it must be shorter.',
    rejection: (config) =>
      unless(
        config.maxQueuedUploads === 0 || config.queueTimeoutMs < config.uploadTimeoutMs,
        `${config.queueTimeoutMs} must be less than ${show(config, 'uploadTimeoutMs')}, which includes the time in the queue`,
      ),
  },
  {
    settings: ['tlsCertFile', 'tlsKeyFile'],
    rule: 'A certificate and its key are set together.',
    rejection: ({ tlsCertFile, tlsKeyFile }) =>
      unless((tlsCertFile === null) === (tlsKeyFile === null), `must be set together with ${nameOf('tlsKeyFile')}`),
  },
];

/** A setting that cannot be used; the message is one line that names it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** The exit status of a process that cannot start with its settings. */
export const EXIT_BAD_CONFIG = 2;

/**
 * Runs a step of the start, and names the setting when the step fails.
 *
 * @throws ConfigError
 */
export function nameFailure<T>({ name }: { readonly name: string }, step: () => T): T {
  try {
    return step();
  } catch (error) {
    throw new ConfigError(`${name}: cannot be used (${error instanceof Error ? error.message : String(error)})`);
  }
}

const PREFIX = 'BSDSYMS_';

/**
 * Reads the settings from environment variables. An empty value counts as unset.
 *
 * @throws ConfigError for an unusable value, for an unknown name that begins with `BSDSYMS_`, and for values that cannot
 *   work together
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const known = new Set<string>(Object.values(SETTINGS).map(({ name }) => name));
  for (const name of Object.keys(env)) {
    if (name.startsWith(PREFIX) && !known.has(name)) throw new ConfigError(`${name}: there is no such setting`);
  }
  const config = fitWorkers(readSettings(env, SETTING_KEYS), env);
  for (const { settings, rejection } of RELATIONS) {
    const wrong = rejection(config);
    const [first] = settings;
    if (wrong !== null && first !== undefined) throw new ConfigError(`${nameOf(first)}: ${wrong}`);
  }
  return config;
}

/** With `auto`, reduces the workers until the part of each has room for the largest image. */
function fitWorkers(config: Config, env: Readonly<Record<string, string | undefined>>): Config {
  if (env[SETTINGS.workers.name] !== AUTO) return config;
  const fitting = Math.floor(Math.max(config.memoryBudgetBytes, config.spoolBudgetBytes) / config.maxImageBytes);
  return Object.freeze({ ...config, workers: Math.max(1, Math.min(config.workers, fitting)) });
}

/**
 * Reads some of the settings. It checks neither other variables nor the rules between settings.
 *
 * @throws ConfigError for an unusable value
 */
export function readSettings<Key extends keyof Config>(
  env: Readonly<Record<string, string | undefined>>,
  keys: readonly Key[],
): Pick<Config, Key> {
  const entries = keys.map((key) => {
    const { name, kind, fallback }: Setting<unknown> = SETTINGS[key];
    const text = env[name];
    if (text === undefined || text === '') return [key, fallback];
    const value = kind.parse(text);
    if (value === undefined) throw new ConfigError(`${name}: must be ${kind.accepts}, not ${JSON.stringify(text)}`);
    return [key, value];
  });
  return Object.freeze(Object.fromEntries(entries) as Pick<Config, Key>);
}

/** The settings with no variable set. */
export const DEFAULTS: Config = loadConfig({});

function display(fallback: string | number | readonly string[] | null): string {
  const isUnset = fallback === null || (Array.isArray(fallback) && fallback.length === 0);
  return isUnset ? 'unset' : `\`${String(fallback)}\``;
}

/** The rules between settings, as a Markdown list. */
export const describeRelations = (): string =>
  RELATIONS.map(({ settings, rule }) => `- ${settings.map((key) => `\`${nameOf(key)}\``).join(', ')}: ${rule}`).join(
    '\n',
  );

/** The settings as the rows of a Markdown table. */
export function describeSettings(): string {
  const rows = Object.values(SETTINGS).map(
    ({ name, kind, fallback, purpose }) => `| \`${name}\` | ${display(fallback)} | ${purpose}; ${kind.accepts} |`,
  );
  return ['| variable | default | meaning |', '|---|---|---|', ...rows].join('\n');
}
