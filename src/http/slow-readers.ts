/** Cuts off clients that read their answer too slowly: other uploads wait for the slot that such a client holds. */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { whenOver } from './exchange.ts';

export interface ReadingLimits {
  /** How far a client may fall behind the least rate. */
  readonly stallTimeoutMs: number;
  /** The least rate; with 0 a client is cut off only when it takes nothing for `stallTimeoutMs`. */
  readonly minAnswerBytesPerSecond: number;
}

/**
 * What a client may have read without the service seeing it. The kernel accepts more bytes only when a third of its
 * buffer for the connection is free. With Linux's largest default buffer (tcp_wmem, 4 MiB) that is about 1.6 MiB.
 */
const UNSEEN_BYTES = 2 * 1024 * 1024;
const CHECK_MS = 1000;
const CHECKS_PER_STALL = 4;

/** An answer, and how far its client is behind. */
class Reader {
  readonly #socket: Socket;
  readonly #limits: ReadingLimits;
  readonly #checkMs: number;
  #seenBytes: number;
  #behindMs = 0;

  constructor(socket: Socket, limits: ReadingLimits, checkMs: number) {
    this.#socket = socket;
    this.#limits = limits;
    this.#checkMs = checkMs;
    this.#seenBytes = this.#takenBytes;
  }

  get #takenBytes(): number {
    return this.#socket.bytesWritten - this.#socket.writableLength;
  }

  /** Counts checks, not the clock: if the whole process was held up, the client is not to blame. */
  check(): void {
    const progress = this.#takenBytes - this.#seenBytes;
    this.#seenBytes += progress;
    const waitingBytes = this.#socket.writableLength;
    const isKeepingUp = waitingBytes === 0 || (progress > 0 && this.#limits.minAnswerBytesPerSecond === 0);
    this.#behindMs = isKeepingUp ? 0 : Math.max(0, this.#behindMs + this.#checkMs - this.#toMs(progress));
    const leewayMs = this.#limits.stallTimeoutMs + this.#toMs(UNSEEN_BYTES + waitingBytes);
    if (this.#behindMs >= leewayMs) this.#socket.destroy();
  }

  /** The time that the slowest client allowed needs for these bytes. */
  #toMs(bytes: number): number {
    const { minAnswerBytesPerSecond } = this.#limits;
    return minAnswerBytesPerSecond > 0 ? (bytes / minAnswerBytesPerSecond) * 1000 : 0;
  }
}

/**
 * Watches answers, and destroys the connection of a client that falls too far behind. Time counts only while bytes wait
 * for the client, not while the service works. A client gets no credit for reading faster than it must. One timer serves
 * all answers, and runs only while there are some.
 */
export class ReaderWatch {
  readonly #limits: ReadingLimits;
  readonly #checkMs: number;
  readonly #readers = new Set<Reader>();
  #timer: NodeJS.Timeout | null = null;

  constructor(limits: ReadingLimits) {
    this.#limits = limits;
    this.#checkMs = Math.min(CHECK_MS, limits.stallTimeoutMs / CHECKS_PER_STALL);
  }

  /** Watches an answer from now to its end. */
  watch(response: ServerResponse): void {
    const { socket } = response;
    if (socket === null) return;
    const reader = new Reader(socket, this.#limits, this.#checkMs);
    this.#readers.add(reader);
    this.#timer ??= setInterval(() => this.#check(), this.#checkMs).unref();
    whenOver(response.req, response, () => this.#readers.delete(reader));
  }

  #check(): void {
    for (const reader of this.#readers) reader.check();
    // Stopped here and not at the end of the last answer, as the next answer often follows soon.
    if (this.#readers.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}
