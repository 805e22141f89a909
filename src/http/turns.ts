/**
 * One request at a time on each connection, and a bounded amount of requests in each turn of the event loop.
 *
 * Node parses one read of a socket as a whole and emits every request in it at once: 64 KiB of pipelined requests become
 * 3,600 running handlers and as many answers in memory, whether or not the client reads them. It also reads all sockets
 * that have something in one turn of the event loop. Here a connection stands between its socket and Node's parser. It
 * passes on a read in slices: no further one while a request waits for the answer before it, and none in this turn when
 * the requests of all connections have had their share of it. The socket is paused meanwhile, so at most three reads
 * wait, and the rest stays with the sender.
 */
import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** What may wait on all connections together: reads that are not parsed yet, and requests that are. */
const MAX_WAITING_BYTES = 32 * 1024 * 1024;
/** What Node reads ahead of a socket that is paused: 128 KiB at most. */
const READ_AHEAD_BYTES = 64 * 1024;
/** A parsed request takes about this much memory. */
const REQUEST_BYTES = 3 * 1024;
/** What is parsed at once where requests may begin: at most some 230 of them, as the shortest takes 18 bytes. */
const SLICE_BYTES = 4 * 1024;
/** The same in a chunked body, which may end anywhere. Larger slices cost uploads less. */
const CHUNKED_SLICE_BYTES = 16 * 1024;
/** What is done in a turn of the event loop, in requests that are parsed: some 5 µs each. */
const MAX_PER_TURN = 512;
/** What it costs to handle a request, against parsing it. */
const HANDLING_COST = 16;

export interface TurnOptions {
  /** How long a client may pause that still sends after an answer that closes the connection. */
  readonly lingerTimeoutMs: number;
  readonly maxWaitingBytes?: number;
}

/** What waits on all connections of a server. */
class WaitingRoom {
  readonly #limit: number;
  readonly #held = new Map<Connection, number>();
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Says what waits on a connection. When the room is full, the connection with the most is closed. */
  hold(connection: Connection, bytes: number): void {
    const before = this.#held.get(connection) ?? 0;
    if (bytes === before) return;
    this.#bytes += bytes - before;
    if (bytes === 0) this.#held.delete(connection);
    else this.#held.set(connection, bytes);
    if (this.#bytes <= this.#limit) return;
    const [largest] = [...this.#held].reduce((one, other) => (other[1] > one[1] ? other : one));
    largest.close();
  }
}

/** Bounds what all connections of a server do in one turn of the event loop. */
class Pace {
  #spent = 0;
  #scheduled = false;
  /** Those that go on in the next turn, longest first. */
  readonly #waiting = new Set<Connection>();
  /** Not in the context of a request, whose trace the next one would continue. */
  readonly #begin = AsyncResource.bind(() => this.#beginTurn());

  /** Whether nothing more is to be done in this turn. */
  get isExhausted(): boolean {
    return this.#spent >= MAX_PER_TURN;
  }

  /** A new turn is begun only when this one is used up. So its share may end early, but it costs nothing. */
  spend(cost: number): void {
    this.#spent += cost;
    if (this.isExhausted) this.#schedule();
  }

  /** Lets the connection go on in another turn. */
  defer(connection: Connection): void {
    this.#waiting.add(connection);
    this.#schedule();
  }

  forget(connection: Connection): void {
    this.#waiting.delete(connection);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#begin);
  }

  #beginTurn(): void {
    this.#scheduled = false;
    this.#spent = 0;
    // Those that are deferred again wait for the turn after this one.
    let due = this.#waiting.size;
    for (const connection of this.#waiting) {
      if (due === 0 || this.isExhausted) break;
      due -= 1;
      this.#waiting.delete(connection);
      connection.proceed();
    }
    if (this.#waiting.size > 0) this.#schedule();
  }
}

interface Turn {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly begin: () => void;
}

type Listener = (value?: unknown) => void;

const NOTHING = Buffer.alloc(0);
const connections = new WeakMap<Socket, Connection>();

/** The turns of a connection; undefined for one that never got as far as HTTP. */
export const connectionOf = (socket: Socket): Connection | undefined => connections.get(socket);

export interface Turns {
  /** To be called for each connection before its first request, once Node's server knows it. */
  readonly open: (socket: Socket) => void;
  /** Takes the place of the handler. */
  readonly listener: RequestListener;
}

/** Calls the handler for one request of a connection at a time, in their order. */
export function takeTurns(handler: RequestListener, options: TurnOptions): Turns {
  const room = new WaitingRoom(options.maxWaitingBytes ?? MAX_WAITING_BYTES);
  const pace = new Pace();
  return {
    open: (socket) => {
      connections.set(socket, new Connection(socket, room, pace, options.lingerTimeoutMs));
    },
    listener: (request, response) => {
      const begin = (): void => handler(request, response);
      connections.get(request.socket)?.take({ request, response, begin });
    },
  };
}

export class Connection {
  readonly #socket: Socket;
  readonly #room: WaitingRoom;
  readonly #pace: Pace;
  readonly #lingerTimeoutMs: number;
  /** Node's listeners: they parse what is read, and take note of the end. */
  readonly #parse: Listener | undefined;
  readonly #parseEnd: Listener | undefined;
  /** The request that is being answered. */
  #current: Turn | null = null;
  /** Those that wait for it. */
  #queue: Turn[] = [];
  /** What was read and is not parsed yet. */
  #unparsed: Buffer = NOTHING;
  /** The request that was parsed last; its body may still come. */
  #last: IncomingMessage | null = null;
  /** How much of its body is still to come, at most; not a number when it has no Content-Length. */
  #bodyBytes = Number.NaN;
  /** The client has ended its side; the parser does not know yet. */
  #hasEnded = false;
  #heldBytes = 0;
  #ignoresInput = false;
  #paused = false;
  #afterwards: (() => void) | null = null;

  constructor(socket: Socket, room: WaitingRoom, pace: Pace, lingerTimeoutMs: number) {
    this.#socket = socket;
    this.#room = room;
    this.#pace = pace;
    this.#lingerTimeoutMs = lingerTimeoutMs;
    this.#parse = this.#replace('data', (bytes) => this.#receive(bytes as Buffer));
    this.#parseEnd = this.#replace('end', () => this.#receiveEnd());
    // Node resumes a socket whenever it has sent something, or a body is read.
    socket.on('resume', () => {
      if (!this.#paused) return;
      socket.pause();
      this.#parseOn();
    });
    socket.on('drain', () => this.#parseOn());
    socket.once('close', () => this.#drop());
    // Node calls this after an answer that closes the connection.
    const destroySoon = socket.destroySoon.bind(socket);
    socket.destroySoon = () => {
      if (this.#current?.request.complete === false) this.#linger(this.#current.request);
      else destroySoon();
    };
  }

  /** Closes it at once, whatever is still to be answered. */
  close(): void {
    this.#socket.destroy();
    this.#drop();
  }

  /** Whether an answer is still to be given to a request that has arrived whole. */
  get owesAnswer(): boolean {
    return this.#current?.request.complete === true || this.#queue.length > 0;
  }

  /** Whether a request is being answered, or waits for that. */
  get busy(): boolean {
    return this.#current !== null || this.#queue.length > 0;
  }

  /** Calls `action` when all requests so far are answered. Only the first call counts. */
  afterwards(action: () => void): void {
    this.#afterwards ??= action;
    this.#settle();
  }

  /** What follows what was parsed so far is dropped. */
  ignoreInput(): void {
    this.#ignoresInput = true;
    this.#unparsed = NOTHING;
    this.#settle();
  }

  take(turn: Turn): void {
    this.#pace.spend(1);
    this.#last = turn.request;
    this.#bodyBytes = Number(turn.request.headers['content-length'] ?? Number.NaN);
    // After an answer that closes the connection no request is taken (RFC 9112, section 9.6).
    if (this.#isOver()) return;
    if (this.busy) this.#queue.push(turn);
    else this.#begin(turn);
  }

  /** Goes on in another turn of the event loop. */
  proceed(): void {
    if (this.#current === null) this.#next();
    this.#parseOn();
  }

  /** Puts a listener in the place of the one that Node's server has added last. */
  #replace(event: 'data' | 'end', listener: Listener): Listener | undefined {
    const socket = this.#socket;
    const replaced = socket.listeners(event).at(-1) as Listener | undefined;
    if (replaced === undefined) return undefined;
    socket.off(event, replaced);
    socket.on(event, listener);
    return (value) => replaced.call(socket, value);
  }

  #begin(turn: Turn): void {
    this.#current = turn;
    this.#pace.spend(HANDLING_COST);
    turn.response.once('close', () => this.#end());
    turn.begin();
  }

  #end(): void {
    this.#current = null;
    // In another turn of the event loop, so that a connection with many requests keeps no other one waiting.
    if (this.#queue.length > 0 || this.#afterwards !== null) this.#pace.defer(this);
  }

  #next(): void {
    if (this.#isOver()) {
      this.#queue = [];
      this.#afterwards = null;
      return;
    }
    const next = this.#queue.shift();
    if (next !== undefined) {
      this.#begin(next);
      return;
    }
    const action = this.#afterwards;
    this.#afterwards = null;
    action?.();
  }

  #receive(bytes: Buffer): void {
    if (this.#ignoresInput) return;
    this.#unparsed = this.#unparsed.length === 0 ? bytes : Buffer.concat([this.#unparsed, bytes]);
    this.#parseOn();
  }

  #receiveEnd(): void {
    this.#hasEnded = true;
    this.#parseOn();
  }

  /** Parses as much as may be parsed now. */
  #parseOn(): void {
    while (this.#unparsed.length > 0 && this.#mayParse()) {
      const bytes = this.#unparsed;
      const size = this.#sliceBytes();
      const isRest = bytes.length <= size;
      const slice = isRest ? bytes : bytes.subarray(0, size);
      this.#unparsed = isRest ? NOTHING : bytes.subarray(size);
      if (this.#expectsBody()) this.#bodyBytes -= slice.length;
      else this.#pace.spend(1);
      this.#parse?.(slice);
    }
    if (this.#hasEnded && this.#unparsed.length === 0) {
      this.#hasEnded = false;
      this.#parseEnd?.();
    }
    this.#settle();
  }

  #mayParse(): boolean {
    if (this.#socket.destroyed || (this.#isOver() && !this.#expectsBody())) {
      this.#unparsed = NOTHING;
      return false;
    }
    // Node's parser takes nothing while an answer does not fit into the socket; 'drain' follows.
    if (this.#queue.length > 0 || this.#afterwards !== null || this.#socket.writableNeedDrain) return false;
    // 'resume' follows when it is read.
    if (this.#isBodyFull()) return false;
    // The body of a request begins no other.
    if ((this.#expectsBody() && this.#bodyBytes > 0) || !this.#pace.isExhausted) return true;
    this.#pace.defer(this);
    return false;
  }

  #sliceBytes(): number {
    if (!this.#expectsBody()) return SLICE_BYTES;
    return Number.isNaN(this.#bodyBytes) ? CHUNKED_SLICE_BYTES : Math.max(SLICE_BYTES, this.#bodyBytes);
  }

  #expectsBody(): boolean {
    return this.#last?.complete === false;
  }

  #isBodyFull(): boolean {
    return this.#last !== null && this.#expectsBody() && this.#last.readableLength >= this.#last.readableHighWaterMark;
  }

  /** Stops reading while something waits, and reads on when nothing does. */
  #settle(): void {
    const waits = this.#unparsed.length > 0 || this.#queue.length > 0 || this.#afterwards !== null;
    if (waits || this.#heldBytes > 0) this.#hold();
    if (waits === this.#paused) return;
    this.#paused = waits;
    if (waits) this.#socket.pause();
    else if (!this.#isBodyFull()) this.#socket.resume();
  }

  #hold(): void {
    const requests = this.#queue.length === 0 ? 0 : READ_AHEAD_BYTES + this.#queue.length * REQUEST_BYTES;
    this.#heldBytes = this.#unparsed.length + requests;
    this.#room.hold(this, this.#heldBytes);
  }

  #drop(): void {
    this.#queue = [];
    this.#unparsed = NOTHING;
    this.#current = null;
    this.#afterwards = null;
    this.#pace.forget(this);
    this.#hold();
  }

  #isOver(): boolean {
    return this.#socket.destroyed || this.#socket.writableEnded;
  }

  /**
   * Ends only the sending side, and drops the rest of the body. Closing a socket with unread bytes resets the
   * connection, and the client may lose the answer. The time for a whole request bounds it.
   */
  #linger(request: IncomingMessage): void {
    this.#socket.end();
    this.#socket.setTimeout(this.#lingerTimeoutMs);
    request.once('close', () => this.#socket.destroy());
  }
}
