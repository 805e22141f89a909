/** Completions and the manual page: that shells and man understand them, and that they have what the help has. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { optionsOf } from '../../src/cli/arguments.ts';
import { writeCompletion } from '../../src/cli/completion.ts';
import { writeManual } from '../../src/cli/manual.ts';
import { SUBCOMMANDS } from '../../src/cli/subcommands.ts';
import { run } from '../support/command.ts';
import { hasProgram, TemporaryDirectory } from '../support/temporary.ts';

const NAMES = [...Object.keys(SUBCOMMANDS), 'serve', 'completion', 'help'];

test.each(['bash', 'zsh'] as const)('bsdsyms completion %s writes it', async (shell) => {
  expect(await run(['completion', shell])).toEqual({
    status: 0,
    stdout: Buffer.from(writeCompletion(shell)),
    stderr: '',
  });
});

/** What is offered for the last of these words, cut as bash cuts them. */
function complete(...words: string[]): string[] {
  const directory = new TemporaryDirectory();
  writeFileSync(directory.file('a file'), '');
  writeFileSync(directory.file('other'), '');
  writeFileSync(directory.file('.completion'), writeCompletion('bash'));
  const script = `set -u; source ./.completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _bsdsyms; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', 'bsdsyms', ...words], {
    cwd: directory.path,
    encoding: 'utf8',
  });
  directory.remove();
  expect(stderr).toBe('');
  return stdout.split('\n').filter((line) => line !== '');
}

describe.skipIf(!hasProgram('bash', '--version'))('bash', () => {
  test('offers subcommands', () => {
    expect(complete('')).toEqual([...NAMES, '--help', '-h', '--version', '-V']);
    expect(complete('he')).toEqual(['help']);
    expect(complete('help', 'bl')).toEqual(['blob']);
    expect(complete('completion', '')).toEqual(['bash', 'zsh']);
    expect(complete('serve', '')).toEqual([]);
  });

  test.each(Object.entries(SUBCOMMANDS))('offers every option of %s', (name, subcommand) => {
    const offered = complete(name, '-').map((option) => option.replace(/=$/, ''));
    for (const option of [...Object.keys(subcommand.parameters), ...Object.keys(optionsOf(subcommand))]) {
      expect(offered).toContain(`--${option}`);
    }
  });

  test('offers values and files', () => {
    expect(complete('blob', '--loader', '=', '')).toEqual(['xen-4.8', 'xen-4.7', 'xen-4.6', 'libxc-4.6']);
    expect(complete('blob', '--loader', '=', 'lib')).toEqual(['libxc-4.6']);
    expect(complete('blob', '--onBroken', 'l')).toEqual(['load']);
    expect(complete('blob', '')).toEqual(expect.arrayContaining(['a file', 'other']));
    expect(complete('blob', '--loader', '=', 'xen-4.8', 'o')).toEqual(['other']);
    expect(complete('check', '--junit', '=', 'o')).toEqual(['other']);
    expect(complete('blob', '-o', 'a')).toEqual(['a file']);
  });
});

describe.skipIf(!hasProgram('zsh', '--version'))('zsh', () => {
  test('takes the script', () => {
    const checked = spawnSync('zsh', ['-n'], { input: writeCompletion('zsh'), encoding: 'utf8' });
    expect([checked.status, checked.stderr]).toEqual([0, '']);
  });

  test('defines a completion for bsdsyms', () => {
    const directory = new TemporaryDirectory();
    const path = directory.write(writeCompletion('zsh'));
    const script = 'autoload -Uz compinit; compinit -u -D; source $1; print $_comps[bsdsyms]; whence -w _bsdsyms';
    const { stdout, stderr } = spawnSync('zsh', ['-f', '-c', script, 'zsh', path], {
      encoding: 'utf8',
    });
    directory.remove();
    expect([stdout, stderr]).toEqual(['_bsdsyms\n_bsdsyms: function\n', '']);
  });
});

describe('the manual page', () => {
  const manual = readFileSync('docs/bsdsyms.1', 'utf8');

  test('is up to date', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { readonly version: string };
    expect(manual).toBe(writeManual(version));
  });

  test.skipIf(!hasProgram('groff', '--version'))('is understood, and has every subcommand and option', () => {
    const { status, stdout, stderr } = spawnSync('groff', ['-man', '-ww', '-Tascii', '-P-cbou', '-rLL=200n'], {
      input: manual,
      encoding: 'utf8',
    });
    expect([status, stderr]).toEqual([0, '']);
    for (const [name, subcommand] of Object.entries(SUBCOMMANDS)) {
      const section = stdout.split(new RegExp(`^   bsdsyms ${name} `, 'm'))[1]?.split(/^ {3}bsdsyms /m)[0] ?? '';
      expect([name, section.replaceAll(/\s+/g, ' ')]).toEqual([name, expect.stringContaining(subcommand.summary)]);
      for (const option of [...Object.keys(subcommand.parameters), ...Object.keys(optionsOf(subcommand))]) {
        expect(section).toMatch(new RegExp(`^ +--${option}\\b`, 'm'));
      }
    }
  });
});
