import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { FileError, FileSource } from '../../../src/image/file.ts';
import { emptyDirectory } from '../../support/files.ts';
import { collect } from '../../support/load.ts';
import { hasProgram } from '../../support/temporary.ts';
import { interceptReads, noise } from '../../support/uploads.ts';

const directory = emptyDirectory();

const content = noise(600_000);

describe('a file', () => {
  test('is read where and as far as it is asked for', async () => {
    const source = await FileSource.open(directory.write(content));
    const reads = await interceptReads();
    expect(source.size).toBe(content.length);
    expect(Buffer.compare(await source.read(1000, 50), content.subarray(1000, 1050))).toBe(0);
    expect(reads).toEqual([{ offset: 1000, length: 50 }]);
    expect(await source.read(content.length, 0)).toHaveLength(0);
    expect(reads).toHaveLength(1);
    await source.close();
  });

  test('is streamed in pieces, none of them outside the range', async () => {
    const source = await FileSource.open(directory.write(content));
    const reads = await interceptReads();
    const streamed = await collect(source.stream(7, 590_000));
    expect(Buffer.compare(streamed, content.subarray(7, 590_007))).toBe(0);
    expect(reads[0]?.offset).toBe(7);
    expect(reads.reduce((sum, { length }) => sum + length, 0)).toBe(590_000);
    expect(Math.max(...reads.map(({ length }) => length))).toBeLessThanOrEqual(256 * 1024);
    await source.close();
  });

  test('is held where and as far as it is asked for, up to a limit', async () => {
    const source = await FileSource.open(directory.write(content));
    const held = await source.hold(7, 590_000);
    expect(Buffer.compare(Buffer.concat(held ?? []), content.subarray(7, 590_007))).toBe(0);
    await expect(source.hold(7, 600_000)).rejects.toThrow(RangeError);
    await source.close();
    await expect(source.hold(0, 1)).rejects.toThrow('closed');
    const path = directory.write(content);
    truncateSync(path, 65 * 1024 * 1024);
    const large = await FileSource.open(path);
    const reads = await interceptReads();
    expect(await large.hold(0, 64 * 1024 * 1024 + 1)).toBeNull();
    expect(reads).toEqual([]);
    await large.close();
  });

  test('that the system hands out byte by byte is read whole', async () => {
    const source = await FileSource.open(directory.write(content.subarray(0, 100)));
    await interceptReads(1);
    expect(Buffer.compare(await source.read(10, 80), content.subarray(10, 90))).toBe(0);
    await source.close();
  });

  test.each([
    [-1, 1],
    [0, -1],
    [0, 101],
    [100, 1],
    [101, 0],
    [Number.NaN, 0],
    [0, Number.NaN],
    [Number.POSITIVE_INFINITY, 0],
  ])('is not read outside: %d+%d', async (offset, length) => {
    const source = await FileSource.open(directory.write(content.subarray(0, 100)));
    await expect(source.read(offset, length)).rejects.toThrow(RangeError);
    await expect(collect(source.stream(offset, length))).rejects.toThrow(RangeError);
    await source.close();
  });

  test('is found through a link', async () => {
    symlinkSync(directory.write('text'), directory.file('link'));
    const source = await FileSource.open(directory.file('link'));
    expect(Buffer.from(await source.read(0, source.size)).toString()).toBe('text');
    await source.close();
  });

  test('may be empty', async () => {
    const source = await FileSource.open(directory.write(''));
    expect([source.size, await collect(source.stream(0, 0))]).toEqual([0, new Uint8Array()]);
    await source.close();
  });

  test('that is cut short while it is read is distinguished from one that cannot be read', async () => {
    const path = directory.write(content);
    const source = await FileSource.open(path);
    truncateSync(path, 1000);
    expect(await source.read(0, 1000)).toHaveLength(1000);
    const error = await source.read(900, 200).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FileError);
    expect(error).toMatchObject({ code: 'file-shortened', message: expect.stringContaining('at offset 1000') });
    await source.close();
  });

  test('is closed once, and read no more', async () => {
    const release = vi.fn<() => void>();
    const source = new FileSource(await open(directory.write('text')), 4, release);
    await Promise.all([source.close(), source.close()]);
    expect(release).toHaveBeenCalledTimes(1);
    await expect(source.read(0, 1)).rejects.toThrow('closed');
  });
});

const refusal = async (path: string): Promise<unknown> => {
  const error = await FileSource.open(path).catch((reason: unknown) => reason);
  return error instanceof FileError ? [error.code, error.message] : error;
};
const refused = (kind: string): unknown => ['not-a-file', expect.stringContaining(`It is ${kind},`)];

describe('a path that is not a regular file', () => {
  test('a directory is refused', async () => {
    mkdirSync(directory.file('folder'));
    expect(await refusal(directory.file('folder'))).toEqual(refused('a directory'));
  });

  test.skipIf(!hasProgram('mkfifo', '--version'))('a pipe is refused without waiting for its other end', async () => {
    execFileSync('mkfifo', [directory.file('pipe')]);
    expect(await refusal(directory.file('pipe'))).toEqual(refused('a pipe'));
  });

  test('a device is refused', async () => {
    expect(await refusal('/dev/zero')).toEqual(refused('a device'));
  });

  test('a socket is refused', async () => {
    const server = createServer().listen(directory.file('socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    expect(await refusal(directory.file('socket'))).toEqual(refused('a socket'));
    server.close();
  });

  test.each(['', 'nothing', 'nothing/here'])('%j is the system’s error', async (name) => {
    expect(await refusal(name === '' ? '' : directory.file(name))).toMatchObject({ code: 'ENOENT' });
  });
});
