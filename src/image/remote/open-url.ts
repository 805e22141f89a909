/** Images that the user of the command or the library names by a URL. */
import { readFileSync } from 'node:fs';
import { nameFailure, SETTINGS } from '../../config.ts';
import { Budget } from '../budget.ts';
import type { GatheredImage } from '../gather.ts';
import type { UrlLimits } from '../open.ts';
import { Spool } from '../spool.ts';
import { UserAuthority } from './authority.ts';
import { Credentials } from './credentials.ts';
import { openReference } from './reference.ts';

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
    store: {
      maxImageBytes: limits.maxImageBytes,
      memory: new Budget(limits.memoryBudgetBytes),
      spool: await Spool.open(limits.spoolDir, limits.spoolBudgetBytes),
    },
  });
  try {
    return await reference.take();
  } catch (error) {
    await reference.close();
    throw error;
  }
}
