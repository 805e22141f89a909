import { expect, test } from 'vitest';
import { ENTRIES_PER_STEP, isStepEnd, runToEnd, type Steps, withoutSteps } from '../../../src/elf/steps.ts';

function* countTo(count: number): Steps<number> {
  for (let index = 0; index < count; index++) if (isStepEnd(index)) yield null;
  return count;
}

const pausesOf = (steps: Steps<unknown>): number => {
  let pauses = 0;
  while (steps.next().done !== true) pauses += 1;
  return pauses;
};

test('steps that are run to their end give their result', () => {
  expect(runToEnd(countTo(10 * ENTRIES_PER_STEP))).toBe(10 * ENTRIES_PER_STEP);
  expect(runToEnd(withoutSteps('result'))).toBe('result');
});

test.each([
  [0, 0],
  [ENTRIES_PER_STEP - 1, 0],
  [ENTRIES_PER_STEP, 1],
  [65_535, 63],
])('a table of %i entries is gone through with %i pauses', (count, pauses) => {
  expect(pausesOf(countTo(count))).toBe(pauses);
});

test('a result that takes no work is there at once', () => {
  expect(pausesOf(withoutSteps(1))).toBe(0);
});
