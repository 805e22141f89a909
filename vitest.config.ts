import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { TEST_MS } from './test/support/patience.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: TEST_MS,
    hookTimeout: TEST_MS,
    // The long ones wait for sockets and timers, not for a processor.
    maxWorkers: Math.max(4, availableParallelism()),
  },
});
