/**
 * The parts of prom-client that the service uses. The package's entry point also loads OpenTelemetry, for exemplars, and
 * the estimator of quantiles, for summaries: two thirds of its modules.
 */
import { createRequire } from 'node:module';
import type * as client from 'prom-client';

const load = createRequire(import.meta.url);
const part = (name: string): unknown => load(`prom-client/lib/${name}`);

export const Registry = part('registry') as typeof client.Registry;
export type Registry = client.Registry;
export const AggregatorRegistry = part('cluster') as typeof client.AggregatorRegistry;
export const Counter = part('counter') as typeof client.Counter;
export type Counter<Label extends string> = client.Counter<Label>;
export const Gauge = part('gauge') as typeof client.Gauge;
export const Histogram = part('histogram') as typeof client.Histogram;
export type Histogram<Label extends string = string> = client.Histogram<Label>;

type Collector = (registry: Registry, options: { readonly eventLoopMonitoringPrecision: number }) => void;

/** The default metrics of prom-client, without the one of processor time, which loads OpenTelemetry. */
const COLLECTORS = [
  'processStartTime',
  'osMemoryHeap',
  'processOpenFileDescriptors',
  'processMaxFileDescriptors',
  'eventLoopLag',
  'processResources',
  'processHandles',
  'processRequests',
  'heapSizeAndUsed',
  'heapSpacesSizeAndUsed',
  'version',
  'gc',
].map((name) => part(`metrics/${name}`) as Collector);

/** The default of prom-client's `collectDefaultMetrics`. */
const EVENT_LOOP_PRECISION_MS = 10;

/** The metrics of the process and of Node, under the names that they have everywhere. */
export function collectProcessMetrics(registry: Registry): void {
  countProcessorTime(registry);
  for (const collect of COLLECTORS) collect(registry, { eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS });
}

function countProcessorTime(registry: Registry): void {
  const count = (name: string, help: string, read: (usage: NodeJS.CpuUsage) => number): void => {
    registry.registerMetric(
      new Counter({
        name,
        help,
        registers: [],
        collect() {
          this.reset();
          this.inc(read(process.cpuUsage()) / 1e6);
        },
      }),
    );
  };
  count('process_cpu_user_seconds_total', 'Total user CPU time spent in seconds.', ({ user }) => user);
  count('process_cpu_system_seconds_total', 'Total system CPU time spent in seconds.', ({ system }) => system);
  count(
    'process_cpu_seconds_total',
    'Total user and system CPU time spent in seconds.',
    ({ user, system }) => user + system,
  );
}
