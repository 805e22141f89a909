/** Starts the service. */
import cluster from 'node:cluster';
import { tuneHeap } from './heap.ts';
import { Shutdown } from './shutdown.ts';

tuneHeap();
const shutdown = new Shutdown(cluster.isWorker);
// A signal may come at any time: everything else is loaded once it is taken care of.
const { start } = await import('./start.ts');
await start(shutdown);
