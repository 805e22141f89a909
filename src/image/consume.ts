import type { Readable } from 'node:stream';
import { freeMemory } from './free-memory.ts';

/** Smaller chunks are left to the collector, which frees them soon enough. */
const MIN_FREED_BYTES = 16 * 1024;
/** After a smaller chunk, all bytes that have arrived are read as one chunk: every chunk costs the same, whatever its size. */
const SMALL_CHUNK_BYTES = 4 * 1024;

/**
 * Passes every chunk of a stream to `take`, and waits when `take` returns a promise.
 * An async iterator would copy chunks that arrive faster than it asks, and destroy the stream when left early.
 *
 * Resolves when the stream has ended and its last chunk was taken. After a failure the stream is paused; the caller decides
 * whether the rest is read and dropped.
 *
 * @param take the chunk is no longer needed once it returns, or once the promise that it returns has settled
 * @param explain turns the error of the stream into the one to throw; a stream that closes before its end has the error
 *   ERR_STREAM_PREMATURE_CLOSE
 * @param free whether to free the memory of each chunk that was taken at once. No other code may use the chunk. The next
 *   chunk then arrives where the caches still hold the last one, and large images leave no garbage
 * @throws what `take` throws, and what `explain` returns
 */
export function consume(
  stream: Readable,
  take: (chunk: Uint8Array) => void | Promise<void>,
  explain: (error: Error) => unknown,
  free = false,
): Promise<void> {
  return new Promise((resolve, reject) => {
    // The event `end` may come while the last chunk is still being taken: pausing does not delay it.
    let taking = false;
    let ended = false;
    const settle = (error?: unknown): void => {
      stream.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose);
      // A later error of the stream has no effect.
      stream.on('error', () => {});
      if (error === undefined) {
        resolve();
        return;
      }
      reject(error);
    };
    const onData = (chunk: Uint8Array): void => {
      try {
        const taken = take(chunk);
        if (taken === undefined) {
          // Not yet: the code that emitted the chunk may still read it.
          if (free) queueMicrotask(() => freeChunk(chunk));
          return;
        }
        taking = true;
        stream.pause();
        const chunkBytes = chunk.length;
        taken.then(() => onTaken(chunk, chunkBytes), settle);
      } catch (error) {
        // Otherwise the stream would continue to flow.
        stream.pause();
        settle(error);
      }
    };
    const onTaken = (chunk: Uint8Array, chunkBytes: number): void => {
      taking = false;
      if (free) freeChunk(chunk);
      // Without a length, Node 26 reads one chunk only.
      if (chunkBytes < SMALL_CHUNK_BYTES && stream.readableLength > 0) stream.read(stream.readableLength);
      if (taking) return;
      if (ended) settle();
      else stream.resume();
    };
    const onEnd = (): void => {
      ended = true;
      if (!taking) settle();
    };
    const onError = (error: Error): void => settle(explain(error));
    const onClose = (): void => {
      if (!ended) onError(Object.assign(new Error('closed before its end'), { code: 'ERR_STREAM_PREMATURE_CLOSE' }));
    };
    // A stream that is over already emits no events.
    if (stream.errored) onError(stream.errored);
    else if (stream.destroyed || stream.readableEnded) onClose();
    else stream.on('end', onEnd).on('error', onError).on('close', onClose).on('data', onData);
  });
}

/** Frees the memory of a chunk that a stream delivered and nobody needs any more, if it is worth it. */
export function freeChunk(chunk: Uint8Array): void {
  // If a chunk is all of its buffer, no other chunk shares that buffer.
  if (chunk.length >= MIN_FREED_BYTES && chunk.length === chunk.buffer.byteLength) freeMemory(chunk);
}
