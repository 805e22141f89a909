/** An image in a file. Reads go to the file; nothing else of it is read. */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { assertInside, type ImageSource } from '../inspect/image-source.ts';
import { Budget } from './budget.ts';

const READ_PIECE_BYTES = 256 * 1024;
/** The most bytes of a file that are held: enough for the string table of any kernel. */
const MAX_HELD_BYTES = 64 * 1024 * 1024;

/** What callers match on. */
export type FileErrorCode = 'not-a-file' | 'file-shortened';

/** A file that is not regular, or was truncated while it was read. Other failures are the system's own errors. */
export class FileError extends Error {
  override readonly name = 'FileError';
  readonly code: FileErrorCode;

  constructor(code: FileErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** An image in a regular file. */
export class FileSource implements ImageSource {
  readonly size: number;
  readonly #file: FileHandle;
  readonly #release: () => void;
  readonly #memory: Budget;
  #heldBytes = 0;
  #closed: Promise<void> | null = null;

  /**
   * @param file is closed with the source
   * @param size bytes of the image, from the start of the file on
   * @param release called once, when the file has been closed
   * @param memory counts the bytes that are held
   */
  constructor(
    file: FileHandle,
    size: number,
    release: () => void = () => {},
    memory: Budget = new Budget(MAX_HELD_BYTES),
  ) {
    this.#file = file;
    this.size = size;
    this.#release = release;
    this.#memory = memory;
  }

  /**
   * Opens a regular file. Pipes and devices have no offsets to read at, and are refused without waiting for them.
   *
   * @throws FileError not-a-file, and the system's errors
   */
  static async open(path: string): Promise<FileSource> {
    // Checked before it is opened, as opening some devices has effects, and again after that, as it may have been replaced.
    assertRegular(await stat(path));
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      assertRegular(stats);
      return new FileSource(file, stats.size);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** @throws RangeError, FileError file-shortened, and the system's errors */
  async read(offset: number, length: number): Promise<Uint8Array> {
    assertInside(offset, length, this.size);
    if (this.#closed !== null) throw new Error('the image was closed');
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.#file.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw shortened(this.size, offset + done);
      done += bytesRead;
    }
    return bytes;
  }

  /** @throws as `read` does */
  async *stream(offset: number, length: number): AsyncGenerator<Uint8Array> {
    assertInside(offset, length, this.size);
    for (let done = 0; done < length; done += READ_PIECE_BYTES) {
      yield await this.read(offset + done, Math.min(READ_PIECE_BYTES, length - done));
    }
  }

  /** @throws as `read` does */
  async hold(offset: number, length: number): Promise<readonly Uint8Array[] | null> {
    assertInside(offset, length, this.size);
    if (this.#closed !== null) throw new Error('the image was closed');
    if (length > MAX_HELD_BYTES || !this.#memory.take(length)) return null;
    this.#heldBytes += length;
    const pieces: Uint8Array[] = [];
    for await (const piece of this.stream(offset, length)) pieces.push(piece);
    return pieces;
  }

  close(): Promise<void> {
    // Closing a FileHandle waits for its pending reads.
    this.#closed ??= this.#file.close().finally(() => {
      this.#memory.give(this.#heldBytes);
      this.#release();
    });
    return this.#closed;
  }
}

const KINDS = [
  ['isDirectory', 'a directory'],
  ['isFIFO', 'a pipe'],
  ['isSocket', 'a socket'],
  ['isCharacterDevice', 'a device'],
  ['isBlockDevice', 'a device'],
] as const satisfies readonly (readonly [keyof Stats, string])[];

function assertRegular(stats: Stats): void {
  if (stats.isFile()) return;
  const kind = KINDS.find(([is]) => stats[is]())?.[1] ?? 'something else';
  throw new FileError('not-a-file', `It is ${kind}, not a regular file, and cannot be read at any offset.`);
}

const shortened = (size: number, end: number): FileError =>
  new FileError(
    'file-shortened',
    `The file ended early: it had ${size} bytes when it was opened, and now there is nothing at offset ${end}. ` +
      'Something cut it short while it was read; wait until it has been written.',
  );
