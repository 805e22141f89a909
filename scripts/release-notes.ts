/**
 * Writes what CHANGELOG.md says of a version, once everything agrees on that version: npm run release:notes -- v1.2.3
 *
 * Status 1, and a line for each disagreement, otherwise.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const read = (name: string): string => readFileSync(fileURLToPath(new URL(`../${name}`, import.meta.url)), 'utf8');

export interface ReleaseFiles {
  readonly changelog: string;
  readonly packageVersion: string;
  readonly lockVersion: string;
  readonly documentVersion: string;
}

/** The changelog's section of a version, without its heading; null when there is none. */
function findSection(changelog: string, name: string): string | null {
  const [, ...sections] = changelog.split(/^## (?=\[)/m);
  const found = sections.find((section) => section.startsWith(`[${name}]`));
  return found === undefined ? null : found.slice(found.indexOf('\n') + 1).trim();
}

/** @returns the notes, and what is wrong: nothing, when the version can be released */
export function checkRelease(tag: string, files: ReleaseFiles): { readonly notes: string; readonly faults: string[] } {
  const [, version] = /^v(\d+\.\d+\.\d+(?:-[\w.]+)?)$/.exec(tag) ?? [];
  if (version === undefined) return { notes: '', faults: [`${tag} is not a tag of a version, such as v1.2.3.`] };
  const faults: string[] = [];
  const places = {
    'package.json': files.packageVersion,
    'package-lock.json': files.lockVersion,
    'openapi.json': files.documentVersion,
  };
  for (const [file, found] of Object.entries(places)) {
    if (found !== version)
      faults.push(`${file} has the version ${found}, not ${version}: npm version, then npm run openapi.`);
  }
  const notes = findSection(files.changelog, version) ?? '';
  if (notes === '') faults.push(`CHANGELOG.md has no section [${version}].`);
  if ((findSection(files.changelog, 'Unreleased') ?? '') !== '') {
    faults.push('CHANGELOG.md still has changes under Unreleased: move them under the version.');
  }
  return { notes, faults };
}

if (import.meta.main) {
  const versionOf = (name: string): string => (JSON.parse(read(name)) as { readonly version: string }).version;
  const { info } = JSON.parse(read('openapi.json')) as { readonly info: { readonly version: string } };
  const { notes, faults } = checkRelease(process.argv[2] ?? '', {
    changelog: read('CHANGELOG.md'),
    packageVersion: versionOf('package.json'),
    lockVersion: versionOf('package-lock.json'),
    documentVersion: info.version,
  });
  for (const fault of faults) process.stderr.write(`${fault}\n`);
  if (faults.length > 0) process.exitCode = 1;
  else process.stdout.write(`${notes}\n`);
}
