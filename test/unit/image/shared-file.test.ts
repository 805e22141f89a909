/** A file that other programs write to, at the moments that matter: between its checks, and between two reads. */
import { mkdirSync, renameSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import type * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';
import { SharedFile } from '../../../src/image/remote/shared-file.ts';
import { TemporaryDirectory } from '../../support/temporary.ts';

/** Called after the file was found to be a regular one, and before it is opened. */
let beforeOpen: () => void = () => {};
vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof fs>();
  return {
    ...real,
    async stat(path: string) {
      const stats = await real.stat(path);
      beforeOpen();
      return stats;
    },
  };
});

const temporary = new TemporaryDirectory();
const memory = new Budget(1024 * 1024);
const opened: SharedFile[] = [];
let count = 0;
/** The listed directory. */
let directory = '';
let path = '';
beforeEach(() => {
  count += 1;
  directory = temporary.file(`listed-${count}`);
  mkdirSync(join(directory, 'deep'), { recursive: true });
  path = join(directory, 'deep', 'kernel');
  put('before');
});
afterEach(async () => {
  beforeOpen = () => {};
  vi.restoreAllMocks();
  await Promise.all(opened.splice(0).map((file) => file.close()));
});
afterAll(() => temporary.remove());

/** All of these files have one size, and time stamps of long ago. */
function put(text: 'before' | 'after!', seconds = 1): void {
  writeFileSync(path, text);
  utimesSync(path, seconds, seconds);
}

async function open(): Promise<SharedFile> {
  const file = await SharedFile.open(pathToFileURL(path), pathToFileURL(`${directory}/`), memory, () => {});
  opened.push(file);
  return file;
}

const read = async (file: SharedFile): Promise<string> => Buffer.from(await file.read(0, 6)).toString();

test('a directory that is replaced by a link between check and use leads nowhere', async () => {
  const outside = temporary.file(`outside-${count}`);
  mkdirSync(outside);
  writeFileSync(join(outside, 'kernel'), 'secret');
  utimesSync(join(outside, 'kernel'), 1, 1);
  beforeOpen = () => {
    renameSync(join(directory, 'deep'), join(directory, 'moved'));
    symlinkSync(outside, join(directory, 'deep'));
  };
  await expect(open()).rejects.toMatchObject({ code: 'source-not-allowed' });
});

test('a file that becomes a link between check and use is not followed', async () => {
  const outside = temporary.write('secret');
  beforeOpen = () => {
    renameSync(path, `${path}.moved`);
    symlinkSync(outside, path);
  };
  await expect(open()).rejects.toMatchObject({ code: 'source-refused' });
});

describe('a file that is written over', () => {
  test.each<[string, (file: SharedFile) => Promise<unknown>]>([
    ['read', (file) => file.read(0, 6)],
    ['hold', (file) => file.hold(0, 6)],
    ['stream', (file) => file.stream(0, 6).next()],
  ])('with as many bytes has changed: %s', async (_way, use) => {
    const file = await open();
    expect(await read(file)).toBe('before');
    put('after!', 2);
    await expect(use(file)).rejects.toMatchObject({ code: 'source-changed' });
  });

  test('is another version', async () => {
    const before = await open();
    put('after!', 2);
    expect((await open()).version).not.toBe(before.version);
  });

  test('all the time is not used: two writes may leave the same time stamp', async () => {
    vi.spyOn(Date, 'now').mockReturnValue(statSync(path).mtimeMs + 10);
    await expect(open()).rejects.toMatchObject({ code: 'source-changed' });
    vi.restoreAllMocks();
    expect(await read(await open())).toBe('before');
  });
});
