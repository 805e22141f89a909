/** The help texts. */
import {
  DESCRIPTION,
  GLOBAL_ROWS,
  IMAGE_ROWS,
  listSettings,
  type OptionRow,
  OTHER_ROWS,
  STATUSES,
  type SubcommandRow,
} from './option-table.ts';

const WIDTH = 100;
const INDENT = 6;

/** Of the command as a whole. */
export const describeCommand = (): string => `Usage: bsdsyms SUBCOMMAND [OPTION]... FILE

${fold(DESCRIPTION.join(' '), 0)}

${[...IMAGE_ROWS, ...OTHER_ROWS].map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`).join('\n')}

${GLOBAL_ROWS.map((row) => `  ${writeNames(row).padEnd(14)} ${row.description}`).join('\n')}

bsdsyms help blob shows the options of a subcommand.

${writeStatuses()}`;

/** @param name that of a subcommand */
export function describeTopic(name: string): string {
  const row = [...IMAGE_ROWS, ...OTHER_ROWS].find((one) => one.name === name);
  if (row === undefined) throw new Error(`there is no subcommand ${name}`);
  if (name === 'serve') return describeService(row);
  if (name === 'completion') return describeCompletion(row);
  return `Usage: bsdsyms ${name} [OPTION]... ${row.argument}

${fold(row.summary, 0)}

${row.options.map(describeOption).join('\n')}
${writeStatuses()}`;
}

const describeService = ({ summary }: SubcommandRow): string => `Usage: bsdsyms serve

${summary} It takes no arguments. SIGTERM
ends it when the requests under way are answered.

${listSettings()
  .map(({ name, fallback, purpose }) => `  ${name}${fallback === '' ? '' : `=${fallback}`}\n${fold(purpose)}\n`)
  .join('\n')}`;

const describeCompletion = ({ summary }: SubcommandRow): string => `Usage: bsdsyms completion bash|zsh

${summary}

  bash    source <(bsdsyms completion bash)
          in ~/.bashrc
  zsh     bsdsyms completion zsh > ~/.zfunc/_bsdsyms
          with fpath+=(~/.zfunc) before compinit in ~/.zshrc
`;

const describeOption = (row: OptionRow): string => `  ${writeNames(row)}\n${fold(row.description)}\n`;

/** `--output=FILE, -o FILE` */
function writeNames({ name, short, value }: OptionRow): string {
  const argument = value === null ? '' : `=${value}`;
  const also = short === null ? '' : `, -${short}${value === null ? '' : ` ${value}`}`;
  return `--${name}${argument}${also}`;
}

const writeStatuses = (): string => {
  const lines = STATUSES.map(([status, meaning]) => {
    const folded = fold(meaning).trimStart();
    return `${String(status).padStart(5)} ${folded}\n`;
  });
  return `Exit status:\n${lines.join('')}`;
};

function fold(text: string, indent = INDENT): string {
  const margin = ' '.repeat(indent);
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && margin.length + line.length + 1 + word.length > WIDTH) {
      lines.push(margin + line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, margin + line].join('\n');
}
