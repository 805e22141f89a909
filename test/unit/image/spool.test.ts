import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';
import { processSlabs } from '../../../src/image/slabs.ts';
import { Spool, SpoolWriter } from '../../../src/image/spool.ts';
import { ImageError } from '../../../src/inspect/image-error.ts';
import { emptyDirectory } from '../../support/files.ts';
import { letRun } from '../../support/patience.ts';
import { eventually, Gate, interceptWrites, MIB, noise, openFiles, systemError } from '../../support/uploads.ts';

const BUDGET = 64 * MIB;

const directory = emptyDirectory();

afterEach(async () => {
  vi.restoreAllMocks();
  await eventually('all slabs are given back', () => processSlabs.used === 0);
});

const listing = (): string[] => readdirSync(directory.path).sort();

/** The code of the failure, and of the system's beneath it. */
async function codesOf(action: () => unknown): Promise<unknown> {
  try {
    await action();
  } catch (error) {
    assert.ok(error instanceof ImageError, String(error));
    const { cause } = error;
    return cause instanceof Error && 'code' in cause ? [error.code, cause.code] : [error.code];
  }
  return 'no failure';
}

/** Where a descriptor leads to; the one of the listing itself is gone by now. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(fd);
  } catch {
    return '';
  }
}

describe('files of the spool', () => {
  test('are in no directory while they are in use', async () => {
    const spool = await Spool.open(directory.path, BUDGET);
    const writer = await spool.createWriter();
    expect(listing()).toEqual([]);
    await writer.append(noise(3 * MIB));
    expect(listing()).toEqual([]);
    const source = await writer.finish();
    expect([listing(), source.size, spool.budget.used]).toEqual([[], 3 * MIB, 3 * MIB]);
    expect(Buffer.compare(await source.read(0, 3 * MIB), noise(3 * MIB))).toBe(0);
    await source.close();
    expect([listing(), spool.budget.used]).toEqual([[], 0]);
  });

  test.skipIf(openFiles() === null)('can be read by nobody else', async () => {
    const spool = await Spool.open(directory.path, BUDGET);
    const writer = await spool.createWriter();
    const modes = readdirSync('/proc/self/fd')
      .map((fd) => `/proc/self/fd/${fd}`)
      .filter((fd) => linkOf(fd).startsWith(directory.path))
      .map((fd) => statSync(fd).mode & 0o777);
    expect(modes).toEqual([0o600]);
    await writer.discard();
  });

  test('are as many as there are images', async () => {
    const spool = await Spool.open(directory.path, BUDGET);
    const writers = await Promise.all(Array.from({ length: 20 }, () => spool.createWriter()));
    for (const [index, writer] of writers.entries()) await writer.append(noise(1000 + index, index));
    const sources = await Promise.all(writers.map((writer) => writer.finish()));
    for (const [index, source] of sources.entries()) {
      expect(Buffer.compare(await source.read(0, source.size), noise(1000 + index, index))).toBe(0);
    }
    expect(listing()).toEqual([]);
    await Promise.all(sources.map((source) => source.close()));
    expect(spool.budget.used).toBe(0);
  });
});

const nameOf = (pid: number): string => `bsdsyms-${pid}-${randomUUID()}.spool`;

/** Of a process that has ended. */
const deadPid = (): number => spawnSync(process.execPath, ['--version']).pid;

function leave(...names: readonly string[]): void {
  for (const name of names) writeFileSync(directory.file(name), 'left over');
}

describe('leftovers', () => {
  test('of a dead process are swept', async () => {
    leave(nameOf(deadPid()), nameOf(deadPid()));
    await Spool.open(directory.path, BUDGET);
    expect(listing()).toEqual([]);
  });

  test('of a living process are not', async () => {
    const mine = nameOf(process.pid);
    // The first process lives always, and is mostly somebody else's.
    const first = nameOf(1);
    leave(mine, first);
    await Spool.open(directory.path, BUDGET);
    expect(listing()).toEqual([mine, first].sort());
  });

  test('of a process that belongs to somebody else are not', async () => {
    const theirs = nameOf(deadPid());
    leave(theirs);
    vi.spyOn(process, 'kill').mockImplementation(() => {
      throw systemError('EPERM');
    });
    await Spool.open(directory.path, BUDGET);
    expect(listing()).toEqual([theirs]);
  });

  test('are only what the spool itself has named', async () => {
    const pid = deadPid();
    const names = [
      'kernel.spool',
      `bsdsyms-${pid}.spool`,
      `bsdsyms-${pid}-${randomUUID()}.spool.old`,
      `bsdsyms-x-${randomUUID()}.spool`,
      `my-bsdsyms-${pid}-${randomUUID()}.spool`,
    ];
    leave(...names);
    await Spool.open(directory.path, BUDGET);
    expect(listing()).toEqual(names.sort());
  });

  test('may be swept by several processes at once', async () => {
    const pid = deadPid();
    leave(...Array.from({ length: 50 }, () => nameOf(pid)));
    const opened = await Promise.all(
      Array.from({ length: 8 }, () => codesOf(() => Spool.open(directory.path, BUDGET))),
    );
    expect(opened).toEqual(opened.map(() => 'no failure'));
    expect(listing()).toEqual([]);
  });
});

describe('a directory that cannot be used', () => {
  test('because it is not there', async () => {
    expect(await codesOf(() => Spool.open(directory.file('nowhere'), BUDGET))).toEqual(['spool-unavailable', 'ENOENT']);
  });

  test('because it is a file', async () => {
    const [code, cause] = (await codesOf(() => Spool.open(directory.write(''), BUDGET))) as string[];
    expect([code, ['EACCES', 'ENOTDIR']]).toEqual(['spool-unavailable', expect.arrayContaining([cause])]);
  });

  // Root may write everywhere.
  test.skipIf(process.getuid?.() === 0)('because nothing may be written there', async () => {
    chmodSync(directory.path, 0o500);
    expect(await codesOf(() => Spool.open(directory.path, BUDGET))).toEqual(['spool-unavailable', 'EACCES']);
    chmodSync(directory.path, 0o700);
  });

  test.skipIf(!existsSync('/proc/self'))('because nothing can be written there', async () => {
    const [code] = (await codesOf(() => Spool.open('/proc/self', BUDGET))) as string[];
    expect(code).toBe('spool-unavailable');
  });

  test('because it was removed in the meantime, until it is there again', async () => {
    const spool = await Spool.open(directory.path, BUDGET);
    directory.remove();
    expect(await codesOf(() => spool.createWriter())).toEqual(['spool-unavailable', 'ENOENT']);
    mkdirSync(directory.path);
    const writer = await spool.createWriter();
    await writer.append(noise(10));
    await writer.discard();
    expect(spool.budget.used).toBe(0);
  });
});

describe('the budget', () => {
  test('is what all images may have together', async () => {
    const spool = await Spool.open(directory.path, 100);
    const [one, other] = [await spool.createWriter(), await spool.createWriter()];
    await one.append(noise(60));
    await other.append(noise(40));
    expect(await codesOf(() => other.append(noise(1)))).toEqual(['spool-full']);
    expect(spool.budget.used).toBe(100);
    await one.discard();
    await other.append(noise(60));
    expect(spool.budget.used).toBe(100);
    await other.discard();
    expect(spool.budget.used).toBe(0);
  });

  test('is given back once, by finish or by discard', async () => {
    const spool = await Spool.open(directory.path, 100);
    const others = await spool.createWriter();
    await others.append(noise(5));
    const writer = await spool.createWriter();
    await writer.append(noise(60));
    const source = await writer.finish();
    await Promise.all([source.close(), writer.discard(), source.close()]);
    await writer.discard();
    expect(spool.budget.used).toBe(5);
    await others.discard();
  });
});

describe('a file that cannot be closed', () => {
  test('gives the budget back all the same', async () => {
    const budget = new Budget(100);
    const file = await open(directory.write(''), 'r+');
    const writer = new SpoolWriter(file, budget);
    await writer.append(noise(60));
    const close = vi.spyOn(file, 'close').mockRejectedValue(systemError('EIO'));
    await expect(writer.discard()).rejects.toMatchObject({ code: 'EIO' });
    expect(budget.used).toBe(0);
    close.mockRestore();
    await file.close();
  });
});

describe('writing', () => {
  test('one batch at a time, and what arrives is held back when the disk is slow', async () => {
    const gate = new Gate();
    let writing = 0;
    let most = 0;
    await interceptWrites(async (write, chunks, position) => {
      writing += 1;
      most = Math.max(most, writing);
      await gate.pass();
      writing -= 1;
      return write(chunks, position);
    });
    const spool = await Spool.open(directory.path, BUDGET);
    const writer = await spool.createWriter();
    let accepted = 0;
    const feed = async (): Promise<void> => {
      for (let piece = 0; piece < 32; piece++) {
        await writer.append(noise(MIB, piece));
        accepted += 1;
      }
    };
    const fed = feed();
    await eventually('a write is under way', () => gate.arrived === 1);
    await letRun();
    expect([gate.arrived, accepted < 8]).toEqual([1, true]);
    gate.open();
    await fed;
    const source = await writer.finish();
    expect([most, source.size]).toEqual([1, 32 * MIB]);
    await source.close();
  });

  test('goes on after the part that the system took', async () => {
    await interceptWrites((write, chunks, position) => {
      const [first = new Uint8Array()] = chunks;
      return write([first.subarray(0, Math.ceil(first.length / 2))], position);
    });
    const spool = await Spool.open(directory.path, BUDGET);
    const writer = await spool.createWriter();
    for (const length of [1, 0, 100, 9000, 20_000, MIB]) await writer.append(noise(length, length));
    const source = await writer.finish();
    const expected = Buffer.concat([1, 0, 100, 9000, 20_000, MIB].map((length) => noise(length, length)));
    expect(Buffer.compare(await source.read(0, source.size), expected)).toBe(0);
    await source.close();
  });

  test.each([
    ['ENOSPC', 'spool-full'],
    ['EDQUOT', 'spool-full'],
    ['EIO', 'spool-unavailable'],
  ])('fails with %s as %s', async (cause, code) => {
    const spool = await Spool.open(directory.path, BUDGET);
    await interceptWrites(() => Promise.reject(systemError(cause)));
    const writer = await spool.createWriter();
    await writer.append(noise(10));
    expect(await codesOf(() => writer.finish())).toEqual([code, cause]);
    await writer.discard();
    expect(spool.budget.used).toBe(0);
  });

  test('does not end the process when it fails and is not awaited', async () => {
    const unhandled = vi.fn<() => void>();
    process.on('unhandledRejection', unhandled);
    try {
      await interceptWrites(() => Promise.reject(systemError('EIO')));
      const writer = await (await Spool.open(directory.path, BUDGET)).createWriter();
      // Enough to be written at once.
      await writer.append(noise(2 * MIB));
      await letRun();
      expect(await codesOf(() => writer.finish())).toEqual(['spool-unavailable', 'EIO']);
      await writer.discard();
      expect(unhandled).not.toHaveBeenCalled();
    } finally {
      process.off('unhandledRejection', unhandled);
    }
  });

  test.skipIf(!existsSync('/dev/full'))('to a device that is always full', async () => {
    const budget = new Budget(BUDGET);
    const writer = new SpoolWriter(await open('/dev/full', 'r+'), budget);
    await writer.append(noise(10));
    expect(await codesOf(() => writer.finish())).toEqual(['spool-full', 'ENOSPC']);
    await writer.discard();
    expect(budget.used).toBe(0);
  });

  test('is seen to be incomplete when the file has lost its end', async () => {
    const path = directory.file('cut');
    const file = await open(path, 'wx+');
    const writer = new SpoolWriter(file, new Budget(BUDGET));
    await writer.append(noise(100));
    const source = await writer.finish();
    await file.truncate(50);
    await expect(source.read(0, 100)).rejects.toThrow('ended early');
    await source.close();
  });
});

/** Where one may mount, the smallest of disks. */
function mountDisk(): string | null {
  if (process.platform !== 'linux') return null;
  const path = mkdtempSync(join(tmpdir(), 'bsdsyms-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path], { stdio: 'ignore' });
  if (mounted.status === 0) return path;
  rmSync(path, { recursive: true });
  return null;
}

const disk = mountDisk();

describe.skipIf(disk === null)('a disk of one mebibyte', () => {
  const path = disk ?? '';
  afterAll(() => {
    spawnSync('umount', [path]);
    rmSync(path, { recursive: true });
  });

  test('that is full fails as such, and has room again at once', async () => {
    const spool = await Spool.open(path, BUDGET);
    for (let round = 0; round < 3; round++) {
      const writer = await spool.createWriter();
      const tooMuch = async (): Promise<void> => {
        for (let piece = 0; piece < 30; piece++) await writer.append(noise(100_000));
        await writer.finish();
      };
      expect(await codesOf(tooMuch)).toEqual(['spool-full', 'ENOSPC']);
      await writer.discard();
      expect([readdirSync(path), spool.budget.used]).toEqual([[], 0]);
    }
  });

  test('takes what it has room for', async () => {
    const spool = await Spool.open(path, BUDGET);
    const writer = await spool.createWriter();
    await writer.append(noise(900_000));
    const source = await writer.finish();
    expect(Buffer.compare(await source.read(0, 900_000), noise(900_000))).toBe(0);
    await source.close();
  });
});
