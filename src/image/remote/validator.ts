/** Detects whether the image at a URL has changed. */
import type { IncomingHttpHeaders } from 'node:http';
import { ImageError } from '../../inspect/image-error.ts';

/** What identifies a version of an image. */
export interface Validator {
  /** The field as the origin wrote it; null without one. */
  readonly etag: string | null;
  readonly lastModified: string | null;
  /** Bytes of the file; null when the origin did not say. */
  readonly size: number | null;
}

export const validatorOf = (headers: IncomingHttpHeaders, size: number | null): Validator => ({
  etag: headers.etag ?? null,
  lastModified: headers['last-modified'] ?? null,
  size,
});

/** Whether two answers with this validator have identical bytes (RFC 9110, section 8.8.1). */
export const isStrong = ({ etag }: Validator): boolean => etag?.startsWith('"') === true;

/** A text that differs between versions of the image; null when the origin does not distinguish versions. */
export function versionOf({ etag, lastModified, size }: Validator): string | null {
  if (etag !== null) return JSON.stringify([etag, size]);
  return lastModified === null ? null : JSON.stringify([lastModified, size]);
}

/** @throws ImageError source-changed */
export function assertSame(before: Validator, now: Validator): void {
  const same = before.etag === now.etag && before.lastModified === now.lastModified && before.size === now.size;
  if (!same) throw changed();
}

export const changed = (): ImageError =>
  new ImageError(
    'source-changed',
    'The image changed while it was read. Wait until it has been written, then send the request again; a file that is ' +
      'replaced under another name and renamed never shows this.',
  );
