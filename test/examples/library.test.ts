/** The examples of docs/library.md compile, and do what they say. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { loadImage } from '../../src/inspect/load.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import { kernel } from '../support/elf-builder.ts';
import { collect } from '../support/load.ts';
import { TemporaryDirectory } from '../support/temporary.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const INDEX = new URL('../../src/index.ts', import.meta.url);
const examples = [...readFileSync(`${ROOT}/docs/library.md`, 'utf8').matchAll(/^```ts\n([^]*?)^```$/gm)].map(
  ([, code = '']) => code,
);

const good = kernel({ symbols: 2000, symtab: { entsize: 7 } }).bytes;
const stripped = kernel({ symtab: { type: 1 } }).bytes;

let directory: TemporaryDirectory;
beforeAll(() => {
  directory = new TemporaryDirectory();
});
afterAll(() => directory.remove());

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(example: number, image: Uint8Array): Outcome {
  writeFileSync(directory.file('vmlinux'), image);
  const script = directory.file(`example-${example}.mts`);
  writeFileSync(script, (examples[example] ?? '').replace("'bsdsyms'", `'${INDEX.href}'`));
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { cwd: directory.path, encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe('examples of the library', () => {
  test('are the two that are run here, and compile', () => {
    expect(examples).toHaveLength(2);
    examples.forEach((code, index) => writeFileSync(directory.file(`compiled-${index}.mts`), code));
    const config = {
      extends: `${ROOT}/tsconfig.json`,
      compilerOptions: {
        paths: { bsdsyms: [fileURLToPath(INDEX)] },
        typeRoots: [`${ROOT}/node_modules/@types`],
        rootDir: '/',
      },
      include: ['compiled-*.mts'],
    };
    writeFileSync(directory.file('tsconfig.json'), JSON.stringify(config));
    const compiled = spawnSync(process.execPath, [`${ROOT}/node_modules/typescript/bin/tsc`, '-p', directory.path], {
      encoding: 'utf8',
    });
    expect([compiled.stdout, compiled.status]).toEqual(['', 0]);
  });

  test('write a blob and report it', async () => {
    const source = new MemorySource([good]);
    const loaded = await loadImage(source);
    const blob = loaded.ok ? await collect(streamExtents(source, loaded.plan.extents)) : null;
    const stderr = expect.stringMatching(/^entry-size-unusual: .+$/m);
    expect(run(0, good)).toEqual({ status: 0, stdout: '0x102000\n', stderr });
    expect(new Uint8Array(readFileSync(directory.file('bsdsyms.bin')))).toEqual(blob);
  });

  test('report what is wrong', () => {
    const outcome = run(0, stripped);
    expect(outcome).toMatchObject({ status: 1, stdout: '' });
    expect(outcome.stderr).toMatch(/^no-symbol-table: .+\n$/);
  });

  test('use the core alone', async () => {
    const loaded = await loadImage(new MemorySource([good]));
    expect(run(1, good)).toEqual({ status: 0, stdout: `${loaded.ok && loaded.plan.sizeWord}\n`, stderr: '' });
    expect(run(1, stripped)).toEqual({ status: 0, stdout: 'no-symbol-table\n', stderr: '' });
    expect(run(1, Buffer.from('text'))).toEqual({ status: 0, stdout: '', stderr: '' });
  });
});
