/** Header fields for origins, such as credentials, from a JSON document of the operator. */
import { findPrefix, SourcePrefix } from './allow-list.ts';

/** What a request to an origin carries besides its own header fields. */
export type HeaderFields = Readonly<Record<string, string>>;

/** RFC 9110, section 5.6.2. */
const FIELD_NAME = /^[\w!#$%&'*+.^`|~-]+$/;
/** RFC 9110, section 5.5, in ASCII. */
const FIELD_VALUE = /^[\t\x20-\x7e]*$/;
/** Fields that the service sets itself, or that would change what its requests mean. */
const OWN_FIELDS = new Set(
  (
    'host range if-range accept-encoding connection content-length transfer-encoding te trailer upgrade expect keep-alive ' +
    'proxy-connection if-match if-none-match if-modified-since if-unmodified-since'
  ).split(' '),
);

/** Header fields by URL prefix. */
export class Credentials {
  static readonly NONE = new Credentials([]);
  readonly #entries: readonly { readonly prefix: SourcePrefix; readonly fields: HeaderFields }[];

  private constructor(entries: readonly { readonly prefix: SourcePrefix; readonly fields: HeaderFields }[]) {
    this.#entries = entries;
  }

  get count(): number {
    return this.#entries.length;
  }

  /**
   * Reads an object of objects: URL prefix to header fields.
   *
   * @throws Error whose message says what is wrong, without any value
   */
  static parse(text: string): Credentials {
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch {
      // The parser's message quotes the text, which holds secrets.
      throw new Error('it is not JSON');
    }
    if (!isObject(document)) throw new Error('it is not an object of URL prefixes');
    const entries = Object.entries(document).map(([prefixText, fields]) => {
      const prefix = new SourcePrefix(prefixText);
      if (prefix.protocol === 'file:') throw new Error(`${JSON.stringify(prefixText)}: a file has no header fields`);
      if (!isObject(fields)) throw new Error(`${JSON.stringify(prefixText)}: not an object of header fields`);
      return { prefix, fields: checkFields(prefixText, fields) };
    });
    return new Credentials(entries);
  }

  /** The header fields for a URL: those of the longest prefix that covers it. */
  fieldsFor(url: URL): HeaderFields {
    return findPrefix(this.#entries, url)?.fields ?? {};
  }
}

function checkFields(prefix: string, fields: Readonly<Record<string, unknown>>): HeaderFields {
  const checked = Object.entries(fields).map(([name, value]) => {
    const where = `${JSON.stringify(prefix)}: the header field ${JSON.stringify(name)}`;
    if (!FIELD_NAME.test(name)) throw new Error(`${where} is not a valid field name`);
    if (OWN_FIELDS.has(name.toLowerCase())) throw new Error(`${where} is set by the service itself`);
    if (typeof value !== 'string' || !FIELD_VALUE.test(value)) throw new Error(`${where} has no usable value`);
    return [name, value] as const;
  });
  return Object.fromEntries(checked);
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
