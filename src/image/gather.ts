/** Gathers images that cannot be read at any offset otherwise: those from a pipe, and those that are unpacked. */
import type { Readable } from 'node:stream';
import type { Compression, ImageSource } from '../inspect/image-source.ts';
import { Budget } from './budget.ts';
import { consume } from './consume.ts';
import { isPacked, PACKING_MARK_BYTES, UnpackingSink } from './decompress.ts';
import { Spool } from './spool.ts';
import { type ImageStore, imageTooLarge, StoredSink } from './store.ts';

/** Where one image goes, and how large it may be. */
export interface StoreLimits {
  /** Bytes of the uncompressed image. */
  readonly maxImageBytes: number;
  /** An image up to this size is held in memory. */
  readonly memoryBudgetBytes: number;
  /** A larger one goes to a file without a name in this directory. */
  readonly spoolDir: string;
  /** The largest size of that file. */
  readonly spoolBudgetBytes: number;
}

/** An image that can be read at any offset. */
export interface GatheredImage {
  /** The caller closes it. */
  readonly source: ImageSource;
  /** How it was compressed; null when it was not. */
  readonly compression: Compression | null;
}

/**
 * Gathers the image that a stream yields, and unpacks it if it is compressed. After a failure the stream is destroyed.
 *
 * @param unpack false to gather it as it is
 * @throws ImageError, and what the stream fails with
 */
export async function gatherStream(stream: Readable, limits: StoreLimits, unpack = true): Promise<GatheredImage> {
  try {
    const store = await openStore(limits);
    return await gather(store, unpack, (append) => consume(stream, append, (error) => error));
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

/**
 * The image itself, or, if it is compressed, the unpacked one; the compressed source is then closed.
 *
 * @throws ImageError, and what the source throws when it cannot be read
 */
export async function unpackSource(packed: ImageSource, limits: StoreLimits): Promise<GatheredImage> {
  const start = await packed.read(0, Math.min(packed.size, PACKING_MARK_BYTES));
  if (!isPacked(start)) return { source: packed, compression: null };
  const gathered = await gather(await openStore(limits), true, feed(packed.stream(0, packed.size)));
  await packed.close();
  return gathered;
}

/** A store for one image. @throws ImageError when the spool directory cannot be used */
export async function openStore({
  maxImageBytes,
  memoryBudgetBytes,
  spoolDir,
  spoolBudgetBytes,
}: StoreLimits): Promise<ImageStore> {
  const spool = await Spool.open(spoolDir, spoolBudgetBytes);
  return { maxImageBytes, memory: new Budget(memoryBudgetBytes), spool };
}

type Append = (chunk: Uint8Array) => void | Promise<void>;

/** Appends chunks as they come. */
export const feed =
  (chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) =>
  async (append: Append): Promise<void> => {
    for await (const chunk of chunks) await append(chunk);
  };

/**
 * Stores an image as it comes, like an upload, and unpacks it.
 *
 * @param fill appends its bytes
 * @param announcedBytes its size, if it is known
 * @throws ImageError, and what `fill` throws
 */
export async function gather(
  store: ImageStore,
  unpack: boolean,
  fill: (append: Append) => Promise<void>,
  announcedBytes = 0,
): Promise<GatheredImage> {
  const { maxImageBytes, memory } = store;
  const sink = new UnpackingSink(new StoredSink(store, announcedBytes), unpack, memory);
  let received = 0;
  // Input that unpacks to nothing, such as padding, could go on without end.
  const append = (chunk: Uint8Array): void | Promise<void> => {
    received += chunk.length;
    if (received > maxImageBytes) throw imageTooLarge(maxImageBytes, 'The image is larger');
    return sink.append(chunk);
  };
  try {
    await fill(append);
    const source = await sink.finish();
    return { source, compression: sink.compression };
  } catch (error) {
    await sink.discard();
    throw error;
  }
}
