/** A client as cheap as possible: prepared bytes through plain sockets, so that the server is what is measured. */
import { connect, type Socket } from 'node:net';

const PIECE_BYTES = 256 * 1024;
const BOUNDARY = 'bench-boundary';

export interface Request {
  readonly head: Buffer;
  readonly body: Buffer;
  readonly tail: Buffer;
}

export function rawRequest(body: Buffer, path = '/bsdsyms'): Request {
  return { head: headOf(path, 'application/octet-stream', body.length), body, tail: Buffer.alloc(0) };
}

export function multipartRequest(body: Buffer, path = '/bsdsyms'): Request {
  const before = Buffer.from(
    `--${BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="kernel"\r\n` +
      'Content-Type: application/octet-stream\r\n\r\n',
  );
  const tail = Buffer.from(`\r\n--${BOUNDARY}--\r\n`);
  const length = before.length + body.length + tail.length;
  const head = headOf(path, `multipart/form-data; boundary=${BOUNDARY}`, length);
  return { head: Buffer.concat([head, before]), body, tail };
}

function headOf(path: string, type: string, length: number): Buffer {
  return Buffer.from(
    `POST ${path} HTTP/1.1\r\nHost: bench\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`,
  );
}

export interface Answer {
  readonly status: number;
  readonly bodyBytes: number;
}

/** One keep-alive connection; one request at a time. */
export class Connection {
  readonly #socket: Socket;
  #buffered = Buffer.alloc(0);
  #expected: { status: number; bodyBytes: number } | null = null;
  #received = 0;
  #settle: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | null = null;
  /** Called with the first bytes of an answer. */
  onFirstByte: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('error', (error) => this.#settle?.reject(error));
    socket.on('close', () => this.#settle?.reject(new Error('the connection was closed')));
  }

  static open(port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(new Connection(socket)));
      socket.once('error', reject);
    });
  }

  async send(request: Request): Promise<Answer> {
    const answer = this.answer();
    await this.write(request.head);
    for (let at = 0; at < request.body.length; at += PIECE_BYTES) {
      await this.write(request.body.subarray(at, at + PIECE_BYTES));
    }
    if (request.tail.length > 0) await this.write(request.tail);
    return answer;
  }

  answer(): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
  }

  write(bytes: Buffer): Promise<void> | void {
    if (this.#socket.write(bytes)) return;
    return new Promise((resolve) => this.#socket.once('drain', resolve));
  }

  close(): void {
    this.#settle = null;
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    if (this.#expected === null) {
      if (this.#buffered.length === 0) this.onFirstByte();
      this.#buffered = Buffer.concat([this.#buffered, chunk]);
      const end = this.#buffered.indexOf('\r\n\r\n');
      if (end === -1) return;
      const head = this.#buffered.toString('latin1', 0, end);
      this.#expected = {
        status: Number(head.slice(9, 12)),
        bodyBytes: Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0),
      };
      this.#received = this.#buffered.length - end - 4;
      this.#buffered = Buffer.alloc(0);
    } else {
      this.#received += chunk.length;
    }
    if (this.#received < this.#expected.bodyBytes) return;
    const answer = this.#expected;
    const settle = this.#settle;
    this.#expected = null;
    this.#settle = null;
    settle?.resolve(answer);
  }
}

/** Sends one request over a connection of its own. @returns seconds from the first byte sent to the last received */
export async function timeRequest(port: number, request: Request): Promise<number> {
  const connection = await Connection.open(port);
  const started = performance.now();
  const { status } = await connection.send(request);
  const seconds = (performance.now() - started) / 1000;
  connection.close();
  if (status !== 200) throw new Error(`status ${status}`);
  return seconds;
}

/** Requests per second and latencies over `connections` keep-alive connections. */
export async function load(
  port: number,
  request: Request,
  connections: number,
  seconds: number,
): Promise<{ perSecond: number; p50: number; p99: number }> {
  const latencies: number[] = [];
  const all = Buffer.concat([request.head, request.body, request.tail]);
  const one: Request = { head: all, body: Buffer.alloc(0), tail: Buffer.alloc(0) };
  const started = performance.now();
  const until = started + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const connection = await Connection.open(port);
      while (performance.now() < until) {
        const sent = performance.now();
        const { status } = await connection.send(one);
        if (status !== 200) throw new Error(`status ${status}`);
        latencies.push(performance.now() - sent);
      }
      connection.close();
    }),
  );
  const elapsed = (performance.now() - started) / 1000;
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
  return { perSecond: sorted.length / elapsed, p50: at(0.5), p99: at(0.99) };
}
