/** What a release is made of: the notes, the workflow, and an image for every architecture. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { checkRelease, type ReleaseFiles } from '../../scripts/release-notes.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(`${ROOT}/${path}`, 'utf8');

describe('release notes', () => {
  const changelog =
    '# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-02\n\n### Added\n\n- This.\n\n## [1.1.0]\n\n- That.\n';
  const files: ReleaseFiles = { changelog, packageVersion: '1.2.0', lockVersion: '1.2.0', documentVersion: '1.2.0' };

  test('are the section of the version', () => {
    expect(checkRelease('v1.2.0', files)).toEqual({ notes: '### Added\n\n- This.', faults: [] });
  });

  test.each([
    ['1.2.0', {}, 'not a tag'],
    ['v1.2', {}, 'not a tag'],
    ['v1.2.0', { packageVersion: '1.1.0' }, 'package.json has the version 1.1.0'],
    ['v1.2.0', { lockVersion: '1.1.0' }, 'package-lock.json'],
    ['v1.2.0', { documentVersion: '1.1.0' }, 'openapi.json'],
    ['v1.2.0', { changelog: changelog.replace('1.2.0', '1.2.1') }, 'no section [1.2.0]'],
    ['v1.2.0', { changelog: changelog.replace('[Unreleased]\n', '[Unreleased]\n\n- Those.\n') }, 'still has changes'],
  ])('%s with %j is refused', (tag, changed, words) => {
    const { faults } = checkRelease(tag, { ...files, ...changed });
    expect(faults).toEqual([expect.stringContaining(words)]);
  });

  test('can be made of this changelog', () => {
    const own = {
      ...files,
      changelog: read('CHANGELOG.md'),
      packageVersion: '0.1.0',
      lockVersion: '0.1.0',
      documentVersion: '0.1.0',
    };
    expect(checkRelease('v0.1.0', own).notes).toContain('### Added');
  });
});

describe('the workflow', () => {
  interface Step {
    readonly uses?: string;
    readonly run?: string;
    readonly with?: Readonly<Record<string, unknown>>;
  }
  interface Workflow {
    readonly permissions: unknown;
    readonly jobs: Readonly<
      Record<
        string,
        {
          readonly permissions?: unknown;
          readonly needs?: string | readonly string[];
          readonly 'timeout-minutes': number;
          readonly steps: readonly Step[];
        }
      >
    >;
  }
  const text = read('.github/workflows/release.yml');
  const workflow = parse(text) as Workflow;
  const jobs = Object.entries(workflow.jobs);
  const steps = jobs.flatMap(([, job]) => job.steps);

  test('pins every action to a commit, and leaves no credentials in the clone', () => {
    const used = steps.filter(({ uses }) => uses !== undefined);
    expect(used.length).toBeGreaterThan(3);
    for (const { uses, with: options } of used) {
      expect(uses).toMatch(/^actions\/checkout@[0-9a-f]{40}$/);
      expect(options).toEqual({ 'persist-credentials': false });
    }
    expect([...text.matchAll(/uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/gm)]).toHaveLength(used.length);
  });

  test('lets each job do what it needs and no more, and none before all checks passed', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect(Object.fromEntries(jobs.map(([name, { permissions = null }]) => [name, permissions]))).toEqual({
      check: null,
      package: { contents: 'read', 'id-token': 'write' },
      image: { contents: 'read', packages: 'write' },
      release: { contents: 'write' },
    });
    expect(Object.fromEntries(jobs.map(([name, { needs = null }]) => [name, needs]))).toEqual({
      check: null,
      package: 'check',
      image: 'check',
      release: ['package', 'image'],
    });
  });

  test('puts nothing of an event into a script', () => {
    for (const { run = '' } of steps) expect(run).not.toContain('${{');
  });

  test('calls scripts that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { readonly scripts: Readonly<Record<string, string>> };
    const called = [...text.matchAll(/npm run (?:--silent )?([\w:]+)/g)].map(([, name = '']) => name);
    expect(called.length).toBeGreaterThan(1);
    for (const name of called) expect(Object.keys(scripts)).toContain(name);
  });
});

test('no production dependency is compiled for one architecture', () => {
  interface Locked {
    readonly dev?: boolean;
    readonly cpu?: unknown;
    readonly hasInstallScript?: boolean;
  }
  const { packages } = JSON.parse(read('package-lock.json')) as { readonly packages: Readonly<Record<string, Locked>> };
  const production = Object.entries(packages).filter(([path, { dev = false }]) => path !== '' && !dev);
  expect(production.length).toBeGreaterThan(30);
  expect(production.filter(([, { cpu, hasInstallScript }]) => cpu !== undefined || hasInstallScript === true)).toEqual(
    [],
  );
  const names = production
    .map(([path]) => path)
    .filter((path) => readdirOr(path).some((name) => name.endsWith('.node')));
  expect(names).toEqual([]);
});

/** An optional dependency may be missing. */
function readdirOr(path: string): string[] {
  try {
    return readdirSync(`${ROOT}/${path}`, { recursive: true, encoding: 'utf8' });
  } catch {
    return [];
  }
}
