/** URLs that name an image: which are accepted, and how they are compared and shown. */
import { ImageError } from '../../inspect/image-error.ts';
import { SOURCE_SCHEME } from './is-source-url.ts';

/** Longer than any presigned URL, and short enough for a request line. */
const MAX_SOURCE_URL_CHARS = 8192;

/** The characters of RFC 3986. Parsers repair or drop all others, each parser in its own way. */
const URI_CHARACTERS = /^[\w\-.~:/?#[\]@!$&'()*+,;=%]*$/;
const STRAY_PERCENT = /%(?![0-9a-f]{2})/i;
const MAX_SHOWN_CHARS = 200;

/**
 * Parses a URL that names an image.
 *
 * @throws ImageError source-invalid
 */
export function parseSourceUrl(text: string): URL {
  if (text.length > MAX_SOURCE_URL_CHARS) throw invalid(`It is longer than ${MAX_SOURCE_URL_CHARS} characters.`);
  if (!SOURCE_SCHEME.test(text)) throw invalid('It must begin with https://, http:// or file://.');
  if (!URI_CHARACTERS.test(text)) {
    throw invalid(
      'It has characters that a URL cannot have (RFC 3986). Percent-encode them, and write host names in ASCII.',
    );
  }
  if (STRAY_PERCENT.test(text)) throw invalid('It has a % that is not followed by two hexadecimal digits.');
  const [authority = ''] = text.replace(SOURCE_SCHEME, '').split(/[/?#]/, 1);
  // A parser would skip slashes until it finds a host.
  if (authority === '' && !/^file:/i.test(text)) throw invalid('It has no host.');
  if (authority.includes('@')) {
    throw invalid('It has user information (user:password@). The operator of the service configures credentials.');
  }
  if (text.includes('#'))
    throw invalid('It has a fragment (#), which is never sent to an origin. Leave it out, or write %23.');
  const url = URL.parse(text);
  if (url === null) throw invalid('It cannot be parsed. Look at the host and the port.');
  if (url.protocol === 'file:') {
    if (url.hostname !== '') throw invalid('A file URL has no host: write file:///PATH.');
    if (url.search !== '' || text.includes('?')) throw invalid('A file URL has no query. Write ? as %3F.');
  }
  return url;
}

const invalid = (what: string): ImageError =>
  new ImageError('source-invalid', `The URL of the image cannot be used. ${what}`);

/** The parts of a URL for logs and messages: never its query, which may hold a secret. */
export interface SourcePlace {
  /** Scheme, host and port; `file://` for a file. */
  readonly origin: string;
  readonly path: string;
}

export function placeOf({ protocol, host, pathname }: URL): SourcePlace {
  const path = pathname.length > MAX_SHOWN_CHARS ? `${pathname.slice(0, MAX_SHOWN_CHARS)}…` : pathname;
  return { origin: `${protocol}//${host}`, path };
}

/** The segments of a path in one spelling: unreserved characters unescaped, the remaining escapes in upper case. */
export const segmentsOf = ({ pathname }: URL): readonly string[] =>
  pathname
    .slice(1)
    .split('/')
    .map((segment) =>
      segment.replaceAll(/%[0-9a-f]{2}/gi, (escape) => {
        const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
        return /[\w\-.~]/.test(character) ? character : escape.toUpperCase();
      }),
    );

/** How often escapes of escapes are decoded. */
const MAX_DECODINGS = 4;
/** Separators, control characters, and bytes that UTF-8 never has, which old decoders can read as a slash. */
function isNeverInSegment(character: string): boolean {
  const byte = character.charCodeAt(0);
  return byte < 0x20 || byte === 0x7f || '/\\\u00c0\u00c1'.includes(character) || byte >= 0xf5;
}
/** The segments `.` and `..`, also with path parameters, which some servers remove first. */
const DOTS = /^\.{1,2}(?:;|$)/;

/**
 * Whether every server reads a path segment as one name: however often it is decoded, it never contains a separator and
 * never becomes `.` or `..`.
 */
export function isPlainSegment(segment: string): boolean {
  let text = segment;
  for (let round = 0; round < MAX_DECODINGS; round++) {
    const decoded = text.replaceAll(/%[0-9a-f]{2}/gi, (escape) =>
      String.fromCharCode(Number.parseInt(escape.slice(1), 16)),
    );
    if (Array.from(decoded).some(isNeverInSegment) || DOTS.test(decoded)) return false;
    if (decoded === text) return true;
    text = decoded;
  }
  return false;
}
