/** Files of the tests of a file, and the proof that none of them stays open. */
import { afterAll, afterEach, beforeEach, vi } from 'vitest';
import { TemporaryDirectory } from './temporary.ts';
import { eventually, openFiles } from './uploads.ts';

/**
 * A directory that is empty at the start of each test. A test fails when it leaves a file open; what it put between the code
 * and the system's files is taken away before that is seen.
 */
export function emptyDirectory(): TemporaryDirectory {
  const directory = new TemporaryDirectory();
  let filesAtStart: number | null;
  beforeEach(() => {
    directory.empty();
    filesAtStart = openFiles();
  });
  afterEach(async () => {
    vi.restoreAllMocks();
    await eventually('all files are closed', () => openFiles() === filesAtStart);
  });
  afterAll(() => directory.remove());
  return directory;
}
