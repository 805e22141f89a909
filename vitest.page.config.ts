/** `npm run test:page`: the page in a real browser. `npm test` needs none. */
import { defineConfig } from 'vitest/config';

const { TEST_RESULTS } = process.env;
/** A browser on a slow machine. */
const PATIENCE_MS = 300_000;

export default defineConfig({
  test: {
    ...(TEST_RESULTS === undefined ? {} : { reporters: ['default', 'json'], outputFile: { json: TEST_RESULTS } }),
    include: ['test/page/**/*.browser.ts'],
    testTimeout: PATIENCE_MS,
    hookTimeout: PATIENCE_MS,
    // One browser for all.
    maxWorkers: 1,
    isolate: false,
  },
});
