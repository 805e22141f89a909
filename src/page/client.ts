/** The page's side of its worker. */
import type { Answer, Finding, Numbered, Order, Progress, Question, Report } from './messages.ts';

/** What an order that works on a file tells, as it goes on. */
export interface Listener {
  onFinding(finding: Finding): void;
  onProgress(progress: Progress): void;
  /** @param failure why the work ended early: a sentence; null when it is complete, or was cancelled */
  onEnd(failure: string | null): void;
}

export class Client {
  readonly #worker: Worker;
  readonly #listeners = new Map<number, (report: Report) => void>();
  #lastId = 0;

  /** @param url of the worker's script @param onCrash called when the worker itself fails */
  constructor(url: TrustedScriptURL, onCrash: () => void) {
    this.#worker = new Worker(url as unknown as string, { type: 'module' });
    this.#worker.addEventListener('message', ({ data }: MessageEvent<Report>) => this.#listeners.get(data.id)?.(data));
    this.#worker.addEventListener('error', onCrash);
  }

  /** Begins work on a file, which ends the work before it; that one's listener hears nothing more. */
  begin(order: Exclude<Order, Question>, listener: Listener): void {
    this.#listeners.clear();
    this.#send(order, (report) => {
      switch (report.kind) {
        case 'progress':
          listener.onProgress(report);
          break;
        case 'done':
        case 'cancelled':
          listener.onEnd(null);
          break;
        case 'failed':
          listener.onEnd(report.message);
          break;
        case 'opened':
        case 'layout':
        case 'refused':
        case 'kernel':
        case 'check':
        case 'verified':
          listener.onFinding(report);
          break;
        case 'file':
        case 'bytes':
        case 'symbols':
          // Answers to questions have listeners of their own.
          break;
      }
    });
  }

  /** @throws Error with a sentence for the user */
  ask<Kind extends Answer['kind']>(question: Question, kind: Kind): Promise<Extract<Answer, { kind: Kind }>> {
    return new Promise((resolve, reject) => {
      this.#send(question, (report) => {
        if (report.kind === kind) resolve(report as unknown as Extract<Answer, { kind: Kind }>);
        else if (report.kind === 'failed') reject(new Error(report.message));
      });
    });
  }

  #send(order: Order, listener: (report: Report) => void): void {
    this.#lastId += 1;
    const id = this.#lastId;
    this.#listeners.set(id, (report) => {
      if (report.kind === 'done' || report.kind === 'failed' || report.kind === 'cancelled') this.#listeners.delete(id);
      listener(report);
    });
    const numbered: Numbered<Order> = { id, order };
    this.#worker.postMessage(numbered);
  }
}

interface TrustedScriptURL {
  toString(): string;
}
