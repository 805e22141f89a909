/** The manual page, made from the table of options; `npm run docs` writes it to docs/bsdsyms.1. */
import {
  DESCRIPTION,
  GLOBAL_ROWS,
  IMAGE_ROWS,
  listLimits,
  type OptionRow,
  OTHER_ROWS,
  STATUSES,
  type SubcommandRow,
} from './option-table.ts';

/** @param version of the package */
export const writeManual = (version: string): string =>
  [
    `.TH BSDSYMS 1 "" "bsdsyms ${escape(version)}" "User Commands"`,
    '.ad l',
    '.nh',
    '.SH NAME',
    'bsdsyms \\- the symbol table that Xen places after a BSD kernel',
    '.SH SYNOPSIS',
    ...[...IMAGE_ROWS, ...OTHER_ROWS].flatMap(writeSynopsis),
    '.SH DESCRIPTION',
    ...DESCRIPTION.map(escape),
    'Text for people goes to a terminal, JSON everywhere else. Parameters have the names and values of the HTTP service.',
    '.SH SUBCOMMANDS',
    ...IMAGE_ROWS.flatMap(writeSubcommand),
    ...OTHER_ROWS.flatMap(writeSubcommand),
    '.SH OPTIONS',
    ...GLOBAL_ROWS.flatMap(writeOption),
    '.SH EXIT STATUS',
    ...STATUSES.flatMap(([status, meaning]) => ['.TP', String(status), escape(meaning)]),
    '.SH ENVIRONMENT',
    'These limits are those of the service. For sizes, plain numbers of bytes are given.',
    ...listLimits().flatMap(({ name, fallback, purpose }) => [
      '.TP',
      `.B ${escape(name)}`,
      escape(`${purpose}${fallback === '' || name === 'BSDSYMS_SPOOL_DIR' ? '' : `. Default: ${fallback}`}.`),
    ]),
    '.SH EXAMPLES',
    ...EXAMPLES.flatMap(([what, command]) => ['.TP', escape(what), `.B ${escape(command)}`]),
    '.SH SEE ALSO',
    '.BR nm (1),',
    '.BR readelf (1),',
    '.BR xl (1)',
    '',
  ].join('\n');

const EXAMPLES: readonly (readonly [string, string])[] = [
  ['The symbol blob of a kernel:', 'bsdsyms blob -o bsdsyms.bin netbsd'],
  ['Where Xen places it:', 'bsdsyms layout netbsd | jq -r .bsdsyms.pstart'],
  ['Fail a build whose kernel has no usable symbols:', 'bsdsyms check --junit=bsdsyms.xml netbsd'],
  ['What stands at an address:', 'bsdsyms symbols --address=0xffffffff80201000 netbsd'],
];

const writeSynopsis = ({ name, argument, options }: SubcommandRow): string[] => [
  `.B bsdsyms ${name}`,
  ...(options.length > 0 ? ['[\\fIOPTION\\fR]...'] : []),
  ...(argument === '' ? [] : [escape(argument)]),
  '.br',
];

const writeSubcommand = ({ name, argument, summary, options }: SubcommandRow): string[] => [
  `.SS bsdsyms ${escape(`${name} ${argument}`.trimEnd())}`,
  escape(summary),
  ...options.flatMap(writeOption),
];

function writeOption({ name, short, value, description }: OptionRow): string[] {
  const argument = value === null ? '' : `=\\fI${escape(value)}\\fR`;
  const also = short === null ? '' : `, \\fB\\-${short}\\fR${value === null ? '' : ` \\fI${escape(value)}\\fR`}`;
  return ['.TP', `\\fB\\-\\-${escape(name)}\\fR${argument}${also}`, escape(description)];
}

/** What groff would take for a request, an escape or a typographic character. */
const escape = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('`', '\\(ga')
    .replaceAll("'", '\\(aq')
    // A line may be broken there.
    .replaceAll('|', '|\\:')
    .replace(/^\./, '\\&.');
