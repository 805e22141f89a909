/** Programs under measurement run as processes of their own, so that the client's work and memory do not count. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';

const MiB = 1024 * 1024;

export interface Server {
  readonly port: number;
  readonly pid: number;
  /** Memory in use now, in MiB; after a collection when `collected` is asked for. */
  memory(collected?: boolean): Promise<number>;
  /** From now on the peak is counted anew. */
  resetPeak(): void;
  /** Highest memory since then, in MiB. */
  peak(): number;
  stop(): Promise<void>;
  /** What the event loop was kept from turning at most since it was last asked, of a server that watches it. */
  loop(): Promise<Loop>;
}

export interface Loop {
  /** Longest processor time of the main thread between two turns. */
  readonly blockMs: number;
  /** Longest time on the wall between two turns, 1 ms or more of waiting included. */
  readonly wallMs: number;
  /** Processor time of the whole process. */
  readonly cpuMs: number;
}

type Message = { port: number } | { collected: true } | { seconds: number } | Loop;

/** @param execArgv further options of Node; `servers/watch-loop.ts` watches the event loop */
export async function startServer(
  name: string,
  env: Record<string, string> = {},
  execArgv: readonly string[] = [],
): Promise<Server> {
  const child = fork(new URL(`./servers/${name}.ts`, import.meta.url), {
    env: { ...process.env, LOG_LEVEL: 'info', ...env },
    execArgv: ['--expose-gc', ...execArgv],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const started = await message(child);
  if (!('port' in started)) throw new Error(`${name} did not start`);
  return {
    port: started.port,
    pid: child.pid ?? 0,
    async memory(collected = false) {
      if (collected) {
        child.send('gc');
        await message(child);
      }
      return readStatus(child, 'VmRSS');
    },
    resetPeak: () => writeFileSync(`/proc/${child.pid}/clear_refs`, '5'),
    peak: () => readStatus(child, 'VmHWM'),
    async loop() {
      child.send('loop');
      const loop = await message(child);
      if (!('blockMs' in loop)) throw new Error(`${name} does not watch its event loop`);
      return loop;
    },
    async stop() {
      child.kill();
      await once(child, 'exit');
    },
  };
}

/** Runs baseline (e). @returns seconds */
export async function runWriter(directory: string, bytes: number): Promise<number> {
  const child = fork(new URL('./servers/writer.ts', import.meta.url), [directory, String(bytes)]);
  const result = await message(child);
  await once(child, 'exit');
  if (!('seconds' in result)) throw new Error('the writer told no time');
  return result.seconds;
}

async function message(child: ChildProcess): Promise<Message> {
  const ended = new AbortController();
  const exit = once(child, 'exit', { signal: ended.signal }).then(([code]) => {
    throw new Error(`a program under measurement ended with ${code}`);
  });
  exit.catch(() => {});
  const [received] = await Promise.race([once(child, 'message'), exit]);
  ended.abort();
  return received as Message;
}

function readStatus(child: ChildProcess, field: string): number {
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
  return (Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024) / MiB;
}
