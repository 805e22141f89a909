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
  | ImageInvocation;

/** A subcommand to run. */
export interface ImageInvocation {
  readonly kind: 'image';
  readonly name: string;
  readonly subcommand: Subcommand;
  /** `-` for standard input. */
  readonly file: string;
  readonly parameters: ParameterValues<Parameters>;
  readonly format: Format;
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
/** The switches for the formats of a subcommand after its first. */
const FORMATS: Readonly<Record<Format, Option>> = {
  bytes: { description: 'Writes bytes.' },
  json: { description: 'Writes JSON.' },
  ndjson: { description: 'Writes a line of JSON for each result.' },
  text: { description: 'Writes lines of text for people.' },
  svg: { description: 'Writes a picture as SVG.' },
};
const HELP: Option = { short: 'h', description: 'Shows this help.' };

/** The options of a subcommand besides its parameters, by name. */
export const optionsOf = ({ formats: [, ...others], reports = [] }: Subcommand): Readonly<Record<string, Option>> => ({
  ...Object.fromEntries(others.map((format) => [format, FORMATS[format]])),
  ...Object.fromEntries(reports.map((name) => [name, { value: 'FILE', description: REPORTS[name] }])),
  output: OUTPUT,
  help: HELP,
});

export function findSubcommand(name: string): Subcommand {
  const subcommand = Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
  if (subcommand !== undefined) return subcommand;
  const known = suggestName(name, [...Object.keys(SUBCOMMANDS), 'serve', 'help']);
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
      return { kind: 'version' };
    case '--help':
    case '-h':
      return { kind: 'help', about: null };
    case 'help':
      if (rest[0] === undefined || rest[0] === 'serve') return { kind: 'help', about: null };
      findSubcommand(rest[0]);
      return { kind: 'help', about: rest[0] };
    case 'serve':
      throw new UsageError('serve takes no arguments: environment variables configure it.');
    default:
      return parseSubcommand(name, findSubcommand(name), rest);
  }
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
    format: subcommand.formats.find((format) => given.has(format)) ?? subcommand.formats[0],
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
