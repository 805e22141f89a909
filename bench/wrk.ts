/** Small requests in great number, by wrk (Debian has it): it takes a tenth of what a client in Node would. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Request } from './client.ts';

export interface WrkFigures {
  readonly requests: number;
  readonly perSecond: number;
  /** What wrk itself took of the machine. */
  readonly clientCores: number;
}

/** Writes a script of wrk that sends the request. Its body comes from a file, as Lua's strings would have to be escaped. */
export function writeScript(directory: string, name: string, { head, body, tail }: Request, path: string): string {
  const end = head.indexOf('\r\n\r\n');
  const type = /content-type: (.*)/i.exec(head.toString('latin1', 0, end))?.[1] ?? '';
  const file = join(directory, `${name}.body`);
  writeFileSync(file, Buffer.concat([head.subarray(end + 4), body, tail]));
  const script = join(directory, `${name}.lua`);
  writeFileSync(
    script,
    `local file = io.open("${file}", "rb")
wrk.method = "POST"
wrk.path = "${path}"
wrk.headers["Content-Type"] = "${type}"
wrk.body = file:read("*a")
`,
  );
  return script;
}

/**
 * Loads a service for some seconds, by one thread.
 *
 * @throws Error when an answer is no success
 */
export async function runWrk(port: number, script: string, connections: number, seconds: number): Promise<WrkFigures> {
  const options = ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', script, `http://127.0.0.1:${port}`];
  // The shell knows the processor time of its children, Node does not.
  const child = spawn('bash', ['-c', 'TIMEFORMAT="cpu %U %S"; time wrk "$@"', 'wrk', ...options]);
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      text += data.toString();
    });
  }
  await once(child, 'close');
  const [, count, elapsed] = /(\d+) requests in ([\d.]+)s/.exec(text) ?? [];
  const [, user, system] = /cpu ([\d.]+) ([\d.]+)/.exec(text) ?? [];
  const requests = Number(count);
  if (/Non-2xx|Socket errors/.test(text) || !(requests > 0)) throw new Error(text);
  return {
    requests,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    clientCores: (Number(user) + Number(system)) / Number(elapsed),
  };
}

export const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
