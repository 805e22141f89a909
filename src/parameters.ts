/**
 * The parameters of routes and subcommands: their names, values and meaning. Queries, forms and the command line give
 * them as text; each is parsed here, once.
 */
import { SYMBOL_BINDS, SYMBOL_TYPES, symbolBindNumbers, symbolTypeNumbers } from './elf/symbols.ts';
import { U64_MAX } from './elf/u64.ts';
import { REQUIREMENTS } from './inspect/check.ts';
import { ON_BROKEN, SYMBOLS_CHOICES } from './inspect/load.ts';
import { DEFAULT_PAGE_SYMBOLS, findConflict, MAX_PAGE_SYMBOLS, type SymbolQuery } from './report/symbols.ts';
import { DEFAULT_LOADER, LOADERS, type Loader } from './xen/loaders/bsdsyms.ts';

/** How much of a value is quoted to the caller. */
const MAX_ECHO_CHARS = 40;

/** How a parameter is documented: members of its JSON schema. */
interface ParameterSchema {
  /** Default: `string`. A whole number is given in plain decimal digits. */
  readonly type?: 'integer';
  /** The accepted values; without them, the other members constrain the value. */
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
}

/** Why a text is not accepted, and what would be: one or more sentences that follow the text itself. */
export class Refusal {
  readonly advice: string;

  constructor(advice: string) {
    this.advice = advice;
  }
}

export interface Parameter<T = unknown> {
  readonly schema: ParameterSchema;
  readonly parse: (text: string) => T | Refusal;
  /** The value when none is given; without it, null. */
  readonly fallback?: T;
  /** How often it may be given; without it, once. */
  readonly maxValues?: number;
  /** Whether no message may repeat a value. */
  readonly secret?: boolean;
}

/** By name. */
export type Parameters = Readonly<Record<string, Parameter>>;

type Value<P extends Parameter> = Exclude<ReturnType<P['parse']>, Refusal>;

/** The values of parameters: for a repeatable one a list, for any other the value given, its fallback, or null. */
export type ParameterValues<P extends Parameters> = {
  readonly [Name in keyof P]: P[Name] extends { readonly maxValues: number }
    ? readonly Value<P[Name]>[]
    : P[Name] extends { readonly fallback: unknown }
      ? Value<P[Name]>
      : Value<P[Name]> | null;
};

const MAX_HEX_DIGITS = 16;
/** Digits with leading zeros are refused: nm prints hexadecimal addresses that way. */
const ADDRESS = /^(0[xX][0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19})$/;

const ADDRESS_ADVICE = 'Write an address as 0x hexadecimal or as decimal without leading zeros, 0 .. 2^64-1.';
const TOO_LARGE = 'It is above 2^64-1 (0xffffffffffffffff), the highest address.';

function parseAddress(text: string): bigint | Refusal {
  if (!ADDRESS.test(text)) return new Refusal(adviseAddress(text));
  const address = BigInt(text);
  return address <= U64_MAX ? address : new Refusal(TOO_LARGE);
}

/** How to write an address that was not accepted. */
function adviseAddress(text: string): string {
  const [, prefix, digits] = /^(0x)?([0-9a-f]+)$/i.exec(text.trim().replaceAll('_', '')) ?? [];
  if (digits === undefined) return ADDRESS_ADVICE;
  const significant = digits.replace(/^0+(?=.)/, '');
  const isDecimal = prefix === undefined && /^\d{1,20}$/.test(significant) && BigInt(significant) <= U64_MAX;
  if (significant.length > MAX_HEX_DIGITS) return isDecimal ? `Write ${significant} if it is decimal.` : TOO_LARGE;
  const hex = `0x${digits.length > MAX_HEX_DIGITS ? significant : digits}`;
  if (prefix !== undefined) return `Write ${hex}.`;
  if (significant === '0') return 'Write 0.';
  if (isDecimal) return `Write ${hex} if it is hexadecimal, or ${significant} if it is decimal.`;
  return `Write ${hex}: a hexadecimal number begins with 0x.`;
}

/** A guest-physical or virtual address. */
const address = (description: string, examples?: readonly string[]) => ({
  schema: { pattern: ADDRESS.source, description, ...(examples === undefined ? {} : { examples }) },
  parse: parseAddress,
});

/**
 * One of several words.
 *
 * @param advise what to say about any other word, before the list of accepted ones
 */
const choice = <T extends string>(
  values: readonly T[],
  description: string,
  advise: (text: string) => string = () => '',
) => ({
  schema: { enum: values, description },
  parse: (text: string): T | Refusal =>
    values.find((value) => value === text) ?? new Refusal(`${advise(text)}Accepted values: ${values.join(', ')}.`),
});

const wholeNumber = (minimum: number, maximum: number, description: string) => ({
  schema: { type: 'integer', minimum, maximum, description } as const,
  parse: (text: string): number | Refusal =>
    /^\d{1,16}$/.test(text) && Number(text) >= minimum && Number(text) <= maximum
      ? Number(text)
      : new Refusal(`Write a whole number from ${minimum} to ${maximum} in decimal digits.`),
});

const MAX_NAME_CHARS = 1024;

/** The name of a symbol, or its beginning. */
const symbolName = (description: string) => ({
  schema: { minLength: 1, maxLength: MAX_NAME_CHARS, description },
  parse(text: string): string | Refusal {
    // Code points, as JSON Schema counts.
    const characters = Array.from(text).length;
    if (characters === 0 || characters > MAX_NAME_CHARS) {
      return new Refusal(`A name has 1 to ${MAX_NAME_CHARS} characters.`);
    }
    // It would extend into the next string.
    return text.includes('\0') ? new Refusal('A name cannot contain NUL.') : text;
  },
});

const withDefault = <P extends Parameter, const T extends string>(parameter: P, fallback: T) => ({
  ...parameter,
  schema: { ...parameter.schema, default: fallback },
  fallback,
});

/** How often a repeatable parameter may be given. */
export const MAX_REPEATS = 100;
const repeatable = <P extends Parameter>(parameter: P) => ({ ...parameter, maxValues: MAX_REPEATS });

const fits = (loader: Loader): string => `${loader} fits this version. `;

/** Names the loader of a version of Xen. */
function adviseLoader(text: string): string {
  const [, family = 'xen', major, minor] = /^(?:(xen|libxc)[- ]?)?(\d{1,2})\.(\d{1,3})(?!\d)/i.exec(text) ?? [];
  if (major === undefined || Number(major) < 4) return '';
  const release = Number(major) > 4 ? Number.POSITIVE_INFINITY : Number(minor);
  if (release >= 8) return 'xen-4.8 means Xen 4.8 and later. ';
  if (release === 7) return fits('xen-4.7');
  return fits(family.toLowerCase() === 'libxc' ? 'libxc-4.6' : 'xen-4.6');
}

const loader = withDefault(choice(LOADERS, 'The loader whose layout the symbols get.', adviseLoader), DEFAULT_LOADER);

const onBroken = withDefault(
  choice(
    ON_BROKEN,
    'What to do with an image that has a reason recorded against it: refuse it, or continue as Xen does and name the reason.',
  ),
  'reject',
);

const MAX_URL_CHARS = 8192;

/** Of every route that takes an image, besides its own. What is wrong inside a URL has its own codes. */
export const REFERENCE_PARAMETERS = {
  imageUrl: {
    schema: {
      minLength: 1,
      maxLength: MAX_URL_CHARS,
      description:
        'The URL of the image, instead of the image itself: https, http or file, under one of the prefixes that the operator ' +
        'lists (BSDSYMS_IMAGE_SOURCES). In a query it is percent-encoded: curl -G --data-urlencode imageUrl=URL.',
      examples: ['https://artifacts.example/kernels/vmlinux'],
    },
    // It may hold a secret, so no message repeats it.
    secret: true,
    parse: (text: string): string | Refusal =>
      text.length >= 1 && text.length <= MAX_URL_CHARS
        ? text
        : new Refusal(`A URL has 1 to ${MAX_URL_CHARS} characters.`),
  },
} as const satisfies Parameters;

/** For a symbol blob. */
export const LOAD_PARAMETERS = {
  loadAddress: address(
    'Guest-physical address where the symbols may begin, 0 .. 2^64-1, as 0x hexadecimal or as decimal without leading ' +
      "zeros. Default: the kernel's pend.",
    ['0x400c5030'],
  ),
  loader,
  onBroken,
} as const satisfies Parameters;

/** For the layout of a symbol blob. */
export const LAYOUT_PARAMETERS = {
  ...LOAD_PARAMETERS,
  compareWith: choice(LOADERS, 'Another loader: the layout says what it does differently.', adviseLoader),
} as const satisfies Parameters;

/** For the verdict on a kernel. */
export const CHECK_PARAMETERS = {
  ...LOAD_PARAMETERS,
  require: repeatable(
    choice(
      REQUIREMENTS,
      'What is required of the kernel: that its symbols load and nothing is recorded against the image (symbols), that it asks ' +
        'for them (symbols-requested), that Xen would start it (pv, pvh), that a guest finds them (freebsd, netbsd, xtf), ' +
        'that there is no warning. Default: symbols, symbols-requested, and the guest that GUEST_OS names.',
    ),
  ),
} as const satisfies Parameters;

/** For what Xen makes of a kernel: none. */
export const KERNEL_PARAMETERS = {} as const satisfies Parameters;

/** For the flat image. */
export const FLAT_PARAMETERS = {
  symbols: withDefault(
    choice(
      SYMBOLS_CHOICES,
      'Whether the symbols are placed after the kernel: `auto` when its notes ask for them (BSD_SYMTAB).',
    ),
    'auto',
  ),
  loader,
  onBroken,
} as const satisfies Parameters;

/** For symbols. */
export const SYMBOL_PARAMETERS = {
  name: repeatable(
    symbolName(
      'All symbols of this name, 1 to 1024 characters, compared as UTF-8. Excludes `address` and the parameters of pages.',
    ),
  ),
  address: repeatable(
    address(
      'The symbol that stands for this address, 0 .. 2^64-1, as 0x hexadecimal or as decimal without leading zeros. ' +
        'Excludes `name` and the parameters of pages.',
    ),
  ),
  type: repeatable(choice(SYMBOL_TYPES, 'For a page: only symbols of this type.')),
  bind: repeatable(choice(SYMBOL_BINDS, 'For a page: only symbols with this binding.')),
  prefix: symbolName('For a page: only symbols whose name begins with this, 1 to 1024 characters.'),
  limit: wholeNumber(
    1,
    MAX_PAGE_SYMBOLS,
    `Symbols on a page, 1 to ${MAX_PAGE_SYMBOLS}. Default: ${DEFAULT_PAGE_SYMBOLS} in JSON, all in NDJSON.`,
  ),
  after: wholeNumber(
    0,
    Number.MAX_SAFE_INTEGER,
    'The page begins after the symbol with this index: the `next` of the previous page. Default: 0.',
  ),
} as const satisfies Parameters;

/** For what guests make of a blob. */
export const VERIFY_PARAMETERS = {
  address: address(
    'Guest-physical address that the first byte was taken from, 0 .. 2^64-1, as 0x hexadecimal or as decimal without ' +
      'leading zeros. Default: unknown.',
    ['0x3e00000'],
  ),
} as const satisfies Parameters;

/** Why a value is refused. */
interface ParameterFault {
  readonly code: 'parameter-invalid' | 'parameter-conflict';
  readonly detail: string;
}

interface GivenValue {
  readonly text: string;
  readonly value: unknown;
}

/** Reads the parameters of one request, or of one command line. */
export class ParameterReader<P extends Parameters> {
  readonly #parameters: P;
  readonly #given = new Map<string, GivenValue[]>();

  constructor(parameters: P) {
    this.#parameters = parameters;
  }

  get names(): readonly string[] {
    return Object.keys(this.#parameters);
  }

  /** Whether there is a parameter of this name. */
  has(name: string): boolean {
    return Object.hasOwn(this.#parameters, name);
  }

  isRepeatable(name: string): boolean {
    return this.#parameters[name]?.maxValues !== undefined;
  }

  isGiven(name: string): boolean {
    return this.#given.has(name);
  }

  /**
   * Reads a value. A parameter that is not repeatable may be given more than once with the same value.
   *
   * @param name one that `has` knows
   * @returns why the value is refused, or null when it is accepted
   */
  read(name: string, text: unknown): ParameterFault | null {
    const parameter = this.has(name) ? this.#parameters[name] : undefined;
    if (parameter === undefined) throw new Error(`${name} was not asked for with has()`);
    const show = (given: unknown): string => (parameter.secret === true ? 'a value that is not shown' : quote(given));
    const refuse = (code: ParameterFault['code'], detail: string): ParameterFault => ({ code, detail });
    if (typeof text !== 'string') return refuse('parameter-invalid', `${name} is ${show(text)}. It must be text.`);
    const value = parameter.parse(text);
    if (value instanceof Refusal) {
      return refuse('parameter-invalid', `${name} is ${show(text)}. ${value.advice}`);
    }
    const before = this.#given.get(name) ?? [];
    const [first] = before;
    if (parameter.maxValues !== undefined) {
      if (before.length === parameter.maxValues) {
        return refuse('parameter-invalid', `${name} is given more than ${parameter.maxValues} times.`);
      }
    } else if (first !== undefined) {
      if (first.value === value) return null;
      return refuse('parameter-conflict', `${name} was given as ${show(first.text)} and as ${show(text)}.`);
    }
    this.#given.set(name, [...before, { text, value }]);
    return null;
  }

  /** The values given, those of a list in their order. */
  get values(): ParameterValues<P> {
    const entries = Object.entries(this.#parameters).map(([name, { maxValues, fallback = null }]) => {
      const values = (this.#given.get(name) ?? []).map(({ value }) => value);
      return [name, maxValues === undefined ? (values[0] ?? fallback) : values];
    });
    return Object.fromEntries(entries) as ParameterValues<P>;
  }
}

/** Why parameters of `SYMBOL_PARAMETERS` cannot be given together; null when they can. */
export function findSymbolConflict(isGiven: (name: string) => boolean): string | null {
  const conflict = findConflict(isGiven);
  if (conflict === null) return null;
  const [first, second] = conflict;
  return (
    `${first} and ${second} exclude each other. Ask for symbols by name, or by address, or for a page of them (type, ` +
    'bind, prefix, limit, after).'
  );
}

/**
 * The query for symbols.
 *
 * @param values without a conflict
 * @param defaultLimit symbols on a page; null for all
 */
export function toSymbolQuery(
  { name, address: addresses, type, bind, prefix, limit, after }: ParameterValues<typeof SYMBOL_PARAMETERS>,
  defaultLimit: number | null,
): SymbolQuery {
  if (name.length > 0) return { names: name };
  if (addresses.length > 0) return { addresses };
  return {
    page: {
      after: after ?? 0,
      limit: limit ?? defaultLimit,
      types: symbolTypeNumbers(type),
      binds: symbolBindNumbers(bind),
      prefix: prefix ?? '',
    },
  };
}

/** Suggests what an unknown name probably meant, or lists the known ones. */
export function suggestName(name: string, known: readonly string[]): string {
  const same = known.find((one) => plain(one) === plain(name));
  if (same !== undefined) return `It is spelled ${same}.`;
  return known.length === 0 ? 'There are none.' : `Known names: ${known.join(', ')}.`;
}

/** The same for names that a person might confuse. */
const plain = (name: string): string => name.replaceAll(/[-_]/g, '').toLowerCase();

/** A value in a message, cut when it is long. */
export function quote(value: unknown): string {
  if (typeof value !== 'string') return `a value of type ${typeof value}`;
  return JSON.stringify(value.length > MAX_ECHO_CHARS ? `${value.slice(0, MAX_ECHO_CHARS)}…` : value);
}
