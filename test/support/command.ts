/** The command: in this process, or in one of its own as a shell starts it. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type ExitStatus, runCommand } from '../../src/cli/main.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
/** Halves the time of a start. */
const COMPILE_CACHE = fileURLToPath(new URL('../../node_modules/.cache/node-compile', import.meta.url));

export interface Ran<Status = ExitStatus> {
  readonly status: Status;
  readonly stdout: Buffer;
  readonly stderr: string;
}

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Default: nothing. */
  readonly stdin?: Uint8Array | Readable;
  /** The streams that are a terminal. */
  readonly terminal?: readonly ('stdin' | 'stdout')[];
}

/** Runs the command in this process. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { env = {}, stdin = new Uint8Array(), terminal = [] } = options;
  const stdout = new Collected();
  const stderr = new Collected();
  const input = stdin instanceof Readable ? stdin : Readable.from([Buffer.from(stdin)], { objectMode: false });
  const status = await runCommand(args, {
    env,
    stdin: Object.assign(input, { isTTY: terminal.includes('stdin') }),
    stdout: Object.assign(stdout, { isTTY: terminal.includes('stdout') }),
    stderr,
  });
  return { status, stdout: stdout.bytes, stderr: stderr.bytes.toString() };
}

class Collected extends Writable {
  readonly #chunks: Buffer[] = [];

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#chunks.push(Buffer.from(chunk));
    done();
  }
}

/** Starts the command in a process of its own. @param nodeOptions what stands in front of it */
export function start(args: readonly string[], nodeOptions: readonly string[] = []): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [...nodeOptions, CLI, ...args], {
    env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: COMPILE_CACHE },
  });
}

/** Everything that a started command says, to its end. */
export async function ended(child: ChildProcessWithoutNullStreams): Promise<Ran<number | NodeJS.Signals | null>> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { status: code ?? signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}
