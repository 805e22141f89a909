/** Which URLs and addresses requests may go to, and with which header fields. */
import { ImageError } from '../../inspect/image-error.ts';
import { reachOf } from './addresses.ts';
import { findPrefix, type SourcePrefix } from './allow-list.ts';
import { Credentials, type HeaderFields } from './credentials.ts';
import { placeOf } from './source-url.ts';

/** Decides about every URL before a request is sent to it, also after a redirect. */
export interface SourceAuthority {
  /**
   * @returns the header fields for the URL
   * @throws ImageError source-not-allowed
   */
  admit(url: URL): HeaderFields;
  /**
   * @param host of an admitted URL, without brackets
   * @throws ImageError source-not-allowed unless connecting to every one of the host's addresses is allowed
   */
  admitAddresses(host: string, addresses: readonly string[]): void;
  /** The directory in which the file of a URL must lie; null for any. @throws ImageError source-not-allowed */
  directoryOf(url: URL): URL | null;
}

/** The authority of a service: it allows what its operator lists, and nothing else. */
export class AllowedSources implements SourceAuthority {
  readonly #entries: readonly { readonly prefix: SourcePrefix }[];
  /** Replaced when their file changes. */
  credentials = Credentials.NONE;

  constructor(prefixes: readonly SourcePrefix[]) {
    this.#entries = prefixes.map((prefix) => ({ prefix }));
  }

  /** Whether the operator lists no source. */
  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  admit(url: URL): HeaderFields {
    this.#find(url);
    return this.credentials.fieldsFor(url);
  }

  admitAddresses(host: string, addresses: readonly string[]): void {
    for (const address of addresses) {
      const reach = reachOf(address);
      if (reach === 'forbidden') {
        throw notAllowed(
          `${host} leads to a link-local, metadata or reserved address, to which the service never connects.`,
        );
      }
      if (reach === 'loopback' && !isLoopbackHost(host)) {
        throw notAllowed(`${host} leads to the machine of the service itself. Only a source listed as localhost may.`);
      }
    }
  }

  directoryOf(url: URL): URL {
    return new URL(this.#find(url).pathname, 'file:///');
  }

  #find(url: URL): SourcePrefix {
    const found = findPrefix(this.#entries, url);
    if (found !== undefined) return found.prefix;
    const { origin, path } = placeOf(url);
    throw notAllowed(
      this.isEmpty
        ? 'This service takes no images by reference (BSDSYMS_IMAGE_SOURCES is not set). Upload the image.'
        : `${origin}${path} is under none of the sources that the operator of the service lists (BSDSYMS_IMAGE_SOURCES).`,
    );
  }
}

/** Whether a name or a literal address means this machine by itself. Of a name, `reachOf` never says so. */
const isLoopbackHost = (host: string): boolean =>
  host === 'localhost' || host.endsWith('.localhost') || reachOf(host) === 'loopback';

/** The authority of the user of the command or the library, which allows everything. */
export class UserAuthority implements SourceAuthority {
  readonly #credentials: Credentials;

  constructor(credentials = Credentials.NONE) {
    this.#credentials = credentials;
  }

  admit(url: URL): HeaderFields {
    return this.#credentials.fieldsFor(url);
  }

  admitAddresses(): void {}

  directoryOf(): null {
    return null;
  }
}

export const notAllowed = (message: string): ImageError => new ImageError('source-not-allowed', message);
