/** (d): this service, as `npm start` runs it, except that it tells its port and collects garbage when asked to. */
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { loadConfig } from '../../src/config.ts';
import { buildApp } from '../../src/http/app.ts';
import { tuneHeap } from '../../src/service/heap.ts';
import { obeyParent } from './announce.ts';

tuneHeap();
const config = loadConfig(process.env);
const { server } = await buildApp(config, pino({ level: config.logLevel }));
await server.listen({ port: 0, host: '127.0.0.1' });
process.send?.({ port: (server.server.address() as AddressInfo).port });
obeyParent();
