/** Recognises files that are not ELF images, so that their senders learn what went wrong. */
import { hasElfMagic } from '../elf/format.ts';
import { ELF_HEADER_BYTES } from '../elf/headers.ts';
import { SIZE_WORD_BYTES } from '../xen/loaders/bsdsyms.ts';
import type { ImageSource } from './image-source.ts';
import { findFileKind, LONGEST_MARK_BYTES } from './signatures.ts';

/** How much of a file's start shows whether it is text. */
const TEXT_BYTES = 1024;
/** How much of a file's start is examined. */
const START_BYTES = Math.max(TEXT_BYTES, LONGEST_MARK_BYTES);
/** How much of a file's start shows a multipart form. */
export const MULTIPART_START_BYTES = 512;

/** The bytes of `e_ident` up to EI_VERSION. None of them is NUL; some later ones always are. */
const IDENT_WITHOUT_NUL_BYTES = 7;
/** U+FFFD in UTF-8, which replaces bytes that are not text. */
const REPLACEMENT = [0xef, 0xbf, 0xbd];

const ascii = (bytes: Uint8Array, from: number, to: number): string => String.fromCharCode(...bytes.subarray(from, to));

/** As much of a file's start as shows its kind. */
export const readStart = (source: ImageSource): Promise<Uint8Array> =>
  source.read(0, Math.min(source.size, START_BYTES));

/**
 * What a file seems to be and what to do, in sentences. They quote nothing from the file.
 *
 * @param start as `readStart` gives it
 */
export function recogniseContent(start: Uint8Array): string {
  if (start.length === 0) return 'It is empty: check the step that produced it.';
  const damage = findTextDamage(start);
  if (damage !== null) return damage;
  const kind = findFileKind(start);
  if (kind !== undefined) return `It looks like ${kind.name}. ${kind.advice}`;
  // What clients make of fields without files: application/x-www-form-urlencoded.
  if (ascii(start, 0, 6) === 'image=') {
    return (
      'It looks like the field of a form without a file. Give the file itself: as the body, or as a file part (curl -F image=@FILE; ' +
      "Python requests: files={'image': open(FILE, 'rb')})."
    );
  }
  if (/^\s*<(!doctype|html|head|\?xml)/i.test(ascii(start, 0, 64))) {
    return 'It looks like a web page, such as a directory listing or an error page. Check where it was downloaded from.';
  }
  if (start.every((byte) => byte === 0)) {
    return 'It begins with zeros only. Check whether it was written or downloaded completely.';
  }
  if (isText(start)) {
    return (
      'It looks like text, such as a log, a directory listing or a path instead of a file ' +
      '(curl: --data-binary @FILE, with the @).'
    );
  }
  return 'Check with `file` what it is, and that nothing changed it on its way here (curl: --data-binary, not -d).';
}

/**
 * How handling as text damaged an ELF image or a blob on its way here; null when it did not.
 *
 * @param start from its first byte on, an ELF header at least
 */
export function findTextDamage(start: Uint8Array): string | null {
  // The size word of a blob may have lost bytes, too.
  const magicAt = [0, 1, 2, 3, SIZE_WORD_BYTES].find((offset) => hasElfMagic(start.subarray(offset)));
  if (magicAt === undefined) return null;
  const header = start.subarray(magicAt, magicAt + ELF_HEADER_BYTES);
  if (header.length >= IDENT_WITHOUT_NUL_BYTES && !header.includes(0)) {
    return 'The NUL bytes that every ELF header has are missing: the file was handled as text on its way here. curl -d (--data) removes them, curl --data-binary does not.';
  }
  if (includesBytes(header, REPLACEMENT)) {
    return 'Bytes of the ELF header were replaced by U+FFFD: the file was read as text on its way here. Read and write it as bytes.';
  }
  return null;
}

const includesBytes = (bytes: Uint8Array, wanted: readonly number[]): boolean =>
  bytes.some((_, at) => wanted.every((byte, index) => bytes[at + index] === byte));

function isText(start: Uint8Array): boolean {
  return start.subarray(0, TEXT_BYTES).every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d);
}

/**
 * True for a body that is a multipart form, where an image was expected.
 *
 * @param start up to `MULTIPART_START_BYTES` of it
 */
export function looksLikeMultipart(start: Uint8Array): boolean {
  // Excludes nearly everything that is sent.
  if (start[0] !== 0x2d && start[0] !== 0x0d) return false;
  return /^(\r\n)?--[^\r\n]{1,200}\r\n(?:[^\r\n]+\r\n)*?content-disposition:/i.test(
    ascii(start, 0, MULTIPART_START_BYTES),
  );
}
