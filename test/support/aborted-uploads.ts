/** Uploads that are broken off at any moment: of every kind, as a client that is killed, or has had enough, does it. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { imageForm } from './forms.ts';
import { head, RawConnection } from './raw-http.ts';

interface AbortedUpload {
  readonly name: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

const br = (bytes: Uint8Array): Buffer =>
  brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });

const coded = (coding: string) => ({ 'Content-Encoding': coding });

/** One of every kind. */
export function abortedUploads(image: Uint8Array): AbortedUpload[] {
  const form = imageForm(image, { onBroken: 'load' });
  const formType = { 'Content-Type': form.contentType };
  const kinds: [string, Readonly<Record<string, string>>, Uint8Array][] = [
    ['raw', {}, image],
    ['form', formType, form.body],
    ['gzip', {}, gzipSync(image)],
    ['zstd', {}, zstdCompressSync(image)],
    // A window of 32 MiB, which the budget must have room for.
    ['zstd with a large window', {}, zstdCompressSync(image, { params: { [constants.ZSTD_c_windowLog]: 25 } })],
    ['gzip in a form', formType, imageForm(gzipSync(image), { onBroken: 'load' }).body],
    ['coded with gzip', coded('gzip'), gzipSync(image)],
    ['coded with deflate', coded('deflate'), deflateSync(image)],
    ['coded with br', coded('br'), br(image)],
    ['coded with zstd', coded('zstd'), zstdCompressSync(image)],
    ['coded twice', coded('zstd, br'), br(zstdCompressSync(image))],
    ['coded form', { ...formType, ...coded('zstd') }, zstdCompressSync(form.body)],
    ['gzip, coded with zstd', coded('zstd'), zstdCompressSync(gzipSync(image))],
    ['damaged', coded('gzip'), Buffer.concat([gzipSync(image).subarray(0, image.length / 3), image])],
  ];
  const paths = ['/bsdsyms', '/layout', '/image?symbols=always', '/verify'];
  return kinds.flatMap(([name, headers, body]) => paths.map((path) => ({ name, path, headers, body })));
}

const PIECE_BYTES = 64 * 1024;
/** Mostly in the middle of something; now and then there is time for an answer. */
const SHORT_WAIT_MS = 10;
const LONG_WAIT_MS = 100;

/** Sends some of the upload, waits a little or not at all, and is gone. Resolves when the connection has been destroyed. */
async function abortUpload(port: number, { path, headers, body }: AbortedUpload): Promise<void> {
  const connection = await RawConnection.open(port);
  // Often all of it: then it is the answer that is not waited for.
  const sent = randomInt(4) === 0 ? body.length : randomInt(body.length + 1);
  const heads = head('POST', path, { ...headers, 'Content-Length': body.length });
  // Now and then a second upload follows on the same connection, and never has its turn.
  const second = randomInt(8) === 0 && sent === body.length ? [heads, body] : [];
  const pieces: (string | Uint8Array)[] = [heads];
  for (let at = 0; at < sent; at += PIECE_BYTES) pieces.push(body.subarray(at, Math.min(sent, at + PIECE_BYTES)));
  const sending = connection.send(...pieces, ...second);
  if (randomInt(2) === 0) await Promise.race([sending, sleep(LONG_WAIT_MS)]);
  if (randomInt(2) === 0) await sleep(randomInt(randomInt(4) === 0 ? LONG_WAIT_MS : SHORT_WAIT_MS));
  connection.destroy();
  await sending;
}

/** Breaks off `count` uploads, so many at a time, each kind in its turn. */
export async function abortUploads(
  port: number,
  uploads: readonly AbortedUpload[],
  count: number,
  atOnce: number,
): Promise<void> {
  let next = 0;
  const run = async (): Promise<void> => {
    while (next < count) {
      const upload = uploads[next % uploads.length];
      next += 1;
      if (upload !== undefined) await abortUpload(port, upload);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, run));
}
