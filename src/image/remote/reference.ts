/** Images that are named by a URL. They are read at their origin, and gathered only if that is necessary. */

import { ImageError } from '../../inspect/image-error.ts';
import type { ImageSource } from '../../inspect/image-source.ts';

import { isPacked } from '../decompress.ts';
import { feed, type GatheredImage, gather } from '../gather.ts';
import { type ImageStore, imageTooLarge } from '../store.ts';
import { Origin, type OriginAnswer, type OriginOptions } from './origin.ts';
import { assertPlain, otherRange, PAGE_BYTES, RemoteSource, readContentRange, requestRange } from './remote-source.ts';
import { type RequestResult, resultOf } from './results.ts';
import { SharedFile } from './shared-file.ts';
import { parseSourceUrl } from './source-url.ts';
import { type Validator, validatorOf, versionOf } from './validator.ts';

interface ReferenceOptions extends OriginOptions {
  /** Stores an image that has to be gathered, and limits the size of every image. */
  readonly store: ImageStore;
  /** False to use the file as it is. */
  readonly unpack: boolean;
}

/** An image at its origin, whose start has been read. */
export interface Reference {
  /** A text that differs between versions of the image; null when the origin does not distinguish versions. */
  readonly version: string | null;
  /**
   * The image. If it is compressed, or its origin has no ranges, it is gathered first. The source keeps its connection to
   * the origin while it needs one, and at most until `close`.
   *
   * @throws ImageError
   */
  take(): Promise<GatheredImage>;
  /** Ends requests, and gives back what the image occupies. Idempotent. */
  close(): Promise<void>;
}

/**
 * Reads the start of an image at its origin.
 *
 * @throws ImageError
 */
export async function openReference(text: string, options: ReferenceOptions): Promise<Reference> {
  const url = parseSourceUrl(text);
  return url.protocol === 'file:' ? openFile(url, options) : openUrl(url, options);
}

async function openFile(url: URL, options: ReferenceOptions): Promise<Reference> {
  const { authority, observer, store } = options;
  const directory = authority.directoryOf(url);
  const end = observer?.begin(url);
  let bytes = 0;
  let ended = false;
  const finish = (result: RequestResult): void => {
    if (!ended) end?.({ result, status: null, bytes });
    ended = true;
  };
  const count = (read: number): void => {
    bytes += read;
    observer?.received(read);
  };
  try {
    const file = await SharedFile.open(url, directory, store.memory, count);
    return {
      version: file.version,
      async take() {
        try {
          return await takeFile(file, options);
        } catch (error) {
          if (error instanceof ImageError) finish(resultOf(error.code));
          throw error;
        }
      },
      async close() {
        finish('ok');
        await file.close();
      },
    };
  } catch (error) {
    finish(error instanceof ImageError ? resultOf(error.code) : 'source-unavailable');
    throw error;
  }
}

async function takeFile(file: SharedFile, options: ReferenceOptions): Promise<GatheredImage> {
  const { maxImageBytes } = options.store;
  if (file.size > maxImageBytes) throw imageTooLarge(maxImageBytes, `The file has ${file.size} bytes`);
  const start = await file.read(0, Math.min(file.size, PAGE_BYTES));
  if (!options.unpack || !isPacked(start)) return { source: file, compression: null };
  return gather(options.store, options.unpack, feed(file.stream(0, file.size)), file.size);
}

async function openUrl(url: URL, options: ReferenceOptions): Promise<Reference> {
  const origin = new Origin(options);
  try {
    // A GET and not a HEAD, as presigned URLs are valid for GET only.
    const answer = await origin.get(url, { Range: `bytes=0-${PAGE_BYTES - 1}` });
    try {
      return isWhole(answer) ? openWhole(origin, answer, options) : await openRanges(origin, answer, options);
    } catch (error) {
      answer.discard(error instanceof ImageError ? resultOf(error.code) : 'aborted');
      throw error;
    }
  } catch (error) {
    origin.close();
    throw error;
  }
}

/** Whether the origin sent the whole file instead of a range of it. An empty file counts as whole. */
function isWhole(answer: OriginAnswer): boolean {
  const isEmpty = answer.status === 416 && answer.headers['content-range'] === 'bytes */0';
  if (isEmpty) return true;
  assertPlain(answer);
  return answer.status === 200;
}

/** For an origin without ranges: the body is received like an upload. */
function openWhole(origin: Origin, answer: OriginAnswer, options: ReferenceOptions): Reference {
  const { maxImageBytes } = options.store;
  const isEmpty = answer.status === 416;
  const length = answer.headers['content-length'];
  const size = isEmpty ? 0 : length === undefined ? null : Number(length);
  if (size !== null && size > maxImageBytes) throw imageTooLarge(maxImageBytes, `The origin announces ${size} bytes`);
  let source: ImageSource | null = null;
  return {
    version: versionOf(validatorOf(answer.headers, size)),
    async take() {
      if (isEmpty) answer.discard('ok');
      const { store, unpack } = options;
      const image = await gather(store, unpack, feed(isEmpty ? [] : answer.chunks(size)), size ?? 0);
      origin.close();
      source = image.source;
      return image;
    },
    async close() {
      answer.discard('aborted');
      origin.close();
      await source?.close();
    },
  };
}

async function openRanges(origin: Origin, answer: OriginAnswer, options: ReferenceOptions): Promise<Reference> {
  const { store, unpack } = options;
  const range = readContentRange(answer);
  const { size } = range;
  if (range.start !== 0 || range.end !== Math.min(size, PAGE_BYTES)) throw otherRange(`0-${PAGE_BYTES - 1}`);
  const validator: Validator = validatorOf(answer.headers, size);
  const image = { url: answer.url, size, validator };
  if (size > store.maxImageBytes) throw imageTooLarge(store.maxImageBytes, `The origin has ${size} bytes`);
  const first = new Uint8Array(range.end);
  let filled = 0;
  for await (const chunk of answer.chunks(first.length)) {
    first.set(chunk, filled);
    filled += chunk.length;
  }
  let source: ImageSource | null = null;
  return {
    version: versionOf(validator),
    async take() {
      if (!unpack || !isPacked(first)) {
        source = new RemoteSource(origin, image, first, store.memory);
        return { source, compression: null };
      }
      const gathered = await gather(store, unpack, feed(wholeImage()), size);
      origin.close();
      source = gathered.source;
      return gathered;
    },
    async close() {
      origin.close();
      await source?.close();
    },
  };

  async function* wholeImage(): AsyncGenerator<Uint8Array, void> {
    yield first;
    if (size > first.length) yield* requestRange(origin, image, first.length, size);
  }
}
