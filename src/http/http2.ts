/**
 * Answers HTTP/2 with prior knowledge (RFC 9113). A client that begins so cannot read an answer in HTTP/1.1, so its first request
 * gets one problem in frames of HTTP/2. Nothing that the client sends is decoded except the heads of frames.
 */
import type { Socket } from 'node:net';

const FRAME_HEAD_BYTES = 9;
/** Types of frames, section 6. */
const DATA = 0;
const HEADERS = 1;
const SETTINGS = 4;
const GOAWAY = 7;
const NO_FLAGS = 0;
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
/** Frames about the connection are on this stream. */
const CONNECTION = 0;
/** HPACK (RFC 7541, section 6.2.2): a literal that is not indexed, its name new, or `:status` of the static table. */
const NEW_NAME = 0x00;
const STATUS_NAME = 0x08;
/** The longest text whose length is one byte. */
const MAX_TEXT_BYTES = 126;

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
}

/** Finds the heads of frames in the pieces in which they arrive. */
class FrameScanner {
  readonly #head = Buffer.alloc(FRAME_HEAD_BYTES);
  #filled = 0;
  /** Bytes of a payload that are still to come. */
  #skip = 0;

  *scan(bytes: Buffer): Generator<Frame> {
    for (let at = 0; at < bytes.length; ) {
      const skipped = Math.min(this.#skip, bytes.length - at);
      this.#skip -= skipped;
      at += skipped;
      const copied = bytes.copy(this.#head, this.#filled, at, at + FRAME_HEAD_BYTES - this.#filled);
      this.#filled += copied;
      at += copied;
      if (this.#filled < FRAME_HEAD_BYTES) return;
      this.#filled = 0;
      this.#skip = this.#head.readUIntBE(0, 3);
      yield {
        type: this.#head.readUInt8(3),
        flags: this.#head.readUInt8(4),
        stream: this.#head.readUInt32BE(5) % 2 ** 31,
      };
    }
  }
}

/** An answer with header fields of at most 126 bytes each, and a body that the smallest usual window takes whole. */
export interface Http2Answer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * Gives the first request of a connection this answer, and ends the connection after it. What else arrives is dropped.
 *
 * @param received what has arrived after the preface of HTTP/2
 */
export function answerHttp2(socket: Socket, received: Buffer, answer: Http2Answer): void {
  const scanner = new FrameScanner();
  let acknowledged = false;
  const take = (bytes: Buffer): void => {
    for (const { type, flags, stream } of scanner.scan(bytes)) {
      if (!socket.writable) return;
      // A client may send any number of them; the others go unacknowledged.
      if (type === SETTINGS && flags !== ACK && !acknowledged) {
        acknowledged = true;
        socket.write(frame(SETTINGS, ACK, CONNECTION));
      }
      if (type === HEADERS) socket.end(answerFrames(stream, answer));
    }
  };
  socket.write(frame(SETTINGS, NO_FLAGS, CONNECTION));
  // The parser of HTTP/1.1 has stopped.
  socket.removeAllListeners('data');
  socket.on('data', take);
  socket.once('end', () => socket.destroySoon());
  take(received);
}

function answerFrames(stream: number, { status, headers, body }: Http2Answer): Buffer {
  const fields = Object.entries(headers).map(([name, value]) =>
    Buffer.concat([Buffer.of(NEW_NAME), text(name), text(value)]),
  );
  const block = Buffer.concat([Buffer.of(STATUS_NAME), text(String(status)), ...fields]);
  // The last stream that is answered, and NO_ERROR: with another code some clients drop the answer.
  const goaway = Buffer.alloc(8);
  goaway.writeUInt32BE(stream, 0);
  return Buffer.concat([
    frame(HEADERS, END_HEADERS, stream, block),
    frame(DATA, END_STREAM, stream, Buffer.from(body)),
    frame(GOAWAY, NO_FLAGS, CONNECTION, goaway),
  ]);
}

/** A text of HPACK, without the Huffman code. */
function text(characters: string): Buffer {
  const bytes = Buffer.from(characters, 'latin1').subarray(0, MAX_TEXT_BYTES);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
