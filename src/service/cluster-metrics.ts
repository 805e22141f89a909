/** Sums the metrics of several workers, so that they look like those of one service. */
import { AggregatorRegistry, Registry } from '../http/prometheus.ts';
import type { Snapshot } from './messages.ts';
import { countWorkers, type WorkerCounts } from './process-metrics.ts';
import { within } from './within.ts';

/** How long the workers may take to give their metrics; scrapers wait for ten seconds by default. */
const ANSWER_MS = 2000;
/** The types of metrics that only grow. */
const COUNTS: ReadonlySet<unknown> = new Set(['counter', 'histogram']);

/** A worker, and its metrics. */
interface Member {
  readonly ask: () => void;
  /** Whether it was asked and has not answered yet. Meanwhile it is not asked again. */
  asked: boolean;
  /** The metrics that it gave last. */
  last: Snapshot;
}

/**
 * Sums the metrics of workers. A sum of counters must never fall, or a scraper would count all of it as an increase. So
 * the last values of a worker stand in for it while it does not answer, and its counts stay in the sum after its end.
 */
export class ClusterMetrics implements WorkerCounts {
  /** The supervisor's own metrics. */
  readonly registry = new Registry();
  readonly #members = new Map<number, Member>();
  readonly #answerMs: number;
  /** The counts of workers that have ended. */
  #ended: Snapshot[] = [];
  #collecting: Promise<string> | null = null;
  #answered = Promise.withResolvers<void>();

  constructor(answerMs = ANSWER_MS) {
    this.#answerMs = answerMs;
    countWorkers(this.registry, this);
  }

  get workers(): number {
    return this.#members.size;
  }

  get unanswered(): number {
    return [...this.#members.values()].filter(({ asked }) => asked).length;
  }

  /** Adds a worker. @param ask asks it for its metrics, which go to `take` */
  add(id: number, ask: () => void): void {
    this.#members.set(id, { ask, asked: false, last: [] });
  }

  /** Takes the metrics of a worker. */
  take(id: number, metrics: Snapshot): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    member.asked = false;
    member.last = metrics;
    if (this.unanswered === 0) this.#answered.resolve();
  }

  /** Removes a worker that has ended. */
  remove(id: number): void {
    const counts = this.#members.get(id)?.last.filter(({ type }) => COUNTS.has(type)) ?? [];
    if (counts.length > 0) this.#ended.push(counts);
    this.#members.delete(id);
    if (this.unanswered === 0) this.#answered.resolve();
  }

  /** All metrics as text. Calls that overlap share one result. */
  collect(): Promise<string> {
    this.#collecting ??= this.#collect().finally(() => {
      this.#collecting = null;
    });
    return this.#collecting;
  }

  async #collect(): Promise<string> {
    this.#answered = Promise.withResolvers();
    for (const member of this.#members.values()) {
      if (member.asked) continue;
      member.asked = true;
      member.ask();
    }
    if (this.unanswered > 0) await within(this.#answerMs, this.#answered.promise);
    await this.#mergeEnded();
    const own = await this.registry.getMetricsAsJSON();
    const lasts = [...this.#members.values()].map(({ last }) => last);
    return AggregatorRegistry.aggregate([...this.#ended, ...lasts, own]).metrics();
  }

  /** Merges the counts of ended workers, so that they take the space of one. */
  async #mergeEnded(): Promise<void> {
    const { length } = this.#ended;
    if (length < 2) return;
    const merged = await AggregatorRegistry.aggregate(this.#ended).getMetricsAsJSON();
    this.#ended = [merged, ...this.#ended.slice(length)];
  }
}
