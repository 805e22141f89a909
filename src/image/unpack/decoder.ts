/**
 * What the decoders of this folder share. Each is a generator that reads from an `Input`, and yields what it needs or what
 * it has unpacked. So one decoder serves threads, browsers and tests. Nothing here depends on Node.
 */

/** What a decoder yields. */
export type DecoderEvent =
  /** All input was read. Call `Input.feed` or `Input.finish` before the decoder continues. */
  | { readonly kind: 'input' }
  /** From now on the decoder takes this much memory in all. It allocates the memory when it continues. */
  | { readonly kind: 'memory'; readonly bytes: number }
  /** Unpacked bytes, valid until the decoder continues. */
  | { readonly kind: 'piece'; readonly bytes: Uint8Array }
  /** A member (stream, frame) has ended, with its checksums. */
  | { readonly kind: 'member' }
  /** The file uses something that is unusual. */
  | { readonly kind: 'trait'; readonly trait: Trait };

/** Features of some files that other programs do not accept. */
type Trait =
  /** lzop: a block that compression did not make smaller. */
  | 'stored-block'
  /** lzop: blocks without a checksum, or with more than one. */
  | 'other-than-one-checksum'
  /** lz4: the frame format, not the legacy format. */
  | 'frame-format'
  /** A checksum does not fit, with `passChecksums`. */
  | 'wrong-checksum';

/** A running decoder. It does a bounded amount of work between two events. @throws DecodeError */
export type Decoding = Generator<DecoderEvent, void, void>;

/** How a decoder is to treat what it reads. */
export interface DecoderOptions {
  /** The largest dictionary or window, in bytes. */
  readonly maxWindowBytes: number;
  /** Whether bytes after the last member are ignored. Zeros always are, for formats whose own tool ignores them. */
  readonly ignoreTrailing: boolean;
  /** Whether a wrong checksum of lzop is a trait instead of a fault. Default: false. */
  readonly passChecksums?: boolean;
}

/** Why a stream cannot be unpacked. */
export type DecodeFault =
  /** The data breaks a rule of its format. */
  | { readonly kind: 'damaged'; readonly what: string }
  /** The data ends too early. */
  | { readonly kind: 'cut' }
  /** A checksum does not fit. The bytes that it covers were already yielded. */
  | { readonly kind: 'checksum'; readonly what: string }
  /** Other bytes follow the compressed data. */
  | { readonly kind: 'trailing-data' }
  /** The data uses a feature of the format that is not implemented. */
  | { readonly kind: 'unsupported'; readonly what: string }
  | { readonly kind: 'window-too-large'; readonly windowBytes: number; readonly maxWindowBytes: number };

/** A fault of the compressed data. */
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

/** The most bytes that a decoder yields at once, where its format leaves the choice. */
export const PIECE_BYTES = 256 * 1024;

/** Zeros that follow the last byte of the input in memory, for loops that look ahead. */
export const LOOKAHEAD_BYTES = 32;

const NOTHING = new Uint8Array(0);

/** The compressed bytes as they arrive. Decoders with fast loops read `bytes` from `at` to `end` themselves. */
export class Input {
  bytes: Uint8Array = NOTHING;
  /** The next byte to be read. */
  at = 0;
  /** The end of the bytes that have arrived. */
  end = 0;
  #ended = false;
  /** Offset of `bytes` in all of the input. */
  #base = 0;

  /** Whether everything has arrived. */
  get ended(): boolean {
    return this.#ended;
  }

  /** How many bytes of the input were read. */
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

  /** Ends the input. */
  finish(): void {
    const rest = this.bytes.subarray(this.at, this.end);
    this.#base += this.at;
    this.#ended = true;
    this.at = 0;
    this.end = rest.length;
    this.bytes = new Uint8Array(rest.length + LOOKAHEAD_BYTES);
    this.bytes.set(rest);
  }

  /** Waits for more bytes; those that were not read stay. @throws DecodeError cut when the input has ended */
  *more(): Decoding {
    if (this.#ended) throw cut();
    yield NEEDS_INPUT;
  }

  /** Whether there is another byte. */
  *hasMore(): Generator<DecoderEvent, boolean, void> {
    while (this.at === this.end && !this.#ended) yield NEEDS_INPUT;
    return this.at < this.end;
  }

  /** Waits until this many bytes are there in one piece. For small structures. @throws DecodeError cut */
  *need(bytes: number): Decoding {
    while (this.end - this.at < bytes) yield* this.more();
  }

  /** The next bytes without reading them; fewer at the end of the input. */
  *peek(bytes: number): Generator<DecoderEvent, Uint8Array, void> {
    while (this.end - this.at < bytes && !this.#ended) yield NEEDS_INPUT;
    return this.bytes.subarray(this.at, Math.min(this.at + bytes, this.end));
  }

  /** The next bytes in one piece, valid until the decoder waits for more. @throws DecodeError cut */
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

  /** Reads and drops the rest of the input. */
  *drop(): Decoding {
    while (yield* this.hasMore()) this.at = this.end;
  }

  /**
   * Reads zeros to the end of the input, as disks and tapes leave after a file.
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
