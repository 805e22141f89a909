/** Files and streams as images that are ready to be loaded. */
import type { Readable } from 'node:stream';
import { DEFAULTS } from '../config.ts';
import { ELF_MAGIC, hasElfMagic } from '../elf/format.ts';
import { FileSource } from './file.ts';
import type { GatheredImage, StoreLimits } from './gather.ts';
import { KeptSource } from './kept.ts';
import type { SourceLimits } from './remote/origin.ts';

/**
 * Opens a file. An ELF image is read where it lies, whatever its size; one that is compressed, or in a
 * Linux bzImage, is unpacked first, into memory or a spool file, within the limits.
 *
 * @param limits those that are left out are the service's defaults
 * @param unpack false to take the file as it is, whatever it looks like
 * @throws FileError when it is no regular file, ImageError when it cannot be unpacked, and the system's errors
 */
export async function openImageFile(
  path: string,
  limits: Partial<StoreLimits> = {},
  unpack = true,
): Promise<GatheredImage> {
  const file = await FileSource.open(path);
  try {
    const start = await file.read(0, Math.min(file.size, ELF_MAGIC.length));
    // Nearly every file; what unpacks the others takes time to be loaded.
    if (!unpack || hasElfMagic(start)) return { source: new KeptSource(file), compression: null };
    const { unpackSource } = await import('./gather.ts');
    return await unpackSource(file, { ...DEFAULTS, ...limits });
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What limits an image that a URL names. */
export interface UrlLimits extends StoreLimits, SourceLimits {
  /** A JSON file with header fields for origins (docs/references.md); null for none. */
  readonly imageSourceHeadersFile: string | null;
}

/**
 * Opens an image that an http, https or file URL names. What is needed of it is read at its origin, under the authority of the
 * user: any host, any address, and redirects. One that is compressed is unpacked first, within the limits.
 *
 * @param limits those that are left out are the service's defaults
 * @param unpack false to take the file as it is, whatever it looks like
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
 * Gathers an image from a stream, such as standard input, unpacked when it is compressed, within the limits. A stream whose
 * image is refused is not read on, but destroyed.
 *
 * @param limits those that are left out are the service's defaults
 * @param unpack false to take what comes as it is
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
