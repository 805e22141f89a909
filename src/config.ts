/** The settings: one table that reads the environment, validates it and makes the documentation. */
import { tmpdir } from 'node:os';
import { isAbsolute } from 'node:path';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** Reads one value; returns undefined when it is not usable. */
interface Kind<T> {
  /** What is accepted, for the error message and the documentation. */
  readonly accepts: string;
  parse(text: string): T | undefined;
}

interface Setting<T> {
  readonly name: string;
  readonly kind: Kind<T>;
  readonly fallback: T;
  readonly purpose: string;
}

const integer = (min: number, max: number): Kind<number> => ({
  accepts: max === Number.MAX_SAFE_INTEGER ? `a whole number from ${min} on` : `a whole number from ${min} to ${max}`,
  parse(text) {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

/** Sizes and times; the unit is in the setting's name. */
const bytes = (min: number): Kind<number> => integer(min, Number.MAX_SAFE_INTEGER);
/** Node's timers take at most 2^31-1 ms. */
const milliseconds = (min: number): Kind<number> => integer(min, 2 ** 31 - 1);

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
  maxImageBytes: setting('BSDSYMS_MAX_IMAGE_BYTES', bytes(1), 2 * GiB, 'largest image'),
  maxBlobBytes: setting('BSDSYMS_MAX_BLOB_BYTES', bytes(1), 256 * MiB, 'largest symbol blob'),
  memoryBudgetBytes: setting(
    'BSDSYMS_MEMORY_BUDGET_BYTES',
    bytes(0),
    GiB,
    'images held in memory, all requests together; what exceeds it is spooled',
  ),
  spoolDir: setting('BSDSYMS_SPOOL_DIR', directory, tmpdir(), 'where images are spooled'),
  spoolBudgetBytes: setting('BSDSYMS_SPOOL_BUDGET_BYTES', bytes(0), 8 * GiB, 'images spooled, all requests together'),
  maxUploads: setting('BSDSYMS_MAX_UPLOADS', integer(1, 10_000), 16, 'uploads under way at once'),
  maxQueuedUploads: setting('BSDSYMS_MAX_QUEUED_UPLOADS', integer(0, 10_000), 16, 'uploads that may wait for a place'),
  queueTimeoutMs: setting('BSDSYMS_QUEUE_TIMEOUT_MS', milliseconds(0), 1000, 'how long they may wait'),
  stallTimeoutMs: setting('BSDSYMS_STALL_TIMEOUT_MS', milliseconds(100), 30_000, 'how long a body may pause'),
  uploadTimeoutMs: setting(
    'BSDSYMS_UPLOAD_TIMEOUT_MS',
    milliseconds(100),
    300_000,
    'time for a whole request to arrive',
  ),
  keepAliveTimeoutMs: setting(
    'BSDSYMS_KEEP_ALIVE_TIMEOUT_MS',
    milliseconds(0),
    72_000,
    "time an idle connection is kept; longer than the load balancer's",
  ),
  shutdownGraceMs: setting(
    'BSDSYMS_SHUTDOWN_GRACE_MS',
    milliseconds(0),
    10_000,
    'time that running requests have to finish after SIGTERM',
  ),
} as const satisfies Record<string, Setting<unknown>>;

/** The settings in use. */
export type Config = Readonly<{ [Key in keyof typeof SETTINGS]: (typeof SETTINGS)[Key]['fallback'] }>;

/** A setting that cannot be used; the message is one line that names it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const PREFIX = 'BSDSYMS_';

/**
 * Reads the settings from environment variables. An empty value counts as unset.
 *
 * @throws ConfigError for an unusable value and for an unknown name that begins with `BSDSYMS_`
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const known = new Set<string>(Object.values(SETTINGS).map(({ name }) => name));
  for (const name of Object.keys(env)) {
    if (name.startsWith(PREFIX) && !known.has(name)) throw new ConfigError(`${name}: there is no such setting`);
  }
  const entries = Object.entries(SETTINGS).map(([key, { name, kind, fallback }]) => {
    const text = env[name];
    if (text === undefined || text === '') return [key, fallback];
    const value = kind.parse(text);
    if (value === undefined) throw new ConfigError(`${name}: must be ${kind.accepts}, not ${JSON.stringify(text)}`);
    return [key, value];
  });
  return Object.freeze(Object.fromEntries(entries) as Config);
}

/** The settings as the rows of a Markdown table. */
export function describeSettings(): string {
  const rows = Object.values(SETTINGS).map(
    ({ name, kind, fallback, purpose }) => `| \`${name}\` | \`${fallback}\` | ${purpose}; ${kind.accepts} |`,
  );
  return ['| variable | default | meaning |', '|---|---|---|', ...rows].join('\n');
}
