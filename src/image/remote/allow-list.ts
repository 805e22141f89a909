/** Prefixes of URLs, for allowed sources and for credentials. They are compared part by part, never as text. */
import { isPlainSegment, parseSourceUrl, segmentsOf } from './source-url.ts';

/** A prefix of URLs. */
export class SourcePrefix {
  readonly protocol: string;
  /** Host, and the port if it is not the default of the scheme. */
  readonly host: string;
  /** Segments of its path: the longer of two prefixes is more specific. */
  readonly length: number;
  /** The path as the operator wrote it, decoded; of a file URL a directory. */
  readonly pathname: string;
  readonly #segments: readonly string[];

  /** @throws ImageError or Error, whose message says what is wrong */
  constructor(text: string) {
    const url = parseSourceUrl(text);
    if (url.search !== '' || text.includes('?')) throw new Error('a prefix has no query');
    const segments = segmentsOf(url);
    // A prefix with a slash at its end covers what is in that folder, but not the folder itself.
    this.#segments = segments.at(-1) === '' ? segments.slice(0, -1) : segments;
    if (!this.#segments.every((segment) => segment !== '')) throw new Error('its path has an empty segment');
    if (url.protocol === 'file:' && this.#segments.length === 0)
      throw new Error('the root directory cannot be a source');
    this.protocol = url.protocol;
    this.host = url.host;
    this.pathname = url.pathname;
    this.length = this.#segments.length;
  }

  /** Whether the URL is under this prefix. */
  covers(url: URL): boolean {
    if (url.protocol !== this.protocol || url.host !== this.host) return false;
    const segments = segmentsOf(url);
    if (!this.#segments.every((segment, index) => segment === segments[index])) return false;
    const rest = segments.slice(this.#segments.length);
    if (rest.length === 0) return !this.pathname.endsWith('/');
    return rest.every(isPlainSegment);
  }
}

/** The most specific of the prefixes that cover a URL; undefined when none does. */
export function findPrefix<T extends { readonly prefix: SourcePrefix }>(
  entries: readonly T[],
  url: URL,
): T | undefined {
  let found: T | undefined;
  for (const entry of entries) {
    if (entry.prefix.covers(url) && (found === undefined || entry.prefix.length > found.prefix.length)) found = entry;
  }
  return found;
}

/**
 * Reads the prefixes of a setting.
 *
 * @throws Error whose message names the prefix that cannot be used
 */
export function parsePrefixes(texts: readonly string[]): readonly SourcePrefix[] {
  return texts.map((text) => {
    try {
      return new SourcePrefix(text);
    } catch (error) {
      throw new Error(`${JSON.stringify(text)}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  });
}
