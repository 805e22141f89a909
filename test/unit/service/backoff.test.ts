import { describe, expect, test } from 'vitest';
import { Backoff } from '../../../src/service/backoff.ts';

const pauses = (...lived: number[]): number[] => {
  const backoff = new Backoff();
  return lived.map((livedMs) => backoff.pauseAfter(livedMs));
};

describe('the pause before a worker is replaced', () => {
  test('doubles while workers die soon after their start, up to half a minute', () => {
    const soon = Array.from({ length: 12 }, () => 9_999);
    expect(pauses(...soon)).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
  });

  test('starts from the shortest again when a worker lived for ten seconds', () => {
    expect(pauses(0, 0, 10_000, 0)).toEqual([100, 200, 100, 200]);
  });

  test('stays finite however often they die', () => {
    const backoff = new Backoff();
    let last = 0;
    for (let death = 0; death < 5000; death++) last = backoff.pauseAfter(0);
    expect(last).toBe(30_000);
  });
});
