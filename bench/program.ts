/** The compiled service, or a program that listens as it does, in processes of its own whose log goes nowhere. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from '../scripts/balancers.ts';

const POLL_MS = 3;

/** Made by `npm run build`. */
export const COMPILED_SERVICE = fileURLToPath(new URL('../dist/service/main.js', import.meta.url));

export interface Program {
  readonly port: number;
  readonly pid: number;
  /** From the start to the first answer. */
  readonly startMs: number;
  /** Processor time so far of its process and of each process that it started, all threads; its own first. */
  cpuMs(): number[];
  stop(): Promise<void>;
}

/** Starts it and waits for its first answer. @throws Error when it ends before that */
export async function startProgram(main: string, env: Readonly<Record<string, string>> = {}): Promise<Program> {
  const port = await freePort();
  const began = performance.now();
  const child = spawn(process.execPath, [main], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, PORT: String(port), LOG_LEVEL: 'info', ...env },
  });
  const pid = child.pid ?? 0;
  while (!(await isAlive(port))) {
    if (child.exitCode !== null) throw new Error(`${main} ended with ${child.exitCode}: was it built?`);
    await sleep(POLL_MS);
  }
  const startMs = performance.now() - began;
  return {
    port,
    pid,
    startMs,
    cpuMs: () => [pid, ...childrenOf(pid)].map(cpuMsOf),
    async stop() {
      const exit = once(child, 'exit');
      child.kill('SIGTERM');
      await exit;
    },
  };
}

const childrenOf = (pid: number): number[] =>
  readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  );

const cpuMsOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`)
    .map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ', 1)[0]) / 1e6)
    .reduce((sum, ms) => sum + ms, 0);

const isAlive = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n'));
    socket.once('error', () => resolve(false));
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
  });
