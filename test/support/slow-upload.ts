/** An upload that is under way for as long as a test wants. */
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { kernel } from './elf-builder.ts';

const IMAGE = kernel().bytes;
const SENT_AT_ONCE_BYTES = 50;

/** What became of an upload: the status of its answer, or that its connection was cut off. */
type Outcome = number | 'cut off';

export class SlowUpload {
  readonly #request: ClientRequest;
  readonly outcome: Promise<Outcome>;

  private constructor(sending: ClientRequest) {
    this.#request = sending;
    this.outcome = new Promise((resolve) => {
      sending.once('response', (response: IncomingMessage) => {
        response.resume();
        response.once('end', () => resolve(response.statusCode ?? 0));
      });
      sending.on('error', () => resolve('cut off'));
    });
  }

  /** Begins one, over a connection of its own that the client would keep. Resolves once the service has said that it takes it. */
  static async begin({ port }: { readonly port: number }): Promise<SlowUpload> {
    const headers = { 'content-length': IMAGE.length, expect: '100-continue' };
    const agent = new Agent({ keepAlive: true });
    const sending = request({ agent, host: '127.0.0.1', port, path: '/bsdsyms', method: 'POST', headers });
    const upload = new SlowUpload(sending);
    sending.flushHeaders();
    const invited = new Promise<'invited'>((resolve) => {
      sending.once('continue', () => resolve('invited'));
    });
    const word = await Promise.race([invited, upload.outcome]);
    if (word !== 'invited') throw new Error(`the upload is not taken: ${word}`);
    sending.write(IMAGE.subarray(0, SENT_AT_ONCE_BYTES));
    return upload;
  }

  /** Sends the rest. */
  finish(): Promise<Outcome> {
    this.#request.end(IMAGE.subarray(SENT_AT_ONCE_BYTES));
    return this.outcome;
  }
}

/** Sends the rest of all of them. */
export const finishAll = (uploads: readonly SlowUpload[]): Promise<Outcome[]> =>
  Promise.all(uploads.map((upload) => upload.finish()));
