import { describe, expect, test } from 'vitest';
import { ChunkList } from '../../../src/image/chunks.ts';

/** Chunks from here on are never gathered, and this many smaller ones are not either. */
const LARGE_BYTES = 8 * 1024;
const KEPT_SMALL_CHUNKS = 16;

/** A list behind whose first small chunks the next are gathered. */
function gatheringList(): ChunkList {
  const list = new ChunkList();
  for (let index = 0; index < KEPT_SMALL_CHUNKS; index++) list.push(Uint8Array.of(index));
  return list;
}

describe('a list of chunks', () => {
  test('counts its bytes, and starts anew when they are taken', () => {
    const list = new ChunkList();
    list.push(Uint8Array.of(1, 2));
    list.push(new Uint8Array());
    list.push(Uint8Array.of(3));
    expect(list.bytes).toBe(3);
    expect(Buffer.concat(list.take())).toEqual(Buffer.of(1, 2, 3));
    expect(list.bytes).toBe(0);
    expect(list.take()).toEqual([]);
  });

  test('keeps large chunks as they are', () => {
    const list = gatheringList();
    const chunk = new Uint8Array(LARGE_BYTES);
    list.push(chunk);
    expect(list.take().at(-1)).toBe(chunk);
  });

  test('keeps the first small chunks as they are', () => {
    const list = new ChunkList();
    const chunk = Uint8Array.of(1);
    list.push(chunk);
    expect(list.take()).toEqual([chunk]);
  });

  test('gathers further small chunks, so that none of them is kept alive', () => {
    const list = gatheringList();
    const chunk = new Uint8Array(LARGE_BYTES - 1).fill(7);
    list.push(chunk);
    const kept = list.take().at(-1);
    expect(kept).toEqual(chunk);
    expect(kept?.buffer).not.toBe(chunk.buffer);
  });

  test('gathers a flood of tiny chunks into few', () => {
    const list = new ChunkList();
    const bytes = 200 * 1024;
    for (let at = 0; at < bytes; at++) list.push(Uint8Array.of(at % 251));
    const chunks = list.take();
    expect(chunks.length).toBeLessThanOrEqual(KEPT_SMALL_CHUNKS + 4);
    expect(Buffer.concat(chunks).every((byte, index) => byte === index % 251)).toBe(true);
  });

  test('keeps the order of small and large chunks', () => {
    const list = gatheringList();
    const chunks = [3, LARGE_BYTES, 5, LARGE_BYTES + 1, LARGE_BYTES, 1, 1].map((length, index) =>
      new Uint8Array(length).fill(index + 1),
    );
    for (const chunk of chunks) list.push(chunk);
    expect(Buffer.concat(list.take()).subarray(KEPT_SMALL_CHUNKS).equals(Buffer.concat(chunks))).toBe(true);
  });
});
