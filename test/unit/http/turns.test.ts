/** Turns of requests, with a bare server of Node's. What the service makes of them: test/http/pipelining.test.ts. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { createServer, IncomingMessage, type RequestListener, type Server, ServerResponse } from 'node:http';
import { type AddressInfo, Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { connectionOf, type TurnOptions, takeTurns } from '../../../src/http/turns.ts';
import { head, RawConnection } from '../../support/raw-http.ts';
import { eventually } from '../../support/uploads.ts';

let server: Server;
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

async function start(handler: RequestListener, options: Partial<TurnOptions> = {}): Promise<RawConnection> {
  server = createServer({ requestTimeout: 600_000 });
  const turns = takeTurns(handler, { lingerTimeoutMs: 600_000, ...options });
  server.on('connection', turns.open);
  server.on('request', turns.listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return open();
}

const open = (): Promise<RawConnection> => RawConnection.open((server.address() as AddressInfo).port);

/** Keeps the requests that it gets until `answer`. */
class Handler {
  readonly begun: { readonly request: IncomingMessage; readonly response: ServerResponse }[] = [];

  readonly listener: RequestListener = (request, response) => {
    this.begun.push({ request, response });
  };

  get paths(): (string | undefined)[] {
    return this.begun.map(({ request }) => request.url);
  }

  answer(at: number): void {
    this.begun[at]?.response.end('answered');
  }

  begins(count: number): Promise<void> {
    return eventually(`${count} have begun`, () => this.begun.length === count);
  }
}

/** Waits until the handler was called for this request, and answers it. @param at its index in the order of the calls */
async function answerNext(handler: Handler, at: number): Promise<void> {
  await handler.begins(at + 1);
  handler.answer(at);
}

/** Expects this many answers, and closes the connection. */
async function expectAnswers(connection: RawConnection, count: number): Promise<void> {
  for (let round = 0; round < count; round++) expect((await connection.answer()).text).toBe('answered');
  connection.destroy();
}

/** Time for what must not happen, in turns of the event loop. */
async function manyTurns(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const gets = (count: number): string => Array.from({ length: count }, (_, index) => head('GET', `/${index}`)).join('');

const closing: RequestListener = (_request, response) => {
  response.setHeader('Connection', 'close');
  response.end('refused');
};

test('the next one begins when the answer before it is finished', async () => {
  const handler = new Handler();
  const connection = await start(handler.listener);
  await connection.send(gets(3));
  await handler.begins(1);
  await manyTurns();
  expect(handler.begun).toHaveLength(1);
  for (let at = 0; at < 3; at++) await answerNext(handler, at);
  await expectAnswers(connection, 3);
  expect(handler.paths).toEqual(['/0', '/1', '/2']);
});

test('what one request carries along is not carried on by the next', async () => {
  const storage = new AsyncLocalStorage<string>();
  const seen: (string | undefined)[] = [];
  const connection = await start((request, response) => {
    seen.push(storage.getStore());
    storage.enterWith(`of ${request.url}`);
    setImmediate(() => response.end());
  });
  await connection.send(gets(3));
  for (let round = 0; round < 3; round++) await connection.answer();
  expect(seen).toEqual([undefined, undefined, undefined]);
  connection.destroy();
});

test('of a connection that is gone none begins any more', async () => {
  const handler = new Handler();
  const connection = await start(handler.listener);
  await connection.send(gets(5));
  await handler.begins(1);
  const closed = once(handler.begun[0]?.response ?? server, 'close');
  handler.begun[0]?.request.socket.destroy();
  await closed;
  await manyTurns();
  expect(handler.begun).toHaveLength(1);
});

test('after an answer that closes the connection none begins any more', async () => {
  const handler = new Handler();
  const connection = await start(handler.listener);
  await connection.send(gets(3));
  await handler.begins(1);
  handler.begun[0]?.response.setHeader('Connection', 'close');
  handler.answer(0);
  expect((await connection.answer()).headers['connection']).toBe('close');
  expect(await connection.ended()).toBe('');
  expect(handler.paths).toEqual(['/0']);
});

test('the body of one that waits is there when it begins', async () => {
  const bodies: string[] = [];
  const connection = await start((request, response) => {
    let body = '';
    request.on('data', (data: Buffer) => {
      body += data.toString();
    });
    request.on('end', () => {
      bodies.push(body);
      setImmediate(() => response.end());
    });
  });
  const texts = ['first', 'x'.repeat(500_000), '', 'y'.repeat(100_000)];
  await connection.send(texts.map((text) => head('POST', '/', { 'Content-Length': text.length }) + text).join(''));
  for (const _ of texts) await connection.answer();
  expect(bodies).toEqual(texts);
  connection.destroy();
});

/** Opens as many connections, all of them accepted. */
async function openAll(count: number, handler: RequestListener): Promise<RawConnection[]> {
  const first = await start(handler, { maxWaiting: Number.POSITIVE_INFINITY });
  let accepted = 1;
  server.on('connection', () => {
    accepted += 1;
  });
  const others = await Promise.all(Array.from({ length: count - 1 }, open));
  await eventually('all are accepted', () => accepted === count);
  return [first, ...others];
}

describe('a turn of the event loop', () => {
  /** Counts events by turn. */
  class Turns {
    readonly #counts = [0];

    readonly count = (): void => {
      const turn = this.#counts.length - 1;
      if (this.#counts[turn] === 0) setImmediate(() => this.#counts.push(0));
      this.#counts[turn] = (this.#counts[turn] ?? 0) + 1;
    };

    get most(): number {
      return Math.max(...this.#counts);
    }

    get total(): number {
      return this.#counts.reduce((sum, count) => sum + count);
    }
  }

  test('begins its share of requests, however many connections send one', async () => {
    const begun = new Turns();
    const all = await openAll(300, (_request, response) => {
      begun.count();
      response.end('answered');
    });
    // All of them are there before the event loop looks at any.
    for (const connection of all) void connection.send(gets(1));
    for (const connection of all) expect((await connection.answer()).text).toBe('answered');
    expect(begun.total).toBe(300);
    expect(begun.most).toBeLessThan(100);
    for (const connection of all) connection.destroy();
  });

  test('parses hardly more than one read, however many connections send one full of requests', async () => {
    const read = head('GET', '/').repeat(1000);
    const parsed = new Turns();
    const all = await openAll(20, (_request, response) => {
      response.end('answered');
    });
    server.on('request', parsed.count);
    for (const connection of all) void connection.send(read);
    for (const connection of all) {
      for (let answers = 0; answers < 1000; answers++) await connection.answer();
    }
    expect(parsed.total).toBe(20_000);
    expect(parsed.most).toBeLessThan(3000);
    for (const connection of all) connection.destroy();
  });
});

describe('when too many wait', () => {
  test('the connection with the most of them is closed, and the others go on', async () => {
    const handler = new Handler();
    const modest = await start(handler.listener, { maxWaiting: 10 });
    await modest.send(gets(4));
    await handler.begins(1);
    const greedy = await open();
    await greedy.send(gets(9));
    expect(await greedy.ended()).toBe('');
    handler.answer(0);
    // The second one that began was the other connection's.
    for (let at = 2; at < 5; at++) await answerNext(handler, at);
    await expectAnswers(modest, 4);
  });

  test('it is so even if the one that comes last is not the greedy one', async () => {
    const handler = new Handler();
    const greedy = await start(handler.listener, { maxWaiting: 10 });
    await greedy.send(gets(11));
    await handler.begins(1);
    const modest = await open();
    await modest.send(gets(2));
    expect(await greedy.ended()).toBe('');
    for (let at = 1; at < 3; at++) await answerNext(handler, at);
    await expectAnswers(modest, 2);
  });

  test('there is room again for as many', async () => {
    let begun = 0;
    const answer: RequestListener = (_request, response) => {
      begun += 1;
      response.end('answered');
    };
    const connection = await start(answer, { maxWaiting: 10 });
    for (let round = 0; round < 5; round++) {
      await connection.send(gets(10));
      for (let answers = 0; answers < 10; answers++) expect((await connection.answer()).text).toBe('answered');
      const dropped = await open();
      await dropped.send(gets(200));
      await dropped.ended();
      // Of those only the first one, which did not have to wait.
      expect(begun).toBe((round + 1) * 11);
    }
    connection.destroy();
  });
});

describe('an answer that closes the connection while the body still comes', () => {
  const BODY = new Uint8Array(8 << 20);
  const announced = head('POST', '/', { 'Content-Length': BODY.length });

  test('is followed by the end of the connection when all of it has come', async () => {
    const connection = await start(closing);
    const [[request]] = await Promise.all([once(server, 'request'), connection.send(announced)]);
    const closed = once((request as IncomingMessage).socket, 'close');
    expect((await connection.answer()).text).toBe('refused');
    for (let at = 0; at < BODY.length; at += 1 << 20) await connection.send(BODY.subarray(at, at + (1 << 20)));
    // Without waiting for the client, which has not ended its side.
    await closed;
    expect(await connection.ended()).toBe('');
    expect(connection.wasReset).toBe(false);
  });

  test('is the last one, even if more requests follow the body', async () => {
    let begun = 0;
    const connection = await start((request, response) => {
      begun += 1;
      closing(request, response);
    });
    await connection.send(head('POST', '/', { 'Content-Length': 3 }));
    expect((await connection.answer()).text).toBe('refused');
    await connection.send(`abc${gets(3)}`);
    await connection.ended();
    expect(begun).toBe(1);
  });

  test('is followed by the end of the connection when nothing more comes', async () => {
    const connection = await start(closing, { lingerTimeoutMs: 100 });
    const [[request]] = await Promise.all([once(server, 'request'), connection.send(announced)]);
    const closed = once((request as IncomingMessage).socket, 'close');
    expect((await connection.answer()).text).toBe('refused');
    await closed;
    connection.destroy();
  });
});

test('a socket that never got as far as HTTP has no turns', async () => {
  const connection = await start(() => {});
  expect(connectionOf({} as Socket)).toBeUndefined();
  connection.destroy();
});

test('a connection whose first request waits for the next turn of the event loop is busy', () => {
  const { open: openTurns, listener } = takeTurns(() => {}, { lingerTimeoutMs: 600_000 });
  const sockets = Array.from({ length: 100 }, () => new Socket());
  for (const socket of sockets) {
    const request = new IncomingMessage(socket);
    openTurns(socket);
    listener(request, new ServerResponse(request));
  }
  expect(sockets.some((socket) => (connectionOf(socket)?.waiting ?? 0) > 0)).toBe(true);
  expect(sockets.every((socket) => connectionOf(socket)?.busy)).toBe(true);
});
