import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import type { ImageSource } from '../../../src/inspect/image-source.ts';
import { collect } from '../../support/load.ts';

const sourceOf = (...chunks: number[][]): MemorySource =>
  new MemorySource(chunks.map((chunk) => Uint8Array.from(chunk)));
const piecesOf = async (source: ImageSource, offset: number, length: number): Promise<number[][]> => {
  const pieces = [];
  for await (const piece of source.stream(offset, length)) pieces.push([...piece]);
  return pieces;
};

describe('a source in memory', () => {
  const source = sourceOf([0, 1, 2], [], [3], [4, 5, 6, 7]);

  test('knows its size', () => {
    expect(source.size).toBe(8);
    expect(sourceOf().size).toBe(0);
  });

  test.each([
    [0, 8, [0, 1, 2, 3, 4, 5, 6, 7]],
    [1, 2, [1, 2]],
    [2, 3, [2, 3, 4]],
    [3, 1, [3]],
    [7, 1, [7]],
    [5, 0, []],
    [8, 0, []],
  ])('reads %i + %i across its chunks', async (offset, length, expected) => {
    expect([...(await source.read(offset, length))]).toEqual(expected);
    expect([...(await collect(source.stream(offset, length)))]).toEqual(expected);
  });

  test('streams the pieces as they lie, without gathering them', async () => {
    expect((await piecesOf(source, 1, 6)).filter((piece) => piece.length > 0)).toEqual([[1, 2], [3], [4, 5, 6]]);
  });

  test('holds a range without copying it', async () => {
    const bytes = Uint8Array.from([1, 2, 3, 4]);
    const held = await new MemorySource([bytes.subarray(0, 1), bytes.subarray(1)]).hold(0, 3);
    expect(held.map((piece) => [...piece])).toEqual([[1], [2, 3]]);
    expect(held.every(({ buffer }) => buffer === bytes.buffer)).toBe(true);
  });

  test('reads nothing of an empty image', async () => {
    expect(await sourceOf().read(0, 0)).toHaveLength(0);
  });

  test('hands out copies, which stay as they are when the memory is used again', async () => {
    const chunk = Uint8Array.of(1, 2, 3);
    const read = await new MemorySource([chunk]).read(1, 2);
    chunk.fill(0);
    expect([...read]).toEqual([2, 3]);
  });

  test.each([
    [0, 9],
    [8, 1],
    [9, 0],
    [-1, 1],
    [1, -1],
  ])('refuses %i + %i, which is not inside', async (offset, length) => {
    await expect(source.read(offset, length)).rejects.toThrow(RangeError);
    await expect(collect(source.stream(offset, length))).rejects.toThrow('outside an image of 8 bytes');
  });

  test('cannot be read once closed', async () => {
    const closed = sourceOf([1, 2, 3]);
    await closed.close();
    await expect(closed.read(0, 1)).rejects.toThrow('closed');
    await expect(collect(closed.stream(0, 1))).rejects.toThrow('closed');
  });

  test('gives back what it occupies once, however often it is closed', async () => {
    let released = 0;
    const closed = new MemorySource([Uint8Array.of(1)], () => {
      released += 1;
    });
    await closed.close();
    await closed.close();
    expect(released).toBe(1);
  });
});
