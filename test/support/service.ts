/** The service in this process, on a port of its own. */
import { pino } from 'pino';
import { readSettings, SETTING_KEYS } from '../../src/config.ts';
import { type App, type AppOptions, buildApp } from '../../src/http/app.ts';
import { processSlabs } from '../../src/image/slabs.ts';
import { send } from './http.ts';
import { PATIENT, until } from './patience.ts';

export type LogLine = Readonly<Record<string, unknown>>;

export interface Service {
  readonly app: App;
  readonly port: number;
  readonly url: string;
  /** Everything logged so far, or the lines with this message. */
  logs(msg?: string): LogLine[];
  /** The log as it was written. */
  logText(): string;
  /** Waits for a line that has all of these members. */
  logged(members: LogLine): Promise<LogLine>;
  clearLogs(): void;
  close(): Promise<void>;
}

/**
 * Starts the service with the given environment variables. Whoever starts it closes it. The settings need not fit together:
 * a test makes a budget small in order to see it used up.
 */
export async function startService(
  env: Readonly<Record<string, string>> = {},
  options: AppOptions = {},
): Promise<Service> {
  let written: string[] = [];
  let onWrite: (() => void)[] = [];
  const destination = {
    write(line: string): void {
      written.push(line);
      const waiting = onWrite;
      onWrite = [];
      for (const wake of waiting) wake();
    },
  };
  const config = readSettings({ ...PATIENT, ...env }, SETTING_KEYS);
  const app = await buildApp(config, pino({ level: config.logLevel }, destination), options);
  const url = await app.server.listen({ port: 0, host: '127.0.0.1' });

  const parsed = (): LogLine[] => written.map((line) => JSON.parse(line) as LogLine);
  const logs = (msg?: string): LogLine[] => parsed().filter((line) => msg === undefined || line['msg'] === msg);
  return {
    app,
    url,
    port: Number(new URL(url).port),
    logs,
    logText: () => written.join(''),
    async logged(members) {
      for (;;) {
        const line = parsed().find((candidate) =>
          Object.entries(members).every(([name, value]) => candidate[name] === value),
        );
        if (line !== undefined) return line;
        // Ends with the test's time at the latest.
        await new Promise<void>((resolve) => {
          onWrite.push(resolve);
        });
      }
    },
    clearLogs() {
      written = [];
    },
    async close() {
      app.server.server.closeAllConnections();
      await app.server.close();
    },
  };
}

/** What uploads occupy. */
interface Occupied {
  readonly memory: number;
  readonly spool: number;
  readonly slabs: number;
  readonly uploads: number;
}

export const NOTHING_OCCUPIED: Occupied = { memory: 0, spool: 0, slabs: 0, uploads: 0 };

export function occupied({ app: { upload } }: Service): Occupied {
  const { memory, spool } = upload.store;
  return { memory: memory.used, spool: spool.budget.used, slabs: processSlabs.used, uploads: upload.admission.running };
}

/** What uploads still occupy once there was time for every response to be closed: nothing, if all is well. */
export async function settled(service: Service): Promise<Occupied> {
  await until(() => Object.values(occupied(service)).every((amount) => amount === 0));
  return occupied(service);
}

/** Gives everything that requests occupied time to come back, and sees that the service still answers. @throws Error */
export async function mustSettle(service: Service): Promise<void> {
  const left = JSON.stringify(await settled(service));
  if (left !== JSON.stringify(NOTHING_OCCUPIED)) throw new Error(`requests have left ${left} behind`);
  if ((await send(service, '/healthz')).status !== 200) throw new Error('the service is not healthy');
}

/** Waits until an upload is under way, so that a test can break it off. */
export async function uploading(service: Service): Promise<void> {
  if (!(await until(() => occupied(service).uploads > 0))) throw new Error('no upload has begun');
}
