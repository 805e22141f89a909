/** What help, completion and manual page say of subcommands and their options: one table for the three. */
import { SETTINGS } from '../config.ts';
import { GLOBAL_OPTIONS, type Option, OTHER_SUBCOMMANDS, optionsOf } from './arguments.ts';
import { LIMITS, SUBCOMMANDS, type Subcommand } from './subcommands.ts';

export interface OptionRow {
  readonly name: string;
  readonly short: string | null;
  /** Stands for its value; null for a switch. */
  readonly value: string | null;
  /** The accepted values, when they are a closed list. */
  readonly values: readonly string[];
  readonly repeatable: boolean;
  readonly description: string;
}

export interface SubcommandRow {
  readonly name: string;
  /** What follows the options. */
  readonly argument: string;
  readonly summary: string;
  readonly options: readonly OptionRow[];
}

const toRow = (name: string, { short = null, value = null, description }: LooseOption): OptionRow => ({
  name,
  short,
  value,
  values: [],
  repeatable: false,
  description,
});
type LooseOption = Pick<Option, 'description'> & { readonly short?: string | null; readonly value?: string | null };

const rowsOf = (subcommand: Subcommand): OptionRow[] => [
  ...Object.entries(subcommand.parameters).map(([name, { schema, maxValues }]) => ({
    name,
    short: null,
    value: schema.enum?.join('|') ?? schema.examples?.[0] ?? 'VALUE',
    values: schema.enum ?? [],
    repeatable: maxValues !== undefined,
    description:
      schema.default === undefined ? schema.description : `${schema.description} Default: ${schema.default}.`,
  })),
  ...Object.entries(optionsOf(subcommand)).map(([name, option]) => toRow(name, option)),
];

/** Those that take an image or a blob, in the order of the help. */
export const IMAGE_ROWS: readonly SubcommandRow[] = Object.entries(SUBCOMMANDS).map(([name, subcommand]) => ({
  name,
  argument: 'FILE',
  summary: subcommand.summary,
  options: rowsOf(subcommand),
}));

export const OTHER_ROWS: readonly SubcommandRow[] = Object.entries(OTHER_SUBCOMMANDS).map(
  ([name, { argument, summary }]) => ({ name, argument, summary, options: [] }),
);

export const GLOBAL_ROWS: readonly OptionRow[] = Object.entries(GLOBAL_OPTIONS).map(([name, option]) =>
  toRow(name, option),
);

export const DESCRIPTION = [
  'Makes the symbol table that Xen places after a BSD kernel, from the ELF image in FILE.',
  'FILE is - for standard input, or a URL (http, https, file), of which only the needed parts are read.',
  'A compressed image, or one in a bzImage, is unpacked first.',
];

export const STATUSES: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [
    1,
    'the image is broken or lacks what is asked for; standard error says why, for what is wrong with the image as ' +
      '`bsdsyms: code: detail`',
  ],
  [2, 'anything else: a wrong command line, or a file that cannot be read or written'],
  [141, 'nobody reads the output any more, as after `| head`'],
];

export interface SettingRow {
  readonly name: string;
  readonly fallback: string;
  readonly purpose: string;
}

const toSetting = ({ name, fallback, purpose }: (typeof SETTINGS)[keyof typeof SETTINGS]): SettingRow => ({
  name,
  fallback:
    fallback === null || fallback === '' || (Array.isArray(fallback) && fallback.length === 0) ? '' : String(fallback),
  purpose,
});

/** All settings of the service. */
export const listSettings = (): SettingRow[] => Object.values(SETTINGS).map(toSetting);
/** Those that the command knows too. */
export const listLimits = (): SettingRow[] => LIMITS.map((key) => toSetting(SETTINGS[key]));
