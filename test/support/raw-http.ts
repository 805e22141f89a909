/** HTTP by hand over one TCP connection: for requests that no client library would send. */
import { connect, type Socket } from 'node:net';

interface RawAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

const HEAD_END = '\r\n\r\n';

export class RawConnection {
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #closed = false;
  #reset = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    // A reset is an end like any other; what counts is what was received before.
    socket.on('error', () => {
      this.#reset = true;
    });
    socket.on('end', () => this.#wake());
    socket.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  static open(port: number): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      // Half-open, so that the answer to a cut-off request can still be read.
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      socket.once('connect', () => resolve(new RawConnection(socket)));
      socket.once('error', reject);
    });
  }

  /** Sends the pieces one by one, each in a packet of its own as far as that is up to the sender. */
  async send(...pieces: readonly (string | Uint8Array)[]): Promise<void> {
    this.#socket.setNoDelay(true);
    for (const piece of pieces) {
      await new Promise<void>((resolve) => {
        // Without the error: a peer that has closed is seen by who waits for the answer.
        this.#socket.write(piece, () => resolve());
      });
    }
  }

  /** Sends a head that expects to be invited, and the body after the invitation. @returns the status of each answer */
  async sendInvited(requestHead: string, body: Uint8Array): Promise<number[]> {
    await this.send(requestHead);
    const invitation = await this.answer();
    if (invitation.status !== 100) return [invitation.status];
    await this.send(body);
    return [invitation.status, (await this.answer()).status];
  }

  /** Reads nothing more. What is sent from now on is nevertheless sent. */
  pause(): void {
    this.#socket.pause();
  }

  /** Whether the peer has closed it without reading all that was sent. */
  get wasReset(): boolean {
    return this.#reset;
  }

  /** What was received and not taken as an answer. */
  get received(): Buffer {
    return this.#received;
  }

  /** Ends the sending side only. */
  halfClose(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** The next answer, `100 Continue` included. @throws when the connection ends before it is complete */
  async answer(): Promise<RawAnswer> {
    for (;;) {
      const answer = this.#takeAnswer();
      if (answer !== null) return answer;
      if (this.#closed) throw new Error(`the connection ended after ${JSON.stringify(this.#received.toString())}`);
      await this.#more();
    }
  }

  /** Waits for the end of the connection. @returns what was received and not taken as an answer */
  async ended(): Promise<string> {
    while (!this.#closed) {
      // The peer has ended its side; without an end of ours the socket would stay.
      if (this.#socket.readableEnded) this.#socket.end();
      await this.#more();
    }
    return this.#received.toString();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #takeAnswer(): RawAnswer | null {
    const headEnd = this.#received.indexOf(HEAD_END);
    if (headEnd === -1) return null;
    const [statusLine = '', ...lines] = this.#received.toString('latin1', 0, headEnd).split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const bodyStart = headEnd + HEAD_END.length;
    const bodyEnd = bodyStart + Number(headers['content-length'] ?? 0);
    if (this.#received.length < bodyEnd) return null;
    const text = this.#received.toString('utf8', bodyStart, bodyEnd);
    this.#received = this.#received.subarray(bodyEnd);
    return { status: Number(statusLine.split(' ')[1]), headers, text };
  }
}

/** The head of a request. */
export const head = (method: string, path: string, headers: Readonly<Record<string, string | number>> = {}): string => {
  const lines = Object.entries({ Host: 'test', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
};

/** A piece of a chunked body. An empty one ends it. */
export const chunk = (data: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]);
