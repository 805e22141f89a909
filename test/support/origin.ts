/** An origin of images for tests: well-behaved, unless a test has it answer otherwise. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What one path serves. */
interface ServedFile {
  readonly bytes: Uint8Array;
  readonly etag?: string;
  readonly lastModified?: string;
}

interface OriginRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/** Answers instead of the origin. @returns false to have it answer as usual */
export type Misbehaviour = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export class TestOrigin {
  readonly files = new Map<string, ServedFile>();
  readonly requests: OriginRequest[] = [];
  misbehaviour: Misbehaviour = () => false;
  bytesSent = 0;
  /** How many were made since the last reset. */
  connections = 0;
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  static async start(): Promise<TestOrigin> {
    const origin = new TestOrigin();
    origin.#server.on('connection', () => {
      origin.connections += 1;
    });
    origin.#server.listen(0, '127.0.0.1');
    await once(origin.#server, 'listening');
    return origin;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Serves bytes. @returns their URL */
  serve(path: string, bytes: Uint8Array, validators: Omit<ServedFile, 'bytes'> = { etag: '"1"' }): string {
    this.files.set(path, { bytes, ...validators });
    return `${this.url}${path}`;
  }

  reset(): void {
    this.files.clear();
    this.requests.length = 0;
    this.bytesSent = 0;
    this.connections = 0;
    this.misbehaviour = () => false;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    // A client may leave at any time.
    response.on('error', () => {});
    if (await this.misbehaviour(request, response)) return;
    const file = this.files.get((request.url ?? '').split('?', 1)[0] ?? '');
    if (file === undefined) {
      response.writeHead(404).end('nothing here');
      return;
    }
    this.sendFile(request, response, file);
  }

  /** As RFC 9110 has it. */
  sendFile(request: IncomingMessage, response: ServerResponse, { bytes, etag, lastModified }: ServedFile): void {
    const headers = {
      'Accept-Ranges': 'bytes',
      ...(etag === undefined ? {} : { ETag: etag }),
      ...(lastModified === undefined ? {} : { 'Last-Modified': lastModified }),
    };
    const condition = request.headers['if-range'];
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (first === undefined || last === undefined || (condition !== undefined && condition !== etag)) {
      this.bytesSent += bytes.length;
      response.writeHead(200, { ...headers, 'Content-Length': bytes.length }).end(bytes);
      return;
    }
    const start = Number(first);
    if (start >= bytes.length) {
      response.writeHead(416, { ...headers, 'Content-Range': `bytes */${bytes.length}` }).end();
      return;
    }
    const end = Math.min(Number(last) + 1, bytes.length);
    this.bytesSent += end - start;
    response.writeHead(206, {
      ...headers,
      'Content-Range': `bytes ${start}-${end - 1}/${bytes.length}`,
      'Content-Length': end - start,
    });
    response.end(bytes.subarray(start, end));
  }
}

/** The path of a route for an image that a URL names. */
export const named = (route: string, url: string, parameters: Readonly<Record<string, string>> = {}): string =>
  `${route}?${new URLSearchParams({ imageUrl: url, ...parameters }).toString()}`;
