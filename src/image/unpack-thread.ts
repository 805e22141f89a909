/** A thread that unpacks several streams at a time, each in short turns. `thread-unpacker.ts` sends the orders. */
import { parentPort } from 'node:worker_threads';
import { DecodeError, type DecoderOptions, type Decoding, Input } from './unpack/decoder.ts';
import { DECODERS, type DecodedFormat } from './unpack/formats.ts';
import { type Order, PIECE_BYTES, PIECES, type Report } from './unpack-orders.ts';

/** How long one stream runs while other streams and orders wait. */
const TURN_MS = 10;

/** One stream. */
class Job {
  readonly id: number;
  readonly input = new Input();
  readonly #decoding: Decoding;
  readonly #report: (report: Report, transfer?: readonly ArrayBuffer[]) => void;
  readonly #buffers: ArrayBuffer[] = [];
  #made = 0;
  /** Unpacked bytes that have not been sent. */
  #rest: Uint8Array = new Uint8Array(0);
  /** Whether it waits for an order. */
  #waiting = false;
  #ended = false;

  constructor(id: number, format: DecodedFormat, options: DecoderOptions, report: Job['report']) {
    this.id = id;
    this.#decoding = DECODERS[format](this.input, options);
    this.#report = report;
  }

  get report(): (report: Report, transfer?: readonly ArrayBuffer[]) => void {
    return this.#report;
  }

  get isReady(): boolean {
    return !this.#ended && !this.#waiting && (this.#rest.length === 0 || this.#hasBuffer);
  }

  get #hasBuffer(): boolean {
    return this.#buffers.length > 0 || this.#made < PIECES;
  }

  resume(): void {
    this.#waiting = false;
  }

  takeBack(buffer: ArrayBuffer): void {
    this.#buffers.push(buffer);
  }

  close(): void {
    this.#ended = true;
    this.#decoding.return();
    this.report({ id: this.id, kind: 'closed' });
  }

  /** Runs the decoder for one turn. */
  run(): void {
    const { id } = this;
    const ends = performance.now() + TURN_MS;
    try {
      while (this.isReady && performance.now() < ends) {
        if (this.#rest.length > 0) this.#send();
        else this.#step();
      }
    } catch (error) {
      this.#ended = true;
      if (error instanceof DecodeError) this.report({ id, kind: 'failed', fault: error.fault });
      else this.report({ id, kind: 'broken', error });
    }
  }

  #step(): void {
    const { id } = this;
    const { done, value: event } = this.#decoding.next();
    if (done === true) {
      this.#ended = true;
      this.report({ id, kind: 'done' });
      return;
    }
    switch (event.kind) {
      case 'input':
        this.#waiting = true;
        this.report({ id, kind: 'needs-input' });
        break;
      case 'memory':
        this.#waiting = true;
        this.report({ id, kind: 'memory', bytes: event.bytes });
        break;
      case 'piece':
        this.#rest = event.bytes;
        break;
      case 'member':
        this.report({ id, kind: 'member' });
        break;
      case 'trait':
        this.report({ id, kind: 'trait', trait: event.trait });
        break;
    }
  }

  #send(): void {
    const part = this.#rest.subarray(0, PIECE_BYTES);
    this.#rest = this.#rest.subarray(part.length);
    let buffer = this.#buffers.pop();
    if (buffer === undefined) {
      buffer = new ArrayBuffer(PIECE_BYTES);
      this.#made += 1;
    }
    new Uint8Array(buffer).set(part);
    this.report({ id: this.id, kind: 'piece', buffer, length: part.length }, [buffer]);
  }
}

/** Runs the jobs in turns. */
function serve(port: NonNullable<typeof parentPort>): void {
  const jobs = new Map<number, Job>();
  const report = (message: Report, transfer: readonly ArrayBuffer[] = []): void => {
    port.postMessage(message, [...transfer]);
  };
  let scheduled = false;
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      for (const job of jobs.values()) if (job.isReady) job.run();
      if ([...jobs.values()].some(({ isReady }) => isReady)) schedule();
    });
  };
  port.on('message', (order: Order) => {
    const job = jobs.get(order.id);
    switch (order.kind) {
      case 'open':
        jobs.set(order.id, new Job(order.id, order.format, order.options, report));
        break;
      case 'input':
        job?.input.feed(order.bytes);
        job?.resume();
        break;
      case 'end':
        job?.input.finish();
        job?.resume();
        break;
      case 'granted':
        job?.resume();
        break;
      case 'taken':
        job?.takeBack(order.buffer);
        break;
      case 'close':
        jobs.delete(order.id);
        job?.close();
        break;
    }
    schedule();
  });
}

if (parentPort !== null) serve(parentPort);
