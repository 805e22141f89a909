/** How several workers share what the operator set for the whole. The supervision itself: test/http/workers.test.ts. */
import { assert, integer, maxSafeNat, property, record } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Config, loadConfig } from '../../../src/config.ts';
import { shareConfig } from '../../../src/service/supervise.ts';

const config = (env: Readonly<Record<string, string>>): Config => loadConfig(env);

const BUDGETS = ['memoryBudgetBytes', 'spoolBudgetBytes', 'maxConnections'] as const;

describe('shareConfig', () => {
  test('divides the budgets, and leaves alone what is counted for all workers', () => {
    const whole = config({
      BSDSYMS_WORKERS: '4',
      BSDSYMS_MAX_IMAGE_BYTES: '1000',
      BSDSYMS_MEMORY_BUDGET_BYTES: '1003',
      BSDSYMS_SPOOL_BUDGET_BYTES: '4000',
      BSDSYMS_MAX_CONNECTIONS: '1001',
      BSDSYMS_MAX_UPLOADS: '16',
      BSDSYMS_MAX_QUEUED_UPLOADS: '9',
      BSDSYMS_RATE_LIMIT_PER_MINUTE: '60',
    });
    expect(shareConfig(whole)).toEqual({
      ...whole,
      memoryBudgetBytes: 250,
      spoolBudgetBytes: 1000,
      maxConnections: 250,
    });
  });

  test('leaves one worker all there is', () => {
    const whole = config({ BSDSYMS_RATE_LIMIT_PER_MINUTE: '7' });
    expect(shareConfig(whole)).toEqual(whole);
  });

  test('does not change what it is given', () => {
    const whole = config({ BSDSYMS_WORKERS: '2' });
    const copy = { ...whole };
    shareConfig(whole);
    expect(whole).toEqual(copy);
  });

  test('budgets never add up to more than the whole, and what is lost is less than one a worker', () => {
    const amounts = record({
      workers: integer({ min: 1, max: 256 }),
      memoryBudgetBytes: maxSafeNat(),
      spoolBudgetBytes: maxSafeNat(),
      maxConnections: integer({ min: 1, max: 1_000_000 }),
    });
    assert(
      property(amounts, (given) => {
        const shared = shareConfig({ ...config({}), ...given });
        for (const key of BUDGETS) {
          expect(shared[key] * given.workers).toBeLessThanOrEqual(given[key]);
          expect(shared[key] * given.workers).toBeGreaterThan(given[key] - given.workers);
        }
      }),
    );
  });
});
