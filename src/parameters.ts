/**
 * The parameters of an image's way through the loader: what they are called, what they accept, what they mean. Queries,
 * forms and the command line give them as text, and all of them are checked here.
 */
import type { Config } from './config.ts';
import { SYMBOL_BINDS, SYMBOL_TYPES, symbolBindNumbers, symbolTypeNumbers } from './elf/symbols.ts';
import { type FlatRequest, type LoadRequest, ON_BROKEN, type OnBroken, SYMBOLS_CHOICES } from './inspect/load.ts';
import { DEFAULT_PAGE_SYMBOLS, findConflict, MAX_PAGE_SYMBOLS, type SymbolQuery } from './report/symbols.ts';
import { DEFAULT_LOADER, LOADERS, type Loader } from './xen/loaders/bsdsyms.ts';

/** Longest value that is told back to the caller. */
const MAX_ECHO_CHARS = 40;

/** Beside `check` and `maxValues` the members are those of its JSON schema. */
export interface Parameter {
  /** Default: `string`. A whole number is given in plain decimal digits. */
  readonly type?: 'integer';
  /** The values that are accepted; without them the rest says it. */
  readonly enum?: readonly string[];
  readonly default?: string;
  readonly pattern?: string;
  /** In characters. */
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly description: string;
  readonly examples?: readonly string[];
  /** What a value that fits the schema must pass besides. */
  readonly check?: (text: string) => boolean;
  /** How often it may be given; without it, once. */
  readonly maxValues?: number;
}

/** By name. */
export type Parameters = Readonly<Record<string, Parameter>>;

const MAX_U64 = 2n ** 64n - 1n;

/** Whether a number, `0x` hex or decimal, fits into 64 bits. */
export const isAddress = (text: string): boolean => BigInt(text) <= MAX_U64;

/** Decimal or hex; that it fits into 64 bits is checked besides. */
const ADDRESS = { pattern: '^(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})$', check: isAddress } as const;

/** How often a repeatable parameter may be given. */
export const MAX_REPEATS = 100;

const loader: Parameter = {
  enum: LOADERS,
  default: DEFAULT_LOADER,
  description: 'Whose layout of the symbols is wanted.',
};

const onBroken: Parameter = {
  enum: ON_BROKEN,
  default: 'reject',
  description:
    'What to do with an image that a reason is recorded against: refuse it, or carry on as Xen does and name the reason.',
};

/** Of a symbol blob. */
export const LOAD_PARAMETERS = {
  loadAddress: {
    ...ADDRESS,
    description:
      "Guest-physical address where the symbols may begin, 0 .. 2^64-1, decimal or 0x hex. Default: the kernel's pend.",
    examples: ['0x400c5030'],
  },
  loader,
  onBroken,
} as const satisfies Parameters;

/** Of the layout of a symbol blob. */
export const LAYOUT_PARAMETERS = {
  ...LOAD_PARAMETERS,
  compareWith: { enum: LOADERS, description: 'Another loader: the layout tells what it does differently.' },
} as const satisfies Parameters;

/** Of what Xen makes of a kernel: none. */
export const KERNEL_PARAMETERS = {} as const satisfies Parameters;

/** Of the flat image. */
export const FLAT_PARAMETERS = {
  symbols: {
    enum: SYMBOLS_CHOICES,
    default: 'auto',
    description: 'Whether the symbols are placed behind the kernel: `auto` when its notes ask for them (BSD_SYMTAB).',
  },
  loader,
  onBroken,
} as const satisfies Parameters;

const SYMBOL_NAME = {
  minLength: 1,
  maxLength: 1024,
  // It would reach from one string into the next.
  check: (text: string) => !text.includes('\0'),
} as const;

/** Of symbols. */
export const SYMBOL_PARAMETERS = {
  name: {
    ...SYMBOL_NAME,
    maxValues: MAX_REPEATS,
    description:
      'All symbols of this name, 1 to 1024 characters, compared as UTF-8. Excludes `address` and those of pages.',
  },
  address: {
    ...ADDRESS,
    maxValues: MAX_REPEATS,
    description:
      'The symbol that stands for this address, 0 .. 2^64-1, decimal or 0x hex. Excludes `name` and those of pages.',
  },
  type: { enum: SYMBOL_TYPES, maxValues: MAX_REPEATS, description: 'Of a page: symbols of this type only.' },
  bind: { enum: SYMBOL_BINDS, maxValues: MAX_REPEATS, description: 'Of a page: symbols with this binding only.' },
  prefix: {
    ...SYMBOL_NAME,
    description: 'Of a page: symbols whose name begins like this only, 1 to 1024 characters.',
  },
  limit: {
    type: 'integer',
    minimum: 1,
    maximum: MAX_PAGE_SYMBOLS,
    description: `Symbols on a page, 1 to ${MAX_PAGE_SYMBOLS}. Default: ${DEFAULT_PAGE_SYMBOLS} in JSON, all in NDJSON.`,
  },
  after: {
    type: 'integer',
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    description: 'The page begins behind the symbol of this index: the `next` of the page before. Default: 0.',
  },
} as const satisfies Parameters;

/** Of what guests make of a blob. */
export const VERIFY_PARAMETERS = {
  address: {
    ...ADDRESS,
    description:
      'Guest-physical address that the first byte was taken from, 0 .. 2^64-1, decimal or 0x hex. Default: not known.',
    examples: ['0x3e00000'],
  },
} as const satisfies Parameters;

/** What was given, by name. */
export interface GivenParameters {
  /** The value, or the first one of several. */
  get(name: string): string | undefined;
  /** All that was given of a parameter that may be repeated, in its order. */
  getAll(name: string): readonly string[];
}

/** @param given accepted values of `LOAD_PARAMETERS` or `LAYOUT_PARAMETERS` */
export const toLoadRequest = (
  given: GivenParameters,
  { maxBlobBytes }: Pick<Config, 'maxBlobBytes'>,
): Required<Omit<LoadRequest, 'askGuests'>> => ({
  ...toCommonRequest(given),
  loadAddress: toAddress(given.get('loadAddress')),
  compareWith: choose(LOADERS, given.get('compareWith')) ?? null,
  maxBlobBytes,
});

/** @param given accepted values of `VERIFY_PARAMETERS` */
export const toDumpAddress = (given: GivenParameters): bigint | null => toAddress(given.get('address'));

/** @param given accepted values of `FLAT_PARAMETERS` */
export const toFlatRequest = (
  given: GivenParameters,
  { maxBlobBytes, maxFlatBytes }: Pick<Config, 'maxBlobBytes' | 'maxFlatBytes'>,
): Required<FlatRequest> => ({
  ...toCommonRequest(given),
  symbols: choose(SYMBOLS_CHOICES, given.get('symbols')) ?? 'auto',
  maxBlobBytes,
  maxFlatBytes,
});

/** Why parameters of `SYMBOL_PARAMETERS` cannot be given together; null when they can. */
export function findSymbolConflict(given: GivenParameters): string | null {
  const conflict = findConflict((name) => given.get(name) !== undefined);
  if (conflict === null) return null;
  const [first, second] = conflict;
  return (
    `${first} and ${second} exclude each other. Ask for symbols by name, or by address, or for a page of them (type, ` +
    'bind, prefix, limit, after).'
  );
}

/**
 * @param given accepted values of `SYMBOL_PARAMETERS` without a conflict
 * @param defaultLimit symbols on a page; null for all
 */
export function toSymbolQuery(given: GivenParameters, defaultLimit: number | null): SymbolQuery {
  const names = given.getAll('name');
  if (names.length > 0) return { names };
  const addresses = given.getAll('address').map(BigInt);
  if (addresses.length > 0) return { addresses };
  const limit = given.get('limit');
  return {
    page: {
      after: Number(given.get('after') ?? 0),
      limit: limit === undefined ? defaultLimit : Number(limit),
      types: symbolTypeNumbers(given.getAll('type')),
      binds: symbolBindNumbers(given.getAll('bind')),
      prefix: given.get('prefix') ?? '',
    },
  };
}

const toCommonRequest = (given: GivenParameters): { readonly loader: Loader; readonly onBroken: OnBroken } => ({
  loader: choose(LOADERS, given.get('loader')) ?? DEFAULT_LOADER,
  onBroken: choose(ON_BROKEN, given.get('onBroken')) ?? 'reject',
});

const toAddress = (given: string | undefined): bigint | null => (given === undefined ? null : BigInt(given));

const choose = <T extends string>(values: readonly T[], given: string | undefined): T | undefined =>
  values.find((value) => value === given);

/** Whether a value can be used; anything that is no text cannot. */
export function accepts(parameter: Parameter, value: unknown): value is string {
  if (typeof value !== 'string') return false;
  return fits(parameter, value) && (parameter.check?.(value) ?? true);
}

function fits(parameter: Parameter, text: string): boolean {
  if (parameter.type === 'integer') {
    const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = parameter;
    return /^\d{1,16}$/.test(text) && Number(text) >= minimum && Number(text) <= maximum;
  }
  const { enum: values, pattern, minLength = 0, maxLength = Number.POSITIVE_INFINITY } = parameter;
  if (values !== undefined && !values.includes(text)) return false;
  if (pattern !== undefined && !new RegExp(pattern).test(text)) return false;
  // Code points, as JSON Schema counts.
  const characters = Array.from(text).length;
  return characters >= minLength && characters <= maxLength;
}

/** Why a value is not accepted, as a sentence for whoever gave it. */
export function explainRefusal(name: string, parameter: Parameter, value: unknown): string {
  const accepted = parameter.enum === undefined ? parameter.description : `Accepted are ${parameter.enum.join(', ')}.`;
  return `${name} is ${quote(value)}. ${accepted}`;
}

export const explainRepetition = (name: string, { maxValues = 1 }: Parameter): string =>
  `${name} stands more than ${maxValues} times.`;

/** What was given, no longer than a message can bear. */
export function quote(value: unknown): string {
  if (typeof value !== 'string') return `a value of type ${typeof value}`;
  return JSON.stringify(value.length > MAX_ECHO_CHARS ? `${value.slice(0, MAX_ECHO_CHARS)}…` : value);
}
