/** The documents say what the code does, and what they lead to exists. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { exampleKernel } from '../../scripts/example-kernel.ts';
import { optionsOf } from '../../src/cli/arguments.ts';
import { SUBCOMMANDS } from '../../src/cli/subcommands.ts';
import { SETTINGS } from '../../src/config.ts';
import { MemorySource } from '../../src/image/memory.ts';
import { REQUIREMENTS } from '../../src/inspect/check.ts';
import { type LoadedImage, loadImage } from '../../src/inspect/load.ts';
import { toLayout } from '../../src/report/layout.ts';
import { toProblemDocument } from '../../src/report/problem.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import { GUEST_FINDINGS, GUESTS } from '../../src/xen/guests/verdict.ts';
import { WARNING_KINDS } from '../../src/xen/warnings.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DOCUMENTS = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  'docs/check.md',
  'docs/command.md',
  'docs/configuration.md',
  'docs/design.md',
  'docs/library.md',
  'docs/loader.md',
  'docs/operations.md',
  'docs/page.md',
  'docs/picture.md',
  'docs/release.md',
  'docs/references.md',
  'docs/symbols.md',
  'docs/verify.md',
];
const read = (path: string): string => readFileSync(resolve(ROOT, path), 'utf8');
const manifest = JSON.parse(read('package.json')) as {
  readonly scripts: Record<string, string>;
  readonly dependencies: Record<string, string>;
  readonly devDependencies: Record<string, string>;
};

/** What the group of a pattern matches, everywhere in the text. */
const matches = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, group]) => group ?? '');
/** The part of a document under a heading. */
const section = (text: string, heading: string): string =>
  text.split(new RegExp(`^#+ ${heading}$`, 'm'))[1]?.split(/^#/m)[0] ?? '';

describe('generated tables', () => {
  test('of settings and metrics are up to date', () => {
    const check = spawnSync(process.execPath, [resolve(ROOT, 'scripts/docs.ts'), '--check'], { encoding: 'utf8' });
    expect([check.status, check.stderr]).toEqual([0, '']);
  });
});

describe('docs/operations.md', () => {
  test('explains every line that is logged', () => {
    const sources = readdirSync(resolve(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((path) =>
      path.endsWith('.ts'),
    );
    const logged = sources.flatMap((path) =>
      matches(read(`src/${path}`), /\blog(?:ger)?\.(?:info|warn|error|fatal)\(\s*(?:\{[\s\S]*?\},\s*)?'([^']+)'/gi),
    );
    expect(logged).toContain('broken ELF');
    const explained = section(read('docs/operations.md'), 'Log lines');
    expect(logged.filter((message) => !explained.includes(`\`${message}\``))).toEqual([]);
  });
});

describe('docs/verify.md', () => {
  const verify = read('docs/verify.md');

  test('has every code and no other, in the words of the source', () => {
    const rows = Object.entries(GUEST_FINDINGS).map(
      ([code, { outcome, meaning }]) => `| \`${code}\` | \`${outcome}\` | ${meaning} |`,
    );
    expect(
      section(verify, 'Codes')
        .split('\n')
        .filter((line) => line.startsWith('| `')),
    ).toEqual(rows);
  });

  test('has every guest and no other', () => {
    expect(matches(section(verify, 'Guests'), /^\| `(\w+)`/gm)).toEqual([...GUESTS]);
  });
});

describe('README.md', () => {
  test('fits on one screen', () => {
    expect(read('README.md').split('\n').length).toBeLessThanOrEqual(70);
  });

  test('shows what the example kernel is answered with', async () => {
    const answers: string[] = [];
    for (const strip of [false, true]) {
      const source = new MemorySource([exampleKernel({ strip })]);
      const loaded = await loadImage(source, { askGuests: true });
      const answer = loaded.ok
        ? toLayout(loaded, null)
        : toProblemDocument({ broken: loaded.broken, image: loaded.image });
      answers.push(JSON.stringify(answer));
    }
    const all = answers.join('\n');
    const shown = [...section(read('README.md'), 'Use').matchAll(/^ ?[{"].*(?:\n .*)*/gm)].map(([text]) => text);
    expect(shown).toHaveLength(2);
    const members = shown.flatMap((text) => [...text.matchAll(/"\w+":(?:"[^"]*"|[\w.]+)/g)].map(([member]) => member));
    expect(members.length).toBeGreaterThan(25);
    expect(members.filter((member) => !all.includes(member))).toEqual([]);
    const { plan } = (await loadImage(new MemorySource([exampleKernel()]))) as LoadedImage;
    for (const [, value = ''] of read('README.md').matchAll(/^(?:content-length|bsdsyms-\w+): (\w+)$/gm)) {
      expect([plan.size, plan.pstart, plan.pend].map(Number)).toContain(Number(value));
    }
  });

  test('names settings that exist, with their defaults', () => {
    const table = section(read('README.md'), 'Configuration');
    const rows = table.split('\n').filter((line) => line.startsWith('| `'));
    const defaults = new Map<string, string>(
      Object.values(SETTINGS).map(({ name, fallback }) => [name, String(fallback)]),
    );
    expect(rows).not.toEqual([]);
    for (const row of rows) {
      const [names, values] = row
        .split('|')
        .slice(1, 3)
        .map((cell) => matches(cell, /`([^`]+)`/g));
      expect(names?.map((name) => defaults.get(name))).toEqual(values);
    }
    expect(matches(table, /(BSDSYMS_\w+)/g).filter((name) => !defaults.has(name))).toEqual([]);
  });
});

describe('docs/loader.md', () => {
  const loader = read('docs/loader.md');

  test('has every reason with the words of the reference', () => {
    const reasons = section(loader, 'Reasons');
    for (const [code, { reason }] of Object.entries(BROKEN_KINDS)) {
      expect(reasons).toContain(`\`${code}\``);
      expect(reasons.replaceAll('\n', ' ')).toContain(reason ?? 'none');
    }
    const known = new Set([...Object.keys(BROKEN_KINDS), 'init', 'segments', 'notes', 'parse', 'load']);
    expect(matches(reasons, /`([^`]+)`/g).filter((code) => !known.has(code))).toEqual([]);
  });

  test('has every warning', () => {
    const rows = matches(section(loader, 'Warnings'), /^\| `([^`]+)` \|/gm);
    expect(rows.sort()).toEqual(Object.keys(WARNING_KINDS).sort());
  });
});

describe('docs/check.md', () => {
  const check = read('docs/check.md');

  test('has every requirement, in their order', () => {
    expect(matches(section(check, 'Requirements'), /^\| `([\w-]+)` \|/gm)).toEqual([...REQUIREMENTS]);
  });

  test('has every recipe', () => {
    const named = matches(section(check, 'In CI'), /\]\(\.\.\/([^)]+)\)/g);
    for (const file of [
      'action.yml',
      ...readdirSync(resolve(ROOT, 'examples'))
        .filter((name) => !/^(?:github-release|reference)/.test(name))
        .map((name) => `examples/${name}`),
    ]) {
      expect(named.some((path) => path === file || path.startsWith(`${file}/`))).toBe(true);
    }
  });
});

describe('docs/picture.md', () => {
  test('has every region that the pictures have', () => {
    const documented = new Set(matches(section(read('docs/picture.md'), 'In a page'), /`([a-z-]+(?:-(?:0x)?N)?)`/g));
    const drawn = readdirSync(resolve(ROOT, 'docs/pictures')).flatMap((file) =>
      matches(read(`docs/pictures/${file}`), /data-region="(?:other-)?([^"]+)"/g),
    );
    expect(drawn.length).toBeGreaterThan(50);
    const names = drawn.map((name) => name.replace(/-0x[0-9a-f]+$/, '-0xN').replace(/-\d+$/, '-N'));
    expect([...new Set(names)].filter((name) => !documented.has(name))).toEqual([]);
  });
});

describe('docs/command.md', () => {
  test('has every subcommand, and the routes they are named after', () => {
    const text = read('docs/command.md');
    expect(matches(text, /^\| `(\w+)` \|/gm)).toEqual(Object.keys(SUBCOMMANDS));
    const routes = matches(text, /`POST (\/\w+)`/g);
    expect(routes.filter((route) => !read('openapi.yaml').includes(`\n  ${route}:\n`))).toEqual([]);
  });

  test('names options that exist', () => {
    const known = new Set(
      Object.values(SUBCOMMANDS).flatMap((subcommand) =>
        Object.keys(subcommand.parameters).concat(Object.keys(optionsOf(subcommand))),
      ),
    );
    expect(matches(read('docs/command.md'), /--([a-zA-Z]+)/g).filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('docs/design.md', () => {
  test('has every dependency', () => {
    const rows = matches(section(read('docs/design.md'), 'Dependencies'), /^\| (\S+) \|/gm);
    expect(rows.filter((name) => /^[@a-z]/.test(name) && name !== 'package').sort()).toEqual(
      Object.keys(manifest.dependencies).sort(),
    );
  });
});

describe.each(DOCUMENTS)('%s', (document) => {
  const text = read(document);

  test('links to files that exist', () => {
    const links = matches(text, /\]\(([^)#]+)\)/g).filter((link) => !link.startsWith('https://'));
    expect(links.filter((link) => !existsSync(resolve(ROOT, dirname(document), link)))).toEqual([]);
  });

  test('names files that exist', () => {
    const paths = matches(text, /`((?:src|test|docs|scripts|bench)\/[\w./-]+\.\w+)`/g);
    expect(paths.filter((path) => !existsSync(resolve(ROOT, path)))).toEqual([]);
  });

  test('names npm scripts that exist', () => {
    const scripts = matches(text, /npm (start|test|run [a-z:-]+)/g);
    const unknown = scripts.filter((name) => manifest.scripts[name.replace('run ', '')] === undefined);
    expect(unknown).toEqual([]);
  });
});

describe('Dockerfile', () => {
  const dockerfile = read('Dockerfile');

  test('has the version of Node that everybody runs', () => {
    const minor = manifest.devDependencies['node']?.split('.').slice(0, 2).join('.');
    const images = matches(dockerfile, /^FROM (?:--\S+ )?(\S+)/gm);
    expect(images).toEqual([`node:${minor}-slim`, `node:${minor}-slim`]);
  });

  test('copies files that exist and that .dockerignore lets through', () => {
    const allowed = matches(read('.dockerignore'), /^!(.+)$/gm);
    const copied = matches(dockerfile, /^COPY (?!--from)(.+) \S+$/gm).flatMap((files) => files.split(' '));
    const names = [...new Set(copied.map((name) => name.replace(/^\.\//, '')))];
    expect(names.filter((name) => !existsSync(resolve(ROOT, name)))).toEqual([]);
    expect(names.sort()).toEqual(allowed.sort());
  });
});
