/** Writes the output of a subcommand to standard output as it comes, or to a file that appears only when it is complete. */
import { randomUUID } from 'node:crypto';
import { constants, fstatSync, type Stats, unlinkSync } from 'node:fs';
import { access, type FileHandle, lstat, open, readlink, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, sep } from 'node:path';
import type { Writable } from 'node:stream';

export type Piece = Uint8Array | string;

/** The system refuses to write; the cause is its error. */
export class OutputError extends Error {
  override readonly name = 'OutputError';
  /** For people: a path, or `standard output`. */
  readonly target: string;

  constructor(target: string, cause: unknown) {
    super(`${target} cannot be written`, { cause });
    this.target = target;
  }

  /** Whether it is a pipe that nobody reads any more. */
  get closed(): boolean {
    return this.cause instanceof Error && 'code' in this.cause && this.cause.code === 'EPIPE';
  }
}

/** @throws OutputError, and what the pieces throw */
export async function writeToStream(stream: Writable, pieces: AsyncIterable<Piece> | Iterable<Piece>): Promise<void> {
  for await (const piece of pieces) {
    await new Promise<void>((resolve, reject) => {
      stream.write(piece, (error) => {
        if (error) reject(new OutputError('standard output', error));
        else resolve();
      });
    });
  }
}

/** Identifies the file at a path or of a descriptor, whatever its name. */
export interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
  isFile(): boolean;
}

/** @returns null when there is no file, or it cannot be examined */
export async function identify(file: string | { readonly fd?: number }): Promise<FileIdentity | null> {
  try {
    if (typeof file === 'string') return await stat(file, { bigint: true });
    return file.fd === undefined ? null : fstatSync(file.fd, { bigint: true });
  } catch {
    return null;
  }
}

export const isSame = (one: FileIdentity | null, other: FileIdentity | null): boolean =>
  one !== null && other !== null && one.dev === other.dev && one.ino === other.ino;

/**
 * Writes a temporary file in the same directory and renames it when it is complete: readers see the old file or the new
 * one. A file that is replaced keeps its permissions, and its owner where the system allows. A file that is not regular,
 * such as a device or a pipe, is written in place.
 *
 * @throws OutputError, and what the pieces throw; the temporary file is then removed
 */
export async function writeToFile(path: string, pieces: AsyncIterable<Piece> | Iterable<Piece>): Promise<void> {
  const target = await explain(path, () => findTarget(path));
  if (target.special) {
    await writeAll(path, await explain(path, () => open(target.path, 'w')), pieces);
    return;
  }
  const { existing } = target;
  // A shell would not write to it either.
  if (existing !== null) await explain(path, () => access(target.path, constants.W_OK));
  const temporary = join(dirname(target.path), `.bsdsyms-${randomUUID()}.tmp`);
  let opening: Promise<unknown> = Promise.resolve();
  const cleaning = cleanOnSignals(temporary, () => opening);
  try {
    const file = await explain(path, () => {
      const opened = open(temporary, 'wx', existing === null ? NEW_MODE : PRIVATE_MODE);
      opening = opened;
      return opened;
    });
    // The mode is set while the file is still empty.
    if (existing !== null) await explain(path, () => takeOver(file, existing));
    await writeAll(path, file, pieces);
    await explain(path, () => rename(temporary, target.path));
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  } finally {
    cleaning.stop();
  }
}

/** Before the umask applies. */
const NEW_MODE = 0o666;
const PRIVATE_MODE = 0o600;
const PERMISSIONS = 0o777;
const GROUP_PERMISSIONS = 0o070;

/** Gives a new file the owner and the permissions of the one that it replaces. */
async function takeOver(file: FileHandle, { uid, gid, mode }: Stats): Promise<void> {
  const made = await file.stat();
  let permissions = mode & PERMISSIONS;
  if (made.uid !== uid || made.gid !== gid) {
    await file.chown(uid, gid).catch(() => {
      // The permissions of its group are not meant for another group.
      permissions &= ~GROUP_PERMISSIONS;
    });
  }
  await file.chmod(permissions);
}

interface Target {
  readonly path: string;
  /** The regular file that exists there. */
  readonly existing: Stats | null;
  /** Whether it is written in place, not replaced. */
  readonly special: boolean;
}

const MAX_LINKS = 40;
/** Where Linux lists the open files of a process, as links that do not lead to a path. */
const DESCRIPTORS = /^\/proc\/\d+(?:\/task\/\d+)?\/fd$/;

/** Follows links: the file at their end is replaced or created. */
async function findTarget(given: string): Promise<Target> {
  const existing = await unlessMissing(stat(given));
  const special = { path: given, existing: null, special: true };
  // For a directory, opening it gives the system's own error.
  if (given.endsWith(sep) || (existing !== null && !existing.isFile())) return special;
  let path = given;
  for (let links = 0; links < MAX_LINKS; links++) {
    const directory = await realpath(dirname(path));
    if (DESCRIPTORS.test(directory)) return special;
    const place = join(directory, basename(path));
    const link = (await unlessMissing(lstat(place)))?.isSymbolicLink() === true;
    if (!link) return { path: place, existing, special: false };
    const target = await readlink(place);
    path = isAbsolute(target) ? target : join(directory, target);
  }
  // As above: too many links.
  return special;
}

async function unlessMissing<T>(result: Promise<T>): Promise<T | null> {
  try {
    return await result;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Closes the file, too: some file systems report only then that they are full. */
async function writeAll(path: string, file: FileHandle, pieces: AsyncIterable<Piece> | Iterable<Piece>): Promise<void> {
  try {
    for await (const piece of pieces) {
      const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await explain(path, () => file.write(bytes, done));
        done += bytesWritten;
      }
    }
  } finally {
    await explain(path, () => file.close());
  }
}

async function explain<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw new OutputError(path, error);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/**
 * Removes a file when a signal ends the process.
 *
 * @param opening settles when the file is open, or could not be opened
 */
function cleanOnSignals(path: string, opening: () => Promise<unknown>): { stop(): void } {
  const clean = (signal: NodeJS.Signals): void => {
    stop();
    void opening()
      .then(() => unlinkSync(path))
      // The file could not be opened, or is gone already.
      .catch(() => {})
      .then(() => process.kill(process.pid, signal));
  };
  const stop = (): void => {
    for (const signal of SIGNALS) process.off(signal, clean);
  };
  for (const signal of SIGNALS) process.on(signal, clean);
  return { stop };
}
