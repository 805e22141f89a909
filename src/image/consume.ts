import type { Readable } from 'node:stream';
import { freeMemory } from './slabs.ts';

/** Smaller chunks are left to the collector, which finds them soon enough. */
const MIN_FREED_BYTES = 16 * 1024;
/** After a smaller chunk what has come meanwhile is taken as one: each costs the same, whatever its size. */
const SMALL_CHUNK_BYTES = 4 * 1024;

/**
 * Hands every chunk of a stream over as it is, and waits for `take` where it returns a promise.
 * An async iterator would copy chunks that arrive faster than it asks, and destroy the stream when left early.
 *
 * Ends when the stream has ended and its last chunk was taken. After a failure the stream is paused: whether the rest is
 * dropped or never read is up to the caller.
 *
 * @param take after it, or the promise it returns, the chunk is not needed any more
 * @param explain what the stream fails with, or an ERR_STREAM_PREMATURE_CLOSE when it closes unended, as it is to be thrown
 * @param free whether the memory of chunks that were taken is freed at once, as nobody else has a use for it; the next
 *   chunk then arrives where the caches still have the last one, and large images leave no garbage
 * @throws what `take` throws, and what `explain` returns
 */
export function consume(
  stream: Readable,
  take: (chunk: Uint8Array) => void | Promise<void>,
  explain: (error: Error) => unknown,
  free = false,
): Promise<void> {
  return new Promise((resolve, reject) => {
    // The end may come while the last chunk is still being taken: pausing does not hold it back.
    let taking = false;
    let ended = false;
    const settle = (error?: unknown): void => {
      stream.off('data', onData).off('end', onEnd).off('error', onError).off('close', onClose);
      // A late error of an abandoned stream has been dealt with.
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
          // Not yet: whoever hands the chunk to us may still be looking at it.
          if (free) queueMicrotask(() => freeChunk(chunk));
          return;
        }
        taking = true;
        stream.pause();
        const chunkBytes = chunk.length;
        taken.then(() => onTaken(chunk, chunkBytes), settle);
      } catch (error) {
        // Without that it would flow on, with nobody to stop it.
        stream.pause();
        settle(error);
      }
    };
    const onTaken = (chunk: Uint8Array, chunkBytes: number): void => {
      taking = false;
      if (free) freeChunk(chunk);
      // The length is named: without it, Node 26 reads one chunk.
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
    // It may be over already, and then there are no events any more.
    if (stream.errored) onError(stream.errored);
    else if (stream.destroyed || stream.readableEnded) onClose();
    else stream.on('end', onEnd).on('error', onError).on('close', onClose).on('data', onData);
  });
}

/** Frees the memory of a chunk that a stream delivered and nobody needs any more, if it is worth it. */
export function freeChunk(chunk: Uint8Array): void {
  // Where a chunk is all of its buffer, no other chunk shares it.
  if (chunk.length >= MIN_FREED_BYTES && chunk.length === chunk.buffer.byteLength) freeMemory(chunk);
}
