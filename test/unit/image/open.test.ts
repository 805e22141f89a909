import { strict as assert } from 'node:assert';
import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { FileError } from '../../../src/image/file.ts';
import type { GatheredImage, StoreLimits } from '../../../src/image/gather.ts';
import { openImageFile, openImageStream } from '../../../src/image/open.ts';
import { ImageError } from '../../../src/inspect/image-error.ts';
import { kernel } from '../../support/elf-builder.ts';
import { emptyDirectory } from '../../support/files.ts';
import { collect } from '../../support/load.ts';
import { interceptReads, kernelOfSize, MIB, pieces, systemError } from '../../support/uploads.ts';

const directory = emptyDirectory();

/** Whatever becomes of an image: no file of it is left in a directory. */
afterEach(() => {
  const others = readdirSync(directory.path).filter((name) => !name.startsWith('file-'));
  assert.deepEqual(others, []);
});

const image = kernelOfSize(3 * MIB);
const WAYS: readonly (readonly [
  string,
  (bytes: Uint8Array, limits?: Partial<StoreLimits>) => Promise<GatheredImage>,
])[] = [
  ['a file', (bytes, limits) => openImageFile(directory.write(bytes), limits)],
  ['a stream', (bytes, limits) => openImageStream(Readable.from(pieces(bytes, 50_000), { objectMode: false }), limits)],
];
const spooled = (): Partial<StoreLimits> => ({ memoryBudgetBytes: 0, spoolDir: directory.path });

async function failure(action: Promise<unknown>): Promise<unknown> {
  try {
    await action;
  } catch (error) {
    return error instanceof ImageError || error instanceof FileError ? error.code : error;
  }
  return 'none';
}

describe.each(WAYS)('%s', (_, openImage) => {
  test.each([
    ['as it is', image, null],
    ['with gzip', gzipSync(image), 'gzip'],
    ['with zstd', zstdCompressSync(image), 'zstd'],
    ['that is no image', Buffer.from('text'), null],
    ['that is empty', new Uint8Array(), null],
  ] as const)('is opened %s, in memory and on disk', async (_name, bytes, compression) => {
    const unpacked = compression === null ? bytes : image;
    for (const limits of [{}, spooled()]) {
      const opened = await openImage(bytes, limits);
      expect([opened.compression, opened.source.size]).toEqual([compression, unpacked.length]);
      expect(Buffer.compare(await collect(opened.source.stream(0, opened.source.size)), unpacked)).toBe(0);
      await opened.source.close();
    }
  });

  test.each([
    ['damaged', gzipSync(image).subarray(0, -9), {}, 'compressed-data-corrupt'],
    ['cut short', Buffer.from('425a683931415926', 'hex'), {}, 'compressed-data-corrupt'],
    ['too large', gzipSync(image), { maxImageBytes: 3 * MIB - 1 }, 'image-too-large'],
    ['larger than the spool', gzipSync(image), { memoryBudgetBytes: 0, spoolBudgetBytes: MIB }, 'spool-full'],
    ['nowhere to be kept', gzipSync(image), { spoolDir: '/nowhere' }, 'spool-unavailable'],
  ])('is refused when it is %s', async (_name, bytes, limits, code) => {
    expect(await failure(openImage(bytes, { spoolDir: directory.path, ...limits }))).toBe(code);
  });
});

test('a file is read where it lies, and at once no more than its mark', async () => {
  const path = directory.write(image);
  const reads = await interceptReads();
  const { source } = await openImageFile(path, { maxImageBytes: 1, memoryBudgetBytes: 0, spoolDir: '/nowhere' });
  expect(reads).toEqual([{ offset: 0, length: 4 }]);
  await source.close();
});

test('a file of which nothing can be read is closed', async () => {
  const reads = await interceptReads();
  reads.push = () => {
    throw systemError('EIO');
  };
  expect(await failure(openImageFile(directory.write(kernel().bytes)))).toMatchObject({ code: 'EIO' });
});

test('a stream that breaks off is not an image', async () => {
  const broken = new Readable({
    read() {
      this.push(image.subarray(0, 1000));
      this.destroy(systemError('EPIPE'));
    },
  });
  expect(await failure(openImageStream(broken))).toMatchObject({ code: 'EPIPE' });
});

/** Bytes without end, and how many of them were read. */
function endless(start: Uint8Array): { readonly stream: Readable; readonly count: () => number } {
  const zeros = Buffer.alloc(64 * 1024);
  let read = 0;
  const stream = new Readable({
    read() {
      const piece = read === 0 && start.length > 0 ? start : zeros;
      read += piece.length;
      this.push(piece);
    },
  });
  return { stream, count: () => read };
}

describe('a stream without end', () => {
  test.each([
    ['of zeros', Buffer.alloc(0), 'image-too-large'],
    ['of padding after an image', gzipSync(image), 'image-too-large'],
    ['of zeros after a compressed image', zstdCompressSync(image), 'compressed-data-corrupt'],
    ['of a bzip2 block that is none', Buffer.from('425a683931415926', 'hex'), 'compressed-data-corrupt'],
  ])('%s is not read on when it is refused', async (_name, start, code) => {
    const maxImageBytes = 4 * MIB;
    const { stream, count } = endless(start);
    expect(await failure(openImageStream(stream, { maxImageBytes }))).toBe(code);
    expect(stream.destroyed).toBe(true);
    expect(count()).toBeLessThan(maxImageBytes + MIB);
    const before = count();
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(count()).toBe(before);
  });

  test('is not read at all when there is nowhere to keep it', async () => {
    const { stream } = endless(Buffer.alloc(0));
    expect(await failure(openImageStream(stream, { spoolDir: '/nowhere' }))).toBe('spool-unavailable');
    expect(stream.destroyed).toBe(true);
  });

  test.skipIf(!existsSync('/dev/zero'))('is not read on from a device', async () => {
    const stream = createReadStream('/dev/zero');
    expect(await failure(openImageStream(stream, { maxImageBytes: MIB }))).toBe('image-too-large');
    expect(stream.destroyed).toBe(true);
  });
});

test.each<[string, () => Readable | Promise<Readable>, string]>([
  ['was destroyed', () => Readable.from([image]).destroy(), 'ERR_STREAM_PREMATURE_CLOSE'],
  [
    'has failed',
    async () => {
      const stream = new Readable({ read: () => {} }).on('error', () => {});
      stream.destroy(systemError('EIO'));
      await new Promise((resolve) => setImmediate(resolve));
      return stream;
    },
    'EIO',
  ],
  [
    'has been read',
    async () => {
      const stream = Readable.from([image]);
      await collect(stream);
      return stream;
    },
    'ERR_STREAM_PREMATURE_CLOSE',
  ],
])('a stream that %s is not an image, and is not awaited', async (_name, make, code) => {
  expect(await failure(openImageStream(await make(), {}))).toMatchObject({ code });
});
