/** Listens on a free port of loopback, tells it to the parent process, and stops with it. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';

export function announce(server: Server): void {
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1', () => {
    process.send?.({ port: (server.address() as AddressInfo).port });
  });
  obeyParent();
}

/** `gc` collects garbage and says so; the end of the parent is the end of this process. */
export function obeyParent(): void {
  process.on('disconnect', () => process.exit(0));
  process.on('message', (message) => {
    if (message === 'gc') void collect();
  });
}

async function collect(): Promise<void> {
  // Buffers are freed in the background, some time after the collection that finds them.
  for (let turn = 0; turn < 3; turn++) {
    globalThis.gc?.();
    await setTimeout(200);
  }
  process.send?.({ collected: true });
}
