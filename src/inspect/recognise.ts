/** Guesses what a file is that is not an ELF image, to tell its sender what went wrong. */

/** How much of a file's start is looked at. */
export const RECOGNISED_BYTES = 1024;

const startsWith = (bytes: Uint8Array, ...signature: number[]): boolean =>
  signature.every((byte, index) => bytes[index] === byte);

const ascii = (bytes: Uint8Array, from: number, to: number): string => String.fromCharCode(...bytes.subarray(from, to));

/** Files that are sent by mistake, in the order in which they are tried. */
const KNOWN: readonly { readonly is: (start: Uint8Array) => boolean; readonly advice: string }[] = [
  { is: (start) => start.length === 0, advice: 'It is empty: check the step that produced it.' },
  {
    is: (start) => ascii(start, 0x202, 0x206) === 'HdrS' || ascii(start, 0, 2) === 'MZ',
    advice: 'It looks like a bzImage, a PE or an EFI program: upload the ELF kernel (vmlinux) it was made from.',
  },
  {
    is: (start) => ascii(start, 0, 7) === '!<arch>',
    advice: 'It is an ar archive, such as a library or a .deb: extract the kernel first.',
  },
  { is: (start) => startsWith(start, 0x50, 0x4b, 3, 4), advice: 'It is a zip archive: extract the kernel first.' },
  {
    is: (start) => startsWith(start, 0xed, 0xab, 0xee, 0xdb),
    advice: 'It is an RPM package: extract the kernel first.',
  },
  {
    is: (start) => startsWith(start, 0xcf, 0xfa, 0xed, 0xfe) || startsWith(start, 0xce, 0xfa, 0xed, 0xfe),
    advice: 'It is a Mach-O program, not an ELF kernel.',
  },
  {
    is: (start) => /^\s*<(!doctype|html|head|\?xml)/i.test(ascii(start, 0, 64)),
    advice:
      'It begins like a web page, such as a directory listing or an error page: check where it was downloaded from.',
  },
  {
    is: (start) => ascii(start, 0, 8) === 'version ',
    advice: 'It looks like a Git LFS pointer: fetch the real file first.',
  },
  {
    is: isText,
    advice:
      'It is text, such as a log, a directory listing or a path instead of a file (curl: --data-binary @FILE, with the @).',
  },
];

function isText(start: Uint8Array): boolean {
  return start.every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d);
}

/** A sentence for a person: what the file seems to be and what to do. Holds nothing of the file itself. */
export function recogniseContent(start: Uint8Array): string {
  return KNOWN.find(({ is }) => is(start))?.advice ?? 'Check with `file` what it is.';
}

/** True for a body that is a multipart form, where an image was expected. */
export function looksLikeMultipart(start: Uint8Array): boolean {
  // Nearly everything that is sent is told apart here.
  if (start[0] !== 0x2d && start[0] !== 0x0d) return false;
  return /^(\r\n)?--[^\r\n]{1,200}\r\n(?:[^\r\n]+\r\n)*?content-disposition:/i.test(ascii(start, 0, 512));
}
