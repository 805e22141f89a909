import { strict as assert } from 'node:assert';
import { readdirSync } from 'node:fs';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';
import { processSlabs } from '../../../src/image/slabs.ts';
import { Spool } from '../../../src/image/spool.ts';
import { type ImageStore, StoredSink } from '../../../src/image/store.ts';
import { collect } from '../../support/load.ts';
import { TemporaryDirectory } from '../../support/temporary.ts';
import {
  eventually,
  type Gate,
  holdWrites,
  interceptWrites,
  KIB,
  MIB,
  noise,
  openFiles,
  outcome,
  pieces,
  systemError,
} from '../../support/uploads.ts';

let directory: TemporaryDirectory;
let filesAtStart: number | null;
let stores: ImageStore[];

beforeEach(() => {
  directory = new TemporaryDirectory();
  stores = [];
  filesAtStart = openFiles();
});

/** Whatever a test did to an image: all it occupied was given back. */
afterEach(async () => {
  vi.restoreAllMocks();
  try {
    assert.deepEqual(
      stores.map(used),
      stores.map(() => [0, 0]),
    );
    assert.equal(processSlabs.used, 0);
    await eventually('all files are closed', () => openFiles() === filesAtStart);
  } finally {
    directory.remove();
  }
});

interface Limits {
  readonly memory?: number;
  readonly spool?: number;
  readonly image?: number;
}

async function makeStore({ memory = MIB, spool = 64 * MIB, image = 64 * MIB }: Limits = {}): Promise<ImageStore> {
  const store = {
    memory: new Budget(memory),
    spool: await Spool.open(directory.path, spool),
    maxImageBytes: image,
  };
  stores.push(store);
  return store;
}

const used = ({ memory, spool }: ImageStore): [memory: number, spool: number] => [memory.used, spool.budget.used];

async function append(sink: StoredSink, ...chunks: readonly Uint8Array[]): Promise<void> {
  for (const chunk of chunks) await sink.append(chunk);
}

/** What is thrown, at once or later. */
/** Discards an image while the spool writes it, and lets the write go on only then. */
async function discardWhileWriting(sink: StoredSink, gate: Gate): Promise<void> {
  await eventually('it is written', () => gate.arrived > 0);
  const discarded = sink.discard();
  gate.open();
  await discarded;
}

async function failureOf(action: () => unknown): Promise<unknown> {
  try {
    await action();
  } catch (error) {
    return error;
  }
  return 'none';
}

describe('an image that the memory has room for', () => {
  test('stays there, and needs the chunk no more', async () => {
    const store = await makeStore({ memory: 10 });
    const sink = new StoredSink(store);
    const chunk = Buffer.from('0123456789');
    await append(sink, chunk);
    chunk.fill(0);
    expect(used(store)).toEqual([10, 0]);
    const source = await sink.finish();
    expect([source.size, Buffer.from(await source.read(2, 4)).toString()]).toEqual([10, '2345']);
    await source.close();
    expect(used(store)).toEqual([0, 0]);
  });

  test('may be empty', async () => {
    const source = await new StoredSink(await makeStore({ memory: 0 })).finish();
    expect([source.size, (await source.read(0, 0)).length]).toEqual([0, 0]);
    await source.close();
  });

  test('gives back once, however often it is closed', async () => {
    const store = await makeStore();
    const others = new StoredSink(store);
    await append(others, noise(5));
    const sink = new StoredSink(store);
    await append(sink, noise(10));
    const source = await sink.finish();
    await source.close();
    await source.close();
    expect(used(store)).toEqual([5, 0]);
    await others.discard();
  });
});

describe('an image that the memory has no room for', () => {
  test('moves to the spool whole and frees the memory for others', async () => {
    const store = await makeStore({ memory: 10 });
    const sink = new StoredSink(store);
    await append(sink, Buffer.from('01234'), Buffer.from('56789'));
    expect(used(store)).toEqual([10, 0]);
    await append(sink, Buffer.from('a'));
    expect(used(store)).toEqual([0, 11]);
    await append(sink, Buffer.from('b'));
    expect(used(store)).toEqual([0, 12]);
    const source = await sink.finish();
    expect(Buffer.from(await source.read(0, 12)).toString()).toBe('0123456789ab');
    expect(readdirSync(directory.path)).toEqual([]);
    await source.close();
  });

  test('never shows memory that other images have used', async () => {
    const store = await makeStore({ memory: 10 });
    store.memory.take(8);
    const sink = new StoredSink(store);
    await append(sink, noise(3));
    expect(used(store)).toEqual([8, 3]);
    await (await sink.finish()).close();
    expect(used(store)).toEqual([8, 0]);
    store.memory.give(8);
  });

  test('holds what is read again and again in memory while there is some, and gives it back', async () => {
    const store = await makeStore({ memory: 2 * MIB });
    const others = new StoredSink(store);
    await append(others, noise(MIB));
    const content = noise(3 * MIB);
    const sink = new StoredSink(store);
    await append(sink, ...pieces(content, 256 * KIB));
    const source = await sink.finish();
    const held = await source.hold?.(100, MIB);
    expect(Buffer.compare(Buffer.concat(held ?? []), content.subarray(100, 100 + MIB))).toBe(0);
    expect(store.memory.used).toBe(2 * MIB);
    // No more than there is.
    expect(await source.hold?.(0, MIB)).toBeNull();
    await source.close();
    expect(store.memory.used).toBe(MIB);
    await others.discard();
  });

  test('stays on the spool when memory is free again', async () => {
    const store = await makeStore({ memory: 10 });
    const sink = new StoredSink(store);
    await append(sink, noise(11), noise(3));
    expect(used(store)).toEqual([0, 14]);
    await sink.discard();
  });

  test('is closed once, however often it is asked for, and cannot be read then', async () => {
    const store = await makeStore({ memory: 0 });
    const sink = new StoredSink(store);
    await append(sink, noise(10));
    const source = await sink.finish();
    await Promise.all([source.close(), source.close()]);
    await source.close();
    expect(used(store)).toEqual([0, 0]);
    await expect(source.read(0, 1)).rejects.toThrow('closed');
    await expect(collect(source.stream(0, 1))).rejects.toThrow('closed');
  });

  test.each([
    [0, 11],
    [11, 0],
    [-1, 2],
    [4, 7],
  ])('refuses to read %i + %i, which is not inside', async (offset, length) => {
    const sink = new StoredSink(await makeStore({ memory: 0 }));
    await append(sink, noise(10));
    const source = await sink.finish();
    await expect(source.read(offset, length)).rejects.toThrow(RangeError);
    await expect(collect(source.stream(offset, length))).rejects.toThrow('outside an image of 10 bytes');
    await source.close();
  });
});

describe('the bytes are those that arrived', () => {
  test('whatever the chunks, and wherever in between the memory ends', async () => {
    const lengths = fc.array(fc.oneof(fc.nat({ max: 20 }), fc.nat({ max: 20_000 })), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(lengths, fc.nat({ max: 200_000 }), fc.nat(), fc.nat(), async (chunks, memory, from, count) => {
        const store = await makeStore({ memory });
        const size = chunks.reduce((sum, length) => sum + length, 0);
        const image = noise(size, size + 1);
        const sink = new StoredSink(store);
        let at = 0;
        for (const length of chunks) {
          await sink.append(image.subarray(at, at + length));
          at += length;
        }
        const source = await sink.finish();
        const offset = from % (size + 1);
        const length = count % (size - offset + 1);
        const expected = image.subarray(offset, offset + length);
        expect(source.size).toBe(size);
        expect(Buffer.compare(await source.read(0, size), image)).toBe(0);
        expect(Buffer.compare(await source.read(offset, length), expected)).toBe(0);
        expect(Buffer.compare(await collect(source.stream(offset, length)), expected)).toBe(0);
        await source.close();
        expect(used(store)).toEqual([0, 0]);
      }),
      { numRuns: 60 },
    );
  });

  test.each([
    ['one chunk of several write batches', 5 * MIB + 3],
    ['chunks of network size', 64 * KIB],
    ['chunks that end with the batches', MIB],
    ['odd chunks', 70_001],
    ['small chunks', 777],
  ])('across many batches: %s', async (_name, length) => {
    const image = noise(5 * MIB + 3);
    const sink = new StoredSink(await makeStore({ memory: 64 * KIB }));
    await append(sink, ...pieces(image, length));
    const source = await sink.finish();
    expect(Buffer.compare(await source.read(0, image.length), image)).toBe(0);
    expect(Buffer.compare(await collect(source.stream(1, image.length - 2)), image.subarray(1, -1))).toBe(0);
    await source.close();
  });

  test('byte by byte', async () => {
    const image = noise(100_000);
    const sink = new StoredSink(await makeStore({ memory: 50_000 }));
    await append(sink, ...pieces(image, 1));
    const source = await sink.finish();
    expect(Buffer.compare(await source.read(0, image.length), image)).toBe(0);
    await source.close();
  });

  test('when the system writes only part of what it is given', async () => {
    let writes = 0;
    await interceptWrites((write, chunks, position) => {
      writes += 1;
      const all = Buffer.concat(chunks);
      // Now a single byte, now half of a chunk, now several chunks.
      return write([all.subarray(0, Math.max(1, (all.length * (writes % 4)) >> 2))], position);
    });
    const image = noise(3 * MIB + 1);
    const sink = new StoredSink(await makeStore({ memory: 0 }));
    await append(sink, ...pieces(image, 100_000));
    const source = await sink.finish();
    expect(Buffer.compare(await source.read(0, image.length), image)).toBe(0);
    expect(writes).toBeGreaterThan(10);
    await source.close();
  });
});

describe.each([
  ['in memory', 1000],
  ['on the spool', 0],
])('the limit of an image %s', (_where, memory) => {
  const LIMIT = 100;

  test.each([[[100]], [[99, 1]], [[0, 50, 50, 0]]])('is no obstacle to one that has its size: %j', async (lengths) => {
    const sink = new StoredSink(await makeStore({ memory, image: LIMIT }));
    await append(sink, ...lengths.map((length) => noise(length)));
    const source = await sink.finish();
    expect(source.size).toBe(LIMIT);
    await source.close();
  });

  test.each([[[101]], [[100, 1]], [[50, 51]], [[1, 1000]]])('stops one that is larger: %j', async (lengths) => {
    const store = await makeStore({ memory, image: LIMIT });
    const sink = new StoredSink(store);
    const [last = 0, ...first] = lengths.toReversed();
    await append(sink, ...first.map((length) => noise(length)));
    const before = used(store);
    expect(await failureOf(() => sink.append(noise(last)))).toMatchObject({
      code: 'image-too-large',
      message: expect.stringMatching(/100 bytes .*BSDSYMS_MAX_IMAGE_BYTES/),
    });
    expect(used(store)).toEqual(before);
    await sink.discard();
  });
});

test('an announced image that fits into what is left stays in memory, however much of it has come', async () => {
  const store = await makeStore({ memory: 100 });
  const sink = new StoredSink(store, 80);
  await append(sink, noise(50), noise(30));
  expect(used(store)).toEqual([80, 0]);
  await sink.discard();
});

describe('discarding gives everything back', () => {
  test.each([
    ['an image that never began', []],
    ['an image in memory', [10]],
    ['an image that has moved', [10, 200]],
    ['an image that is being written', [10, 3 * MIB, 3 * MIB, 1]],
  ])('%s', async (_name, lengths) => {
    const store = await makeStore({ memory: 100 });
    const sink = new StoredSink(store);
    await append(sink, ...lengths.map((length) => noise(length)));
    await sink.discard();
    expect(used(store)).toEqual([0, 0]);
    await sink.discard();
    expect(used(store)).toEqual([0, 0]);
  });

  test('while the image moves to the spool', async () => {
    const store = await makeStore({ memory: 100 });
    const sink = new StoredSink(store);
    await append(sink, noise(100));
    const moving = sink.append(noise(3 * MIB));
    await sink.discard();
    expect(used(store)).toEqual([0, 0]);
    expect(await outcome(Promise.resolve(moving))).not.toBe('pending');
  });

  test('while a write is under way', async () => {
    const gate = await holdWrites();
    const store = await makeStore({ memory: 0 });
    const sink = new StoredSink(store);
    const appended = append(sink, ...pieces(noise(16 * MIB), MIB));
    await discardWhileWriting(sink, gate);
    expect(await outcome(appended)).not.toBe('pending');
    expect(used(store)).toEqual([0, 0]);
  });

  test('while the image is being finished', async () => {
    const gate = await holdWrites();
    const store = await makeStore({ memory: 0 });
    const sink = new StoredSink(store);
    await append(sink, noise(1000));
    const finished = sink.finish().then((source) => source.close());
    await discardWhileWriting(sink, gate);
    expect(await outcome(finished)).not.toBe('pending');
    expect(used(store)).toEqual([0, 0]);
  });

  test('and what arrives later is dropped', async () => {
    const store = await makeStore({ memory: 100 });
    const sink = new StoredSink(store);
    await sink.discard();
    await append(sink, noise(50), noise(100));
    expect(used(store)).toEqual([0, 0]);
    await expect(sink.finish()).rejects.toThrow('discarded');
  });

  test.each([
    ['in memory', 100],
    ['on the spool', 0],
  ])('but not what a finished image %s owns', async (_where, memory) => {
    const sink = new StoredSink(await makeStore({ memory }));
    await append(sink, noise(100));
    const source = await sink.finish();
    await sink.discard();
    expect(Buffer.compare(await source.read(0, 100), noise(100))).toBe(0);
    await source.close();
  });
});

describe('trouble with the spool', () => {
  test('of which there is too little for what moves', async () => {
    const store = await makeStore({ memory: 100, spool: 150 });
    const sink = new StoredSink(store);
    await append(sink, noise(100));
    expect(await failureOf(() => sink.append(noise(51)))).toMatchObject({
      code: 'spool-full',
      message: expect.stringContaining('BSDSYMS_SPOOL_BUDGET_BYTES'),
    });
    await sink.discard();
    expect(used(store)).toEqual([0, 0]);
  });

  test('of which there is too little for what comes then, and others keep theirs', async () => {
    const store = await makeStore({ memory: 0, spool: 150 });
    const other = new StoredSink(store);
    await append(other, noise(40));
    const sink = new StoredSink(store);
    await append(sink, noise(110));
    expect(await failureOf(() => sink.append(noise(1)))).toMatchObject({ code: 'spool-full' });
    await sink.discard();
    expect(used(store)).toEqual([0, 40]);
    const source = await other.finish();
    expect(Buffer.compare(await source.read(0, 40), noise(40))).toBe(0);
    await source.close();
  });

  test('whose directory is gone', async () => {
    const store = await makeStore({ memory: 100 });
    directory.remove();
    const sink = new StoredSink(store);
    await append(sink, noise(100));
    expect(await failureOf(() => sink.append(noise(1)))).toMatchObject({ code: 'spool-unavailable' });
    await sink.discard();
    expect(used(store)).toEqual([0, 0]);
  });

  test.each([
    ['ENOSPC', 'spool-full'],
    ['EDQUOT', 'spool-full'],
    ['EIO', 'spool-unavailable'],
  ])('that fails with %s in the last write', async (code, expected) => {
    await interceptWrites(() => Promise.reject(systemError(code)));
    const store = await makeStore({ memory: 100 });
    const sink = new StoredSink(store);
    await append(sink, noise(100), noise(100));
    expect(await failureOf(() => sink.finish())).toMatchObject({ code: expected, cause: { code } });
    await sink.discard();
    expect(used(store)).toEqual([0, 0]);
  });

  test('that fails in a write in between is reported by the next call', async () => {
    await interceptWrites(() => Promise.reject(systemError('ENOSPC')));
    const store = await makeStore({ memory: 0 });
    const sink = new StoredSink(store);
    expect(await failureOf(() => append(sink, ...pieces(noise(16 * MIB), MIB)))).toMatchObject({
      code: 'spool-full',
    });
    expect(await failureOf(() => sink.finish())).toMatchObject({ code: 'spool-full' });
    await sink.discard();
    expect(used(store)).toEqual([0, 0]);
  });

  test('that fails after part of a batch was written', async () => {
    let left = 1.5 * MIB;
    await interceptWrites(async (write, chunks, position) => {
      if (left === 0) throw systemError('ENOSPC');
      const all = Buffer.concat(chunks).subarray(0, left);
      left -= all.length;
      return write([all], position);
    });
    const store = await makeStore({ memory: 0 });
    const sink = new StoredSink(store);
    await append(sink, noise(MIB), noise(MIB));
    expect(await failureOf(() => sink.finish())).toMatchObject({ code: 'spool-full' });
    await sink.discard();
    expect([left, used(store)]).toEqual([0, [0, 0]]);
  });
});
