import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { watchFiles } from '../../../src/http/watch.ts';
import { SOON } from '../../support/patience.ts';
import { TemporaryDirectory } from '../../support/temporary.ts';

let directory: TemporaryDirectory;
let path: string;

beforeEach(() => {
  directory = new TemporaryDirectory();
  path = directory.write('before');
});
afterEach(() => directory.remove());

/** Watches a path and changes it at once. @returns whether that has been seen */
function watchAndChange(watched: string, change: () => void): () => boolean {
  let seen = false;
  watchFiles([watched], () => {
    seen = true;
  });
  change();
  return () => seen;
}

describe('a change right after the file was read is seen', () => {
  test.each<[string, () => void]>([
    ['it is written', () => writeFileSync(path, 'after')],
    ['it is replaced', () => renameSync(directory.write('after'), path)],
    ['it is removed', () => rmSync(path)],
  ])('%s', async (_what, change) => {
    const isSeen = watchAndChange(path, change);
    await expect.poll(isSeen, SOON).toBe(true);
  });

  test('a link leads elsewhere', async () => {
    const link = directory.file('link');
    symlinkSync(path, link);
    const isSeen = watchAndChange(link, () => {
      symlinkSync(directory.write('after'), directory.file('next'));
      renameSync(directory.file('next'), link);
    });
    await expect.poll(isSeen, SOON).toBe(true);
  });

  test('a file that was missing is there', async () => {
    const missing = directory.file('missing');
    const isSeen = watchAndChange(missing, () => writeFileSync(missing, 'there'));
    await expect.poll(isSeen, SOON).toBe(true);
  });
});
