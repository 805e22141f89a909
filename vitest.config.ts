import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    // The long ones wait for sockets and timers, not for a processor.
    maxWorkers: Math.max(4, availableParallelism()),
  },
});
