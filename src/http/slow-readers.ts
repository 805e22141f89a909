/** Cuts off clients that take an answer too slowly: what they hold, others wait for. */
import type { ServerResponse } from 'node:http';
import { whenOver } from './exchange.ts';

export interface ReadingLimits {
  /** How far a client may fall behind the least rate. */
  readonly stallTimeoutMs: number;
  /** The least rate; with 0 a client is cut off only when it takes nothing for `stallTimeoutMs`. */
  readonly minAnswerBytesPerSecond: number;
}

/**
 * What a client may take before the service can see it. The kernel asks for more only when a third of its buffer for
 * the connection is free: of Linux's largest by default (tcp_wmem, 4 MiB) about 1.6 MiB.
 */
const UNSEEN_BYTES = 2 * 1024 * 1024;
const CHECK_MS = 1000;
const CHECKS_PER_STALL = 4;

/**
 * Destroys the connection of a response when its client falls too far behind. Time counts only while bytes wait for the
 * client, not while the service works. What a client takes faster than it must is no credit for later.
 */
export function watchReader(response: ServerResponse, limits: ReadingLimits): void {
  const { socket } = response;
  if (socket === null) return;
  const { stallTimeoutMs, minAnswerBytesPerSecond } = limits;
  const isRateLimited = minAnswerBytesPerSecond > 0;
  /** The time that the slowest client allowed needs for these bytes. */
  const toMs = (bytes: number): number => (isRateLimited ? (bytes / minAnswerBytesPerSecond) * 1000 : 0);
  const takenBytes = (): number => socket.bytesWritten - socket.writableLength;

  let seenBytes = takenBytes();
  let behindMs = 0;
  // Counted in checks, not by the clock: when the whole process was held up, the client is not to blame.
  const checkMs = Math.min(CHECK_MS, stallTimeoutMs / CHECKS_PER_STALL);
  const check = (): void => {
    const progress = takenBytes() - seenBytes;
    seenBytes += progress;
    const waitingBytes = socket.writableLength;
    const isKeepingUp = waitingBytes === 0 || (progress > 0 && !isRateLimited);
    behindMs = isKeepingUp ? 0 : Math.max(0, behindMs + checkMs - toMs(progress));
    if (behindMs >= stallTimeoutMs + toMs(UNSEEN_BYTES + waitingBytes)) socket.destroy();
  };
  const timer = setInterval(check, checkMs).unref();
  whenOver(response.req, response, () => clearInterval(timer));
}
