/** `Content-Digest` and `Repr-Digest` of a request (RFC 9530) show at once that a body was cut or damaged on its way. */
import { createHash, type Hash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { parseDictionary } from 'structured-headers';
import { Problem } from './problem.ts';

/** Both fields are about the same bytes: a request has no ranges, so its body is the whole representation, codings included. */
const FIELDS = ['Content-Digest', 'Repr-Digest'] as const;
/** The algorithms that RFC 9530 recommends, with the length of their digests. Others are ignored, as the RFC allows. */
const DIGEST_BYTES = { 'sha-256': 32, 'sha-512': 64 } as const;
type Algorithm = keyof typeof DIGEST_BYTES;

const NAMES_IN_NODE: Readonly<Record<Algorithm, string>> = { 'sha-256': 'sha256', 'sha-512': 'sha512' };

interface ExpectedDigest {
  readonly field: (typeof FIELDS)[number];
  readonly algorithm: Algorithm;
  readonly digest: Buffer;
}

/** Compares a body with the digests that were sent with it. */
export class BodyDigests {
  readonly #expected: readonly ExpectedDigest[];
  readonly #hashes: ReadonlyMap<Algorithm, Hash>;
  #bytes = 0;

  private constructor(expected: readonly ExpectedDigest[]) {
    this.#expected = expected;
    this.#hashes = new Map(expected.map(({ algorithm }) => [algorithm, createHash(NAMES_IN_NODE[algorithm])]));
  }

  /**
   * @returns null when the request has no digest
   * @throws Problem bad-request for a field that cannot be read: ignoring it would leave the body unverified
   */
  static of(headers: IncomingHttpHeaders): BodyDigests | null {
    const expected = FIELDS.flatMap((field) => readField(field, headers[field.toLowerCase()]));
    return expected.length === 0 ? null : new BodyDigests(expected);
  }

  /** Takes the bytes of the body in order. */
  update(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    for (const hash of this.#hashes.values()) hash.update(chunk);
  }

  /**
   * Called once, when the body is complete.
   *
   * @throws Problem digest-mismatch
   */
  verify(isForm: boolean): void {
    const actual = new Map([...this.#hashes].map(([algorithm, hash]) => [algorithm, hash.digest()]));
    for (const { field, algorithm, digest } of this.#expected) {
      const found = actual.get(algorithm);
      if (found === undefined || found.equals(digest)) continue;
      const advice = isForm
        ? 'It is compared with the whole form. To send the digest of the file, send the file as the body (curl -T).'
        : 'The body was cut short or damaged, or is another file. Send it again; if that does not help, build it again.';
      throw new Problem(
        'digest-mismatch',
        `The ${this.#bytes} bytes of the body have the ${algorithm} ${found.toString('base64')}, and ${field} says ` +
          `${digest.toString('base64')}. ${advice}`,
      );
    }
  }
}

function readField(field: (typeof FIELDS)[number], value: string | string[] | undefined): ExpectedDigest[] {
  if (value === undefined) return [];
  const members = parse(field, String(value));
  return (Object.keys(DIGEST_BYTES) as Algorithm[]).flatMap((algorithm) => {
    const member = members.get(algorithm);
    if (member === undefined) return [];
    const [bytes] = member;
    if (!(bytes instanceof ArrayBuffer)) throw unreadable(field);
    if (bytes.byteLength !== DIGEST_BYTES[algorithm]) {
      throw unreadable(
        field,
        ` A ${algorithm} has ${DIGEST_BYTES[algorithm]} bytes; this one has ${bytes.byteLength}.`,
      );
    }
    return [{ field, algorithm, digest: Buffer.from(bytes) }];
  });
}

function parse(field: string, value: string): ReadonlyMap<string, readonly unknown[]> {
  try {
    return parseDictionary(value);
  } catch {
    throw unreadable(field);
  }
}

const unreadable = (field: string, found = ''): Problem =>
  new Problem(
    'bad-request',
    `${field} cannot be read.${found} Write sha-256=:BASE64: with the base64 of the digest itself, not of its hex digits ` +
      '(openssl dgst -sha256 -binary FILE | base64).',
  );
