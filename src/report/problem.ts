/** Problems with an image, as problem details (RFC 9457): a closed list of codes, and their one shape. */
import type { ImageErrorCode } from '../inspect/image-error.ts';
import type { ImageFacts } from '../inspect/load.ts';
import { BROKEN_KINDS, type Broken, type BrokenCode } from '../xen/broken.ts';
import type { BuilderVerdict } from '../xen/builder.ts';

/** What a code stands for. */
export interface ProblemKind {
  /** HTTP status of the service's answer. */
  readonly status: number;
  readonly title: string;
  /** For people: what it means and what to do. */
  readonly explanation: string;
}

/** Problems with an image, before or in the loader. Stable for ever. */
export type ImageProblemCode = ImageErrorCode | BrokenCode | 'check-failed';

const IMAGE_ERROR_KINDS = {
  'compressed-data-corrupt': {
    status: 400,
    title: 'The compressed data is damaged',
    explanation:
      'The image, or the body by its Content-Encoding, is compressed, and the compressed data is damaged or cut short. ' +
      'Test it with gzip -t, zstd -t, xz -t and the like, and send it as it is: curl -d (--data) removes bytes, curl --data-binary does not.',
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
      'Images compressed with gzip, zstd, xz, lzma, bzip2, lz4 or lzop, and Linux bzImages of boot protocol 2.08 and later, are ' +
      'unpacked on arrival, with windows and dictionaries of up to 128 MiB and without preset dictionaries. Unpack anything ' +
      'else before you send it.',
  },
  'memory-full': {
    status: 503,
    title: 'There is no memory to unpack the image',
    explanation:
      'The image is compressed with a large window or dictionary (zstd --long, --ultra, xz -8, -9), which has to be in memory while it is unpacked, and ' +
      'BSDSYMS_MEMORY_BUDGET_BYTES has no room for it. Send the request again after the time in Retry-After, or compress ' +
      'the image without these options. A window larger than the whole budget never fits.',
  },
  'not-a-blob': {
    status: 422,
    title: 'The file is not a symbol blob',
    explanation:
      'POST /verify takes a symbol blob or a dump of guest memory that begins with one: a size word, then an ELF header ' +
      'without program headers. This file is an ELF image (POST /bsdsyms makes its blob), or it was handled as text on its ' +
      'way. Anything else is verified as it is.',
  },
  'spool-full': {
    status: 503,
    title: 'There is no room to spool the image',
    explanation:
      'The memory for images is in use, and the disk or BSDSYMS_SPOOL_BUDGET_BYTES has no room for more. Send the ' +
      'request again after the time in Retry-After; if that does not help, the operator must make room.',
  },
  'spool-unavailable': {
    status: 503,
    title: 'Images cannot be spooled',
    explanation:
      'The memory for images is in use, and BSDSYMS_SPOOL_DIR cannot be used. The operator finds the cause in the log of ' +
      'the service.',
  },
  'source-invalid': {
    status: 400,
    title: 'The URL of the image cannot be used',
    explanation:
      'An imageUrl begins with https://, http:// or file:///, is percent-encoded (RFC 3986), and has neither user information ' +
      'nor a fragment: credentials for origins belong to the operator of the service. As a parameter in a query it is encoded ' +
      'once more: curl -G --data-urlencode imageUrl=URL does that.',
  },
  'source-not-allowed': {
    status: 403,
    title: 'The image may not be read from there',
    explanation:
      'The URL, or one that its origin redirects to, is under none of the prefixes of BSDSYMS_IMAGE_SOURCES, or leads to an ' +
      'address that the service never connects to. Without that setting no image can be named. Ask the operator, or upload the image.',
  },
  'source-changed': {
    status: 409,
    title: 'The image changed while it was read',
    explanation:
      'Its ETag, Last-Modified or size differs from the first answer of the origin, so the result would mix two images. Send ' +
      'the request again when the image has been written. A file that is written under another name and then renamed is ' +
      'always whole.',
  },
  'source-scattered': {
    status: 422,
    title: 'The needed parts of the image lie too far apart',
    explanation:
      'Reading the headers and tables of the image takes more than BSDSYMS_SOURCE_MAX_REQUESTS requests to its origin. Linkers ' +
      'write them close together; look at what made the image, or upload it.',
  },
  'source-refused': {
    status: 424,
    title: 'The origin refuses the image',
    explanation:
      'The origin of the image answered 401, 403, 404, 410 or another status from 400 to 499, which the detail has, or the file ' +
      'is not there. Look at the URL, and whether its signature has expired. Credentials for origins belong to the operator.',
  },
  'source-unavailable': {
    status: 502,
    title: 'The origin of the image cannot be reached',
    explanation:
      'The origin of the image could not be reached, answered with a status of 500 or more, or broke off. Send the ' +
      'request again later; if that does not help, look at the origin.',
  },
  'source-unusable': {
    status: 502,
    title: 'The origin of the image does not serve ranges as it should',
    explanation:
      'The origin answered a request for a range with something else: another range, multipart/byteranges, an encoded body, no ' +
      'size. An origin that ignores ranges and sends the whole file can be used. Look at what is between it and the service.',
  },
  'source-timeout': {
    status: 504,
    title: 'The origin of the image took too long',
    explanation:
      'Connecting took longer than BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS, the origin paused for longer than ' +
      'BSDSYMS_SOURCE_STALL_TIMEOUT_MS, or the image took longer than BSDSYMS_SOURCE_TIMEOUT_MS in all. Send the request again later.',
  },
} as const satisfies Record<ImageErrorCode, ProblemKind>;

const CHECK_FAILED: ProblemKind = {
  status: 422,
  title: 'The kernel does not meet what is required of it',
  explanation:
    'POST /check compared the kernel with the parameter require, or with its default: that its symbols load, that it asks ' +
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

/** What a problem says about a broken image besides the code. */
export interface ProblemSubject {
  readonly broken: Broken;
  readonly image: ImageFacts;
  /** What Xen's domain builder does with the file, where it was asked. */
  readonly builder?: BuilderVerdict;
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
  readonly builder?: BuilderVerdict;
}

/** Why an image is refused, as the service would answer it. */
export const toProblemDocument = (refused: ProblemSubject): ProblemDocument =>
  describeProblem(refused.broken.code, IMAGE_PROBLEM_KINDS[refused.broken.code], refused.broken.detail, refused);

/**
 * @param subject what is known about a broken image; null when the problem is not about one
 * @param builder the verdict on a file whose image is not known
 */
export function describeProblem(
  code: string,
  { status, title }: ProblemKind,
  detail: string,
  subject: ProblemSubject | null,
  builder: BuilderVerdict | null = subject?.builder ?? null,
): ProblemDocument {
  const document = { type: `/problems/${code}`, title, status, detail, code };
  const verdict = builder === null ? {} : { builder };
  if (subject === null) return { ...document, ...verdict };
  const { broken, image } = subject;
  const identity = image.identity === null ? {} : { class: image.identity.class, machine: image.identity.machine };
  return {
    ...document,
    reason: broken.reason,
    stage: broken.stage,
    image: { size: image.size, ...identity },
    ...verdict,
  };
}
