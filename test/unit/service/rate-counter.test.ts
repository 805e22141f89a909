import { beforeEach, describe, expect, test } from 'vitest';
import { RateCounter } from '../../../src/service/rate-counter.ts';

const WINDOW_MS = 60_000;
let now: number;
let counter: RateCounter;

beforeEach(() => {
  now = 1000;
  counter = new RateCounter(WINDOW_MS, 3, () => now);
});

describe('RateCounter', () => {
  test('counts each client for itself', () => {
    expect(['a', 'a', 'b', 'a'].map((key) => counter.count(key).current)).toEqual([1, 2, 1, 3]);
  });

  test('starts a new window when the window of a client is over, which later uploads do not move', () => {
    expect(counter.count('a')).toEqual({ current: 1, ttlMs: WINDOW_MS });
    now += WINDOW_MS - 1;
    expect(counter.count('a')).toEqual({ current: 2, ttlMs: 1 });
    now += 1;
    expect(counter.count('a')).toEqual({ current: 1, ttlMs: WINDOW_MS });
  });

  test('forgets the client that was counted least recently, so that its memory is bounded', () => {
    for (const key of ['a', 'b', 'c', 'a', 'd']) counter.count(key);
    expect(counter.size).toBe(3);
    expect(['a', 'c', 'd'].map((key) => counter.count(key).current)).toEqual([3, 2, 2]);
    expect(counter.count('b').current).toBe(1);
    for (let odd = 0; odd < 1000; odd++) counter.count(`${odd}`);
    expect(counter.size).toBe(3);
  });

  test('keeps no more of a name than an address has', () => {
    counter.count('x'.repeat(10_000));
    expect(counter.count('x'.repeat(64)).current).toBe(2);
  });
});
