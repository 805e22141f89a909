/**
 * Limits what all connections of a server do in one turn of the event loop.
 *
 * In one turn libuv reads every socket that has data. Thirty reads full of pipelined requests hold 60,000 requests, and
 * a thousand connections with one request each take a thousand answers, before anything else runs. Here a turn begins
 * some requests and leaves the rest to the next turn. A read cannot be stopped halfway, but after a read that held many
 * requests no other socket is read in that turn.
 */

/** Requests that are begun in a turn, at some 100 µs each. */
const MAX_BEGUN = 32;
/** Requests that are parsed in a turn before reading stops, at some 5 µs each. */
const MAX_PARSED = 512;

/** A connection, as the pace sees it. */
export interface Paced {
  /** Stops reading until `thaw`. */
  freeze(): void;
  thaw(): void;
  /** Continues after `defer`. */
  proceed(): void;
}

/** Counts requests over all connections of a server, turn by turn. */
export class Pace {
  /** In the order in which they are read again; one that has sent many requests comes last. */
  readonly #connections = new Set<Paced>();
  readonly #deferred = new Set<Paced>();
  readonly #endTurn = (): void => this.#beginTurn();
  #isCounting = false;
  #isFrozen = false;
  #parsed = 0;
  #begun = 0;

  add(connection: Paced): void {
    this.#connections.add(connection);
  }

  delete(connection: Paced): void {
    this.#connections.delete(connection);
    this.#deferred.delete(connection);
  }

  /** Whether this turn may begin no further request. */
  get isExhausted(): boolean {
    return this.#begun >= MAX_BEGUN;
  }

  /** Called for each request that begins. */
  begin(): void {
    this.#begun += 1;
    this.#count();
  }

  /** Called for each request that Node has parsed. */
  parse(connection: Paced): void {
    this.#parsed += 1;
    this.#count();
    if (this.#parsed !== MAX_PARSED) return;
    this.#isFrozen = true;
    this.#connections.delete(connection);
    for (const other of this.#connections) other.freeze();
    this.#connections.add(connection);
  }

  /** Lets the connection proceed in a later turn. */
  defer(connection: Paced): void {
    this.#deferred.add(connection);
    this.#count();
  }

  #count(): void {
    if (this.#isCounting) return;
    this.#isCounting = true;
    setImmediate(this.#endTurn);
  }

  #beginTurn(): void {
    this.#isCounting = false;
    this.#parsed = 0;
    this.#begun = 0;
    if (this.#isFrozen) {
      this.#isFrozen = false;
      for (const connection of this.#connections) connection.thaw();
    }
    // Those that are deferred again wait for the turn after this one.
    let due = this.#deferred.size;
    for (const connection of this.#deferred) {
      if (due === 0 || this.isExhausted) break;
      due -= 1;
      this.#deferred.delete(connection);
      connection.proceed();
    }
    if (this.#deferred.size > 0) this.#count();
  }
}
