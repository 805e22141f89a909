/** How long tests wait for what comes about by itself. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Far more than anything takes, on a machine that is busy with other work: only a test that fails takes as long. */
export const PATIENCE_MS = 120_000;
/** The same for `expect.poll`. */
export const SOON = { timeout: PATIENCE_MS, interval: 20 };
/** For a test as a whole, and for what prepares it. */
export const TEST_MS = 5 * PATIENCE_MS;
/** For a setting that must not take effect: longer than a test. */
export const LONG_MS = String(10 * TEST_MS);

/** Settings of a service that gives its clients more time than a test has: what is slow may be the machine. */
export const PATIENT = {
  BSDSYMS_STALL_TIMEOUT_MS: LONG_MS,
  BSDSYMS_UPLOAD_TIMEOUT_MS: LONG_MS,
  BSDSYMS_SOURCE_CONNECT_TIMEOUT_MS: LONG_MS,
  BSDSYMS_SOURCE_STALL_TIMEOUT_MS: LONG_MS,
  BSDSYMS_SOURCE_TIMEOUT_MS: LONG_MS,
};

const POLL_MS = 2;

/** Waits for a condition. @returns false when it did not come about */
export async function until(condition: () => boolean): Promise<boolean> {
  const end = performance.now() + PATIENCE_MS;
  while (!condition() && performance.now() < end) await sleep(POLL_MS);
  return condition();
}

/** Lets what is under way in this process go as far as it comes without waiting for time or for others. */
export async function letRun(turns = 100): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
