/** The command in a process of its own: streams, signals, statuses, and what it takes to start. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ended, run, start } from '../support/command.ts';
import { ASKING_NOTES, kernel } from '../support/elf-builder.ts';
import { bzImage } from '../support/packed.ts';
import { until } from '../support/patience.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Its blob is more than a pipe holds. */
const image = kernel({ symbols: 20_000, notes: ASKING_NOTES }).bytes;
const manifest = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8')) as Readonly<{
  engines: { node: string };
  bin: Record<string, string>;
  exports: Record<string, unknown>;
}>;

let directory: TemporaryDirectory;
let file: string;

beforeAll(() => {
  directory = new TemporaryDirectory();
  file = directory.write(image);
});
afterAll(() => directory.remove());

describe('a process', () => {
  test('writes a blob, of a file and of a pipe', async () => {
    const expected = await run(['blob', file]);
    const fromFile = start(['blob', file]);
    const fromPipe = start(['blob', '-']);
    fromPipe.stdin.end(image);
    expect(await Promise.all([ended(fromFile), ended(fromPipe)])).toEqual([expected, expected]);
  });

  test('ends with the status of the failure', async () => {
    const broken = directory.write(kernel({ symtab: { type: 1 } }).bytes);
    const runs = await Promise.all([['layout', broken], ['layout'], ['nonsense']].map((args) => ended(start(args))));
    expect(runs.map(({ status }) => status)).toEqual([1, 2, 2]);
    expect(JSON.parse(runs[0]?.stdout.toString() ?? '')).toMatchObject({ code: 'no-symbol-table' });
    for (const { stderr } of runs) expect(stderr).toMatch(/^bsdsyms: [^\n]+\n$/);
  });

  test('does not wait for a pipe that it has no use for', async () => {
    const child = start(['layout', '-']);
    child.stdin.on('error', () => {});
    // Of a boot protocol without a payload.
    child.stdin.write(bzImage(new Uint8Array(), { protocol: 0x0200 }));
    expect(await ended(child)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^bsdsyms: compression-unsupported: /),
    });
  });

  test.each([[['blob', '--loader=xen-4.8']], [['symbols', '--ndjson']], [['symbols', '--text']]])(
    'is quiet when nobody reads on, as after `| head`: %j',
    async (args) => {
      const child = start([...args, file]);
      child.stdout.once('data', () => child.stdout.destroy());
      expect(await ended(child)).toMatchObject({ status: 141, stderr: '' });
    },
  );

  test('writes to its standard output, whatever it is called, and does not replace it', async () => {
    const own = new TemporaryDirectory();
    symlinkSync('/proc/self/fd/1', own.file('stdout'));
    const expected = await run(['blob', file]);
    // Once a pipe, once a file that has something in it already.
    const piped = await ended(start(['blob', '-o', own.file('stdout'), file]));
    expect([piped.status, piped.stdout.equals(expected.stdout)]).toEqual([0, true]);
    writeFileSync(own.file('log'), 'before');
    const opened = openSync(own.file('log'), 'a');
    const filed = spawnSync(process.execPath, ['src/cli.ts', 'blob', '-o', own.file('stdout'), file], {
      cwd: ROOT,
      stdio: ['ignore', opened, 'pipe'],
    });
    closeSync(opened);
    expect([filed.status, filed.stderr.toString()]).toEqual([0, expected.stderr]);
    expect(readFileSync(own.file('log')).equals(Buffer.concat([Buffer.from('before'), expected.stdout]))).toBe(true);
    expect(lstatSync(own.file('stdout')).isSymbolicLink()).toBe(true);
    own.remove();
  });

  test('refuses to add to the image that it reads, or to replace the one on standard input', async () => {
    const own = directory.write(image);
    for (const [stdin, stdout, args] of [
      ['ignore', 'a', ['blob', own]],
      ['r', 'pipe', ['blob', '-o', own, '-']],
    ] as const) {
      const open = (how: string): number | 'ignore' | 'pipe' =>
        how.length === 1 ? openSync(own, how) : (how as 'pipe');
      const stdio = [open(stdin), open(stdout), 'pipe'] as const;
      const { status, stderr } = spawnSync(process.execPath, ['src/cli.ts', ...args], { cwd: ROOT, stdio: [...stdio] });
      for (const descriptor of stdio) if (typeof descriptor === 'number') closeSync(descriptor);
      expect([status, stderr.toString()]).toEqual([2, expect.stringContaining('The output is the file that is read')]);
    }
    expect(readFileSync(own).equals(image)).toBe(true);
  });

  test('leaves no file when it is interrupted', async () => {
    const output = new TemporaryDirectory();
    const child = start(['layout', '-o', output.file('layout.json'), file], ['--import', unfinished]);
    const end = ended(child);
    await until(() => readdirSync(output.path).length > 0);
    child.kill('SIGTERM');
    expect(await end).toMatchObject({ status: 'SIGTERM', stderr: '' });
    expect(readdirSync(output.path)).toEqual([]);
    output.remove();
  });

  test('serves', async () => {
    const child = start(['serve']);
    const end = ended(child);
    const lines = await new Promise<string>((resolve) => {
      let text = '';
      child.stdout.on('data', (data: Buffer) => {
        text += data.toString();
        if (text.includes('listening')) resolve(text);
      });
      void end.then(({ stderr }) => resolve(stderr));
    });
    expect(lines).toContain('listening at http://127.0.0.1');
    child.kill('SIGTERM');
    expect(await end).toMatchObject({ status: 0 });
  });
});

/** Options of Node.js that make the command take it for another version. */
const pretend = (version: string): string[] => [
  '--import',
  `data:text/javascript,Object.defineProperty(process, 'versions', { value: { node: '${version}' } })`,
];
const line = (version: string): string => `bsdsyms: Node.js 24 or later is needed; this is ${version}.\n`;

/** A module that, loaded first, keeps the process from ever writing to a file. */
const unfinished =
  'data:text/javascript,import { open } from "node:fs/promises"; const file = await open("/dev/null"); ' +
  'Object.getPrototypeOf(file).write = () => new Promise(() => setInterval(() => {}, 1000)); await file.close();';

/** A module that, loaded first, lists on standard error what is loaded behind it. */
const listing =
  'data:text/javascript,import { registerHooks } from "node:module"; registerHooks({ load(url, context, next) { ' +
  'process.stderr.write(`loaded ${url}\\n`); return next(url, context); } })';
const loaded = (stderr: string): string[] =>
  [...stderr.matchAll(/^loaded (.*)$/gm)].map(([, url = '']) => url.replace(`file://${ROOT}`, ''));

describe('starting', () => {
  test('with an older Node.js is refused in one line', async () => {
    const [old, older, enough] = await Promise.all(
      ['23.11.1', '18.0.0', '24.0.0'].map((version) => ended(start(['--version'], pretend(version)))),
    );
    expect(manifest.engines.node).toBe('>=24');
    expect([old?.status, old?.stderr]).toEqual([2, line('23.11.1')]);
    expect([older?.status, older?.stderr]).toEqual([2, line('18.0.0')]);
    expect(enough?.status).toBe(0);
  });

  test('takes no package and nothing of HTTP', async () => {
    const { status, stderr } = await ended(start(['blob', '-o', '/dev/null', file], ['--import', listing]));
    const modules = loaded(stderr).filter((url) => !url.startsWith('node:'));
    expect(status).toBe(0);
    expect(modules).toContain('src/cli/main.ts');
    expect(modules.filter((url) => !/^src\/(?!http\/)/.test(url))).toEqual([]);
    // What unpacks is loaded when there is something to unpack.
    expect(loaded(stderr)).not.toContain('node:zlib');
  });
});

describe('package.json', () => {
  test('leads to what is compiled from files that are there', () => {
    const paths = JSON.stringify([manifest.bin, manifest.exports]).match(/dist\/[\w.]+/g) ?? [];
    expect(paths).toEqual(['dist/cli.js', 'dist/index.d.ts', 'dist/index.js']);
    const sources = paths.map((path) => path.replace('dist/', 'src/').replace(/(\.d)?\.[jt]s$/, '.ts'));
    expect(sources.filter((path) => !existsSync(`${ROOT}/${path}`))).toEqual([]);
    expect(readFileSync(`${ROOT}/src/cli.ts`, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
  });
});
