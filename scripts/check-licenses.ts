/** Every dependency that goes into production, as it is installed, has a licence from a short list. */
import { existsSync, readFileSync } from 'node:fs';

/** SPDX identifiers. All of them let the service be used and passed on under its own licence. */
const ALLOWED = new Set(['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'ISC', 'MIT']);

const ROOT = new URL('../', import.meta.url);
const readJson = (path: string): unknown => JSON.parse(readFileSync(new URL(path, ROOT), 'utf8'));

interface Locked {
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly optional?: boolean;
  readonly link?: boolean;
}

const { packages } = readJson('package-lock.json') as { readonly packages: Readonly<Record<string, Locked>> };

/** `(MIT OR CC0-1.0)` is a choice; with `AND` all of them hold. */
const isAllowed = (expression: string): boolean =>
  expression
    .replace(/^\((.*)\)$/, '$1')
    .split(' OR ')
    .some((choice) => choice.split(' AND ').every((name) => ALLOWED.has(name.trim())));

const counts = new Map<string, number>();
const failures: string[] = [];
for (const [path, { dev = false, devOptional = false, optional = false }] of Object.entries(packages)) {
  if (path === '' || dev || devOptional) continue;
  if (!existsSync(new URL(`${path}/package.json`, ROOT))) {
    // For another platform, or left out.
    if (!optional) failures.push(`${path}: not installed`);
    continue;
  }
  const { name, version, license } = readJson(`${path}/package.json`) as Readonly<Record<string, unknown>>;
  const given = typeof license === 'string' ? license : JSON.stringify(license ?? null);
  counts.set(given, (counts.get(given) ?? 0) + 1);
  if (!isAllowed(given))
    failures.push(`${String(name)}@${String(version)}: ${given} is not among the allowed licences`);
}
if (counts.size === 0) failures.push('no dependency was found');

for (const failure of failures) process.stderr.write(`${failure}\n`);
const summary = [...counts].sort(([, a], [, b]) => b - a).map(([license, count]) => `${count} ${license}`);
process.stdout.write(`licences: ${summary.join(', ')}; ${failures.length} failed\n`);
if (failures.length > 0) process.exitCode = 1;
