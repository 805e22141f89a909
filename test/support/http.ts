/** A client for the service. */
import { once } from 'node:events';
import {
  Agent,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request as sendRequest,
} from 'node:http';
import type { Form } from './forms.ts';
import { PATIENCE_MS } from './patience.ts';
import type { Service } from './service.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
}

interface SendOptions {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array | string;
}

const agent = new Agent({ keepAlive: true });

const isReset = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ECONNRESET';

/** Sends one request over a kept connection. Without a `Content-Type` of the caller's none is sent. */
export async function send({ port }: Pick<Service, 'port'>, path: string, options: SendOptions = {}): Promise<Answer> {
  const { method = 'GET', headers = {}, body = '' } = options;
  const begin = (kept: Agent | false): ClientRequest => {
    const request = sendRequest({ agent: kept, host: '127.0.0.1', port, path, method, headers });
    // A request that is never answered fails its test, and only its test.
    request.setTimeout(PATIENCE_MS, () => request.destroy(new Error(`no answer to ${method} ${path}`)));
    return request.end(body);
  };
  let request = begin(agent);
  const [response] = (await once(request, 'response').catch((error: unknown) => {
    // The server may close a kept connection at any time, and the request that crosses that is sent again (RFC 9112, 9.3.1).
    if (!request.reusedSocket || !isReset(error)) throw error;
    request = begin(false);
    return once(request, 'response');
  })) as [IncomingMessage];
  // A test may end, and its service with it, while the rest of a refused body is sent. A cut answer fails below.
  request.on('error', () => {});
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  return { status: response.statusCode ?? 0, headers: response.headers, body: bytes, text: bytes.toString() };
}

export const post = (
  service: Pick<Service, 'port'>,
  path: string,
  body: Uint8Array | string,
  headers: OutgoingHttpHeaders = {},
): Promise<Answer> => send(service, path, { method: 'POST', headers, body });

export const postForm = (
  service: Pick<Service, 'port'>,
  path: string,
  form: Form,
  headers: OutgoingHttpHeaders = {},
): Promise<Answer> => post(service, path, form.body, { ...headers, 'content-type': form.contentType });

export const json = (answer: Pick<Answer, 'text'>): Readonly<Record<string, unknown>> =>
  JSON.parse(answer.text) as Readonly<Record<string, unknown>>;

/** What a problem says, without its prose: of the words that its detail should have those that it lacks. */
interface Verdict {
  readonly status: number;
  readonly code: unknown;
  readonly type: unknown;
  readonly lacking: readonly string[];
}

export function verdict(answer: Pick<Answer, 'status' | 'text'>, ...words: readonly string[]): Verdict {
  const document = json(answer);
  const status = document['status'] === answer.status ? answer.status : Number.NaN;
  const detail = typeof document['detail'] === 'string' ? document['detail'] : '';
  const lacking = words.filter((word) => !detail.includes(word)).map((word) => `${word} in: ${detail}`);
  return { status, code: document['code'], type: document['type'], lacking };
}

export const problem = (status: number, code: string): Verdict => ({
  status,
  code,
  type: `/problems/${code}`,
  lacking: [],
});
