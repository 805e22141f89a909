/** Writes the table of settings into docs/configuration.md; with --check only tells whether it is up to date. */
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { describeSettings } from '../src/config.ts';

const BEGIN = '<!-- settings: written by `npm run docs` -->';
const END = '<!-- end of settings -->';

const file = new URL('../docs/configuration.md', import.meta.url);
const committed = await readFile(file, 'utf8');
const [before, rest] = committed.split(BEGIN);
const after = rest?.split(END)[1];
if (before === undefined || after === undefined) throw new Error(`docs/configuration.md lacks ${BEGIN} or ${END}`);
// The same document on every machine, wherever it keeps temporary files.
const table = describeSettings().replace(`\`${tmpdir()}\``, "the system's folder for temporary files");
const document = `${before}${BEGIN}\n\n${table}\n\n${END}${after}`;

if (process.argv.includes('--check')) {
  if (committed !== document) {
    process.stderr.write('docs/configuration.md is not what src/config.ts says; run `npm run docs` and commit it.\n');
    process.exit(1);
  }
} else {
  await writeFile(file, document);
}
