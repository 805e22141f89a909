import { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { gunzip, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';
import { UnpackingSink } from '../../../src/image/decompress.ts';
import type { ImageSink } from '../../../src/image/sink.ts';
import { Spool } from '../../../src/image/spool.ts';
import { type ImageStore, StoredSink } from '../../../src/image/store.ts';
import type { ImageSource } from '../../../src/inspect/image-source.ts';
import { bzImage, lz4Zeros } from '../../support/packed.ts';
import { TemporaryDirectory } from '../../support/temporary.ts';
import { eventually, Gate, gzipBomb, KIB, kernelOfSize, MIB, noise, outcome, pieces } from '../../support/uploads.ts';

const LIMIT = 16 * MIB;

let directory: TemporaryDirectory;
let store: ImageStore;

beforeAll(async () => {
  directory = new TemporaryDirectory();
  store = { memory: new Budget(4 * MIB), spool: await Spool.open(directory.path, 64 * MIB), maxImageBytes: LIMIT };
});
afterAll(() => {
  directory.remove();
});
afterEach(async () => {
  vi.restoreAllMocks();
  await eventually('everything is given back', () => store.memory.used === 0 && store.spool.budget.used === 0);
});

interface Unpacked {
  readonly bytes: Uint8Array;
  readonly compression: string | null;
}

/** Runs an image through, and gives everything back. */
async function unpack(packed: Uint8Array, pieceBytes = packed.length, enabled = true): Promise<Unpacked> {
  const sink = new UnpackingSink(new StoredSink(store), enabled);
  try {
    for (const piece of pieces(packed, Math.max(1, pieceBytes))) await sink.append(piece);
    const source = await sink.finish();
    const bytes = Buffer.from(await source.read(0, source.size));
    await source.close();
    return { bytes, compression: sink.compression };
  } finally {
    await sink.discard();
  }
}

const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'none',
    (error: unknown) => error,
  );

const image = kernelOfSize(20_000);
const half = image.length / 2;
const members = (pack: (bytes: Uint8Array) => Buffer): Buffer =>
  Buffer.concat([pack(image.subarray(0, half)), pack(image.subarray(half))]);

const PACKED: [string, 'gzip' | 'zstd', Buffer][] = [
  ['gzip', 'gzip', gzipSync(image)],
  ['gzip of two members', 'gzip', members((bytes) => gzipSync(bytes))],
  ['gzip with an empty member', 'gzip', Buffer.concat([gzipSync(image), gzipSync('')])],
  ['gzip padded with zeros', 'gzip', Buffer.concat([gzipSync(image), Buffer.alloc(512)])],
  ['zstd', 'zstd', zstdCompressSync(image)],
  ['zstd of two frames', 'zstd', members((bytes) => zstdCompressSync(bytes))],
];

describe.each(PACKED)('%s', (_name, compression, packed) => {
  test.each([packed.length, 4096, 7, 1])('is unpacked from chunks of %i bytes', async (length) => {
    const unpacked = await unpack(packed, length);
    expect([unpacked.compression, Buffer.compare(unpacked.bytes, image)]).toEqual([compression, 0]);
  });

  test('passes unchanged with unpack false', async () => {
    const unpacked = await unpack(packed, 1000, false);
    expect([unpacked.compression, Buffer.compare(unpacked.bytes, packed)]).toEqual([null, 0]);
  });
});

describe('what is not compressed passes untouched', () => {
  test.each<[string, Uint8Array]>([
    ['a kernel', image],
    ['nothing', Buffer.alloc(0)],
    ['one byte', Buffer.from('x')],
    ['less than any signature', image.subarray(0, 5)],
    ['half of the signature of gzip', Buffer.from([0x1f])],
    ['most of the signature of zstd', Buffer.from([0x28, 0xb5, 0x2f])],
    ['most of the signature of xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a])],
    ['gzip behind something else', Buffer.concat([Buffer.from('x'), gzipSync(image)])],
  ])('%s', async (_name, bytes) => {
    for (const length of [bytes.length, 1]) {
      const passed = await unpack(bytes, length);
      expect([passed.compression, Buffer.compare(passed.bytes, bytes)]).toEqual([null, 0]);
    }
  });

  test('uncopied', async () => {
    const appended: Uint8Array[] = [];
    const sink = new UnpackingSink({ ...emptySink(), append: (chunk) => void appended.push(chunk) });
    const chunk = noise(1000);
    await sink.append(chunk);
    await sink.append(chunk);
    expect(appended.map(({ buffer }) => buffer === chunk.buffer)).toEqual([true, true]);
  });
});

type Done = (error?: Error | null) => void;

describe('a chunk that is being unpacked', () => {
  const second = gzipSync(kernelOfSize(4 * MIB));
  const padded = Buffer.concat([gzipSync(image), Buffer.alloc(100_000)]);
  test.each([
    ['gzip', gzipSync(kernelOfSize(4 * MIB))],
    ['gzip of two members', Buffer.concat([gzipSync(image), second])],
    ['gzip with zeros behind it', padded],
    ['gzip, zeros and more gzip', Buffer.concat([padded, second])],
    ['zstd of two frames', Buffer.concat([zstdCompressSync(image), zstdCompressSync(kernelOfSize(4 * MIB))])],
  ])('is no longer needed after it was taken: %s', async (_name, packed) => {
    const busy = new Set<ArrayBufferLike>();
    const write = Reflect.get(Duplex.prototype, 'write') as (chunk: Uint8Array, done: Done) => boolean;
    const written = vi.spyOn(Duplex.prototype, 'write').mockImplementation(function (
      this: Duplex,
      chunk: Uint8Array,
      done: unknown,
    ) {
      busy.add(chunk.buffer);
      return write.call(this, chunk, (error) => {
        busy.delete(chunk.buffer);
        (done as Done)(error);
      });
    });
    const sink = new UnpackingSink(new StoredSink(store));
    const early: number[] = [];
    let at = 0;
    for (const piece of pieces(packed, 64 * KIB)) {
      const chunk = Uint8Array.from(piece);
      await sink.append(chunk);
      if (busy.has(chunk.buffer)) early.push(at);
      at += piece.length;
    }
    await (await sink.finish()).close();
    expect(written).toHaveBeenCalled();
    expect(early).toEqual([]);
  });
});

describe('what only begins like compressed data is damaged', () => {
  test.each([
    ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04]],
    ['bzip2', [0x42, 0x5a, 0x68, 0x39, 0x31, 0x41]],
    ['lzma', [0x5d, 0x00, 0x00, 0x80, 0x00, 0xff]],
    ['lzo', [0x89, 0x4c, 0x5a, 0x4f, 0x00, 0x0d]],
    ['lz4', [0x02, 0x21, 0x4c, 0x18, 0x10, 0x00, 0x00, 0x00]],
  ])('%s', async (name, start) => {
    const packed = Buffer.concat([Buffer.from(start), noise(1000)]);
    for (const [bytes, length] of [[packed, packed.length] as const, [packed, 1] as const]) {
      expect(await failureOf(unpack(bytes, length))).toMatchObject({
        code: 'compressed-data-corrupt',
        message: expect.stringMatching(new RegExp(`compressed with ${name}, and the compressed data`)),
      });
    }
  });

  test('even when nothing follows', async () => {
    expect(await failureOf(unpack(Buffer.from('BZh')))).toMatchObject({ code: 'compressed-data-corrupt' });
  });
});

/** The same with one byte turned. */
function damaged(packed: Buffer, at: number): Buffer {
  const copy = Buffer.from(packed);
  copy[at] = (copy[at] ?? 0) ^ 0xff;
  return copy;
}

describe('compressed data that is damaged', () => {
  const gz = gzipSync(image);
  const zst = zstdCompressSync(image);

  test.each<[string, string, Buffer]>([
    ['gzip without its last byte', 'gzip', gz.subarray(0, -1)],
    ['gzip cut in the middle', 'gzip', gz.subarray(0, gz.length / 2)],
    ['gzip cut in its header', 'gzip', gz.subarray(0, 8)],
    ['gzip cut behind its signature', 'gzip', gz.subarray(0, 2)],
    ['gzip damaged in its data', 'gzip', damaged(gz, 1000)],
    ['gzip with another checksum', 'gzip', damaged(gz, gz.length - 5)],
    ['gzip with another length', 'gzip', damaged(gz, gz.length - 1)],
    ['gzip of an unknown method', 'gzip', damaged(gz, 2)],
    ['gzip whose second member is cut', 'gzip', Buffer.concat([gz, gz.subarray(0, 1000)])],
    ['gzip followed by something else', 'gzip', Buffer.concat([gz, Buffer.alloc(512, 'x')])],
    ['zstd without its last byte', 'zstd', zst.subarray(0, -1)],
    ['zstd cut in the middle', 'zstd', zst.subarray(0, zst.length / 2)],
    ['zstd cut behind its signature', 'zstd', zst.subarray(0, 4)],
    ['zstd damaged in its header', 'zstd', damaged(zst, 5)],
    ['zstd whose second frame is cut', 'zstd', Buffer.concat([zst, zst.subarray(0, 1000)])],
    ['zstd followed by something else', 'zstd', Buffer.concat([zst, Buffer.alloc(512, 'x')])],
  ])('%s', async (_name, compression, packed) => {
    for (const length of [packed.length, 4096, 1]) {
      expect(await failureOf(unpack(packed, length))).toMatchObject({
        code: 'compressed-data-corrupt',
        message: expect.stringContaining(`compressed with ${compression}`),
      });
    }
  });

  test.each([
    ['gzip', gzipSync('')],
    ['zstd', zstdCompressSync('')],
  ])('is not %s of nothing', async (compression, packed) => {
    for (const length of [packed.length, 1]) {
      const unpacked = await unpack(packed, length);
      expect([unpacked.compression, unpacked.bytes.length]).toEqual([compression, 0]);
    }
  });
});

describe('a bzImage', () => {
  const packed: readonly (readonly [string, string | null, Uint8Array])[] = [
    ['gzip', 'gzip', bzImage(gzipSync(image), {})],
    ['zstd', 'zstd', bzImage(zstdCompressSync(image), { sizeWord: image.length })],
    ['an ELF file', null, bzImage(image, {})],
    ['gzip, in gzip', 'gzip', gzipSync(bzImage(gzipSync(image), {}))],
    ['zstd, in gzip', 'zstd', gzipSync(bzImage(zstdCompressSync(image), { sizeWord: image.length }))],
    ['protocol 2.08', 'gzip', bzImage(gzipSync(image), { protocol: 0x0208 })],
    ['no sector of set-up code, which are none', 'gzip', bzImage(gzipSync(image), { setupSects: 0 })],
    [
      'two members of gzip',
      'gzip',
      bzImage(
        members((bytes) => gzipSync(bytes)),
        { sizeWord: image.length },
      ),
    ],
    [
      'gzip and something else',
      'gzip',
      bzImage(Buffer.concat([gzipSync(image), noise(50)]), { sizeWord: image.length }),
    ],
  ];
  test.each(packed)('of %s is unpacked', async (_name, compression, bytes) => {
    for (const length of [bytes.length, 1000, 1]) {
      const unpacked = await unpack(bytes, length);
      expect([unpacked.compression, Buffer.compare(unpacked.bytes, image)]).toEqual([compression, 0]);
    }
  });

  const zstd = zstdCompressSync(image);
  const sizeWord = image.length;
  test.each<[string, Uint8Array, string, string]>([
    ['an old protocol', bzImage(zstd, { sizeWord, protocol: 0x0207 }), 'compression-unsupported', 'protocol 2.07'],
    ['an empty payload', bzImage(new Uint8Array(), {}), 'compression-unsupported', 'without a payload'],
    ['an unknown payload', bzImage(noise(100).fill(7), {}), 'compression-unsupported', 'neither an ELF kernel nor'],
    [
      'a payload of three bytes',
      bzImage(Buffer.from('abc'), {}),
      'compression-unsupported',
      'neither an ELF kernel nor',
    ],
    [
      'a size word too small',
      bzImage(zstd, { sizeWord: sizeWord - 1 }),
      'compressed-data-corrupt',
      `says ${sizeWord - 1}`,
    ],
    [
      'a size word too large',
      bzImage(zstd, { sizeWord: sizeWord + 1 }),
      'compressed-data-corrupt',
      `to ${sizeWord} bytes`,
    ],
    ['no size word', bzImage(zstd, {}), 'compressed-data-corrupt', 'bzImage compressed with zstd'],
    ['a file that is cut', bzImage(zstd, { sizeWord }).subarray(0, -1001), 'compressed-data-corrupt', 'cut short'],
    ['a file that is cut early', bzImage(zstd, { sizeWord }).subarray(0, 700), 'compressed-data-corrupt', 'cut short'],
    ['damaged data', bzImage(damaged(zstd, 5), { sizeWord }), 'compressed-data-corrupt', 'damaged'],
  ])('with %s is refused', async (_name, bytes, code, words) => {
    for (const length of [bytes.length, 100]) {
      const failure = await failureOf(unpack(bytes, length));
      expect(failure).toMatchObject({ code, message: expect.stringContaining(words) });
    }
  });
});

describe('the limit holds for what is unpacked', () => {
  test.each([
    ['gzip', gzipSync(Buffer.alloc(LIMIT))],
    ['zstd', zstdCompressSync(Buffer.alloc(LIMIT))],
    ['lz4', lz4Zeros(LIMIT)],
  ])('%s of exactly the limit is accepted', async (_name, packed) => {
    expect((await unpack(packed)).bytes.length).toBe(LIMIT);
  });

  test.each([
    ['gzip of one byte more', gzipSync(Buffer.alloc(LIMIT + 1))],
    ['zstd of one byte more', zstdCompressSync(Buffer.alloc(LIMIT + 1))],
    ['gzip of 10 GiB', gzipBomb(10 * KIB)],
    ['zstd of 256 MiB', zstdCompressSync(Buffer.alloc(256 * MIB))],
    ['lz4 of one byte more', lz4Zeros(LIMIT + 1)],
    ['lz4 of 256 MiB', lz4Zeros(256 * MIB)],
    ['a bzImage of 256 MiB', bzImage(lz4Zeros(256 * MIB), { sizeWord: 256 * MIB })],
  ])('%s is refused', async (_name, packed) => {
    const inner = new StoredSink(store);
    const sink = new UnpackingSink(inner);
    const work = async (): Promise<void> => {
      for (const piece of pieces(packed, 64 * KIB)) await sink.append(piece);
      await sink.finish();
    };
    expect(await failureOf(work())).toMatchObject({ code: 'image-too-large' });
    expect(store.memory.used + store.spool.budget.used).toBeLessThanOrEqual(LIMIT);
    await sink.discard();
  });
});

function emptySink(): ImageSink {
  return {
    append: () => {},
    finish: () => Promise.reject<ImageSource>(new Error('nothing is kept')),
    discard: () => Promise.resolve(),
  };
}

/** Time enough for the thread pool to unpack what it has been given, were it let. */
async function letUnpack(): Promise<void> {
  const work = gzipSync(Buffer.alloc(MIB));
  for (let turn = 0; turn < 20; turn++) await promisify(gunzip)(work);
}

describe.each([
  ['gzip', gzipSync(Buffer.alloc(64 * MIB))],
  ['zstd', zstdCompressSync(Buffer.alloc(64 * MIB))],
  ['lz4', lz4Zeros(64 * MIB)],
])('a slow sink after %s', (_name, packed) => {
  test('holds the stream back', async () => {
    const gate = new Gate();
    let taken = 0;
    let underWay = 0;
    let most = 0;
    const slow: ImageSink = {
      ...emptySink(),
      async append(chunk) {
        taken += chunk.length;
        underWay += 1;
        most = Math.max(most, underWay);
        await gate.pass();
        underWay -= 1;
      },
    };
    const sink = new UnpackingSink(slow);
    let fed = 0;
    const feed = async (): Promise<void> => {
      for (const piece of pieces(packed, 64)) {
        await sink.append(piece);
        fed += piece.length;
      }
      await sink.finish();
    };
    const work = feed();
    await eventually('something is unpacked', () => gate.arrived > 0);
    await letUnpack();
    expect(gate.arrived).toBe(1);
    expect(taken).toBeLessThanOrEqual(MIB);
    // What went in beyond that waits in the stream; it is little.
    expect(fed).toBeLessThan(packed.length);

    gate.open();
    expect(await failureOf(work)).toMatchObject({ message: 'nothing is kept' });
    expect([taken, fed, most]).toEqual([64 * MIB, packed.length, 1]);
  });

  test.each(['at once', 'later'])('that fails %s ends the work with its failure', async (when) => {
    let appended = 0;
    const failing: ImageSink = {
      ...emptySink(),
      append() {
        appended += 1;
        if (when === 'at once') throw new Error('the sink is broken');
        return Promise.reject(new Error('the sink is broken'));
      },
    };
    const sink = new UnpackingSink(failing);
    const feed = async (): Promise<void> => {
      for (const piece of pieces(packed, 4096)) await sink.append(piece);
      await sink.finish();
    };
    expect(await failureOf(feed())).toMatchObject({ message: 'the sink is broken' });
    expect(appended).toBe(1);
    await sink.discard();
  });
});

describe('discarding', () => {
  const packed = gzipSync(Buffer.alloc(LIMIT));

  test('before anything was appended', async () => {
    await new UnpackingSink(new StoredSink(store)).discard();
    expect(store.memory.used).toBe(0);
  });

  test('while it is unpacked settles what is under way', async () => {
    const sink = new UnpackingSink(new StoredSink(store));
    const appended = Promise.resolve(sink.append(packed));
    await sink.discard();
    expect(await outcome(appended)).not.toBe('pending');
  });

  test('while it is finished settles that, too', async () => {
    const sink = new UnpackingSink(new StoredSink(store));
    await sink.append(packed.subarray(0, -100));
    const finished = outcome(sink.finish());
    await sink.discard();
    expect(await finished).not.toBe('pending');
  });

  test.each([
    ['gzip', gzipSync(image)],
    ['zstd', zstdCompressSync(image)],
  ])('takes nothing for what still comes: %s', async (_name, late) => {
    const memory = new Budget(MIB);
    for (const first of [0, 3]) {
      const sink = new UnpackingSink(new StoredSink(store), true, memory);
      await sink.append(late.subarray(0, first));
      await sink.discard();
      await sink.append(late.subarray(first));
      await expect(sink.finish()).rejects.toThrow('discarded');
      expect([memory.used, store.memory.used]).toEqual([0, 0]);
    }
  });

  test.each([
    ['gzip', gzipSync(noise(MIB))],
    ['zstd', zstdCompressSync(noise(MIB))],
  ])('gives back what unpacking takes: %s', async (_name, late) => {
    const memory = new Budget(64 * MIB);
    const sink = new UnpackingSink(new StoredSink(store), true, memory);
    await sink.append(late.subarray(0, late.length / 2));
    expect(memory.used).toBeGreaterThan(0);
    await sink.discard();
    expect(memory.used).toBe(0);
  });

  test('twice does no harm', async () => {
    const sink = new UnpackingSink(new StoredSink(store));
    await sink.append(packed);
    await sink.discard();
    await sink.discard();
    expect([store.memory.used, store.spool.budget.used]).toEqual([0, 0]);
  });
});
