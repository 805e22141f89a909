/**
 * What the decoders of this folder have in common. Each is a generator: it reads from an `Input` and yields what it needs
 * or gives next, so that one decoder serves threads, browsers and tests. Nothing here knows Node.
 */

/** What a decoder yields. */
export type DecoderEvent =
  /** All input was read: `Input.feed` or `Input.end` has to follow. */
  | { readonly kind: 'input' }
  /** From now on it takes so much memory in all; nothing of it has been allocated yet. */
  | { readonly kind: 'memory'; readonly bytes: number }
  /** What was unpacked, good until the decoder goes on. */
  | { readonly kind: 'piece'; readonly bytes: Uint8Array }
  /** A member (stream, frame) has ended, with its checksums. */
  | { readonly kind: 'member' }
  /** The file uses something that is unusual. */
  | { readonly kind: 'trait'; readonly trait: Trait };

/** What some files have and other programs do not take. */
type Trait =
  /** lzop: a block that did not get smaller. */
  | 'stored-block'
  /** lzop: blocks without a checksum, or with more than one. */
  | 'other-than-one-checksum'
  /** lz4: the frame format, not the legacy one. */
  | 'frame-format'
  /** A checksum does not fit, with `passChecksums`. */
  | 'wrong-checksum';

/** A decoder at work. Between two events it does a bounded amount of work. @throws DecodeError */
export type Decoding = Generator<DecoderEvent, void, void>;

/** How a decoder is to treat what it reads. */
export interface DecoderOptions {
  /** The largest dictionary or window, in bytes. */
  readonly maxWindowBytes: number;
  /** Whether what follows the last member, and is none, is ignored. Zeros always are where the format's own tool ignores them. */
  readonly ignoreTrailing: boolean;
  /** Whether a wrong checksum of lzop is a trait instead of a fault. Default: false. */
  readonly passChecksums?: boolean;
}

/** Why something is not unpacked. */
export type DecodeFault =
  /** It is not what it should be. */
  | { readonly kind: 'damaged'; readonly what: string }
  /** It ends too early. */
  | { readonly kind: 'cut' }
  /** A checksum does not fit. What was unpacked until then came out all the same. */
  | { readonly kind: 'checksum'; readonly what: string }
  /** Something else follows the end of the compressed data. */
  | { readonly kind: 'trailing-data' }
  /** A feature of the format that is not there. */
  | { readonly kind: 'unsupported'; readonly what: string }
  | { readonly kind: 'window-too-large'; readonly windowBytes: number; readonly maxWindowBytes: number };

export class DecodeError extends Error {
  override readonly name = 'DecodeError';
  readonly fault: DecodeFault;

  constructor(fault: DecodeFault) {
    super('what' in fault ? `${fault.kind}: ${fault.what}` : fault.kind);
    this.fault = fault;
  }
}

export const damaged = (what: string): DecodeError => new DecodeError({ kind: 'damaged', what });
export const wrongChecksum = (what: string): DecodeError => new DecodeError({ kind: 'checksum', what });
export const unsupported = (what: string): DecodeError => new DecodeError({ kind: 'unsupported', what });
export const trailingData = (): DecodeError => new DecodeError({ kind: 'trailing-data' });
const cut = (): DecodeError => new DecodeError({ kind: 'cut' });

const NEEDS_INPUT: DecoderEvent = { kind: 'input' };
export const MEMBER: DecoderEvent = { kind: 'member' };

/** What is unpacked at a time, at most, where a decoder is free to choose. */
export const PIECE_BYTES = 256 * 1024;

/** Zeros that follow the last byte of the input in memory, for loops that look ahead. */
export const LOOKAHEAD_BYTES = 32;

const NOTHING = new Uint8Array(0);

/** The compressed bytes, as they arrive. Decoders with a loop of their own read `bytes` from `at` to `end` themselves. */
export class Input {
  bytes: Uint8Array = NOTHING;
  /** The next byte to be read. */
  at = 0;
  /** The end of the bytes that are there. */
  end = 0;
  #ended = false;
  /** Offset of `bytes` in all of the input. */
  #base = 0;

  /** Whether everything has arrived. */
  get ended(): boolean {
    return this.#ended;
  }

  /** How much of the input was read. */
  get offset(): number {
    return this.#base + this.at;
  }

  /** Takes the next bytes. They must not change until the decoder asks for more. */
  feed(chunk: Uint8Array): void {
    const rest = this.end - this.at;
    this.#base += this.at;
    this.at = 0;
    if (rest === 0) {
      this.bytes = chunk;
      this.end = chunk.length;
      return;
    }
    const joined = new Uint8Array(rest + chunk.length);
    joined.set(this.bytes.subarray(this.end - rest, this.end));
    joined.set(chunk, rest);
    this.bytes = joined;
    this.end = joined.length;
  }

  /** Nothing more comes. */
  finish(): void {
    const rest = this.bytes.subarray(this.at, this.end);
    this.#base += this.at;
    this.#ended = true;
    this.at = 0;
    this.end = rest.length;
    this.bytes = new Uint8Array(rest.length + LOOKAHEAD_BYTES);
    this.bytes.set(rest);
  }

  /** Waits for more; what has not been read stays. @throws DecodeError cut, when everything has arrived */
  *more(): Decoding {
    if (this.#ended) throw cut();
    yield NEEDS_INPUT;
  }

  /** Whether there is another byte. */
  *hasMore(): Generator<DecoderEvent, boolean, void> {
    while (this.at === this.end && !this.#ended) yield NEEDS_INPUT;
    return this.at < this.end;
  }

  /** Waits until so many bytes are there in one piece. For small structures. @throws DecodeError cut */
  *need(bytes: number): Decoding {
    while (this.end - this.at < bytes) yield* this.more();
  }

  /** As many of the wanted bytes as there are up to the end of the input, without reading them. */
  *peek(bytes: number): Generator<DecoderEvent, Uint8Array, void> {
    while (this.end - this.at < bytes && !this.#ended) yield NEEDS_INPUT;
    return this.bytes.subarray(this.at, Math.min(this.at + bytes, this.end));
  }

  /** The next bytes, in one piece that is good until more is needed. @throws DecodeError cut */
  *take(bytes: number): Generator<DecoderEvent, Uint8Array, void> {
    yield* this.need(bytes);
    const start = this.at;
    this.at += bytes;
    return this.bytes.subarray(start, this.at);
  }

  /** Fills the first bytes of a buffer. For large blocks. @throws DecodeError cut */
  *fill(target: Uint8Array, bytes: number): Decoding {
    for (let done = 0; done < bytes; ) {
      if (this.at === this.end) yield* this.more();
      const part = this.bytes.subarray(this.at, Math.min(this.end, this.at + bytes - done));
      target.set(part, done);
      this.at += part.length;
      done += part.length;
    }
  }

  *skip(bytes: number): Decoding {
    for (let left = bytes; left > 0; ) {
      if (this.at === this.end) yield* this.more();
      const part = Math.min(left, this.end - this.at);
      this.at += part;
      left -= part;
    }
  }

  /** Reads the rest of the input and drops it. */
  *drop(): Decoding {
    while (yield* this.hasMore()) this.at = this.end;
  }

  /**
   * Reads zeros to the end of the input, as disks and tapes leave them.
   *
   * @throws DecodeError trailing-data when there is anything else
   */
  *padding(): Decoding {
    while (yield* this.hasMore()) {
      for (; this.at < this.end; this.at++) if (this.bytes[this.at] !== 0) throw trailingData();
    }
  }

  *byte(): Generator<DecoderEvent, number, void> {
    yield* this.need(1);
    return this.bytes[this.at++] as number;
  }
}

export const startsWith = (bytes: Uint8Array, mark: readonly number[]): boolean =>
  bytes.length >= mark.length && mark.every((byte, index) => bytes[index] === byte);

/** Gives the memory of a large buffer back now instead of at some collection. */
export function release(...arrays: readonly { readonly buffer: ArrayBufferLike }[]): void {
  for (const { buffer } of arrays) if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

export const readU32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24)) >>>
  0;

export const readU32BigEndian = (bytes: Uint8Array, at: number): number =>
  (((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)) >>>
  0;
