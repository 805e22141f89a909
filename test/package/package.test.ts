/** The package as npm makes it of a clone, installed into an empty folder: the command, the library, the service and its types. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kernel } from '../support/elf-builder.ts';
import { hasProgram, TemporaryDirectory } from '../support/temporary.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** What a clone has, as far as the package can depend on it. No `dist`: `prepack` makes it. */
const CLONED = [
  'src',
  'docs',
  'scripts',
  'package.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'openapi.json',
  'openapi.yaml',
  'LICENSE',
  'README.md',
];
const image = kernel({ symbols: 10 }).bytes;

interface Manifest {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
}
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest;

const directory = new TemporaryDirectory();
const app = directory.file('app');
afterAll(() => directory.remove());

const run = (program: string, args: readonly string[], cwd = app) =>
  spawnSync(program, args, {
    cwd,
    encoding: 'buffer',
    env: { PATH: `${dirname(process.execPath)}:${process.env['PATH']}`, HOME: directory.path },
  });

const installed = join(app, 'node_modules/bsdsyms');
const command = (...args: string[]) => run(process.execPath, [join(installed, 'dist/cli.js'), ...args]);

describe.skipIf(!hasProgram('npm', '--version') || !hasProgram('tar', '--version'))('the package', () => {
  beforeAll(() => {
    const clone = directory.file('clone');
    mkdirSync(clone);
    for (const name of CLONED) cpSync(join(ROOT, name), join(clone, name), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
    const packed = run('npm', ['pack', '--pack-destination', directory.path], clone);
    if (packed.status !== 0) throw new Error(packed.stderr.toString());
    // As `npm install` would do it; the dependencies are those of the clone, as there may be no network.
    mkdirSync(installed, { recursive: true });
    run(
      'tar',
      ['-xzf', directory.file(`bsdsyms-${manifest.version}.tgz`), '--strip-components=1', '-C', installed],
      clone,
    );
    for (const name of Object.keys(manifest.dependencies)) {
      const link = join(app, 'node_modules', name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(ROOT, 'node_modules', name), link);
    }
    writeFileSync(join(app, 'kernel'), image);
  });

  test('has what it needs and nothing else', () => {
    expect(readdirSync(installed).sort()).toEqual([
      'LICENSE',
      'README.md',
      'dist',
      'docs',
      'openapi.json',
      'openapi.yaml',
      'package.json',
    ]);
    const files = readdirSync(join(installed, 'dist'), { recursive: true, encoding: 'utf8' });
    expect(files.filter((name) => /\.(?:map|tsbuildinfo)$|(?<!\.d)\.ts$/.test(name))).toEqual([]);
    expect(existsSync(join(installed, 'dist/image/unpack-thread.js'))).toBe(true);
    const { bin, man } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as {
      readonly bin: { readonly bsdsyms: string };
      readonly man: string;
    };
    for (const path of [bin.bsdsyms, man]) expect([path, existsSync(join(installed, path))]).toEqual([path, true]);
  });

  test('runs the command', () => {
    expect(command('--version').stdout.toString()).toBe(`${manifest.version}\n`);
    const blob = command('blob', 'kernel');
    expect([blob.status, blob.stdout.length > 264]).toEqual([0, true]);
    for (const args of [
      ['layout', '--text'],
      ['kernel'],
      ['image', '--json'],
      ['symbols', '--text'],
      ['check', '--table', '--require=symbols'],
    ]) {
      const { status, stdout, stderr } = command(...args, 'kernel');
      expect([args, status, stderr.toString()]).toEqual([args, 0, '']);
      expect(stdout.length).toBeGreaterThan(0);
    }
    for (const args of [['--help'], ['help', 'serve'], ['completion', 'zsh']]) expect(command(...args).status).toBe(0);
    const refused = command('layout', 'package.json');
    expect([refused.status, refused.stderr.toString()]).toEqual([
      2,
      expect.stringContaining('package.json: no such file'),
    ]);
  });

  test('can be imported', () => {
    const program = `
      import { loadImage, openImageFile } from 'bsdsyms';
      const { source } = await openImageFile('kernel');
      const loaded = await loadImage(source);
      await source.close();
      console.log(loaded.ok, loaded.plan.size);`;
    const { status, stdout, stderr } = run(process.execPath, ['--input-type=module', '-e', program]);
    expect([status, stderr.toString(), stdout.toString()]).toEqual([0, '', expect.stringMatching(/^true \d+\n$/)]);
  });

  test('has types that hold', () => {
    writeFileSync(
      join(app, 'use.mts'),
      `import { loadImage, openImageFile, type Loader } from 'bsdsyms';
      const loader: Loader = 'xen-4.8';
      const { source } = await openImageFile('kernel');
      const loaded = await loadImage(source, { loader });
      export const size: number = loaded.ok ? loaded.plan.size : 0;
      // @ts-expect-error there is no such loader
      await loadImage(source, { loader: 'xen-1.0' });\n`,
    );
    const options = [
      '--noEmit',
      '--types',
      'node',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2024',
      '--skipLibCheck',
      'false',
      'use.mts',
    ];
    symlinkSync(join(ROOT, 'node_modules/@types'), join(app, 'node_modules/@types'));
    const { status, stdout } = run(join(ROOT, 'node_modules/.bin/tsc'), options);
    expect([stdout.toString(), status]).toEqual(['', 0]);
  });

  test('serves', () => {
    // Its settings are read, and one that cannot be used ends it.
    const args = [join(installed, 'dist/cli.js'), 'serve'];
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: app, env: { PORT: 'x' }, encoding: 'utf8' });
    expect([status, stderr]).toEqual([2, expect.stringContaining('PORT')]);
  });
});
