/** Images in temporary files without a name: the system removes them when the process ends, however it ends. */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, type FileHandle, open, readdir, rm, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ImageError } from '../inspect/image-error.ts';
import type { ImageSource } from '../inspect/image-source.ts';
import { Budget } from './budget.ts';
import { FileSource } from './file.ts';
import { type SlabBytes, SlabList } from './slab-list.ts';

/** Bytes that are written at once. One batch is filled while the batch before it is written. */
const WRITE_BATCH_BYTES = 1024 * 1024;

/** `bsdsyms-<pid>-<uuid>.spool`; the pid tells leftovers of a dead process from files about to be unlinked. */
const LEFTOVER = /^bsdsyms-(\d+)-[0-9a-f-]{36}\.spool$/;

/** A directory for spooled images, and how much of it may be used. */
export class Spool {
  readonly budget: Budget;
  readonly #directory: string;

  private constructor(directory: string, budgetBytes: number) {
    this.#directory = directory;
    this.budget = new Budget(budgetBytes);
  }

  /**
   * Checks that the directory can be used, and removes what a killed process left between creating and unlinking.
   *
   * @throws ImageError spool-unavailable
   */
  static async open(directory: string, budgetBytes: number): Promise<Spool> {
    const spool = new Spool(directory, budgetBytes);
    try {
      await access(directory, constants.R_OK | constants.W_OK | constants.X_OK);
      for (const name of await readdir(directory)) {
        const pid = LEFTOVER.exec(name)?.[1];
        if (pid !== undefined && !isAlive(Number(pid))) await rm(join(directory, name), { force: true });
      }
    } catch (error) {
      throw spoolError(error);
    }
    await (await spool.#createFile()).close();
    return spool;
  }

  /** @throws ImageError spool-full or spool-unavailable */
  async createWriter(): Promise<SpoolWriter> {
    return new SpoolWriter(await this.#createFile(), this.budget);
  }

  async #createFile(): Promise<FileHandle> {
    const path = join(this.#directory, `bsdsyms-${process.pid}-${randomUUID()}.spool`);
    try {
      const file = await open(path, 'wx+', 0o600);
      try {
        await unlink(path);
      } catch (error) {
        await file.close();
        throw error;
      }
      return file;
    } catch (error) {
      throw spoolError(error);
    }
  }
}

/** Writes an image to a spool file, in batches, overlapping with its arrival. */
export class SpoolWriter {
  readonly #file: FileHandle;
  readonly #budget: Budget;
  readonly #batch = new SlabList();
  #size = 0;
  /** Bytes taken from the budget. */
  #taken = 0;
  #written = 0;
  #writing: Promise<void> | null = null;

  constructor(file: FileHandle, budget: Budget) {
    this.#file = file;
    this.#budget = budget;
  }

  /**
   * Takes the next bytes. A returned promise must be awaited before more is appended.
   *
   * @throws ImageError spool-full or spool-unavailable
   */
  append(chunk: Uint8Array): void | Promise<void> {
    if (!this.#budget.take(chunk.length)) {
      throw new ImageError(
        'spool-full',
        `The spooled images of all requests would exceed ${this.#budget.limit} bytes (BSDSYMS_SPOOL_BUDGET_BYTES). Send it again later.`,
      );
    }
    this.#taken += chunk.length;
    this.#size += chunk.length;
    this.#batch.push(chunk);
    if (this.#batch.bytes >= WRITE_BATCH_BYTES) return this.#flush();
  }

  /** @param memory counts what the source holds of the image */
  async finish(memory?: Budget): Promise<ImageSource> {
    await this.#flush();
    await this.#writing;
    return new FileSource(this.#file, this.#size, () => this.#release(), memory);
  }

  /** Idempotent, and harmless during or after `finish`: the first of the two releases gives the budget back. */
  async discard(): Promise<void> {
    this.#batch.take().release();
    // Closing a FileHandle waits for its pending writes.
    await this.#file.close().finally(() => this.#release());
  }

  #release(): void {
    this.#budget.give(this.#taken);
    this.#taken = 0;
  }

  /** Waits for the batch before and starts to write this one. */
  async #flush(): Promise<void> {
    await this.#writing;
    const writing = this.#write(this.#batch.take());
    // The next call that waits for it gets the error. Until then it must not count as unhandled.
    writing.catch(() => {});
    this.#writing = writing;
  }

  async #write({ pieces, release }: SlabBytes): Promise<void> {
    let rest = [...pieces];
    try {
      while (rest.length > 0) {
        const { bytesWritten } = await this.#file.writev(rest, this.#written);
        this.#written += bytesWritten;
        rest = dropBytes(rest, bytesWritten);
      }
    } catch (error) {
      throw spoolError(error);
    } finally {
      release();
    }
  }
}

/** The chunks without their first `bytes`. */
function dropBytes(chunks: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  return chunks.flatMap((chunk) => {
    const dropped = Math.min(left, chunk.length);
    left -= dropped;
    return dropped === chunk.length ? [] : [chunk.subarray(dropped)];
  });
}

function spoolError(error: unknown): ImageError {
  if (error instanceof ImageError) return error;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new ImageError('spool-full', 'The disk for spooled images is full. Send it again later.', error);
  }
  return new ImageError('spool-unavailable', 'The directory for spooled images cannot be used.', error);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
