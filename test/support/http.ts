/** The service in this process, on a port of its own, and a client for it. */
import { once } from 'node:events';
import {
  Agent,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request as sendRequest,
} from 'node:http';
import { pino } from 'pino';
import { readSettings, SETTING_KEYS } from '../../src/config.ts';
import { type App, type AppOptions, buildApp } from '../../src/http/app.ts';
import { processSlabs } from '../../src/image/slabs.ts';
import { PATIENCE_MS, PATIENT, until } from './patience.ts';

export type LogLine = Readonly<Record<string, unknown>>;

export interface Service {
  readonly app: App;
  readonly port: number;
  readonly url: string;
  /** Everything logged so far, or the lines with this message. */
  logs(msg?: string): LogLine[];
  /** The log as it was written. */
  logText(): string;
  /** Waits for a line that has all of these members. */
  logged(members: LogLine): Promise<LogLine>;
  clearLogs(): void;
  close(): Promise<void>;
}

/**
 * Starts the service with the given environment variables. Whoever starts it closes it. The settings need not fit together:
 * a test makes a budget small in order to see it used up.
 */
export async function startService(
  env: Readonly<Record<string, string>> = {},
  options: AppOptions = {},
): Promise<Service> {
  let written: string[] = [];
  let onWrite: (() => void)[] = [];
  const destination = {
    write(line: string): void {
      written.push(line);
      const waiting = onWrite;
      onWrite = [];
      for (const wake of waiting) wake();
    },
  };
  const config = readSettings({ ...PATIENT, ...env }, SETTING_KEYS);
  const app = await buildApp(config, pino({ level: config.logLevel }, destination), options);
  const url = await app.server.listen({ port: 0, host: '127.0.0.1' });

  const parsed = (): LogLine[] => written.map((line) => JSON.parse(line) as LogLine);
  const logs = (msg?: string): LogLine[] => parsed().filter((line) => msg === undefined || line['msg'] === msg);
  return {
    app,
    url,
    port: Number(new URL(url).port),
    logs,
    logText: () => written.join(''),
    async logged(members) {
      for (;;) {
        const line = parsed().find((candidate) =>
          Object.entries(members).every(([name, value]) => candidate[name] === value),
        );
        if (line !== undefined) return line;
        // Ends with the test's time at the latest.
        await new Promise<void>((resolve) => {
          onWrite.push(resolve);
        });
      }
    },
    clearLogs() {
      written = [];
    },
    async close() {
      app.server.server.closeAllConnections();
      await app.server.close();
    },
  };
}

/** What uploads occupy. */
export interface Occupied {
  readonly memory: number;
  readonly spool: number;
  readonly slabs: number;
  readonly uploads: number;
}

export const NOTHING_OCCUPIED: Occupied = { memory: 0, spool: 0, slabs: 0, uploads: 0 };

export function occupied({ app: { upload } }: Service): Occupied {
  const { memory, spool } = upload.store;
  return { memory: memory.used, spool: spool.budget.used, slabs: processSlabs.used, uploads: upload.admission.running };
}

/** What uploads still occupy once there was time for every response to be closed: nothing, if all is well. */
export async function settled(service: Service): Promise<Occupied> {
  await until(() => Object.values(occupied(service)).every((amount) => amount === 0));
  return occupied(service);
}

/** Gives everything that requests occupied time to come back, and sees that the service still answers. @throws Error */
export async function mustSettle(service: Service): Promise<void> {
  const left = JSON.stringify(await settled(service));
  if (left !== JSON.stringify(NOTHING_OCCUPIED)) throw new Error(`requests have left ${left} behind`);
  if ((await send(service, '/healthz')).status !== 200) throw new Error('the service is not healthy');
}

/** Waits until an upload is under way, so that a test can break it off. */
export async function uploading(service: Service): Promise<void> {
  if (!(await until(() => occupied(service).uploads > 0))) throw new Error('no upload has begun');
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
}

export interface SendOptions {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array | string;
}

const agent = new Agent({ keepAlive: true });

/** Sends one request over a kept connection. Without a `Content-Type` of the caller's none is sent. */
export async function send({ port }: Pick<Service, 'port'>, path: string, options: SendOptions = {}): Promise<Answer> {
  const { method = 'GET', headers = {}, body = '' } = options;
  const request = sendRequest({ agent, host: '127.0.0.1', port, path, method, headers });
  // A request that is never answered fails its test, and only its test.
  request.setTimeout(PATIENCE_MS, () => request.destroy(new Error(`no answer to ${method} ${path}`)));
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
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
export interface Verdict {
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

/** A part of a form: a text field, or a file. */
export type Part =
  | { readonly name: string; readonly value: string }
  | { readonly name: string; readonly data: Uint8Array; readonly filename?: string; readonly type?: string };

export interface Form {
  readonly body: Buffer;
  readonly contentType: string;
}

export const BOUNDARY = 'a-boundary-of-these-tests';

/** Writes a form, its parts in the order given. */
export function multipart(parts: readonly Part[], boundary = BOUNDARY): Form {
  const pieces = parts.flatMap((part) => [`--${boundary}\r\n`, ...partPieces(part), '\r\n']);
  const body = Buffer.concat([...pieces, `--${boundary}--\r\n`].map((piece) => Buffer.from(piece)));
  return { body, contentType: `multipart/form-data; boundary=${boundary}` };
}

/** The form of one image and perhaps some fields behind it. */
export const imageForm = (image: Uint8Array, fields: Readonly<Record<string, string>> = {}): Form =>
  multipart([imagePart(image), ...Object.entries(fields).map(([name, value]) => ({ name, value }))]);

export const imagePart = (image: Uint8Array): Part => ({ name: 'image', data: image, filename: 'kernel' });

function partPieces(part: Part): (string | Uint8Array)[] {
  const disposition = `Content-Disposition: form-data; name="${part.name}"`;
  if ('value' in part) return [`${disposition}\r\n\r\n`, part.value];
  const { data, filename = 'file', type = 'application/octet-stream' } = part;
  return [`${disposition}; filename="${filename}"\r\nContent-Type: ${type}\r\n\r\n`, data];
}
