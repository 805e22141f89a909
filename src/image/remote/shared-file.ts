/** An image in a directory that other programs write to: it must lie inside, and must not change while it is read. */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readlink, realpath, stat } from 'node:fs/promises';
import { sep } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ImageError } from '../../inspect/image-error.ts';
import type { ImageSource } from '../../inspect/image-source.ts';
import type { Budget } from '../budget.ts';
import { FileError, FileSource } from '../file.ts';
import { notAllowed } from './authority.ts';
import { changed } from './validator.ts';

/**
 * The coarsest resolution of file time stamps. Two writes within that time may leave the same stamp, so a file is used only
 * when its last write is older.
 */
const STAMP_MS = 25;
const MAX_WAITS = 4;

/** An image in a regular file, and what identifies this version of it. */
export class SharedFile implements ImageSource {
  readonly size: number;
  /** A text that differs between versions of the file. */
  readonly version: string;
  readonly #handle: FileHandle;
  readonly #file: FileSource;
  readonly #onBytes: (bytes: number) => void;

  private constructor(handle: FileHandle, stats: BigIntStats, memory: Budget, onBytes: (bytes: number) => void) {
    this.#handle = handle;
    this.size = Number(stats.size);
    this.version = describe(stats);
    this.#file = new FileSource(handle, this.size, () => {}, memory);
    this.#onBytes = onBytes;
  }

  /**
   * Opens a regular file. Symbolic links are followed only to targets under the directory.
   *
   * @param directory the file URL of the directory in which it must lie; null for anywhere
   * @param memory counts the bytes that are held
   * @param onBytes called with the number of bytes of each read
   * @throws ImageError source-not-allowed, source-refused, source-changed or source-unavailable
   */
  static async open(
    url: URL,
    directory: URL | null,
    memory: Budget,
    onBytes: (bytes: number) => void,
  ): Promise<SharedFile> {
    let handle: FileHandle | null = null;
    try {
      const path = fileURLToPath(url);
      const root = directory === null ? null : await realpath(fileURLToPath(directory));
      const real = await realpath(path);
      assertUnder(root, real);
      // Checked before it is opened, as opening some devices has effects.
      if (!(await stat(real)).isFile()) throw notAFile();
      handle = await open(real, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
      // Meanwhile a directory may have been replaced by a link.
      assertUnder(root, await pathOf(handle, real));
      const stats = await readSettledStats(handle);
      if (!stats.isFile()) throw notAFile();
      return new SharedFile(handle, stats, memory, onBytes);
    } catch (error) {
      await handle?.close();
      throw explain(error);
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return this.#checked(await this.#attempt(() => this.#file.read(offset, length)), length);
  }

  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    const pieces = this.#file.stream(offset, length);
    for (;;) {
      const { done, value } = await this.#attempt(() => pieces.next());
      if (done === true) return;
      yield await this.#checked(value, value.length);
    }
  }

  async hold(offset: number, length: number): Promise<readonly Uint8Array[] | null> {
    return this.#checked(await this.#attempt(() => this.#file.hold(offset, length)), length);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw error instanceof FileError || isSystemError(error) ? explain(error) : error;
    }
  }

  /** Returns what was read if the file is still the same after the read. */
  async #checked<T>(read: T, bytes: number): Promise<T> {
    this.#onBytes(bytes);
    const stats = await this.#attempt(() => this.#handle.stat({ bigint: true }));
    if (describe(stats) !== this.version) throw changed();
    return read;
  }
}

/** Identifies a version. The time of the last inode change is left out, since renaming or linking does not change bytes. */
const describe = ({ dev, ino, size, mtimeNs }: BigIntStats): string => [dev, ino, size, mtimeNs].join(' ');

/** Waits until the last write is old enough. @throws ImageError source-changed for a file that is written all the time */
async function readSettledStats(handle: FileHandle): Promise<BigIntStats> {
  for (let wait = 0; wait < MAX_WAITS; wait++) {
    const stats = await handle.stat({ bigint: true });
    const ageMs = Date.now() - Number(stats.mtimeMs);
    // A stamp in the future comes from another clock, and waiting does not help.
    if (ageMs < 0 || ageMs > STAMP_MS) return stats;
    await sleep(STAMP_MS * 2);
  }
  throw changed();
}

/** The path of an open file. */
async function pathOf(handle: FileHandle, opened: string): Promise<string> {
  try {
    return await readlink(`/proc/self/fd/${handle.fd}`);
  } catch {
    // Without /proc, or without the permission to read it: the name must still lead to the same file.
    const path = await realpath(opened);
    const [named, held] = await Promise.all([stat(path, { bigint: true }), handle.stat({ bigint: true })]);
    if (named.dev !== held.dev || named.ino !== held.ino) throw changed();
    return path;
  }
}

function assertUnder(root: string | null, path: string): void {
  if (root === null || path === root || path.startsWith(root.endsWith(sep) ? root : root + sep)) return;
  throw notAllowed('The file is a link that leads out of the directory that the operator of the service lists.');
}

const notAFile = (): ImageError => new ImageError('source-refused', 'It is not a regular file.');

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'code' in error && typeof error.code === 'string';

const REFUSALS: Readonly<Record<string, string>> = {
  ENOENT: 'There is no such file',
  ENOTDIR: 'There is no such file',
  ELOOP: 'It is a symbolic link that leads to itself',
  ENAMETOOLONG: 'Its name is too long',
  EISDIR: 'It is a directory',
  ENXIO: 'It is not a regular file',
  EACCES: 'The service may not read the file',
  EPERM: 'The service may not read the file',
  ERR_ACCESS_DENIED: 'The service may not read the file',
};

function explain(error: unknown): unknown {
  if (error instanceof FileError) return error.code === 'file-shortened' ? changed() : notAFile();
  if (error instanceof ImageError || !isSystemError(error)) return error;
  const code = error.code ?? '';
  if (code.startsWith('ERR_INVALID_')) return notAllowed('The path is not valid on this system.');
  const refusal = REFUSALS[code];
  if (refusal !== undefined) return new ImageError('source-refused', `${refusal} (${code}).`);
  return new ImageError('source-unavailable', `The file cannot be read (${code}).`);
}
