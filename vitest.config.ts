import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { TEST_MS } from './test/support/patience.ts';

/** A file for the results as JSON: .ci/run counts them, and calls the tests as anyone does. */
const { TEST_RESULTS } = process.env;

export default defineConfig({
  test: {
    ...(TEST_RESULTS === undefined ? {} : { reporters: ['default', 'json'], outputFile: { json: TEST_RESULTS } }),
    include: ['test/**/*.test.ts'],
    testTimeout: TEST_MS,
    hookTimeout: TEST_MS,
    // The long ones wait for sockets and timers, not for a processor.
    maxWorkers: Math.max(4, availableParallelism()),
  },
});
