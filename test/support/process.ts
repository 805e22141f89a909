/** The service in a process of its own, as an operator starts it. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { PATIENT } from './patience.ts';
import type { LogLine } from './service.ts';

const MAIN = fileURLToPath(new URL('../../src/service/main.ts', import.meta.url));
/** Halves the time of a start. */
const COMPILE_CACHE = fileURLToPath(new URL('../../node_modules/.cache/node-compile', import.meta.url));

interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class ServiceProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  /** Comes after all output. */
  readonly exited: Promise<Exit>;
  #ended = false;
  stdout = '';
  stderr = '';

  /**
   * Starts it on a free port of the loopback, as the leader of a process group of its own.
   *
   * @param nodeOptions what stands before the program
   */
  constructor(env: Readonly<Record<string, string>> = {}, nodeOptions: readonly string[] = []) {
    this.#child = spawn(process.execPath, [...nodeOptions, MAIN], {
      env: { PORT: '0', NODE_COMPILE_CACHE: COMPILE_CACHE, ...PATIENT, ...env },
      detached: true,
    });
    this.#child.stdout.on('data', (data: Buffer) => {
      this.stdout += data.toString();
    });
    this.#child.stderr.on('data', (data: Buffer) => {
      this.stderr += data.toString();
    });
    this.exited = once(this.#child, 'close').then(([code, signal]) => {
      this.#ended = true;
      return { code: code as Exit['code'], signal: signal as Exit['signal'] };
    });
  }

  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error('the process was not started');
    return pid;
  }

  logs(members: LogLine = {}): LogLine[] {
    const lines = this.stdout.split('\n').slice(0, -1);
    return lines
      .map((line) => JSON.parse(line) as LogLine)
      .filter((line) => Object.entries(members).every(([name, value]) => line[name] === value));
  }

  /** Waits until `count` lines of the log fit. Ends with the process, or with the test's time. */
  async logged(fits: (line: LogLine) => boolean, count = 1): Promise<LogLine[]> {
    for (;;) {
      const lines = this.logs().filter(fits);
      if (lines.length >= count) return lines;
      if (this.#ended) throw new Error(`the process ended: ${this.stdout}${this.stderr}`);
      await Promise.race([once(this.#child.stdout, 'data'), this.exited]);
    }
  }

  /** Waits until it has written this to standard error. */
  async complained(text: string): Promise<void> {
    while (!this.stderr.includes(text)) {
      if (this.#ended) throw new Error(`the process ended: ${this.stdout}${this.stderr}`);
      await Promise.race([once(this.#child.stderr, 'data'), this.exited]);
    }
  }

  message(msg: string): Promise<LogLine[]> {
    return this.logged((line) => line['msg'] === msg);
  }

  /** The processes that listen, in the order in which they began to. */
  async listening(count = 1): Promise<{ readonly port: number; readonly pids: readonly number[] }> {
    const lines = await this.logged(isListening, count);
    return { port: Number(/:(\d+)$/.exec(String(lines[0]?.['msg']))?.[1]), pids: lines.map(({ pid }) => Number(pid)) };
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** From now on nobody reads what it logs. At its end the rest is read all the same. */
  stopReading(): void {
    this.#child.stdout.pause();
  }

  readAgain(): void {
    this.#child.stdout.resume();
  }

  /** Closes the reading end of its log. */
  closeLog(): void {
    this.#child.stdout.destroy();
  }

  /** Signals the process and its workers, as Ctrl-C does, and service managers. */
  killGroup(signal: NodeJS.Signals): void {
    process.kill(-this.pid, signal);
  }

  /** Ends it, whatever it is at. */
  async end(): Promise<void> {
    try {
      this.killGroup('SIGKILL');
    } catch {
      // Nothing of the group is left.
    }
    await this.exited;
  }
}

/** A port that nobody gets who asks the system for one, so that it stays free until it is used. Two tests hardly ever have the same. */
export const unusedPort = (): number => randomInt(20_000, 32_000);

/** The line of a process that has begun to listen. */
export const isListening = ({ msg }: LogLine): boolean => /listening at/.test(String(msg));

/** Whether there is a process of this id. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The processes that a test file starts; `endAll` belongs into its `afterEach`. */
export class Processes {
  #started: ServiceProcess[] = [];

  start(env: Readonly<Record<string, string>> = {}, nodeOptions: readonly string[] = []): ServiceProcess {
    const started = new ServiceProcess(env, nodeOptions);
    this.#started.push(started);
    return started;
  }

  async endAll(): Promise<void> {
    const ending = this.#started;
    this.#started = [];
    await Promise.all(ending.map((one) => one.end()));
  }
}
