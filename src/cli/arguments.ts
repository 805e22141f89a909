/** The command line: which subcommand, of which file, with which parameters. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import {
  accepts,
  explainRefusal,
  explainRepetition,
  type GivenParameters,
  type Parameter,
  quote,
} from '../parameters.ts';
import { type Format, SUBCOMMANDS, type Subcommand } from './subcommands.ts';

/** A command line that cannot be understood; the message is one line. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export type Invocation =
  | { readonly kind: 'version' }
  | { readonly kind: 'help'; readonly about: string | null }
  | ImageInvocation;

/** A subcommand that is to be run. */
export interface ImageInvocation {
  readonly kind: 'image';
  readonly name: string;
  readonly subcommand: Subcommand;
  /** `-` for standard input. */
  readonly file: string;
  readonly parameters: GivenParameters;
  readonly format: Format;
  /** Where the output goes; null for standard output. */
  readonly outputPath: string | null;
}

/** The options that are no parameters of the loader. */
export interface Option {
  readonly short?: string;
  /** Stands for its value; an option without one is a switch. */
  readonly value?: string;
  readonly description: string;
}

const OUTPUT: Option = {
  short: 'o',
  value: 'FILE',
  description: 'Writes to this file instead of standard output. It appears when it is complete, or not at all.',
};
/** A switch for every format that is not the only one of a subcommand, nor its first. */
const FORMATS: Readonly<Record<Format, Option>> = {
  bytes: { description: 'Writes bytes.' },
  json: { description: 'Writes JSON.' },
  ndjson: { description: 'Writes a line of JSON for each of the results.' },
};
const HELP: Option = { short: 'h', description: 'Shows this help.' };

/** What a subcommand takes beside its parameters, by name. */
export const optionsOf = ({ formats: [, ...others] }: Subcommand): Readonly<Record<string, Option>> => ({
  ...Object.fromEntries(others.map((format) => [format, FORMATS[format]])),
  output: OUTPUT,
  help: HELP,
});

export function findSubcommand(name: string): Subcommand {
  const subcommand = Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
  if (subcommand !== undefined) return subcommand;
  throw new UsageError(
    `There is no subcommand ${quote(name)}. Known are ${[...Object.keys(SUBCOMMANDS), 'serve', 'help'].join(', ')}.`,
  );
}

/**
 * @param args what stands behind the name of the program
 * @throws UsageError
 */
export function parseCommandLine(args: readonly string[]): Invocation {
  const [name, ...rest] = args;
  switch (name) {
    case undefined:
      throw new UsageError('Which subcommand? bsdsyms --help lists them.');
    case '--version':
      return { kind: 'version' };
    case '--help':
    case '-h':
      return { kind: 'help', about: null };
    case 'help':
      if (rest[0] === undefined || rest[0] === 'serve') return { kind: 'help', about: null };
      findSubcommand(rest[0]);
      return { kind: 'help', about: rest[0] };
    case 'serve':
      throw new UsageError('serve takes no arguments: environment variables are its settings.');
    default:
      return parseSubcommand(name, findSubcommand(name), rest);
  }
}

function parseSubcommand(name: string, subcommand: Subcommand, args: readonly string[]): Invocation {
  const known = knownOptions(subcommand);
  const given = new GivenOptions();
  const files: string[] = [];
  for (const token of tokenize(known, args)) {
    if (token.kind === 'positional') files.push(token.value);
    if (token.kind !== 'option') continue;
    const { name: option, rawName, value } = token;
    const match = known.get(option);
    if (match === undefined) throw unknownOption(name, [...known.keys()], rawName);
    const { takesValue, parameter } = match;
    if (parameter?.maxValues === undefined && given.has(option)) {
      throw new UsageError(`parameter-conflict: ${rawName} stands more than once.`);
    }
    if (takesValue !== (value !== undefined)) {
      throw new UsageError(`parameter-invalid: ${rawName} ${takesValue ? 'needs a value' : 'takes no value'}.`);
    }
    if (parameter !== undefined && !accepts(parameter, value)) {
      throw new UsageError(`parameter-invalid: ${explainRefusal(option, parameter, value)}`);
    }
    if (parameter?.maxValues === given.getAll(option).length) {
      throw new UsageError(`parameter-invalid: ${explainRepetition(option, parameter)}`);
    }
    given.add(option, value ?? '');
  }
  if (given.has('help')) return { kind: 'help', about: name };
  const conflict = subcommand.conflict?.(given) ?? null;
  if (conflict !== null) throw new UsageError(`parameter-conflict: ${conflict}`);
  const [file] = files;
  if (file === undefined) throw new UsageError('no-image: Which FILE? Standard input is -.');
  if (files.length > 1) {
    throw new UsageError(`image-repeated: One run takes one file, and there are ${files.map(quote).join(' and ')}.`);
  }
  return {
    kind: 'image',
    name,
    subcommand,
    file,
    parameters: given,
    format: subcommand.formats.find((format) => given.has(format)) ?? subcommand.formats[0],
    outputPath: given.get('output') ?? null,
  };
}

class GivenOptions implements GivenParameters {
  readonly #values = new Map<string, string[]>();

  has(name: string): boolean {
    return this.#values.has(name);
  }

  add(name: string, value: string): void {
    this.#values.set(name, [...this.getAll(name), value]);
  }

  get(name: string): string | undefined {
    return this.#values.get(name)?.[0];
  }

  getAll(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }
}

interface KnownOption {
  readonly takesValue: boolean;
  readonly short?: string | undefined;
  readonly parameter?: Parameter;
}

const knownOptions = (subcommand: Subcommand): ReadonlyMap<string, KnownOption> =>
  new Map<string, KnownOption>([
    ...Object.entries(subcommand.parameters).map(
      ([name, parameter]) => [name, { takesValue: true, parameter }] satisfies [string, KnownOption],
    ),
    ...Object.entries(optionsOf(subcommand)).map(
      ([name, { short, value }]) => [name, { takesValue: value !== undefined, short }] satisfies [string, KnownOption],
    ),
  ]);

function tokenize(known: ReadonlyMap<string, KnownOption>, args: readonly string[]): Token[] {
  const options = [...known].map(([name, { takesValue, short }]) => [
    name,
    { type: takesValue ? 'string' : 'boolean', ...(short === undefined ? {} : { short }) },
  ]);
  // Not strict: what is wrong is said here, in the words of the service.
  const config = { args: [...args], strict: false, allowPositionals: true, tokens: true } as const;
  return parseArgs({ ...config, options: Object.fromEntries(options) as ParseArgsOptions }).tokens;
}

type ParseArgsOptions = NonNullable<ParseArgsConfig['options']>;
type Token = NonNullable<ReturnType<typeof parseArgs<ParseArgsConfig & { tokens: true }>>['tokens']>[number];

function unknownOption(name: string, known: readonly string[], rawName: string): UsageError {
  const same = known.find((option) => plain(option) === plain(rawName));
  const hint =
    same === undefined ? `Known are ${known.map((option) => `--${option}`).join(', ')}.` : `It is spelled --${same}.`;
  return new UsageError(`parameter-unknown: ${quote(rawName)} is not an option of ${name}. ${hint}`);
}

/** Names that a person might take for the same. */
const plain = (name: string): string => name.replaceAll(/[-_]/g, '').toLowerCase();
