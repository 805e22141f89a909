/** Files that an operator may replace while the service runs: tokens, certificates. */
import { type BigIntStats, stat, statSync } from 'node:fs';

/** Time between two looks. Events would not do: secrets are often replaced through links, which events do not follow. */
const INTERVAL_MS = 1000;

/**
 * Calls `changed` after any of the files was replaced or written. The first look is made at once, so that no change after
 * this call is missed. Does not keep the process alive.
 */
export function watchFiles(paths: readonly string[], changed: () => void): void {
  for (const path of paths) {
    let seen = describe(statSync(path, { bigint: true, throwIfNoEntry: false }));
    const look = (): void => {
      stat(path, { bigint: true }, (error, stats) => {
        const found = describe(error === null ? stats : undefined);
        if (found !== seen) {
          seen = found;
          changed();
        }
        setTimeout(look, INTERVAL_MS).unref();
      });
    };
    setTimeout(look, INTERVAL_MS).unref();
  }
}

const describe = (stats: BigIntStats | undefined): string =>
  stats === undefined ? 'missing' : [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(' ');
