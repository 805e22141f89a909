/** Where the output of a subcommand goes: to standard output as it comes, or to a file that is complete or not there. */
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

/** What the system has at a path, or behind a descriptor; two that are equal are the same file, whatever their names. */
export interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
  isFile(): boolean;
}

/** @returns null when there is nothing, or the system does not tell */
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
 * Writes a file beside its place and moves it there when it is complete: whoever looks sees the file as it was before, or
 * as it is to be. A file that is replaced keeps its permissions, and its owner where the system allows. What is no regular
 * file, such as a device or a pipe, is written to as it is.
 *
 * @throws OutputError, and what the pieces throw; nothing is left behind then
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
    // Before there is anything to be read in it.
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

/** Less what the umask takes away. */
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
      // What its group was allowed is not for another one.
      permissions &= ~GROUP_PERMISSIONS;
    });
  }
  await file.chmod(permissions);
}

interface Target {
  readonly path: string;
  /** The regular file that is there. */
  readonly existing: Stats | null;
  /** Whether it is written to as it is, not replaced. */
  readonly special: boolean;
}

const MAX_LINKS = 40;
/** Where Linux shows the open files of a process: links that lead to no place of their own. */
const DESCRIPTORS = /^\/proc\/\d+(?:\/task\/\d+)?\/fd$/;

/** Links are followed: it is the file at their end that is replaced, or made. */
async function findTarget(given: string): Promise<Target> {
  const existing = await unlessMissing(stat(given));
  const special = { path: given, existing: null, special: true };
  // The system has the words for a directory that is to be a file.
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

/** Closes the file, too: some file systems tell only then that they have no room. */
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
 * Removes a file when the process is told to end, and lets it end.
 *
 * @param opening settles when the file is there, if it ever is
 */
function cleanOnSignals(path: string, opening: () => Promise<unknown>): { stop(): void } {
  const clean = (signal: NodeJS.Signals): void => {
    stop();
    void opening()
      .then(() => unlinkSync(path))
      // Neither matters any more: that it could not be opened, and that it is gone.
      .catch(() => {})
      .then(() => process.kill(process.pid, signal));
  };
  const stop = (): void => {
    for (const signal of SIGNALS) process.off(signal, clean);
  };
  for (const signal of SIGNALS) process.on(signal, clean);
  return { stop };
}
