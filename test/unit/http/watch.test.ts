import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { watchFiles } from '../../../src/http/watch.ts';
import { SOON } from '../../support/patience.ts';
import { TemporaryDirectory } from '../../support/temporary.ts';

let directory: TemporaryDirectory;
let path: string;
let changes: number;

beforeEach(() => {
  directory = new TemporaryDirectory();
  path = directory.write('before');
  changes = 0;
});
afterEach(() => directory.remove());

/** Watches the path, changes it at once, and waits until that is seen. */
async function expectChange(change: () => void, watched = path): Promise<void> {
  watchFiles([watched], () => {
    changes += 1;
  });
  change();
  await expect.poll(() => changes, SOON).toBe(1);
}

describe('a change right after the file was read', () => {
  test.each<[string, () => void]>([
    ['it is written', () => writeFileSync(path, 'after')],
    ['it is replaced', () => renameSync(directory.write('after'), path)],
    ['it is removed', () => rmSync(path)],
  ])('is seen: %s', async (_what, change) => {
    await expectChange(change);
  });

  test('is seen: a link leads elsewhere', async () => {
    const link = directory.file('link');
    symlinkSync(path, link);
    await expectChange(() => {
      symlinkSync(directory.write('after'), directory.file('next'));
      renameSync(directory.file('next'), link);
    }, link);
  });

  test('is seen: a file that was missing is there', async () => {
    const missing = directory.file('missing');
    await expectChange(() => writeFileSync(missing, 'there'), missing);
  });
});
