/** Where the output of a subcommand goes: to standard output as it comes, or to a file that is complete or not there. */
import { randomUUID } from 'node:crypto';
import { unlinkSync } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
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

/**
 * Writes a file beside its place and moves it there when it is complete: whoever looks sees the file as it was before, or
 * as it is to be. What is no regular file, such as a device or a pipe, is written to as it is.
 *
 * @throws OutputError, and what the pieces throw; nothing is left behind then
 */
export async function writeToFile(path: string, pieces: AsyncIterable<Piece> | Iterable<Piece>): Promise<void> {
  const target = await explain(path, () => findTarget(path));
  if (target.special) {
    await writeAll(path, await explain(path, () => open(target.path, 'w')), pieces);
    return;
  }
  const temporary = join(dirname(target.path), `.bsdsyms-${randomUUID()}.tmp`);
  let opening: Promise<unknown> = Promise.resolve();
  const cleaning = cleanOnSignals(temporary, () => opening);
  try {
    const file = await explain(path, () => {
      const opened = open(temporary, 'wx', 0o666);
      opening = opened;
      return opened;
    });
    await writeAll(path, file, pieces);
    await explain(path, () => rename(temporary, target.path));
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  } finally {
    cleaning.stop();
  }
}

/** Links are followed: it is the file at their end that is replaced. */
async function findTarget(path: string): Promise<{ readonly path: string; readonly special: boolean }> {
  try {
    const real = await realpath(path);
    const stats = await stat(real);
    return { path: real, special: !stats.isFile() };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { path, special: false };
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

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

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
