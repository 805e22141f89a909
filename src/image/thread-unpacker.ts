/** Unpacks streams in other threads, so that other requests do not wait. A few threads serve all streams. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Budget } from './budget.ts';
import type { DecodeFault, DecoderOptions } from './unpack/decoder.ts';
import type { DecodedFormat } from './unpack/formats.ts';
import { type Order, PIECE_BYTES, PIECES, type Report } from './unpack-orders.ts';

/** One core is left to the event loop. */
const MAX_THREADS = Math.max(1, Math.min(4, availableParallelism() - 1));
/** How long a thread without work is kept. */
const IDLE_MS = 10_000;
/** The heap of a thread. The memory of decoders lies outside the heap, and is counted in the budget. */
const MAX_HEAP_MIB = 128;

/** A stream always gets this much memory, even when the budget is used up: it is enough for the usual dictionaries. */
const GRANTED_BYTES = 17 * 1024 * 1024;

/** Why a stream cannot be unpacked. */
export type ThreadFault =
  | DecodeFault
  /** The budget has no room for it. */
  | { readonly kind: 'no-memory'; readonly neededBytes: number; readonly limitBytes: number };

interface ThreadUnpackOptions extends DecoderOptions {
  readonly format: DecodedFormat;
  /** Counts the memory of the decoder while it lives. */
  readonly memory: Budget;
  /** Takes an unpacked piece, which is no longer needed once it returns, or its promise settles. */
  readonly take: (piece: Uint8Array) => void | Promise<void>;
  /** The error to be thrown for a fault. */
  readonly explain: (fault: ThreadFault) => Error;
}

/** Receives the messages about one stream. */
interface Listener {
  onReport(report: Report): void;
  onFailure(error: Error): void;
}

// The compiled file ends with .js.
const THREAD_FILE = new URL(
  import.meta.url.endsWith('.ts') ? './unpack-thread.ts' : './unpack-thread.js',
  import.meta.url,
);

/** One thread and its streams. */
class Thread {
  readonly #worker: Worker;
  readonly #onExit: (thread: Thread) => void;
  readonly #listeners = new Map<number, Listener>();
  #idle: NodeJS.Timeout | undefined;

  /** @param onExit called when the thread accepts no more streams */
  constructor(onExit: (thread: Thread) => void) {
    this.#worker = new Worker(THREAD_FILE, { resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB }, execArgv: [] });
    this.#worker.on('message', (report: Report) => this.#listeners.get(report.id)?.onReport(report));
    const end = (error: Error): void => {
      clearTimeout(this.#idle);
      onExit(this);
      const listeners = [...this.#listeners.values()];
      this.#listeners.clear();
      for (const listener of listeners) listener.onFailure(error);
    };
    this.#worker.on('error', end);
    this.#worker.on('exit', () => end(new Error('the thread that unpacks has ended')));
    this.#onExit = onExit;
  }

  get streams(): number {
    return this.#listeners.size;
  }

  /** After `close` the thread ignores what it is sent for a stream. */
  order(order: Order, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(order, [...transfer]);
  }

  attach(id: number, listener: Listener): void {
    clearTimeout(this.#idle);
    // Keeps the process alive while a stream is unpacked.
    this.#worker.ref();
    this.#listeners.set(id, listener);
  }

  detach(id: number): void {
    if (!this.#listeners.delete(id) || this.streams > 0) return;
    this.#worker.unref();
    this.#idle = setTimeout(() => {
      this.#onExit(this);
      void this.#worker.terminate();
    }, IDLE_MS).unref();
  }
}

/** The threads of this process. */
const threads = new Set<Thread>();

/** The thread with the fewest streams, or a new one while all have streams and there may be more threads. */
function pickThread(): Thread {
  const [least] = [...threads].toSorted((a, b) => a.streams - b.streams);
  if (least !== undefined && (least.streams === 0 || threads.size >= MAX_THREADS)) return least;
  const thread = new Thread((ended) => threads.delete(ended));
  threads.add(thread);
  return thread;
}

let lastId = 0;

/** One compressed stream. Exactly one of `finish` and `destroy` ends it. */
export class ThreadUnpacker implements Listener {
  readonly #options: ThreadUnpackOptions;
  readonly #thread = pickThread();
  readonly #id = ++lastId;
  #heldBytes = 0;
  #failure: Error | null = null;
  /** Settles when the pieces so far were taken, one after another. */
  #taking: Promise<void> = Promise.resolve();
  /** Settles when the thread needs input, is done, or has failed. */
  #reached = Promise.withResolvers<void>();
  #closed = false;
  #unpackedBytes = 0;
  #firstMemberBytes: number | null = null;
  readonly #traits = new Set<string>();

  constructor(options: ThreadUnpackOptions) {
    this.#options = options;
    const { format, maxWindowBytes, ignoreTrailing, passChecksums = false } = options;
    this.#reached.promise.catch(() => {});
    this.#thread.attach(this.#id, this);
    this.#hold(PIECES * PIECE_BYTES);
    this.#thread.order({
      id: this.#id,
      kind: 'open',
      format,
      options: { maxWindowBytes, ignoreTrailing, passChecksums },
    });
  }

  /** Unpacked bytes of the first member; null before its end. */
  get firstMemberBytes(): number | null {
    return this.#firstMemberBytes;
  }

  /** Unusual features of the file, which other programs may not accept. */
  get traits(): ReadonlySet<string> {
    return this.#traits;
  }

  /**
   * Takes the next bytes. Await the promise before appending more; the chunk is then no longer needed.
   *
   * @throws what `explain` returns for a fault, and what `take` throws
   */
  async append(chunk: Uint8Array): Promise<void> {
    if (chunk.length === 0) return;
    // The thread gets a copy, whose memory is transferred.
    const bytes = Uint8Array.from(chunk);
    await this.#reach();
    this.#reached = Promise.withResolvers();
    this.#reached.promise.catch(() => {});
    this.#thread.order({ id: this.#id, kind: 'input', bytes }, [bytes.buffer]);
    await this.#reach();
  }

  /** Resolves when everything was unpacked and taken. @throws as `append` does */
  async finish(): Promise<void> {
    await this.#reach();
    this.#reached = Promise.withResolvers();
    this.#reached.promise.catch(() => {});
    this.#thread.order({ id: this.#id, kind: 'end' });
    await this.#reach();
    this.#close();
  }

  /** Stops, and gives the memory back as soon as the thread has closed the stream. Idempotent, also after `finish`. */
  destroy(): void {
    this.#fail(new Error('the stream was closed before its end'));
  }

  onFailure(error: Error): void {
    this.#closed = true;
    this.#fail(error);
    this.#release();
  }

  onReport(report: Report): void {
    const { explain, memory } = this.#options;
    switch (report.kind) {
      case 'needs-input':
      case 'done':
        this.#reached.resolve();
        break;
      case 'memory':
        if (this.#hold(PIECES * PIECE_BYTES + report.bytes)) this.#thread.order({ id: this.#id, kind: 'granted' });
        else this.#fail(explain({ kind: 'no-memory', neededBytes: report.bytes, limitBytes: memory.limit }));
        break;
      case 'piece':
        this.#unpackedBytes += report.length;
        this.#taking = this.#take(report.buffer, report.length, this.#taking);
        break;
      case 'member':
        this.#firstMemberBytes ??= this.#unpackedBytes;
        break;
      case 'trait':
        this.#traits.add(report.trait);
        break;
      case 'failed': {
        const { fault } = report;
        // Not before all that came out until then was taken.
        void this.#taking.then(() => this.#fail(explain(fault)));
        break;
      }
      case 'broken':
        this.#fail(report.error instanceof Error ? report.error : new Error('unpacking failed'));
        break;
      case 'closed':
        this.#thread.detach(this.#id);
        this.#release();
        break;
    }
  }

  async #take(buffer: ArrayBuffer, length: number, before: Promise<void>): Promise<void> {
    await before;
    if (this.#failure !== null) return;
    try {
      await this.#options.take(new Uint8Array(buffer, 0, length));
      this.#thread.order({ id: this.#id, kind: 'taken', buffer }, [buffer]);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  async #reach(): Promise<void> {
    await this.#reached.promise;
    await this.#taking;
    if (this.#failure !== null) throw this.#failure;
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#reached.reject(this.#failure);
    this.#close();
  }

  #close(): void {
    if (this.#closed) return;
    this.#thread.order({ id: this.#id, kind: 'close' });
    this.#closed = true;
  }

  /** Holds this many bytes in all. @returns false when the budget has no room */
  #hold(bytes: number): boolean {
    const more = bytes - this.#heldBytes;
    if (more <= 0) return true;
    const { memory } = this.#options;
    if (bytes <= GRANTED_BYTES + PIECES * PIECE_BYTES) memory.overdraw(more);
    else if (!memory.take(more)) return false;
    this.#heldBytes = bytes;
    return true;
  }

  #release(): void {
    this.#options.memory.give(this.#heldBytes);
    this.#heldBytes = 0;
  }
}
