import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES, GuestMemory, positionOf } from '../../../../src/xen/guests/memory.ts';
import { bytesRead, runWalk } from '../../../support/walk.ts';

const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, at) => (at * 7 + (at >>> 8)) % 255);

test.each([
  [0n, 4],
  [2n ** 64n - 1n, 3],
  [2n ** 64n - 5n, -1],
  [2n ** 63n, -(2 ** 63)],
])('an offset of %i leads to position %i', (offset, position) => {
  expect(positionOf(offset)).toBe(position);
});

describe('a block', () => {
  const bytes = noise(100);

  test.each([
    [0, 100],
    [-5, 10],
    [95, 10],
    [-5, 120],
    [-50, 20],
    [200, 20],
    [2 ** 60, 20],
    [-(2 ** 63), 20],
    [3, 0],
  ])('at %i of %i bytes is zero where it is outside', (at, length) => {
    const { result, reads } = runWalk(new GuestMemory(100).block(at, length), bytes);
    expect([...result]).toEqual(Array.from({ length }, (_, index) => bytes[at + index] ?? 0));
    expect(reads.length).toBeLessThanOrEqual(1);
  });

  test('of any length can be copied', () => {
    const large = noise(3 * BLOCK_BYTES + 5);
    const { result, reads } = runWalk(new GuestMemory(large.length).copy(-7, large.length + 20), large);
    expect(Buffer.compare(result.subarray(7, 7 + large.length), large)).toBe(0);
    expect(Math.max(...reads.map(({ length }) => length))).toBe(BLOCK_BYTES);
  });
});

describe('zeros', () => {
  test.each([1, 2, 3, 4, 5, 100, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 3])('in %i bytes', (length) => {
    const bytes = new Uint8Array(length);
    const memory = new GuestMemory(length);
    expect(runWalk(memory.isZero(0, length), bytes).result).toBe(true);
    for (const at of [0, length >>> 1, length - 1]) {
      bytes[at] = 0x80;
      expect(runWalk(memory.isZero(0, length), bytes).result).toBe(false);
      expect(runWalk(memory.isZero(at + 1, length), bytes).result).toBe(true);
      expect(runWalk(memory.isZero(0, at), bytes).result).toBe(true);
      bytes[at] = 0;
    }
  });

  test('are looked for in few bytes of any alignment', () => {
    for (let length = 1; length < 10; length++) {
      for (let start = 0; start < 8; start++) {
        for (let set = -1; set <= length; set++) {
          // What is before and after does not matter.
          const bytes = new Uint8Array(start + length + 4);
          if (start + set >= 0) bytes[start + set] = 1;
          const walk = new GuestMemory(length).isZero(0, length);
          walk.next();
          const { value } = walk.next(bytes.subarray(start, start + length));
          expect([length, start, set, value]).toEqual([length, start, set, set === -1 || set === length]);
        }
      }
    }
  });

  test('reach as far as the memory', () => {
    expect(runWalk(new GuestMemory(10).isZero(5, 1000), new Uint8Array(10)).result).toBe(true);
    expect(runWalk(new GuestMemory(10).isZero(50, 1000), new Uint8Array(10)).result).toBe(true);
  });
});

test('the last NUL is found from the end', () => {
  const bytes = new Uint8Array(2 * BLOCK_BYTES).fill(1);
  expect(runWalk(new GuestMemory(bytes.length).findLastNul(0, bytes.length), bytes).result).toBe(-1);
  for (const at of [0, 5, BLOCK_BYTES, bytes.length - 5000, bytes.length - 1]) {
    bytes[at] = 0;
    const memory = new GuestMemory(bytes.length);
    const { result, reads } = runWalk(memory.findLastNul(0, bytes.length), bytes);
    expect(result).toBe(at);
    expect(bytesRead(reads)).toBeLessThan(bytes.length - at + BLOCK_BYTES + 1);
    expect(runWalk(memory.findLastNul(at + 1, bytes.length), bytes).result).toBe(-1);
    // It is asked for by several guests, and looked for once.
    expect(runWalk(memory.findLastNul(0, bytes.length), bytes)).toMatchObject({ result: at, reads: [] });
  }
  expect(runWalk(new GuestMemory(bytes.length).findLastNul(7, 7), bytes).reads).toEqual([]);
});

describe('ranges that lie anywhere', () => {
  const bytes = noise(200_000);
  const memory = new GuestMemory(bytes.length);

  test('are looked at once, with the bytes that there are', () => {
    const step = fc.oneof(fc.nat(210_000), fc.nat(300), fc.nat(0xffff_ffff));
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.integer({ min: -1000, max: 1000 }),
        fc.constantFrom(1, 40, 64),
        fc.integer({ min: 1, max: 20 }),
        (steps, base, stride, length) => {
          const seen: (readonly number[])[] = [];
          runWalk(
            memory.scatter(base, stride, steps, length, (index, found) => {
              expect(seen[index]).toBeUndefined();
              seen[index] = [...found];
            }),
            bytes,
          );
          const expected = steps.map((one) => {
            const at = base + stride * one;
            return at < 0 ? [] : [...bytes.subarray(Math.min(at, bytes.length), at + length)];
          });
          expect(seen).toEqual(expected);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('cost no more than the memory, however they jump', () => {
    const steps = Array.from({ length: 100_000 }, (_, index) => (index * 7919) % bytes.length);
    const seen = new Uint8Array(steps.length);
    const { reads, turns } = runWalk(
      memory.scatter(0, 1, steps, 15, (index, [first]) => {
        seen[index] = first === bytes[steps[index] ?? 0] ? 1 : 2;
      }),
      bytes,
    );
    expect(seen.every((one) => one === 1)).toBe(true);
    expect(bytesRead(reads)).toBeLessThan(1.01 * bytes.length);
    expect(reads.length).toBeLessThan(10);
    // In pieces, for sorting and for looking.
    expect(turns).toBe(12);
  });

  test('cost a short run each when they lie far apart', () => {
    const steps = Array.from({ length: 5 }, (_, index) => index * 40_000);
    const { reads } = runWalk(
      memory.scatter(0, 1, steps.toReversed(), 15, () => {}),
      bytes,
    );
    expect(bytesRead(reads)).toBe(5 * 512);
  });

  test('have a first one in their own order', () => {
    const steps = [500, 100, 300, 7];
    const look = (bytesThere: Uint8Array): number | null =>
      (bytesThere[0] ?? 0) === bytes[500] ? null : bytesThere.length;
    expect(runWalk(memory.findFirst(0, 1, steps, 4, look), bytes).result).toEqual({ index: 1, result: 4 });
    expect(runWalk(memory.findFirst(0, 1, [500], 4, look), bytes).result).toBeNull();
    expect(runWalk(memory.findFirst(-1, 1, [501, 0], 4, look), bytes).result).toEqual({ index: 1, result: 0 });
  });
});
