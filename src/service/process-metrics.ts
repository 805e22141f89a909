/** Metrics about the log and the workers; those of the service are in src/http/metrics.ts. */
import { Counter, Gauge, Registry } from '../http/prometheus.ts';
import type { LogOutput } from './log-output.ts';

/** Registers the metric of every process that writes a log. */
export function countDroppedLines(registry: Registry, output: Pick<LogOutput, 'dropped'>): void {
  registry.registerMetric(
    new Counter({
      name: 'bsdsyms_log_lines_dropped_total',
      help: 'Lines of the log that were dropped, as nobody read them in time',
      registers: [],
      collect() {
        this.reset();
        this.inc(output.dropped);
      },
    }),
  );
}

/** What a supervisor knows about its workers. */
export interface WorkerCounts {
  /** Workers that run, and those of them that have not given their metrics in time. */
  readonly workers: number;
  readonly unanswered: number;
}

/** Registers the metrics of a supervisor. */
export function countWorkers(registry: Registry, counts: WorkerCounts): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    registry.registerMetric(
      new Gauge({
        name,
        help,
        registers: [],
        collect() {
          this.set(read());
        },
      }),
    );
  };
  gauge('bsdsyms_workers', 'Workers that run', () => counts.workers);
  gauge(
    'bsdsyms_workers_unanswered',
    'Workers that did not give their metrics in time; what they gave last stands for them',
    () => counts.unanswered,
  );
}

/** A registry with the metrics that only some processes have, for the documentation. */
export function describedRegistry(): Registry {
  const registry = new Registry();
  countDroppedLines(registry, { dropped: 0 });
  countWorkers(registry, { workers: 0, unanswered: 0 });
  return registry;
}
