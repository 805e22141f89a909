/** Writes the manual page, the generated tables and the pictures into docs; with --check only tells whether they are up to date. */
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { writeManual } from '../src/cli/manual.ts';
import { describeRelations, describeSettings, loadConfig } from '../src/config.ts';
import { Admission } from '../src/http/admission.ts';
import { Metrics } from '../src/http/metrics.ts';
import { Budget } from '../src/image/budget.ts';
import { Spool } from '../src/image/spool.ts';
import { describedRegistry } from '../src/service/process-metrics.ts';
import { drawPictures } from './pictures.ts';

interface Table {
  readonly file: string;
  readonly name: string;
  readonly text: string;
}

// The same document on every machine, wherever it keeps temporary files.
const settings = describeSettings().replace(`\`${tmpdir()}\``, "the system's folder for temporary files");
const tables: readonly Table[] = [
  { file: 'docs/configuration.md', name: 'settings', text: settings },
  { file: 'docs/configuration.md', name: 'relations', text: describeRelations() },
  { file: 'docs/operations.md', name: 'metrics', text: await describeMetrics() },
];

/** The service's own metrics; those of the process and of Node are prom-client's. */
async function describeMetrics(): Promise<string> {
  const config = loadConfig({});
  const store = { maxImageBytes: 1, memory: new Budget(1), spool: await Spool.open(tmpdir(), 1) };
  const { registry } = new Metrics({ store, admission: new Admission(config) });
  const metrics = [...registry.getMetricsAsArray(), ...describedRegistry().getMetricsAsArray()];
  const own = metrics.filter(({ name }) => name.startsWith('bsdsyms_'));
  const rows = own.map((metric) => {
    const labels = 'labelNames' in metric ? (metric.labelNames as readonly string[]) : [];
    const { name, help, type } = metric as unknown as { name: string; help: string; type: string };
    return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ') || '–'} | ${help} |`;
  });
  return ['| metric | type | labels | meaning |', '|---|---|---|---|', ...rows].join('\n');
}

for (const { file, name, text } of tables) {
  const begin = `<!-- ${name}: written by \`npm run docs\` -->`;
  const end = `<!-- end of ${name} -->`;
  const committed = await read(file);
  const [before, rest] = committed.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new Error(`${file} lacks ${begin} or ${end}`);
  await update(file, `${before}${begin}\n\n${text}\n\n${end}${after}`);
}
for (const [file, picture] of await drawPictures()) await update(file, picture);
const { version } = JSON.parse(await read('package.json')) as { readonly version: string };
await update('docs/bsdsyms.1', writeManual(version));

function read(file: string): Promise<string> {
  return readFile(new URL(`../${file}`, import.meta.url), 'utf8');
}

/** Writes a file that has changed, or only says so. */
async function update(file: string, text: string): Promise<void> {
  if ((await read(file).catch(() => '')) === text) return;
  if (process.argv.includes('--check')) {
    process.stderr.write(`${file} is behind the source; run \`npm run docs\` and commit it.\n`);
    process.exitCode = 1;
    return;
  }
  await writeFile(new URL(`../${file}`, import.meta.url), text);
}
