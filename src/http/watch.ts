/** Files that an operator may replace while the service runs: tokens, certificates. */
import { watchFile } from 'node:fs';

/** By time stamps, not by events: secrets are often replaced through links, which events do not follow. */
const INTERVAL_MS = 1000;

/** Calls `changed` after any of the files was replaced or written. Does not keep the process alive. */
export function watchFiles(paths: readonly string[], changed: () => void): void {
  for (const path of paths) watchFile(path, { interval: INTERVAL_MS, persistent: false }, () => changed());
}
