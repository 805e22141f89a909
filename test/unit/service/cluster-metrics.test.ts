/** The sum of the metrics of several workers, with workers that answer, are silent, and end. */
import { Counter, Gauge, Registry } from 'prom-client';
import { beforeEach, describe, expect, test } from 'vitest';
import { ClusterMetrics } from '../../../src/service/cluster-metrics.ts';
import { Exposition } from '../../support/prometheus.ts';

/** A worker whose metrics a test sets. */
class FakeWorker {
  readonly registry = new Registry();
  readonly counter = new Counter({ name: 'c_total', help: 'A counter', registers: [this.registry] });
  readonly gauge = new Gauge({ name: 'g', help: 'A gauge', registers: [this.registry] });
  readonly #metrics: ClusterMetrics;
  readonly id: number;
  asked = 0;
  silent = false;

  constructor(metrics: ClusterMetrics, id: number, count: number) {
    this.#metrics = metrics;
    this.id = id;
    this.counter.inc(count);
    this.gauge.set(count);
    metrics.add(id, () => {
      this.asked += 1;
      if (!this.silent) void this.answer();
    });
  }

  async answer(): Promise<void> {
    this.#metrics.take(this.id, await this.registry.getMetricsAsJSON());
  }
}

let metrics: ClusterMetrics;
let first: FakeWorker;
let second: FakeWorker;

beforeEach(() => {
  metrics = new ClusterMetrics(20);
  first = new FakeWorker(metrics, 1, 10);
  second = new FakeWorker(metrics, 2, 5);
});

async function collect(): Promise<Record<string, number>> {
  const text = new Exposition(await metrics.collect());
  const names = ['c_total', 'g', 'bsdsyms_workers', 'bsdsyms_workers_unanswered'];
  return Object.fromEntries(names.map((name) => [name.replace('bsdsyms_', ''), text.sum(name)]));
}

describe('ClusterMetrics', () => {
  test('sums what all workers give', async () => {
    expect(await collect()).toEqual({ c_total: 15, g: 15, workers: 2, workers_unanswered: 0 });
    first.counter.inc();
    expect(await collect()).toMatchObject({ c_total: 16 });
  });

  test('asks each worker once for calls that overlap', async () => {
    const [one, ...others] = await Promise.all(Array.from({ length: 30 }, () => metrics.collect()));
    expect(new Set(others)).toEqual(new Set([one]));
    expect([first.asked, second.asked]).toEqual([1, 1]);
    await collect();
    expect(first.asked).toBe(2);
  });

  test('leaves out a worker that never answered, and counts it', async () => {
    second.silent = true;
    expect(await collect()).toEqual({ c_total: 10, g: 10, workers: 2, workers_unanswered: 1 });
  });

  test('has what a worker gave last while it does not answer, and does not ask it again', async () => {
    await collect();
    second.silent = true;
    first.counter.inc();
    for (let round = 0; round < 3; round++) {
      expect(await collect()).toEqual({ c_total: 16, g: 15, workers: 2, workers_unanswered: 1 });
    }
    expect([first.asked, second.asked]).toEqual([4, 2]);
    // An answer that comes late is one.
    second.counter.inc(100);
    await second.answer();
    second.silent = false;
    expect(await collect()).toEqual({ c_total: 116, g: 15, workers: 2, workers_unanswered: 0 });
  });

  test('keeps the counts of those that have ended, and not their gauges', async () => {
    await collect();
    metrics.remove(2);
    expect(await collect()).toEqual({ c_total: 15, g: 10, workers: 1, workers_unanswered: 0 });
    for (let id = 3; id < 50; id++) {
      const worker = new FakeWorker(metrics, id, 1);
      await collect();
      metrics.remove(worker.id);
    }
    expect(await collect()).toMatchObject({ c_total: 15 + 47, g: 10 });
    // One that ends before anyone has seen its counts takes them with it.
    const unseen = new FakeWorker(metrics, 50, 1000);
    metrics.remove(unseen.id);
    expect(await collect()).toMatchObject({ c_total: 15 + 47 });
  });

  test('does not wait for one that ends meanwhile', async () => {
    const patient = new ClusterMetrics(2 ** 30);
    const worker = new FakeWorker(patient, 1, 7);
    await patient.collect();
    worker.silent = true;
    const collecting = patient.collect();
    patient.remove(1);
    expect(new Exposition(await collecting).sum('c_total')).toBe(7);
  });

  test('gives the page of a supervisor without workers', async () => {
    metrics.remove(1);
    metrics.remove(2);
    expect(await collect()).toEqual({ c_total: 0, g: 0, workers: 0, workers_unanswered: 0 });
  });

  test('takes nothing from one that it does not know', async () => {
    metrics.take(99, await first.registry.getMetricsAsJSON());
    expect(await collect()).toMatchObject({ c_total: 15, workers: 2 });
  });
});
