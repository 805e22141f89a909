/** Writes the lines of the log. Lines that cannot be written at once wait, up to a limit; the rest is dropped. */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** The most bytes that may wait: a few thousand lines. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** The last part of that room is for lines of this level of pino and above. */
const WARN_LEVEL = 40;
const MAX_UNIMPORTANT_BYTES = 0.75 * MAX_WAITING_BYTES;
/** After a line was dropped, lines below that level are dropped until only this much waits, so that the gap is one. */
const RESUME_BYTES = 0.5 * MAX_WAITING_BYTES;

/** The pause before the next attempt to write; it doubles while nothing can be written. */
const MIN_PAUSE_MS = 10;
const MAX_PAUSE_MS = 1000;

/** A longer relayed line is passed on in pieces. */
const MAX_RELAYED_LENGTH = 64 * 1024;

/**
 * Writes bytes without waiting.
 *
 * @returns how many were written
 * @throws the system's error; EAGAIN when none can be written now
 */
type Write = (bytes: Uint8Array) => number;

/** Never throws and never blocks: a log that cannot be written is no reason to stop serving. */
export class LogOutput {
  /** Called with the number of dropped lines, once lines are accepted again. */
  onGap: (dropped: number) => void = () => {};
  readonly #write: Write;
  #lines: string[] = [];
  /** The length of `#lines`, in UTF-16 units. */
  #linesLength = 0;
  /** Bytes taken from `#lines` that are not written yet. */
  #bytes: Uint8Array = new Uint8Array();
  #flushing: NodeJS.Immediate | null = null;
  #pause: NodeJS.Timeout | null = null;
  #pauseMs = MIN_PAUSE_MS;
  #dropped = 0;
  #unreported = 0;

  constructor(write: Write) {
    this.#write = write;
  }

  /** How many lines have been dropped. */
  get dropped(): number {
    return this.#dropped;
  }

  get #waiting(): number {
    return this.#linesLength + this.#bytes.length;
  }

  /** Takes one line, its line feed included. Lines of one turn of the event loop are written together. */
  write(line: string): void {
    if (!this.#hasRoomFor(line)) {
      this.#dropped += 1;
      this.#unreported += 1;
      return;
    }
    if (this.#waiting <= RESUME_BYTES) this.#reportGap();
    this.#lines.push(line);
    this.#linesLength += line.length;
    if (this.#pause === null) this.#flushing ??= setImmediate(() => this.flushSync());
  }

  /** Writes as much as can be written now. */
  flushSync(): void {
    if (this.#flushing !== null) clearImmediate(this.#flushing);
    if (this.#pause !== null) clearTimeout(this.#pause);
    this.#flushing = this.#pause = null;
    try {
      while (this.#takeBytes()) {
        this.#bytes = this.#bytes.subarray(this.#write(this.#bytes));
        this.#pauseMs = MIN_PAUSE_MS;
      }
    } catch (error) {
      const isBusy = error instanceof Error && 'code' in error && error.code === 'EAGAIN';
      // A full disk or a missing reader may recover, but not within milliseconds.
      this.#pauseMs = isBusy ? Math.min(2 * this.#pauseMs, MAX_PAUSE_MS) : MAX_PAUSE_MS;
      this.#pause = setTimeout(() => this.flushSync(), this.#pauseMs).unref();
      return;
    }
    this.#reportGap();
  }

  /** Waits until everything is written, at most `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    const end = performance.now() + limitMs;
    for (this.flushSync(); this.#waiting > 0 && performance.now() < end; this.flushSync()) await sleep(MIN_PAUSE_MS);
  }

  #hasRoomFor(line: string): boolean {
    const filled = this.#waiting + line.length;
    if (filled <= RESUME_BYTES) return true;
    if (isImportant(line)) return filled <= MAX_WAITING_BYTES;
    return this.#unreported === 0 && filled <= MAX_UNIMPORTANT_BYTES;
  }

  /** @returns whether there is anything to be written */
  #takeBytes(): boolean {
    if (this.#bytes.length > 0) return true;
    if (this.#lines.length === 0) return false;
    this.#bytes = Buffer.from(this.#lines.join(''));
    this.#lines = [];
    this.#linesLength = 0;
    return true;
  }

  #reportGap(): void {
    if (this.#unreported === 0) return;
    const dropped = this.#unreported;
    this.#unreported = 0;
    this.onGap(dropped);
  }
}

/** Whether a line must not be lost. Lines of pino begin with their level; any other line reports a crash. */
function isImportant(line: string): boolean {
  const level = /^\{"level":(\d+)/.exec(line)?.[1];
  return level === undefined || Number(level) >= WARN_LEVEL;
}

/**
 * Opens a log. When the process exits, the lines that wait are tried once more.
 *
 * @param stream standard output or standard error
 */
export function openLogOutput(stream: NodeJS.WriteStream & { readonly fd: number }): LogOutput {
  // Node makes a pipe or socket non-blocking when the stream is first used. A terminal can still block.
  const { fd } = stream;
  const output = new LogOutput((bytes) => writeSync(fd, bytes));
  process.on('exit', () => output.flushSync());
  return output;
}

/** Passes a stream of text on, in whole lines. */
export function relayLines(stream: NodeJS.ReadableStream, output: LogOutput): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split(/(?<=\n)/);
    const last = lines.at(-1) ?? '';
    rest = last.endsWith('\n') || last.length > MAX_RELAYED_LENGTH ? '' : (lines.pop() ?? '');
    for (const line of lines) output.write(line);
  });
  stream.on('error', () => {});
  stream.on('end', () => {
    if (rest !== '') output.write(`${rest}\n`);
  });
}
