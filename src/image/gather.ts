/** Gathers images that cannot be read at any offset otherwise: those from a pipe, and those that are unpacked. */
import type { Readable } from 'node:stream';
import type { Compression, ImageSource } from '../inspect/image-source.ts';
import { Budget } from './budget.ts';
import { consume } from './consume.ts';
import { isPacked, PACKING_MARK_BYTES, UnpackingSink } from './decompress.ts';
import { Spool } from './spool.ts';
import { imageTooLarge, StoredSink } from './store.ts';

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
    return await gather(limits, unpack, (append) => consume(stream, append, (error) => error));
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
  const gathered = await gather(limits, true, async (append) => {
    for await (const piece of packed.stream(0, packed.size)) await append(piece);
  });
  await packed.close();
  return gathered;
}

async function gather(
  { maxImageBytes, memoryBudgetBytes, spoolDir, spoolBudgetBytes }: StoreLimits,
  unpack: boolean,
  fill: (append: (chunk: Uint8Array) => void | Promise<void>) => Promise<void>,
): Promise<GatheredImage> {
  const spool = await Spool.open(spoolDir, spoolBudgetBytes);
  const memory = new Budget(memoryBudgetBytes);
  const sink = new UnpackingSink(new StoredSink({ maxImageBytes, memory, spool }), unpack, memory);
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
