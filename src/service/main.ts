/** Starts the service. */
import cluster from 'node:cluster';
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { tuneHeap } from './heap.ts';
import { Shutdown } from './shutdown.ts';

tuneHeap();
const shutdown = new Shutdown(cluster.isWorker);
// From source a start takes half as long with it. Not in a folder that other users may write to. Where this one cannot be
// written to, or with Node's permission model, there is no cache.
enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/node-compile', import.meta.url)));
// A signal may come at any time: everything else is loaded once it is taken care of.
const { start } = await import('./start.ts');
await start(shutdown);
