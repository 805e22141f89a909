/** Ends the process after a signal, after an error, or when its supervisor says so, at any time, also during the start. */
import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';
import type { LogOutput } from './log-output.ts';
import { isToWorker } from './messages.ts';

/** A service that has been started. */
export interface Running {
  /**
   * Stops the service in order, within time limits of its own.
   *
   * @returns whether everything that it had accepted was finished
   */
  stop(signal: string | undefined): Promise<boolean>;
  /** Ends at once the processes that would outlive this one. */
  kill?(): void;
}

/** The log, and where its lines go. */
export interface Log {
  readonly logger: Logger;
  readonly output: LogOutput;
}

/** Signals that a terminal or a service manager sends to all processes of a group. */
const GROUP_SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;
/** How long writing the last lines of the log may take. */
const LOG_MS = 500;

/** Constructing it installs the handlers of signals, errors and the supervisor's message. */
export class Shutdown {
  /** The service to stop; null before it can accept anything. */
  running: Running | null = null;
  /** Null before the settings are known. */
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
    // The supervisor gets the same signal and sends `shutdown`. Handling both would count as a second signal.
    for (const signal of GROUP_SIGNALS) process.on(signal, () => {});
    process.on('message', (message) => {
      if (isToWorker(message) && message.type === 'shutdown') grace.close();
    });
  }

  /** Ends the process after the log was written. */
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
