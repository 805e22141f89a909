/** Completions for shells, made from the table of options. */
import type { Shell } from './arguments.ts';
import { SHELLS } from './arguments.ts';
import { GLOBAL_ROWS, IMAGE_ROWS, type OptionRow, OTHER_ROWS, type SubcommandRow } from './option-table.ts';

export const writeCompletion = (shell: Shell): string => (shell === 'bash' ? writeBash() : writeZsh());

const names = [...IMAGE_ROWS, ...OTHER_ROWS].map(({ name }) => name);
/** `--name=` where a value follows. */
const flagsOf = (rows: readonly OptionRow[]): string[] =>
  rows.flatMap(({ name, short, value }) => {
    const long = `--${name}${value === null ? '' : '='}`;
    return short === null ? [long] : [long, `-${short}`];
  });

/** COMP_WORDBREAKS has `=`, so that `--loader=xen` comes as three words. */
function writeBash(): string {
  const paths = IMAGE_ROWS.flatMap(({ options }) => options).filter(({ value }) => value === 'FILE');
  const fileOptions = new Set(
    paths.flatMap(({ name, short }) => (short === null ? [`--${name}`] : [`--${name}`, `-${short}`])),
  );
  return `# bash completion for bsdsyms: source <(bsdsyms completion bash)
_bsdsyms() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous='' subcommand='' words=''
  ((COMP_CWORD > 0)) && previous=\${COMP_WORDS[COMP_CWORD - 1]}
  [[ $current == '=' ]] && current=''
  [[ $previous == '=' ]] && previous=\${COMP_WORDS[COMP_CWORD - 2]}
  ((COMP_CWORD > 1)) && subcommand=\${COMP_WORDS[1]}
  COMPREPLY=()
  if [[ -z $subcommand ]]; then
    mapfile -t COMPREPLY < <(compgen -W '${[...names, ...flagsOf(GLOBAL_ROWS)].join(' ')}' -- "$current")
    return
  fi
  case $previous in
    ${[...fileOptions].join(' | ')})
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
      ;;
  esac
  case $subcommand:$previous in
${IMAGE_ROWS.flatMap(bashValues).join('\n')}
  esac
  if [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    return
  fi
  case $subcommand in
${IMAGE_ROWS.map(({ name, options }) => `    ${name}) words='${flagsOf(options).join(' ')}' ;;`).join('\n')}
    completion) words='${SHELLS.join(' ')}' ;;
    help) words='${names.join(' ')}' ;;
    *) return ;;
  esac
  if [[ $current == -* || $subcommand == completion || $subcommand == help ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return
  fi
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
complete -F _bsdsyms bsdsyms
`;
}

/** A case for each option with a closed list of values. */
const bashValues = ({ name, options }: SubcommandRow): string[] =>
  options
    .filter(({ values }) => values.length > 0)
    .map((option) => `    ${name}:--${option.name}) words='${option.values.join(' ')}' ;;`);

function writeZsh(): string {
  const cases = IMAGE_ROWS.map(
    ({ name, options }) => `    ${name})
      _arguments ${options.flatMap(zshSpecs).join(' \\\n        ')} \\
        '1:file:_files'
      ;;`,
  );
  return `#compdef bsdsyms
# zsh completion for bsdsyms: bsdsyms completion zsh > a file named _bsdsyms in a folder of fpath
_bsdsyms() {
  local -a subcommands
  subcommands=(
${[...IMAGE_ROWS, ...OTHER_ROWS].map(({ name, summary }) => `    ${quote(`${name}:${summary.replaceAll(':', '\\:')}`)}`).join('\n')}
  )
  if ((CURRENT == 2)); then
    _arguments ${GLOBAL_ROWS.flatMap(zshSpecs).join(' ')} '1:subcommand:->subcommand'
    _describe subcommand subcommands
    return
  fi
  local subcommand=$words[2]
  shift words
  ((CURRENT--))
  case $subcommand in
${cases.join('\n')}
    completion) _values shell ${SHELLS.join(' ')} ;;
    help) _describe subcommand subcommands ;;
  esac
}
# Sourced, it only defines the function; as a file of fpath it is the function.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _bsdsyms "$@"
else
  compdef _bsdsyms bsdsyms
fi
`;
}

/** The option in the notation of _arguments, for each of its names. */
function zshSpecs({ name, short, value, values, repeatable, description }: OptionRow): string[] {
  const meaning = `[${description.replaceAll(/[[\]\\]/g, '\\$&').replaceAll(':', '\\:')}]`;
  const action =
    value === null ? '' : `:${name}:${values.length > 0 ? `(${values.join(' ')})` : value === 'FILE' ? '_files' : ''}`;
  const star = repeatable ? '*' : '';
  const long = quote(`${star}--${name}${value === null ? '' : '='}${meaning}${action}`);
  return short === null ? [long] : [long, quote(`${star}-${short}${meaning}${action}`)];
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
