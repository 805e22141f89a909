/** How the process ends: with a signal, after an error or when its supervisor says so, at any time, also while it starts. */
import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';
import type { LogOutput } from './log-output.ts';
import { isToWorker } from './messages.ts';

/** What has been started. */
export interface Running {
  /**
   * Stops it in order, within limits of its own.
   *
   * @returns whether everything that had been accepted was finished
   */
  stop(signal: string | undefined): Promise<boolean>;
  /** Ends at once what would outlive the process. */
  kill?(): void;
}

export interface Log {
  readonly logger: Logger;
  readonly output: LogOutput;
}

/** What a terminal or a service manager sends to all processes of a group. */
const GROUP_SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;
/** How long the last lines of the log may take. */
const LOG_MS = 500;

export class Shutdown {
  /** What is stopped; null while nothing has been accepted. */
  running: Running | null = null;
  /** Null while the settings are not known. */
  log: Log | null = null;

  /** @param supervised whether the process is a worker, which ends when its supervisor says so */
  constructor(supervised: boolean) {
    const grace = closeWithGrace(
      {
        delay: false,
        logger: { error: (what: unknown) => this.#report(what) },
        skip: supervised ? [...GROUP_SIGNALS] : [],
        onSecondSignal: (signal) => {
          this.#report(`second ${signal}, exiting`);
          this.running?.kill?.();
        },
      },
      ({ signal, err }) => this.#stop(signal, err),
    );
    if (!supervised) return;
    // The supervisor has got the signal too and sends `shutdown`; together they would count as a second signal.
    for (const signal of GROUP_SIGNALS) process.on(signal, () => {});
    process.on('message', (message) => {
      if (isToWorker(message) && message.type === 'shutdown') grace.close();
    });
  }

  /** Ends the process once the log is written. */
  async exit(status: number): Promise<never> {
    await this.log?.output.drain(LOG_MS);
    process.exit(status);
  }

  async #stop(signal: string | undefined, error: Error | undefined): Promise<never> {
    if (error !== undefined) {
      if (this.log === null) this.#report(error);
      else this.log.logger.fatal({ err: error }, 'stopping after an error');
    }
    const finished = this.running === null || (await this.running.stop(signal));
    return this.exit(finished && error === undefined ? 0 : 1);
  }

  #report(what: unknown): void {
    if (this.log !== null) this.log.logger.error(what);
    else process.stderr.write(`bsdsyms: ${what instanceof Error ? what.stack : String(what)}\n`);
  }
}
