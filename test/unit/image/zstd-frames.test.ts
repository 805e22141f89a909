import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type FramePart, ZstdFrames } from '../../../src/image/unpack/zstd-frames.ts';
import { KIB, MIB, noise, pieces } from '../../support/uploads.ts';
import { frameHead, rawBlock, repeated, rleBlock, segmentHead, skippableFrame } from '../../support/zstd.ts';

const compress = (bytes: Uint8Array | string, checksum = false): Buffer =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0 } });
const text = Buffer.from('a kernel and its symbols, a kernel and its symbols. '.repeat(100));
const empty = Buffer.alloc(0);
const join = (parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);

interface Taken {
  /** In order: each frame as it was given to a decompressor, or what needed none. */
  readonly content: Uint8Array[];
  readonly frames: Extract<FramePart, { kind: 'frame' }>[];
  readonly foreign: number | null;
  readonly atEnd: boolean;
}

/** Reads bytes in chunks, each of which is overwritten once it was read. */
function take(bytes: Uint8Array, chunkBytes: number = Math.max(1, bytes.length)): Taken {
  const reader = new ZstdFrames();
  const content: Uint8Array[][] = [];
  const frames: Taken['frames'] = [];
  let foreign: number | null = null;
  for (const piece of pieces(bytes, chunkBytes)) {
    const chunk = Uint8Array.from(piece);
    for (const part of reader.read(chunk)) {
      switch (part.kind) {
        case 'frame':
          frames.push(part);
          content.push([]);
          break;
        case 'packed':
          content.at(-1)?.push(Uint8Array.from(part.bytes));
          break;
        case 'stored':
          content.push([Uint8Array.from(part.bytes)]);
          break;
        case 'foreign':
          foreign = part.offset;
          break;
      }
    }
    chunk.fill(0xee);
  }
  return { content: content.map(join), frames, foreign, atEnd: reader.atEnd };
}

describe.each([1, 7, 1000, MIB])('in chunks of %i bytes', (chunkBytes) => {
  test.each<[string, Uint8Array]>([
    ['text', compress(text)],
    ['text with a checksum', compress(text, true)],
    ['noise, which is stored, with a checksum', compress(noise(2000), true)],
    ['several blocks', compress(noise(300_000))],
    ['blocks of repeated bytes', join([frameHead(20), rleBlock(1000), rleBlock(7, true)])],
    ['an empty block that is not the last', join([frameHead(20), rawBlock(empty), rawBlock(empty, true)])],
  ])('a frame ends with its last block: %s', (_name, frame) => {
    const { content, frames, atEnd } = take(join([frame, frame]), chunkBytes);
    expect(content.map((part) => Buffer.compare(part, frame))).toEqual([0, 0]);
    expect(frames.map(({ offset }) => offset)).toEqual([0, frame.length]);
    expect(atEnd).toBe(true);
  });

  test.each<[string, Uint8Array, string]>([
    ['nothing', compress(empty), ''],
    ['nothing, with a checksum', compress(empty, true), ''],
    ['a byte', compress('a'), 'a'],
    ['a byte in a window', join([frameHead(10), rawBlock(Buffer.from('a'), true)]), 'a'],
    ['nothing at all, to be passed over', skippableFrame(empty), ''],
    ['something to be passed over', skippableFrame(noise(3000), 15), ''],
  ])('no decompressor is needed for a frame of %s', (_name, frame, stored) => {
    const { content, frames, atEnd } = take(repeated(frame, 5), chunkBytes);
    expect([join(content).toString(), frames, atEnd]).toEqual([stored.repeat(5), [], true]);
  });

  test.each<[string, Uint8Array]>([
    ['another checksum', join([compress(empty, true).subarray(0, -1), Buffer.from([1])])],
    ['more content than it says', join([compress('a').subarray(0, -4), rawBlock(Buffer.from('ab'), true)])],
    ['a block of an unknown kind', join([frameHead(20), Buffer.from([6, 0, 0]), noise(50)])],
    ['a reserved bit', Buffer.from(compress('a')).fill(0x28, 4, 5)],
  ])('a frame that is not plainly right is left to the decompressor: %s', (_name, frame) => {
    const { content, frames } = take(frame, chunkBytes);
    expect([frames.length, Buffer.compare(join(content), frame)]).toEqual([1, 0]);
  });

  test.each<[string, Uint8Array]>([
    ['text', Buffer.from('junk')],
    ['zeros', Buffer.alloc(8)],
    ['gzip', Buffer.from([0x1f, 0x8b, 8, 0])],
    ['an old format of zstd', Buffer.from([0x27, 0xb5, 0x2f, 0xfd])],
    ['what is almost a frame', Buffer.from([0x28, 0xb5, 0x2f, 0xfe])],
  ])('bytes that are not a frame end the data: %s', (_name, foreign) => {
    const frame = compress(text);
    const { content, foreign: at, frames } = take(join([frame, foreign, frame]), chunkBytes);
    expect([frames.length, at, Buffer.compare(join(content), frame)]).toEqual([1, frame.length, 0]);
  });
});

const headerOf = (bytes: Uint8Array) => take(bytes).frames[0]?.header;

describe('the header says', () => {
  /** Not the only block, so that a decompressor is needed. */
  const more = rawBlock(empty);

  test.each([10, 17, 23, 27, 28, 31, 41])('how large its window is: 2^%i', (log) => {
    expect(headerOf(join([frameHead(log), more]))).toEqual({
      windowBytes: 2 ** log,
      contentBytes: null,
      needsDictionary: false,
    });
  });

  test('a window in eighths between the powers of two', () => {
    const head = frameHead(27);
    head[5] = (head[5] ?? 0) | 3;
    expect(headerOf(join([head, more]))?.windowBytes).toBe(2 ** 27 + 3 * 2 ** 24);
  });

  test.each([0, 255, 256, 65_791, 65_792, 2 ** 32 - 1, 2 ** 32, 2 ** 50])(
    'how large its only segment is: %d',
    (size) => {
      expect(headerOf(join([segmentHead(size), more]))).toEqual({
        windowBytes: size,
        contentBytes: size,
        needsDictionary: false,
      });
    },
  );

  test.each([1, 255, 256, 70_000])('the size of %i bytes as a compressor writes it', (size) => {
    const bytes = Buffer.alloc(size, 'abc');
    const frame = zstdCompressSync(bytes, { pledgedSrcSize: size });
    const { content, frames } = take(frame);
    expect(frames.map(({ header }) => header.contentBytes)).toEqual(size > 1 ? [size] : []);
    expect(join(content)).toHaveLength(size > 1 ? frame.length : 1);
  });

  test('whether it needs a dictionary', () => {
    const [magic, window] = [frameHead(20).subarray(0, 4), frameHead(20).subarray(5)];
    for (const [flag, id, needed] of [
      [1, [7], true],
      [2, [0, 7], true],
      [3, [0, 0, 0, 7], true],
      [3, [0, 0, 0, 0], false],
    ] as const) {
      const frame = join([magic, Buffer.from([flag]), window, Buffer.from(id), rawBlock(Buffer.from('a'), true)]);
      const { frames, content } = take(frame);
      // Without one it is no more than a stored byte.
      expect([frames[0]?.header.needsDictionary ?? false, join(content).length]).toEqual([
        needed,
        needed ? frame.length : 1,
      ]);
    }
  });
});

describe('data that is cut short', () => {
  test.each<[string, Uint8Array]>([
    ['a frame', compress(text, true)],
    ['an empty frame', compress(empty, true)],
    ['a stored byte', compress('a')],
    ['a frame to be passed over', skippableFrame(noise(40))],
  ])('is known to be, wherever it is: %s', (_name, frame) => {
    const first = compress(text);
    for (let length = 1; length < frame.length; length++) {
      const { atEnd, foreign } = take(join([first, frame.subarray(0, length)]), 50);
      expect([length, atEnd, foreign]).toEqual([length, false, null]);
    }
    expect(take(join([first, frame])).atEnd).toBe(true);
  });
});

test('a stored block is given to the decompressor when it does not come in one chunk and is not small', () => {
  const frame = compress(noise(100 * KIB));
  expect(take(frame).frames).toEqual([]);
  expect(take(frame, 60 * KIB).frames).toHaveLength(1);
});

/** The content of one frame, as zstd has it. */
const unpackAlone = (frame: Uint8Array): Buffer =>
  (frame[0] ?? 0) >> 4 === 5 ? empty : zstdDecompressSync(Buffer.from(frame));

test('what is put together from the parts is what was compressed, however it is cut', () => {
  const frames = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((bytes) => compress(bytes)),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => compress(bytes, true)),
      fc.nat({ max: 3000 }).map((length) => compress(Buffer.alloc(length, 'abcdef'))),
      fc.uint8Array({ maxLength: 20 }).map((bytes) => skippableFrame(bytes)),
    ),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(frames, fc.integer({ min: 1, max: 300 }), (packed, chunkBytes) => {
      const reader = new ZstdFrames();
      const unpacked: Uint8Array[] = [];
      let open: Uint8Array[] = [];
      const close = (): void => {
        if (open.length > 0) unpacked.push(unpackAlone(join(open)));
        open = [];
      };
      for (const chunk of pieces(join(packed), chunkBytes)) {
        for (const part of reader.read(chunk)) {
          if (part.kind !== 'packed') close();
          if (part.kind === 'packed') open.push(Uint8Array.from(part.bytes));
          if (part.kind === 'stored') unpacked.push(Uint8Array.from(part.bytes));
          expect(part.kind).not.toBe('foreign');
        }
      }
      close();
      expect(reader.atEnd).toBe(true);
      expect(Buffer.compare(join(unpacked), join(packed.map(unpackAlone)))).toBe(0);
    }),
  );
});
