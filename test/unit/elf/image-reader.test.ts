/** Reads of single values and strings anywhere in an image, and what they ask the image for. */
import { describe, expect, test } from 'vitest';
import type { ByteRange, ByteWalk } from '../../../src/elf/byte-walk.ts';
import { asciiBytes, BLOCK_BYTES, ImageReader, MAX_STRING_BYTES } from '../../../src/elf/image-reader.ts';
import { Recorder } from '../../../src/elf/recorder.ts';
import { runWalk } from '../../support/walk.ts';

/** An image of counted bytes, none of them 0, and a reader of it. */
function open(size: number, littleEndian = true) {
  const image = Uint8Array.from({ length: size }, (_, index) => (index % 255) + 1);
  const recorder = new Recorder('notes');
  const reader = new ImageReader({ imageSize: size, littleEndian }, recorder);
  const asked: ByteRange[] = [];
  const run = <Result>(walk: ByteWalk<Result>): Result => {
    const { result, reads } = runWalk(walk, image);
    asked.push(...reads);
    return result;
  };
  return { image, reader, recorder, asked, run };
}

describe('a number', () => {
  test('has the byte order of the image', () => {
    const little = open(16);
    expect(little.run(little.reader.word('word', 0))).toBe(0x0403_0201);
    const big = open(16, false);
    expect(big.run(big.reader.word('word', 0))).toBe(0x0102_0304);
  });

  test.each([
    [1, 0x05n],
    [2, 0x0605n],
    [4, 0x0807_0605n],
    [8, 0x0c0b_0a09_0807_0605n],
    [3, 0n],
    [0, 0n],
  ])('of %i bytes', (size, value) => {
    const { reader, run } = open(16);
    expect(run(reader.number('number', 4, size))).toBe(value);
  });

  test('that reaches from one block into the next', () => {
    const { image, reader, run, asked } = open(4 * BLOCK_BYTES);
    const at = BLOCK_BYTES - 3;
    const expected = new DataView(image.buffer).getUint32(at, true);
    expect(run(reader.word('word', at))).toBe(expected);
    expect(asked.map(({ offset }) => offset)).toEqual([0, BLOCK_BYTES]);
    // Both are kept.
    expect(run(reader.word('word', at))).toBe(expected);
    expect(run(reader.word('word', 8))).toBe(new DataView(image.buffer).getUint32(8, true));
    expect(run(reader.word('word', BLOCK_BYTES + 8))).toBe(new DataView(image.buffer).getUint32(BLOCK_BYTES + 8, true));
    expect(asked).toHaveLength(2);
  });

  test.each([
    [13, 4],
    [16, 1],
    [-1, 4],
  ])('at %i that is not inside the image reads as 0, and is recorded', (at, size) => {
    const { reader, recorder, run, asked } = open(16);
    expect(run(reader.number('the number', at, size))).toBe(0n);
    expect(recorder.recorded).toMatchObject({ code: 'out-of-range-access', what: 'the number' });
    expect(asked).toEqual([]);
  });
});

describe('a word at hand', () => {
  test('is there once its block was read, and only all of it', () => {
    const { image, reader, run } = open(4 * BLOCK_BYTES);
    expect(reader.wordAtHand(8)).toBeUndefined();
    run(reader.word('word', 0));
    const view = new DataView(image.buffer);
    expect(reader.wordAtHand(8)).toBe(view.getUint32(8, true));
    expect(reader.wordAtHand(BLOCK_BYTES - 4)).toBe(view.getUint32(BLOCK_BYTES - 4, true));
    expect(reader.wordAtHand(BLOCK_BYTES - 3)).toBeUndefined();
    expect(reader.wordAtHand(BLOCK_BYTES)).toBeUndefined();
  });
});

test.each([
  [16, 9, [0x0807_0605n, 0x0c0b_0a09n]],
  [8, 9, [0x0807_0605n, 0x0c0b_0a09n]],
  [8, 1, [0x0807_0605n]],
  [8, 0, []],
  [7, 9, []],
])('words of a description of %i bytes, at most %i', (size, count, words) => {
  const { reader, run } = open(64);
  const read = run(reader.words('words', 4, size, count));
  expect(read.slice(0, 2)).toEqual(words);
  expect(read).toHaveLength(size % 4 === 0 ? Math.min(size / 4, count) : 0);
});

/** The reader of an image with a NUL at that place. */
function withNul(size: number, nul: number) {
  const opened = open(size);
  opened.image[nul] = 0;
  return opened;
}

describe('a string', () => {
  test.each([
    ['in its block', 5],
    ['at once', 3],
    ['in the next block', BLOCK_BYTES + 20],
    ['as late as it may', 3 + MAX_STRING_BYTES],
  ])('that ends %s', (_name, nul) => {
    const { image, reader, recorder, run } = withNul(3 * MAX_STRING_BYTES, nul);
    expect(run(reader.string('name', 3))).toEqual(image.subarray(3, nul));
    expect(recorder.recorded).toBeNull();
  });

  test('one byte longer is too long', () => {
    const { reader, recorder, run } = withNul(3 * MAX_STRING_BYTES, 4 + MAX_STRING_BYTES);
    expect(run(reader.string('name', 3))).toBeNull();
    expect(recorder.recorded).toMatchObject({ code: 'string-too-long', what: 'name', offset: 3n });
  });

  test.each([10, MAX_STRING_BYTES, MAX_STRING_BYTES - 1])(
    'of %i bytes up to the end of the image leaves it',
    (room) => {
      const { reader, recorder, run } = open(BLOCK_BYTES + room);
      expect(run(reader.string('name', BLOCK_BYTES))).toBeNull();
      expect(recorder.recorded).toMatchObject({ code: 'out-of-range-access', offset: BigInt(BLOCK_BYTES + room) });
    },
  );

  test('one byte more of room, and it is too long', () => {
    const { reader, recorder, run } = open(BLOCK_BYTES + MAX_STRING_BYTES + 1);
    expect(run(reader.string('name', BLOCK_BYTES))).toBeNull();
    expect(recorder.recorded?.code).toBe('string-too-long');
  });

  test('that begins outside is recorded', () => {
    const { reader, recorder, run, asked } = open(16);
    expect(run(reader.string('name', 16))).toBeNull();
    expect(recorder.recorded).toMatchObject({ code: 'out-of-range-access', offset: 16n });
    expect(asked).toEqual([]);
  });

  describe('compared', () => {
    const EXPECTED = asciiBytes('Xen');
    function compare(text: string, at: number) {
      const { image, reader, recorder, run } = open(4 * BLOCK_BYTES);
      image.set(asciiBytes(text), at);
      // As it is when the note before it was read.
      run(reader.word('word', at - 4));
      return { isSame: run(reader.isString('name', at, EXPECTED)), recorded: recorder.recorded };
    }

    test.each([
      ['Xen\0', true],
      ['Xen\0more', true],
      ['Xe\0', false],
      ['XEN\0', false],
      ['Xenix\0', false],
      ['\0', false],
    ])('%j', (text, isSame) => {
      for (const at of [16, BLOCK_BYTES - 2, BLOCK_BYTES - 3]) {
        expect(compare(text, at)).toEqual({ isSame, recorded: null });
      }
    });

    test('without an end, the string is recorded', () => {
      expect(compare('Xen', 16)).toMatchObject({ isSame: false, recorded: { code: 'out-of-range-access' } });
    });
  });
});

test('blocks read long ago are read again', () => {
  const { reader, run, asked } = open(1026 * BLOCK_BYTES);
  for (let block = 0; block < 1025; block++) run(reader.word('word', block * BLOCK_BYTES));
  run(reader.word('word', BLOCK_BYTES));
  expect(asked).toHaveLength(1025);
  run(reader.word('word', 0));
  expect(asked).toHaveLength(1026);
});
