/** What is wrong with an image, as problem details (RFC 9457): a closed list of codes, and the one shape they come in. */
import type { ImageErrorCode } from '../inspect/image-error.ts';
import type { ImageFacts } from '../inspect/load.ts';
import { BROKEN_KINDS, type Broken, type BrokenCode } from '../xen/broken.ts';

/** What a code stands for. */
export interface ProblemKind {
  /** Of the answer of the service. */
  readonly status: number;
  readonly title: string;
  /** For people: what it means and what to do. */
  readonly explanation: string;
}

/** What can go wrong with an image, on its way in or in the loader. Stable for ever. */
export type ImageProblemCode = ImageErrorCode | BrokenCode | 'check-failed';

const IMAGE_ERROR_KINDS = {
  'compressed-data-corrupt': {
    status: 400,
    title: 'The compressed data is damaged',
    explanation:
      'The image, or the body by its Content-Encoding, is compressed, and the compressed data is damaged or cut short. ' +
      'Test it with gzip -t or zstd -t, and send it as it is: curl -d (--data) removes bytes, curl --data-binary does not.',
  },
  'image-too-large': {
    status: 413,
    title: 'The image is too large',
    explanation:
      'The image is larger than BSDSYMS_MAX_IMAGE_BYTES. Debug information is most of a large kernel and is not needed ' +
      'here: `objcopy --strip-debug` keeps the symbol table.',
  },
  'compression-unsupported': {
    status: 415,
    title: 'The compression of the image is not supported',
    explanation:
      'Images compressed with gzip and zstd are unpacked on arrival, zstd without dictionaries and with windows of up to ' +
      '128 MiB (--long=27). For xz, bzip2, lzma, lzo and lz4 unpack the image before sending it.',
  },
  'memory-full': {
    status: 503,
    title: 'There is no memory to unpack the image',
    explanation:
      'The image is compressed with a large window (zstd --long, --ultra), which has to be in memory while it is unpacked, and ' +
      'BSDSYMS_MEMORY_BUDGET_BYTES has no room for it. Send the request again after the time in Retry-After, or compress ' +
      'the image without these options; if the window is larger than the whole budget, only that or the operator helps.',
  },
  'not-a-blob': {
    status: 422,
    title: 'The file is not a symbol blob',
    explanation:
      'POST /verify takes a symbol blob or a dump of guest memory that begins with one: a size word, then an ELF header ' +
      'without program headers. This file is an ELF image, whose blob POST /bsdsyms makes, or was handled as text on its ' +
      'way. Anything else is verified as it is.',
  },
  'spool-full': {
    status: 503,
    title: 'There is no room to spool the image',
    explanation:
      'The memory for images is in use, and the disk or BSDSYMS_SPOOL_BUDGET_BYTES has no room for more. Send the ' +
      'request again after the time in Retry-After; if that does not help, the operator has to make room.',
  },
  'spool-unavailable': {
    status: 503,
    title: 'Images cannot be spooled',
    explanation:
      'The memory for images is in use, and BSDSYMS_SPOOL_DIR cannot be used. The log of the service has the cause; the ' +
      'operator has to see to it.',
  },
} as const satisfies Record<ImageErrorCode, ProblemKind>;

const CHECK_FAILED: ProblemKind = {
  status: 422,
  title: 'The kernel does not meet what is required of it',
  explanation:
    'POST /check held the kernel against the parameter require, or against its default: that its symbols load, that it asks ' +
    'for them, and that the guest which its GUEST_OS names finds them. `requirements` in the answer says of each whether it is ' +
    'met, with the code that says why not. Correct the build of the kernel, or require what it is meant to do.',
};

const brokenKinds = Object.entries(BROKEN_KINDS).map(([code, { title, explanation }]) => [
  code,
  { status: 422, title, explanation },
]);

/** All codes that are about an image. */
export const IMAGE_PROBLEM_KINDS: Readonly<Record<ImageProblemCode, ProblemKind>> = {
  ...IMAGE_ERROR_KINDS,
  'check-failed': CHECK_FAILED,
  ...(Object.fromEntries(brokenKinds) as Record<BrokenCode, ProblemKind>),
};

/** What a problem tells of a broken image beside the code. */
export interface ProblemSubject {
  readonly broken: Broken;
  readonly image: ImageFacts;
}

/** The members of RFC 9457, and those of an image. */
export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  /** What was found where, and what to do. */
  readonly detail: string;
  readonly code: string;
  /** The request that it answers; a command has none. */
  readonly instance?: string;
  readonly reason?: string | null;
  readonly stage?: string;
  readonly image?: { readonly size: number; readonly class?: string; readonly machine?: string };
}

/** Why an image is refused, as the service would answer it. */
export const toProblemDocument = (refused: ProblemSubject): ProblemDocument =>
  describeProblem(refused.broken.code, IMAGE_PROBLEM_KINDS[refused.broken.code], refused.broken.detail, refused);

/** @param subject what is known of a broken image; null when the problem is about none */
export function describeProblem(
  code: string,
  { status, title }: ProblemKind,
  detail: string,
  subject: ProblemSubject | null,
): ProblemDocument {
  const document = { type: `/problems/${code}`, title, status, detail, code };
  if (subject === null) return document;
  const { broken, image } = subject;
  const identity = image.identity === null ? {} : { class: image.identity.class, machine: image.identity.machine };
  return { ...document, reason: broken.reason, stage: broken.stage, image: { size: image.size, ...identity } };
}
