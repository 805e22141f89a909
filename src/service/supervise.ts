/** Runs several serving processes on one port: starts and stops them, replaces those that die, holds what they share. */
import cluster, { type Worker } from 'node:cluster';
import type { Logger } from 'pino';
import { type Config, EXIT_BAD_CONFIG, SETTINGS, shareOf } from '../config.ts';
import { Admission, type Slot } from '../http/admission.ts';
import { RATE_WINDOW_MS } from '../http/app.ts';
import { Problem } from '../http/problem.ts';
import { Backoff } from './backoff.ts';
import { ClusterMetrics } from './cluster-metrics.ts';
import { type LogOutput, openLogOutput, relayLines } from './log-output.ts';
import { isToSupervisor, sendMessage, type ToSupervisor, type ToWorker } from './messages.ts';
import { countDroppedLines } from './process-metrics.ts';
import { RateCounter } from './rate-counter.ts';
import { STOP_MARGIN_MS } from './serve.ts';
import type { Log, Running, Shutdown } from './shutdown.ts';
import { within } from './within.ts';

/** How long the workers may take beyond their own limits before they are killed. */
const KILL_MARGIN_MS = STOP_MARGIN_MS + 1000;
/** How long the end of killed workers may take. */
const KILLED_MS = 1000;

/** The settings of a worker: it gets its part of the budgets. The workers share everything else. */
export function shareConfig(config: Config): Config {
  return {
    ...config,
    memoryBudgetBytes: shareOf(config, 'memoryBudgetBytes'),
    spoolBudgetBytes: shareOf(config, 'spoolBudgetBytes'),
    maxConnections: shareOf(config, 'maxConnections'),
  };
}

/** How a worker ended. */
interface End {
  readonly code: number | null;
  readonly signal: string | null;
}

/** One worker, and the slots that it holds. */
class Member {
  readonly worker: Worker;
  readonly started = performance.now();
  /** Resolves when the worker has ended and all of its output was read. */
  readonly ended: Promise<End>;
  end: End | null = null;
  listened = false;
  readonly #slots = new Map<number, Slot>();

  constructor(worker: Worker) {
    this.worker = worker;
    const { promise, resolve } = Promise.withResolvers<End>();
    this.ended = promise;
    worker.process.once('close', (code: number | null, signal: string | null) => {
      this.end = { code, signal };
      resolve(this.end);
    });
    // A worker that could not be started emits 'close' as well.
    worker.on('error', () => {});
    worker.once('listening', () => {
      this.listened = true;
    });
  }

  send(message: ToWorker): void {
    sendMessage(this.worker, message);
  }

  kill(): void {
    this.worker.process.kill('SIGKILL');
  }

  /** Waits for a slot on behalf of the worker, and sends it the outcome. */
  async enter(id: number, client: string, admission: Admission): Promise<void> {
    const slot = admission.enter(client);
    this.#slots.set(id, slot);
    try {
      await slot.entered;
      this.send({ type: 'entered', id });
    } catch (error) {
      this.#slots.delete(id);
      const hasShare = error instanceof Problem && error.code === 'rate-limited';
      this.send({ type: 'refused', id, hasShare });
    }
  }

  leave(id: number): void {
    this.#slots.get(id)?.leave();
    this.#slots.delete(id);
  }

  leaveAll(): void {
    for (const id of this.#slots.keys()) this.leave(id);
  }
}

/** Starts the supervisor, which runs in the first process and does not serve itself. */
export function supervise(config: Config, shutdown: Shutdown, log: Log): void {
  // Workers that shared the supervisor's own pipe would change its blocking mode when they start and end.
  cluster.setupPrimary({ stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const supervisor = new Supervisor(config, shutdown, log);
  shutdown.running = supervisor;
  // The other workers follow when the first one listens, so that a reason not to start is logged once.
  supervisor.start();
}

class Supervisor implements Running {
  readonly #config: Config;
  readonly #shutdown: Shutdown;
  readonly #logger: Logger;
  readonly #output: LogOutput;
  readonly #errors = openLogOutput(process.stderr);
  readonly #members = new Set<Member>();
  readonly #metrics = new ClusterMetrics();
  readonly #admission: Admission;
  readonly #backoff = new Backoff();
  readonly #rates = new RateCounter(RATE_WINDOW_MS);
  #everListened = false;
  #stopping = false;

  constructor(config: Config, shutdown: Shutdown, { logger, output }: Log) {
    this.#config = config;
    this.#shutdown = shutdown;
    this.#logger = logger;
    this.#output = output;
    this.#admission = new Admission(config);
    countDroppedLines(this.#metrics.registry, output);
  }

  start(): void {
    // As a number, since `auto` could mean another one by now.
    const worker = cluster.fork({ [SETTINGS.workers.name]: String(this.#config.workers) });
    const member = new Member(worker);
    this.#members.add(member);
    this.#metrics.add(worker.id, () => member.send({ type: 'collect' }));
    const { stdout, stderr } = worker.process;
    if (stdout !== null) relayLines(stdout, this.#output);
    if (stderr !== null) relayLines(stderr, this.#errors);
    worker.on('message', (message: unknown) => {
      if (isToSupervisor(message)) this.#answer(member, message);
    });
    worker.once('listening', () => {
      if (this.#everListened || this.#stopping) return;
      this.#everListened = true;
      for (let count = 1; count < this.#config.workers; count++) this.start();
    });
    void member.ended.then((end) => this.#lose(member, end));
  }

  async stop(signal: string | undefined): Promise<boolean> {
    this.#stopping = true;
    const members = [...this.#members];
    this.#logger.info({ signal, workers: members.length }, 'stopping the workers');
    for (const member of members) member.send({ type: 'shutdown' });
    const { shutdownDelayMs, shutdownGraceMs } = this.#config;
    const allEnded = Promise.all(members.map(({ ended }) => ended));
    if ((await within(shutdownDelayMs + shutdownGraceMs + KILL_MARGIN_MS, allEnded)) === null) {
      this.kill();
      await within(KILLED_MS, allEnded);
    }
    // A worker that never listened had accepted nothing, however it ended.
    const failed = members.filter(({ listened, end }) => listened && end?.code !== 0);
    if (failed.length === 0) return true;
    this.#logger.error({ workers: failed.length }, 'workers did not end in order');
    return false;
  }

  kill(): void {
    for (const member of this.#members) member.kill();
  }

  #lose(member: Member, { code, signal }: End): void {
    this.#members.delete(member);
    this.#metrics.remove(member.worker.id);
    member.leaveAll();
    if (this.#stopping) return;
    if (!this.#everListened) {
      // The worker has said why it cannot serve, and the next one would say the same. After the start a setting may be repaired.
      void this.#shutdown.exit(code === EXIT_BAD_CONFIG ? EXIT_BAD_CONFIG : 1);
      return;
    }
    const delayMs = this.#backoff.pauseAfter(performance.now() - member.started);
    const worker = member.worker.process.pid;
    this.#logger.error({ worker, code, signal, delayMs }, 'a worker died; it is replaced');
    setTimeout(() => {
      if (!this.#stopping) this.start();
    }, delayMs);
  }

  #answer(member: Member, message: ToSupervisor): void {
    switch (message.type) {
      case 'enter':
        void member.enter(message.id, message.client, this.#admission);
        break;
      case 'leave':
        member.leave(message.id);
        break;
      case 'count':
        member.send({ type: 'counted', id: message.id, ...this.#rates.count(message.key) });
        break;
      case 'snapshot':
        this.#metrics.take(member.worker.id, message.metrics);
        break;
      case 'metrics':
        void this.#sendMetrics(member, message.id);
        break;
    }
  }

  async #sendMetrics(member: Member, id: number): Promise<void> {
    let text: string | null = null;
    try {
      text = await this.#metrics.collect();
    } catch (error) {
      this.#logger.error({ err: error }, 'the metrics of the workers could not be summed');
    }
    member.send({ type: 'metrics', id, text });
  }
}
