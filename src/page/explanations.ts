/** What the codes of problems mean on the page, where nothing is sent and nobody can change a limit. */
import type { ImageErrorCode } from '../inspect/image-error.ts';
import { IMAGE_PROBLEM_KINDS, type ImageProblemCode } from '../report/problem.ts';

/** Of the codes whose explanation for the service is about requests and settings: all that the page's own code refuses with. */
const OWN = {
  'compressed-data-corrupt':
    'The file is compressed, and the compressed data is damaged or cut short. Test it with gzip -t, xz -t and the like, ' +
    'compare its size with the original, and fetch it again.',
  'compression-unsupported':
    'This page unpacks gzip, xz, lzma, bzip2, lz4 and lzop, and zstd in browsers that can. It also takes the kernel out of Linux ' +
    'bzImages of boot protocol 2.08 and later. Windows and dictionaries may have up to 128 MiB. Unpack anything else first, or ' +
    'use the bsdsyms command, which unpacks zstd everywhere.',
  'image-too-large':
    'Debug information is most of a large kernel and is not needed here: `objcopy --strip-debug` keeps the symbol table. ' +
    'A file that is not compressed may have any size.',
  'not-a-blob':
    'A symbol blob, or a dump of guest memory that begins with one, has a size word, then an ELF header without program ' +
    'headers. If this file is a kernel, choose it as a kernel at the top of this page: the page then makes its blob. If it was ' +
    'handled as text on its way, dump it again as bytes.',
} as const satisfies Partial<Record<ImageErrorCode, string>>;

/** What a code means, and what to do on the page. */
export const explainHere = (code: ImageProblemCode): string =>
  code in OWN ? OWN[code as keyof typeof OWN] : IMAGE_PROBLEM_KINDS[code].explanation;
