/** Metrics of the processes themselves, beside those of the service in src/http/metrics.ts. */
import { Counter, Gauge, Registry } from '../http/prometheus.ts';
import type { LogOutput } from './log-output.ts';

/** Of every process that writes a log. */
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

/** What a supervisor knows of its workers. */
export interface WorkerCounts {
  readonly workers: number;
  readonly unanswered: number;
}

/** Of a supervisor. */
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

/** The metrics that only some processes have, for the documentation. */
export function describedRegistry(): Registry {
  const registry = new Registry();
  countDroppedLines(registry, { dropped: 0 });
  countWorkers(registry, { workers: 0, unanswered: 0 });
  return registry;
}
