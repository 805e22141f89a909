/** Starts the service. */
import cluster from 'node:cluster';
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { tuneHeap } from './heap.ts';
import { Shutdown } from './shutdown.ts';

tuneHeap();
const shutdown = new Shutdown(cluster.isWorker);
// From source a start takes half as long with the cache. Other users must not be able to write to its folder. If the folder
// is read-only, and with Node's permission model, there is no cache.
enableCompileCache(fileURLToPath(new URL('../../node_modules/.cache/node-compile', import.meta.url)));
// A signal may come at any time, so everything else is loaded after the handlers are installed.
const { start } = await import('./start.ts');
await start(shutdown);
