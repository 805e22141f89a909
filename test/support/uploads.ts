/** What the tests of uploads of any size have in common: large images, bombs, slow senders, disks that misbehave. */
import { readdirSync, readlinkSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { constants, deflateRawSync } from 'node:zlib';
import { vi } from 'vitest';
import { processSlabs } from '../../src/image/slabs.ts';
import { kernel } from './elf-builder.ts';
import { PATIENCE_MS, until } from './patience.ts';
import { head, RawConnection } from './raw-http.ts';
import type { Read } from './sources.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** Waits for what comes about by itself. @throws when it does not */
export async function eventually(what: string, condition: () => boolean): Promise<void> {
  if (!(await until(condition))) throw new Error(`it did not come about: ${what}`);
}

/** What becomes of a promise that might never settle. */
export const outcome = (promise: Promise<unknown>): Promise<'resolved' | 'rejected' | 'pending'> =>
  Promise.race([
    promise.then(
      () => 'resolved' as const,
      () => 'rejected' as const,
    ),
    sleep(PATIENCE_MS, 'pending' as const, { ref: false }),
  ]);

/** Bytes that do not compress, the same every time. */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** A kernel of this many bytes; what its headers and symbols leave is noise. */
export function kernelOfSize(size: number, symbols = 50): Buffer {
  const { bytes } = kernel({ symbols });
  return Buffer.concat([bytes, noise(size - bytes.length)]);
}

/** One gzip member of `mebibytes` MiB of zeros, made without ever having them. The checksum at its end is wrong. */
export function gzipBomb(mebibytes: number): Buffer {
  const header = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
  const piece = 64;
  // After a full flush the stream goes on as if it had just begun, so that the same piece can follow itself.
  const zeros = deflateRawSync(new Uint8Array(piece * MIB), { finishFlush: constants.Z_FULL_FLUSH });
  const repeated = Array.from({ length: mebibytes / piece }, () => zeros);
  return Buffer.concat([header, ...repeated, deflateRawSync(''), Buffer.alloc(8)]);
}

/** Cuts bytes into pieces of this length. */
export function* pieces(bytes: Uint8Array, length: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

const SLOW_INTERVAL_MS = 1000;

/** Sends the head of an upload and then its body at a byte a second. */
export class SlowSender {
  readonly connection: RawConnection;
  readonly #body: Uint8Array;
  readonly #timer: NodeJS.Timeout;
  #sent = 0;

  private constructor(connection: RawConnection, body: Uint8Array) {
    this.connection = connection;
    this.#body = body;
    this.#timer = setInterval(() => void this.#next(), SLOW_INTERVAL_MS);
  }

  static async start(port: number, body: Uint8Array): Promise<SlowSender> {
    const sender = new SlowSender(await RawConnection.open(port), body);
    await sender.connection.send(head('POST', '/bsdsyms', { 'Content-Length': body.length }));
    await sender.#next();
    return sender;
  }

  /** Sends all that is left at once. */
  async finish(): Promise<void> {
    clearInterval(this.#timer);
    await this.connection.send(this.#body.subarray(this.#sent));
  }

  stop(): void {
    clearInterval(this.#timer);
    this.connection.destroy();
  }

  async #next(): Promise<void> {
    this.#sent += 1;
    await this.connection.send(this.#body.subarray(this.#sent - 1, this.#sent));
  }
}

/** Writes the chunks at this place of the file. @returns how many bytes were written */
type Write = (chunks: readonly Uint8Array[], position: number) => Promise<number>;

/** Puts itself between the spool and the system's files, until `vi.restoreAllMocks()`. */
export async function interceptWrites(
  intercept: (write: Write, chunks: readonly Uint8Array[], position: number) => Promise<number>,
): Promise<void> {
  const prototype = await fileHandlePrototype();
  const writev: (this: FileHandle, ...call: Parameters<FileHandle['writev']>) => ReturnType<FileHandle['writev']> =
    Object.getOwnPropertyDescriptor(prototype, 'writev')?.value;
  vi.spyOn(prototype, 'writev').mockImplementation(async function (this: FileHandle, buffers, position = 0) {
    const write: Write = async (chunks, at) => (await writev.call(this, chunks, at)).bytesWritten;
    return { bytesWritten: await intercept(write, buffers as unknown as readonly Uint8Array[], position), buffers };
  });
}

/** Holds every write of the spool back until the gate is opened. Until `vi.restoreAllMocks()`. */
export async function holdWrites(): Promise<Gate> {
  const gate = new Gate();
  await interceptWrites(async (write, chunks, position) => {
    await gate.pass();
    return write(chunks, position);
  });
  return gate;
}

/** Keeps account of what is read from files at an offset, until `vi.restoreAllMocks()`. @param maxBytes at once */
export async function interceptReads(maxBytes = Number.POSITIVE_INFINITY): Promise<Read[]> {
  const prototype = await fileHandlePrototype();
  const original: (this: FileHandle, ...call: [Uint8Array, number, number, number]) => Promise<{ bytesRead: number }> =
    Object.getOwnPropertyDescriptor(prototype, 'read')?.value;
  const reads: Read[] = [];
  const read = async function (this: FileHandle, bytes: Uint8Array, at: number, length: number, offset: number) {
    const result = await original.call(this, bytes, at, Math.min(length, maxBytes), offset);
    reads.push({ offset, length: result.bytesRead });
    return result;
  };
  vi.spyOn(prototype, 'read').mockImplementation(read as unknown as FileHandle['read']);
  return reads;
}

async function fileHandlePrototype(): Promise<FileHandle> {
  const file = await open(import.meta.filename);
  const prototype = Object.getPrototypeOf(file) as FileHandle;
  await file.close();
  return prototype;
}

/** A failure of the system. */
export const systemError = (code: string): Error => Object.assign(new Error(`${code}: a stand-in`), { code });

/** Something that waits until it is opened. */
export class Gate {
  readonly #opened = Promise.withResolvers<void>();
  /** How many have come so far. */
  arrived = 0;

  pass(): Promise<void> {
    this.arrived += 1;
    return this.#opened.promise;
  }

  open(): void {
    this.#opened.resolve();
  }
}

/** How many files and sockets this process has open, but for what threads have; null where the system does not tell. */
export function openFiles(): number | null {
  try {
    return readdirSync('/proc/self/fd').filter((name) => !isOfThread(name)).length;
  } catch {
    return null;
  }
}

const TURN_MS = 2;
let collectGarbage: (() => void) | null = null;

/**
 * Bytes that are in use once the garbage is collected, buffers included. Without the arena that images are held in, which is
 * mapped when it is first needed and kept a while for the next image.
 */
export async function memoryInUse(): Promise<number> {
  if (collectGarbage === null) {
    setFlagsFromString('--expose-gc');
    collectGarbage = runInNewContext('gc') as () => void;
  }
  // What is finalised in one turn can free more in the next.
  for (let turn = 0; turn < 5; turn++) {
    collectGarbage();
    await sleep(TURN_MS);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external - processSlabs.mappedBytes;
}

/** An event loop has files without a place, and pipes. They go with its thread, which waits for more work first. */
function isOfThread(descriptor: string): boolean {
  try {
    return /^(?:anon_inode|pipe):/.test(readlinkSync(`/proc/self/fd/${descriptor}`));
  } catch {
    return false;
  }
}
