/** HAProxy and nginx with the committed configurations, on other ports of the loopback. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const START_TIMEOUT_MS = 20_000;

export interface Balancer {
  readonly name: string;
  readonly config: string;
  command(config: string): [string, ...string[]];
  /** Beside the ports, what cannot stay as it is on a machine that may run the same program already. */
  adapt(config: string, directory: string): string;
}

export const BALANCERS: readonly Balancer[] = [
  {
    name: 'haproxy',
    config: 'deploy/haproxy/haproxy.cfg',
    command: (config) => ['haproxy', '-db', '-f', config],
    adapt: (config) => config,
  },
  {
    name: 'nginx',
    config: 'deploy/nginx/nginx.conf',
    command: (config) => ['nginx', '-g', 'daemon off;', '-c', config],
    adapt: (config, directory) => config.replace(/^pid .*$/m, `pid ${join(directory, 'nginx.pid')};`),
  },
];

/** The port in front, then those of the instances, as they stand in the committed files. */
export const COMMITTED_PORTS = [8000, 8081, 8082] as const;

/**
 * Starts one with its committed configuration.
 *
 * @param ports what to listen on, then those of the instances
 * @param directory for files of its own
 */
export async function startBalancer(
  balancer: Balancer,
  ports: readonly number[],
  directory: string,
): Promise<ChildProcess> {
  const committed = readFileSync(new URL(`../${balancer.config}`, import.meta.url), 'utf8');
  const rewritten = COMMITTED_PORTS.reduce((text, port, index) => {
    const address = `127.0.0.1:${port}`;
    if (!text.includes(address)) throw new Error(`${balancer.config} does not name ${address}`);
    return text.replaceAll(address, `127.0.0.1:${ports[index]}`);
  }, committed);
  const file = join(directory, balancer.name);
  writeFileSync(file, balancer.adapt(rewritten, directory));
  const [program, ...options] = balancer.command(file);
  const child = spawn(program, options, { stdio: ['ignore', 'ignore', 'pipe'] });
  let output = '';
  child.stderr.on('data', (piece: Buffer) => {
    output += piece.toString();
  });
  await once(child, 'spawn');
  const [front = 0] = ports;
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (let ready = false; !ready; await sleep(100)) {
    if (child.exitCode !== null || performance.now() > deadline) throw new Error(`${balancer.name}: ${output}`);
    ready = await isReady(front);
  }
  return child;
}

async function isReady(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(1000) });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    return false;
  }
}

/** A port that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
