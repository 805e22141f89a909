/** A worker's side of the channel to its supervisor: one listener, however many questions are open. */
import type { FastifyRateLimitStore, FastifyRateLimitStoreCtor } from '@fastify/rate-limit';
import {
  type AdmissionControl,
  type AdmissionLimits,
  ignoreRejection,
  type Slot,
  shareTaken,
  tooBusy,
} from '../http/admission.ts';
import { clientGone } from '../http/problem.ts';
import { type Answer, isToWorker, type Question, type Snapshot, sendMessage, type ToSupervisor } from './messages.ts';

/** How long the supervisor may take for answers that it gives at once. Without it nothing works; this bounds what waits. */
const ANSWER_MS = 30_000;
/** How long it may take for the metrics; scrapers wait for ten seconds by default. */
const METRICS_MS = 8000;

/** Asks the supervisor, and answers it. */
export class SupervisorLink {
  /** Gives the metrics of this process. */
  snapshot: () => Promise<Snapshot> = () => Promise.resolve([]);
  readonly #open = new Map<number, (answer: Answer) => void>();
  #lastId = 0;
  #metrics: Promise<string> | null = null;

  constructor() {
    process.on('message', (message) => {
      if (!isToWorker(message)) return;
      if (message.type === 'collect') void this.#report();
      else if ('id' in message) this.#open.get(message.id)?.(message);
    });
  }

  /**
   * The metrics of all workers, as text. Calls that overlap share one result.
   *
   * @throws Error when the supervisor does not answer
   */
  collectMetrics(): Promise<string> {
    this.#metrics ??= this.#askForMetrics().finally(() => {
      this.#metrics = null;
    });
    return this.#metrics;
  }

  /** Slots for uploads that all workers share. */
  admission(limits: AdmissionLimits): AdmissionControl {
    return new SharedAdmission(this, limits);
  }

  /** Counts the uploads of a client in all workers. */
  rateLimitStore(): FastifyRateLimitStoreCtor {
    const count: FastifyRateLimitStore['incr'] = (key, callback) => {
      this.ask({ type: 'count', key }, ANSWER_MS, (answer) => {
        if (answer?.type === 'counted') callback(null, { current: answer.current, ttl: answer.ttlMs });
        else callback(new Error('the supervisor does not count'));
      });
    };
    return class {
      incr = count;
      child(): this {
        return this;
      }
    };
  }

  /**
   * Asks the supervisor.
   *
   * @param settle called with the answer, or with null when none comes in time
   * @returns the id of the question
   */
  ask(question: Question, limitMs: number, settle: (answer: Answer | null) => void): number {
    this.#lastId += 1;
    const id = this.#lastId;
    const close = (answer: Answer | null): void => {
      clearTimeout(timer);
      this.#open.delete(id);
      settle(answer);
    };
    const timer = setTimeout(close, limitMs, null);
    this.#open.set(id, close);
    this.tell({ ...question, id });
    return id;
  }

  /** Sends a message that has no answer. */
  tell(message: ToSupervisor): void {
    sendMessage(process, message);
  }

  #askForMetrics(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.ask({ type: 'metrics' }, METRICS_MS, (answer) => {
        if (answer?.type === 'metrics' && answer.text !== null) resolve(answer.text);
        else reject(new Error('the supervisor gives no metrics'));
      });
    });
  }

  async #report(): Promise<void> {
    this.tell({ type: 'snapshot', metrics: await this.snapshot() });
  }
}

/** Admission by the supervisor, which has the slots and the queue. */
class SharedAdmission implements AdmissionControl {
  readonly #link: SupervisorLink;
  readonly #limits: AdmissionLimits;
  running = 0;
  queued = 0;

  constructor(link: SupervisorLink, limits: AdmissionLimits) {
    this.#link = link;
    this.#limits = limits;
  }

  enter(client: string): Slot {
    const { promise: entered, resolve, reject } = Promise.withResolvers<void>();
    ignoreRejection(entered);
    let state: 'waiting' | 'entered' | 'left' = 'waiting';
    this.queued += 1;
    const id = this.#link.ask({ type: 'enter', client }, this.#limits.queueTimeoutMs + ANSWER_MS, (answer) => {
      if (state === 'left') return;
      if (answer?.type === 'entered') {
        state = 'entered';
        this.queued -= 1;
        this.running += 1;
        resolve();
      } else {
        const hasShare = answer?.type === 'refused' && answer.hasShare;
        reject(hasShare ? shareTaken(this.#limits) : tooBusy(this.#limits));
        leave();
      }
    });
    const leave = (): void => {
      if (state === 'left') return;
      if (state === 'entered') this.running -= 1;
      else this.queued -= 1;
      state = 'left';
      // Has no effect after `entered` has settled.
      reject(clientGone());
      this.#link.tell({ type: 'leave', id });
    };
    return { entered, leave };
  }
}
