/**
 * One request at a time on each connection.
 *
 * Node parses one read of a socket as a whole and emits every request in it at once: 64 KiB of pipelined requests become
 * 2,000 running handlers and 2,000 answers in memory, whether or not the client reads them. Here a request waits until
 * the kernel has accepted the answer before it. The socket is not read while a request waits, so at most one read of
 * requests waits, and the rest stays with the sender. `Pace` limits what all connections do in one turn.
 */
import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { whenOver } from './exchange.ts';
import { Pace, type Paced } from './pace.ts';

/** Requests that may wait on all connections together, at some 3 KiB each: two reads of the smallest ones. */
const MAX_WAITING = 4096;

export interface TurnOptions {
  /** How long a client that still sends may pause after an answer that closes the connection. */
  readonly lingerTimeoutMs: number;
  readonly maxWaiting?: number;
}

/** The requests that wait on all connections of a server. */
class WaitingRoom {
  readonly #limit: number;
  readonly #connections = new Set<Connection>();
  #count = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** When the room is full, the connection with the most waiting requests is closed. */
  enter(connection: Connection): void {
    this.#count += 1;
    this.#connections.add(connection);
    if (this.#count <= this.#limit) return;
    let longest = connection;
    for (const other of this.#connections) {
      if (other.waiting > longest.waiting) longest = other;
    }
    longest.close();
  }

  leave(connection: Connection, count: number): void {
    this.#count -= count;
    if (connection.waiting === 0) this.#connections.delete(connection);
  }
}

interface Turn {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly begin: () => void;
}

const connections = new WeakMap<Socket, Connection>();

/** The turns of a connection; undefined for a socket whose TLS handshake is not complete. */
export const connectionOf = (socket: Socket): Connection | undefined => connections.get(socket);

export interface Turns {
  /** Call it for each connection before its first request. */
  readonly open: (socket: Socket) => void;
  /** Listens for requests in place of the handler. */
  readonly listener: RequestListener;
}

/** Calls the handler for one request of a connection at a time, in their order. */
export function takeTurns(handler: RequestListener, options: TurnOptions): Turns {
  const room = new WaitingRoom(options.maxWaiting ?? MAX_WAITING);
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

/** The requests of one connection, in their order. */
export class Connection implements Paced {
  readonly #socket: Socket;
  readonly #room: WaitingRoom;
  readonly #pace: Pace;
  readonly #lingerTimeoutMs: number;
  #current: Turn | null = null;
  #queue: Turn[] = [];
  #paused = false;
  #frozen = false;
  #afterwards: (() => void) | null = null;

  constructor(socket: Socket, room: WaitingRoom, pace: Pace, lingerTimeoutMs: number) {
    this.#socket = socket;
    this.#room = room;
    this.#pace = pace;
    this.#lingerTimeoutMs = lingerTimeoutMs;
    // Node resumes a socket whenever it has sent something, or a body is read.
    socket.on('resume', () => {
      if (this.#paused || this.#frozen) socket.pause();
    });
    pace.add(this);
    socket.once('close', () => {
      pace.delete(this);
      this.#drop();
    });
    // Node calls this after an answer that closes the connection.
    const destroySoon = socket.destroySoon.bind(socket);
    socket.destroySoon = () => {
      if (this.#current?.request.complete === false) this.#linger(this.#current.request);
      else destroySoon();
    };
  }

  /** How many requests wait for their turn. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Closes the connection at once, whatever is still to be answered. */
  close(): void {
    this.#socket.destroy();
    this.#drop();
  }

  /** Whether an answer is still to be given to a request that has arrived whole. */
  get owesAnswer(): boolean {
    return (this.#current ?? this.#queue[0])?.request.complete === true;
  }

  /** Whether a request is being answered, or waits for that. */
  get busy(): boolean {
    return this.#current !== null || this.#queue.length > 0;
  }

  /** Calls `action` when all requests so far are answered. Only the first call counts. */
  afterwards(action: () => void): void {
    this.#afterwards ??= action;
    this.#stopReading();
  }

  freeze(): void {
    // A handler that does not read its body at present has paused the socket already.
    if (this.#socket.isPaused()) return;
    this.#frozen = true;
    this.#socket.pause();
  }

  thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    if (!this.#paused) this.#socket.resume();
  }

  proceed(): void {
    this.#next();
  }

  take(turn: Turn): void {
    this.#pace.parse(this);
    // After an answer that closes the connection no request is taken (RFC 9112, section 9.6).
    if (this.#isOver()) return;
    if (this.busy) this.#hold(turn);
    else if (this.#pace.isExhausted) {
      this.#hold(turn);
      this.#pace.defer(this);
    } else this.#begin(turn);
  }

  #begin(turn: Turn): void {
    this.#current = turn;
    this.#pace.begin();
    whenOver(turn.request, turn.response, () => this.#end());
    turn.begin();
  }

  #hold({ request, response, begin }: Turn): void {
    // Bound to its own context: in that of the request before it, it would continue that request's trace.
    this.#queue.push({ request, response, begin: AsyncResource.bind(begin) });
    this.#stopReading();
    this.#room.enter(this);
  }

  #end(): void {
    if (this.#queue.length === 0 && this.#afterwards === null) this.#current = null;
    // In a later turn of the event loop, so that a connection with many requests does not hold up others.
    else this.#pace.defer(this);
  }

  #next(): void {
    if (this.#isOver()) {
      this.#drop();
      return;
    }
    const next = this.#queue.shift();
    if (this.#queue.length === 0 && (next === undefined || this.#afterwards === null)) this.#readOn();
    if (next === undefined) {
      const action = this.#afterwards;
      this.#current = null;
      this.#afterwards = null;
      action?.();
      return;
    }
    this.#room.leave(this, 1);
    this.#begin(next);
  }

  #stopReading(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  #readOn(): void {
    this.#paused = false;
    this.#socket.resume();
  }

  #drop(): void {
    const dropped = this.#queue.length;
    this.#queue = [];
    this.#room.leave(this, dropped);
    this.#current = null;
    this.#afterwards = null;
    this.#paused = false;
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
