/** Images that the user of the command or the library names by a URL. */
import { readFileSync } from 'node:fs';
import { nameFailure, SETTINGS } from '../../config.ts';
import { type GatheredImage, openStore, type StoreLimits } from '../gather.ts';
import { UserAuthority } from './authority.ts';
import { Credentials } from './credentials.ts';
import type { SourceLimits } from './origin.ts';
import { openReference } from './reference.ts';

/** Limits of an image that is named by a URL. */
export interface UrlLimits extends StoreLimits, SourceLimits {
  /** A JSON file with header fields for origins (docs/references.md); null for none. */
  readonly imageSourceHeadersFile: string | null;
}

/** See `openImageUrl`. @throws ImageError, and ConfigError for a file of header fields that cannot be used */
export async function openUrl(url: string, limits: UrlLimits, unpack: boolean): Promise<GatheredImage> {
  const path = limits.imageSourceHeadersFile;
  const credentials =
    path === null
      ? Credentials.NONE
      : nameFailure(SETTINGS.imageSourceHeadersFile, () => Credentials.parse(readFileSync(path, 'utf8')));
  const reference = await openReference(url, {
    authority: new UserAuthority(credentials),
    limits,
    unpack,
    store: await openStore(limits),
  });
  try {
    return await reference.take();
  } catch (error) {
    await reference.close();
    throw error;
  }
}
