/** The help texts, made from the tables of subcommands and parameters. */
import { type Option, optionsOf } from './arguments.ts';
import { SUBCOMMANDS, type Subcommand } from './subcommands.ts';

const WIDTH = 100;
const INDENT = '      ';

const STATUSES = `Exit status:
  0  done
  1  the image is broken or lacks what is asked for; standard error says why as \`bsdsyms: code: detail\`
  2  anything else: a wrong command line, or a file that cannot be read or written
`;

export const describeCommand = (): string => `Usage: bsdsyms SUBCOMMAND [OPTION]... FILE

Makes the symbol table that Xen places after a BSD kernel, from the ELF image in FILE. FILE is -
for standard input, or a URL (http, https, file), of which only the needed parts are read. A
compressed image, or one in a bzImage, is unpacked first.

${listSubcommands()}
  serve   Runs the HTTP service, which environment variables configure.
  help    Shows the options of a subcommand: bsdsyms help blob.

  --help, -h
  --version

${STATUSES}`;

const listSubcommands = (): string =>
  Object.entries(SUBCOMMANDS)
    .map(([name, { summary }]) => `  ${name.padEnd(7)} ${summary}`)
    .join('\n');

export function describeSubcommand(name: string, subcommand: Subcommand): string {
  const parameters = Object.entries(subcommand.parameters).map(([parameter, { schema }]) =>
    describeOption(parameter, {
      value: schema.enum?.join('|') ?? schema.examples?.[0] ?? 'VALUE',
      description:
        schema.default === undefined ? schema.description : `${schema.description} Default: ${schema.default}.`,
    }),
  );
  const options = Object.entries(optionsOf(subcommand)).map(([option, description]) =>
    describeOption(option, description),
  );
  return `Usage: bsdsyms ${name} [OPTION]... FILE

${subcommand.summary}

${[...parameters, ...options].join('\n')}
${STATUSES}`;
}

function describeOption(name: string, { short, value, description }: Option): string {
  const argument = value === undefined ? '' : `=${value}`;
  const also = short === undefined ? '' : `, -${short}${value === undefined ? '' : ` ${value}`}`;
  return `  --${name}${argument}${also}\n${fold(description)}\n`;
}

function fold(text: string): string {
  const lines = [INDENT];
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? '';
    if (line.length + word.length > WIDTH) lines.push(INDENT + word);
    else lines[lines.length - 1] = line === INDENT ? line + word : `${line} ${word}`;
  }
  return lines.join('\n');
}
