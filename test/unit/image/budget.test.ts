import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';

describe('a budget', () => {
  test('begins unused', () => {
    const budget = new Budget(100);
    expect([budget.limit, budget.used, budget.free]).toEqual([100, 0, 100]);
  });

  test('is taken up to the last byte', () => {
    const budget = new Budget(100);
    expect([budget.take(60), budget.take(40), budget.take(1)]).toEqual([true, true, false]);
    expect([budget.used, budget.free]).toEqual([100, 0]);
  });

  test('takes nothing when not all is left', () => {
    const budget = new Budget(100);
    budget.take(60);
    expect(budget.take(41)).toBe(false);
    expect([budget.used, budget.free]).toEqual([60, 40]);
  });

  test('is there again once given back', () => {
    const budget = new Budget(100);
    budget.take(100);
    budget.give(30);
    expect([budget.take(31), budget.take(30), budget.used]).toEqual([false, true, 100]);
  });

  test('of nothing still has nothing to give', () => {
    const budget = new Budget(0);
    expect([budget.take(0), budget.take(1), budget.used]).toEqual([true, false, 0]);
  });

  test('is overdrawn only where that is asked for', () => {
    const budget = new Budget(100);
    budget.overdraw(130);
    expect([budget.used, budget.free, budget.take(1), budget.take(0)]).toEqual([130, -30, false, false]);
    budget.give(30);
    expect([budget.free, budget.take(0), budget.take(1)]).toEqual([0, true, false]);
  });

  test('never passes its limit and always knows what is held', () => {
    const amounts = fc.array(fc.nat({ max: 40 }), { maxLength: 50 });
    fc.assert(
      fc.property(fc.nat({ max: 100 }), amounts, (limit, asked) => {
        const budget = new Budget(limit);
        const held: number[] = [];
        for (const [turn, amount] of asked.entries()) {
          const fits = amount <= budget.free;
          expect(budget.take(amount)).toBe(fits);
          if (fits) held.push(amount);
          if (turn % 3 === 2) budget.give(held.shift() ?? 0);
          expect(budget.used).toBe(held.reduce((sum, one) => sum + one, 0));
          expect(budget.used).toBeLessThanOrEqual(limit);
        }
      }),
    );
  });
});
