import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { consume } from '../../../src/image/consume.ts';
import { KIB } from '../../support/uploads.ts';

const explain = (error: Error): unknown => error;
const large = (): Uint8Array => new Uint8Array(64 * KIB).fill(1);

/** The lengths of the chunks once they were taken, and what `take` saw. */
async function lengthsAfter(
  chunks: Uint8Array[],
  free: boolean,
  take: (chunk: Uint8Array) => void | Promise<void> = () => {},
): Promise<number[]> {
  await consume(Readable.from(chunks, { objectMode: true }), take, explain, free);
  await new Promise((resolve) => setImmediate(resolve));
  return chunks.map(({ length }) => length);
}

describe('the memory of a chunk that was taken', () => {
  test('is left alone unless it may be freed', async () => {
    expect(await lengthsAfter([large(), large()], false)).toEqual([64 * KIB, 64 * KIB]);
  });

  test('is freed before the next one comes', async () => {
    const stream = new Readable({ read: () => {} });
    const consumed = consume(stream, () => {}, explain, true);
    const chunk = Buffer.from(large().buffer);
    stream.push(chunk);
    expect(chunk).toHaveLength(64 * KIB);
    await new Promise((resolve) => setImmediate(resolve));
    expect(chunk).toHaveLength(0);
    stream.push(null);
    await consumed;
  });

  test('is there until a promise to take it has come', async () => {
    const chunk = large();
    const seen: number[] = [];
    const lengths = await lengthsAfter([chunk], true, async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      seen.push(chunk.length);
    });
    expect([seen, lengths]).toEqual([[64 * KIB], [0]]);
  });

  test('stays for other readers of the same chunk', async () => {
    const stream = Readable.from([large()], { objectMode: true });
    const seen: number[] = [];
    const consumed = consume(stream, () => {}, explain, true);
    stream.on('data', (chunk: Uint8Array) => seen.push(chunk.length));
    await consumed;
    expect(seen).toEqual([64 * KIB]);
  });

  test('is left alone where other chunks share it, and where it is not worth it', async () => {
    const shared = new Uint8Array(128 * KIB);
    const chunks = [shared.subarray(0, 64 * KIB), shared.subarray(64 * KIB), new Uint8Array(1000)];
    expect(await lengthsAfter(chunks, true)).toEqual([64 * KIB, 64 * KIB, 1000]);
  });
});

/** The lengths of the chunks that were taken, each of them a turn later. */
async function takenLengths(chunks: readonly Uint8Array[]): Promise<number[]> {
  const stream = new Readable({ read: () => {} });
  const lengths: number[] = [];
  const bytes: Uint8Array[] = [];
  const take = async (chunk: Uint8Array): Promise<void> => {
    lengths.push(chunk.length);
    bytes.push(Uint8Array.from(chunk));
    await new Promise((resolve) => setImmediate(resolve));
  };
  const consumed = consume(stream, take, explain, true);
  const expected = Buffer.concat(chunks);
  for (const chunk of chunks) stream.push(chunk);
  stream.push(null);
  await consumed;
  expect(Buffer.compare(Buffer.concat(bytes), expected)).toBe(0);
  return lengths;
}

describe('chunks that come while one is taken', () => {
  test('are taken together when they are small', async () => {
    const tiny = Array.from({ length: 10_000 }, (_, index) => Uint8Array.of(index));
    const lengths = await takenLengths(tiny);
    expect(lengths.length).toBeLessThan(10);
  });

  test('stay as they are when they are not', async () => {
    const chunks = Array.from({ length: 10 }, large);
    expect(await takenLengths(chunks)).toEqual(chunks.map(() => 64 * KIB));
  });
});

describe('after a failure', () => {
  test('an error of the stream itself is of no interest any more', async () => {
    const stream = Readable.from([large()]);
    const taken = consume(
      stream,
      () => {
        throw new Error('no room');
      },
      explain,
    );
    await expect(taken).rejects.toThrow('no room');
    // Without a listener it would end the process.
    expect(() => stream.emit('error', new Error('late'))).not.toThrow();
  });

  test.each(['at once', 'later'])('to take a chunk %s nothing more is read', async (when) => {
    let read = 0;
    const stream = new Readable({
      read() {
        read += 1;
        this.push(large());
      },
    });
    const fail = (): void | Promise<void> => {
      if (when === 'later') return Promise.reject(new Error('no room'));
      throw new Error('no room');
    };
    await expect(consume(stream, fail, explain)).rejects.toThrow('no room');
    const before = read;
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(read).toBeLessThanOrEqual(before + 1);
    expect(stream.isPaused()).toBe(true);
  });
});
