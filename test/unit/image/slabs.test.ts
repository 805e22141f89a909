import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { freeMemory } from '../../../src/image/free-memory.ts';
import { SlabList } from '../../../src/image/slab-list.ts';
import { SLAB_BYTES, SlabPool } from '../../../src/image/slabs.ts';
import { noise } from '../../support/uploads.ts';

const ARENA_BYTES = 64 * 1024 * 1024;
const SLABS_PER_ARENA = ARENA_BYTES / SLAB_BYTES;
const IDLE_MS = 5000;

const takeMany = (pool: SlabPool, count: number): Uint8Array[] => Array.from({ length: count }, () => pool.take());

const timers = (): number => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

test('an arena that waits for the next image does not keep the process alive', () => {
  const pool = new SlabPool();
  const slab = pool.take();
  const before = timers();
  pool.give(slab);
  expect(timers()).toBe(before);
});

describe('a pool of slabs', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test('maps nothing until something is taken', () => {
    expect(new SlabPool().mappedBytes).toBe(0);
  });

  test('hands out memory that is not in use, arena by arena', () => {
    const pool = new SlabPool();
    const slabs = takeMany(pool, SLABS_PER_ARENA);
    expect([pool.used, pool.mappedBytes]).toEqual([SLABS_PER_ARENA, ARENA_BYTES]);
    slabs.push(pool.take());
    expect([pool.used, pool.mappedBytes]).toEqual([SLABS_PER_ARENA + 1, 2 * ARENA_BYTES]);
    expect(slabs.every(({ length }) => length === SLAB_BYTES)).toBe(true);
    slabs.forEach((slab, index) => slab.fill(index % 251));
    expect(slabs.every((slab, index) => slab[0] === index % 251 && slab.at(-1) === index % 251)).toBe(true);
  });

  test('begins with the start of an arena, so that the rest of it stays untouched', () => {
    const pool = new SlabPool();
    expect(takeMany(pool, 3).map(({ byteOffset }) => byteOffset)).toEqual([0, SLAB_BYTES, 2 * SLAB_BYTES]);
  });

  test('hands out again what was given back', () => {
    const pool = new SlabPool();
    const slab = pool.take();
    pool.give(slab);
    expect(pool.used).toBe(0);
    expect(pool.take()).toBe(slab);
  });

  test('frees an arena that was not used for a while', () => {
    const pool = new SlabPool();
    const slab = pool.take();
    pool.give(slab);
    vi.advanceTimersByTime(IDLE_MS - 1);
    expect([pool.mappedBytes, slab.length]).toEqual([ARENA_BYTES, SLAB_BYTES]);
    vi.advanceTimersByTime(1);
    expect([pool.mappedBytes, slab.length]).toEqual([0, 0]);
    expect(pool.take()).toHaveLength(SLAB_BYTES);
  });

  test('keeps an arena of which a slab is in use', () => {
    const pool = new SlabPool();
    const [held, other] = [pool.take(), pool.take()];
    pool.give(other);
    vi.advanceTimersByTime(10 * IDLE_MS);
    expect([pool.mappedBytes, held.length]).toEqual([ARENA_BYTES, SLAB_BYTES]);
  });

  test('keeps an arena that is used again in time', () => {
    const pool = new SlabPool();
    pool.give(pool.take());
    vi.advanceTimersByTime(IDLE_MS - 1);
    const slab = pool.take();
    vi.advanceTimersByTime(10 * IDLE_MS);
    expect(slab).toHaveLength(SLAB_BYTES);
  });

  test('frees one arena while another is in use', () => {
    const pool = new SlabPool();
    const [first, ...rest] = takeMany(pool, SLABS_PER_ARENA + 1) as [Uint8Array, ...Uint8Array[]];
    const last = rest.at(-1) as Uint8Array;
    pool.give(last);
    vi.advanceTimersByTime(IDLE_MS);
    expect([pool.mappedBytes, first.length, last.length]).toEqual([ARENA_BYTES, SLAB_BYTES, 0]);
  });
});

test('freed memory is gone, whatever else looks at it', () => {
  const bytes = new Uint8Array(100);
  const view = bytes.subarray(10);
  freeMemory(bytes);
  expect([bytes.length, view.length, bytes.buffer.byteLength]).toEqual([0, 0, 0]);
});

describe('a list of slabs', () => {
  test.each([
    ['nothing', []],
    ['empty chunks', [0, 0]],
    ['single bytes', Array.from({ length: 1000 }, () => 1)],
    ['a whole slab', [SLAB_BYTES]],
    ['one byte more', [SLAB_BYTES, 1]],
    ['one byte less, and then two', [SLAB_BYTES - 1, 2]],
    ['a chunk of many slabs', [3 * SLAB_BYTES + 5]],
    ['what the network delivers', Array.from({ length: 50 }, () => 65_536)],
  ])('holds %s', (_what, sizes) => {
    const pool = new SlabPool();
    const list = new SlabList(pool);
    const bytes = noise(sizes.reduce((sum, size) => sum + size, 0));
    let at = 0;
    for (const size of sizes) {
      const chunk = Uint8Array.from(bytes.subarray(at, at + size));
      list.push(chunk);
      chunk.fill(0);
      at += size;
    }
    expect(list.bytes).toBe(bytes.length);
    const { pieces, release } = list.take();
    expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
    expect([pieces.length, pool.used]).toEqual([Math.ceil(bytes.length / SLAB_BYTES), pieces.length]);
    release();
    expect([list.bytes, pool.used]).toEqual([0, 0]);
  });

  test('is empty after its bytes were taken', () => {
    const list = new SlabList(new SlabPool());
    list.push(Uint8Array.of(1, 2));
    const first = list.take();
    list.push(Uint8Array.of(3));
    expect([first, list.take()].map(({ pieces }) => Buffer.concat(pieces))).toEqual([Buffer.of(1, 2), Buffer.of(3)]);
  });
});
