/** Files and streams as images that are ready to be loaded. */
import type { Readable } from 'node:stream';
import { DEFAULTS } from '../config.ts';
import { ELF_MAGIC, hasElfMagic } from '../elf/format.ts';
import { FileSource } from './file.ts';
import type { GatheredImage, StoreLimits } from './gather.ts';
import { KeptSource } from './kept.ts';
import type { UrlLimits } from './remote/open-url.ts';

/**
 * Opens a file. An ELF image is read where it lies, whatever its size. One that is compressed, or in a
 * Linux bzImage, is unpacked first, into memory or a spool file, within the limits.
 *
 * @param limits default to those of the service
 * @param unpack false to use the file as it is
 * @throws FileError when it is not a regular file, ImageError when it cannot be unpacked, and the system's errors
 */
export async function openImageFile(
  path: string,
  limits: Partial<StoreLimits> = {},
  unpack = true,
): Promise<GatheredImage> {
  const file = await FileSource.open(path);
  try {
    const start = await file.read(0, Math.min(file.size, ELF_MAGIC.length));
    // Nearly every file is ELF. The code that unpacks the others takes time to load.
    if (!unpack || hasElfMagic(start)) return { source: new KeptSource(file), compression: null };
    const { unpackSource } = await import('./gather.ts');
    return await unpackSource(file, { ...DEFAULTS, ...limits });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Opens an image that an http, https or file URL names. The needed parts are read at its origin, with the rights of the
 * user: any host, any address, and redirects. An image that is compressed is unpacked first, within the limits.
 *
 * @param limits default to those of the service
 * @param unpack false to use the file as it is
 * @throws ImageError, and ConfigError for a file of header fields that cannot be used
 */
export async function openImageUrl(
  url: string,
  limits: Partial<UrlLimits> = {},
  unpack = true,
): Promise<GatheredImage> {
  const { openUrl } = await import('./remote/open-url.ts');
  return openUrl(url, { ...DEFAULTS, ...limits }, unpack);
}

/**
 * Gathers an image from a stream, such as standard input, within the limits, and unpacks it if it is compressed. A stream
 * whose image is refused is destroyed.
 *
 * @param limits default to those of the service
 * @param unpack false to gather it as it is
 * @throws ImageError, and what the stream fails with
 */
export async function openImageStream(
  stream: Readable,
  limits: Partial<StoreLimits> = {},
  unpack = true,
): Promise<GatheredImage> {
  const { gatherStream } = await import('./gather.ts');
  return gatherStream(stream, { ...DEFAULTS, ...limits }, unpack);
}
