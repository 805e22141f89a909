/** Files that are replaced at the worst moment, by somebody who can write to their directory. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { FileError, FileSource } from '../../../src/image/file.ts';
import { Spool } from '../../../src/image/spool.ts';
import { emptyDirectory } from '../../support/files.ts';
import { hasProgram } from '../../support/temporary.ts';
import { openFiles } from '../../support/uploads.ts';

const UUID = '00000000-0000-4000-8000-000000000000';
/** What happens between a look at a file and opening it. */
let swap: (path: string) => void = () => {};

vi.mock('node:crypto', async (original) => ({ ...(await original<object>()), randomUUID: () => UUID }));
vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof import('node:fs/promises')>();
  return {
    ...fs,
    stat: async (path: string) => {
      const stats = await fs.stat(path);
      swap(path);
      return stats;
    },
  };
});

const directory = emptyDirectory();

afterEach(() => {
  swap = () => {};
});

test.skipIf(!hasProgram('mkfifo', '--version'))(
  'a pipe that takes the place of a file is refused and closed',
  async () => {
    const path = directory.write('an image');
    const filesAtStart = openFiles();
    swap = () => {
      renameSync(path, `${path}.old`);
      execFileSync('mkfifo', [path]);
    };
    const error = await FileSource.open(path).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FileError);
    expect(error).toMatchObject({ code: 'not-a-file' });
    // At once: a collector would close it some time.
    expect(openFiles()).toBe(filesAtStart);
  },
);

test('a spool file is never one that somebody has put there', async () => {
  const path = join(directory.path, `bsdsyms-${process.pid}-${UUID}.spool`);
  const victim = join(directory.path, 'victim');
  symlinkSync(victim, path);
  await expect(Spool.open(directory.path, 1)).rejects.toMatchObject({
    code: 'spool-unavailable',
    cause: { code: 'EEXIST' },
  });
  expect(existsSync(victim)).toBe(false);
  expect(readdirSync(directory.path)).toContain(`bsdsyms-${process.pid}-${UUID}.spool`);
});
