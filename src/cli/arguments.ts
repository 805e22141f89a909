/** The command line: which subcommand, of which file, with which parameters. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { ParameterReader, type Parameters, type ParameterValues, quote, suggestName } from '../parameters.ts';
import { type Format, REPORTS, type ReportName, SUBCOMMANDS, type Subcommand } from './subcommands.ts';

/** A command line that cannot be understood; the message is one line. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

type Invocation =
  | { readonly kind: 'version' }
  | { readonly kind: 'help'; readonly about: string | null }
  | { readonly kind: 'completion'; readonly shell: Shell }
  | ImageInvocation;

/** A subcommand to run. */
export interface ImageInvocation {
  readonly kind: 'image';
  readonly name: string;
  readonly subcommand: Subcommand;
  /** `-` for standard input. */
  readonly file: string;
  readonly parameters: ParameterValues<Parameters>;
  /** The one that is asked for; null for the default. */
  readonly format: Format | null;
  /** Where the output goes; null for standard output. */
  readonly outputPath: string | null;
  /** Where else something goes. */
  readonly reportPaths: Readonly<Partial<Record<ReportName, string>>>;
}

/** An option that is not a parameter. */
export interface Option {
  readonly short?: string;
  /** Stands for its value in the help; an option without one is a switch. */
  readonly value?: string;
  readonly description: string;
}

const OUTPUT: Option = {
  short: 'o',
  value: 'FILE',
  description: 'Writes to this file instead of standard output. It appears only when it is complete.',
};
/** The switches for formats. Bytes, which have none, are always the default. */
const FORMATS: Readonly<Record<Exclude<Format, 'bytes'>, Option>> = {
  json: { description: 'Writes JSON.' },
  ndjson: { description: 'Writes a line of JSON for each result.' },
  text: { description: 'Writes lines of text for people.' },
  table: { description: 'Writes a table for people.' },
  svg: { description: 'Writes a picture as SVG.' },
};
const HELP: Option = { short: 'h', description: 'Shows this help.' };

/** What the default depends on. */
function describeFormat(format: Exclude<Format, 'bytes'>, { formats, terminalFormat }: Subcommand): Option {
  const { description } = FORMATS[format];
  if (format === terminalFormat) return { description: `${description} The default on a terminal.` };
  if (format !== formats[0]) return { description };
  return {
    description: `${description} The default${terminalFormat === undefined ? '' : ' unless the output is a terminal'}.`,
  };
}

/** The options of a subcommand besides its parameters, by name. */
export const optionsOf = (subcommand: Subcommand): Readonly<Record<string, Option>> => ({
  ...Object.fromEntries(
    subcommand.formats
      .filter((format) => format !== 'bytes')
      .map((format) => [format, describeFormat(format, subcommand)]),
  ),
  ...Object.fromEntries(
    (subcommand.reports ?? []).map((name) => [name, { value: 'FILE', description: REPORTS[name] }]),
  ),
  output: OUTPUT,
  help: HELP,
});

/** The shells that a completion can be written for. */
export const SHELLS = ['bash', 'zsh'] as const;
export type Shell = (typeof SHELLS)[number];

/** The subcommands that take no image. */
export const OTHER_SUBCOMMANDS: Readonly<Record<string, { readonly argument: string; readonly summary: string }>> = {
  serve: { argument: '', summary: 'Runs the HTTP service, which environment variables configure.' },
  completion: { argument: SHELLS.join('|'), summary: 'Writes a completion for a shell.' },
  help: { argument: '[SUBCOMMAND]', summary: 'Shows the options of a subcommand.' },
};

/** The options before any subcommand. */
export const GLOBAL_OPTIONS: Readonly<Record<string, Option>> = {
  help: HELP,
  version: { short: 'V', description: 'Shows the version.' },
};

export function findSubcommand(name: string): Subcommand {
  const subcommand = Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
  if (subcommand !== undefined) return subcommand;
  const known = suggestName(name, [...Object.keys(SUBCOMMANDS), ...Object.keys(OTHER_SUBCOMMANDS)]);
  throw new UsageError(`There is no subcommand ${quote(name)}. ${known}`);
}

/**
 * @param args the arguments after the name of the program
 * @throws UsageError
 */
export function parseCommandLine(args: readonly string[]): Invocation {
  const [name, ...rest] = args;
  switch (name) {
    case undefined:
      throw new UsageError('No subcommand is given. bsdsyms --help lists them.');
    case '--version':
    case '-V':
      return { kind: 'version' };
    case '--help':
    case '-h':
      return { kind: 'help', about: null };
    case 'help':
      return { kind: 'help', about: findTopic(rest[0]) };
    case 'serve':
    case 'completion':
      if (rest[0] === '--help' || rest[0] === '-h') return { kind: 'help', about: name };
      if (name === 'completion') return parseCompletion(rest);
      throw new UsageError(
        'serve takes no arguments: environment variables configure it. bsdsyms help serve lists them.',
      );
    default:
      return parseSubcommand(name, findSubcommand(name), rest);
  }
}

/** @returns what help is wanted about; null for the command as a whole */
function findTopic(name: string | undefined): string | null {
  if (name === undefined) return null;
  if (!Object.hasOwn(OTHER_SUBCOMMANDS, name)) findSubcommand(name);
  return name === 'help' ? null : name;
}

function parseCompletion([given, ...rest]: readonly string[]): Invocation {
  const shell = SHELLS.find((one) => one === given);
  if (shell === undefined || rest.length > 0) {
    throw new UsageError(`completion takes the name of one shell: ${SHELLS.join(' or ')}.`);
  }
  return { kind: 'completion', shell };
}

function parseSubcommand(name: string, subcommand: Subcommand, args: readonly string[]): Invocation {
  const parameters = new ParameterReader(subcommand.parameters);
  const options = optionsOf(subcommand);
  const given = new Map<string, string>();
  const files: string[] = [];
  for (const token of tokenize(parameters.names, options, args)) {
    if (token.kind === 'positional') files.push(token.value);
    if (token.kind !== 'option') continue;
    const { name: option, rawName, value } = token;
    const isParameter = parameters.has(option);
    if (!isParameter && !Object.hasOwn(options, option)) {
      throw unknownOption(name, [...parameters.names, ...Object.keys(options)], rawName);
    }
    if (given.has(option) && !parameters.isRepeatable(option)) {
      throw new UsageError(`parameter-conflict: ${rawName} is given more than once.`);
    }
    const takesValue = isParameter || options[option]?.value !== undefined;
    if (takesValue !== (value !== undefined)) {
      throw new UsageError(`parameter-invalid: ${rawName} ${takesValue ? 'needs a value' : 'takes no value'}.`);
    }
    const fault = isParameter ? parameters.read(option, value) : null;
    if (fault !== null) throw new UsageError(`${fault.code}: ${fault.detail}`);
    given.set(option, value ?? '');
  }
  if (given.has('help')) return { kind: 'help', about: name };
  const conflict = subcommand.conflict?.((parameter) => parameters.isGiven(parameter)) ?? null;
  if (conflict !== null) throw new UsageError(`parameter-conflict: ${conflict}`);
  const formats = subcommand.formats.filter((format) => given.has(format));
  if (formats.length > 1) {
    const switches = formats.map((format) => `--${format}`).join(' and ');
    throw new UsageError(`parameter-conflict: ${switches} exclude each other.`);
  }
  const [file] = files;
  if (file === undefined) throw new UsageError('no-image: No FILE is given. Write - for standard input.');
  if (files.length > 1) {
    throw new UsageError(`image-repeated: One run takes one file, not ${files.map(quote).join(' and ')}.`);
  }
  return {
    kind: 'image',
    name,
    subcommand,
    file,
    parameters: parameters.values,
    format: formats[0] ?? null,
    outputPath: given.get('output') ?? null,
    reportPaths: Object.fromEntries(
      (subcommand.reports ?? []).flatMap((report) => {
        const path = given.get(report);
        return path === undefined ? [] : [[report, path] as const];
      }),
    ),
  };
}

function tokenize(
  parameters: readonly string[],
  options: Readonly<Record<string, Option>>,
  args: readonly string[],
): Token[] {
  const known: ParseArgsOptions = {
    ...Object.fromEntries(parameters.map((name) => [name, { type: 'string' }] as const)),
    ...Object.fromEntries(
      Object.entries(options).map(([name, { short, value }]) => {
        const type = value === undefined ? 'boolean' : 'string';
        return [name, short === undefined ? { type } : { type, short }] as const;
      }),
    ),
  };
  // Not strict: errors are reported here, in the words of the service.
  const config = { args: [...args], strict: false, allowPositionals: true, tokens: true } as const;
  return parseArgs({ ...config, options: known }).tokens;
}

type ParseArgsOptions = NonNullable<ParseArgsConfig['options']>;
type Token = NonNullable<ReturnType<typeof parseArgs<ParseArgsConfig & { tokens: true }>>['tokens']>[number];

function unknownOption(name: string, known: readonly string[], rawName: string): UsageError {
  const options = known.map((option) => `--${option}`);
  return new UsageError(
    `parameter-unknown: ${quote(rawName)} is not an option of ${name}. ${suggestName(rawName, options)}`,
  );
}
