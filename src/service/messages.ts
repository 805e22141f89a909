/** Messages between workers and their supervisor, over Node's channel between processes. */
import type { MetricObjectWithValues, MetricValue } from 'prom-client';

/** The metrics of one process at one time. */
export type Snapshot = MetricObjectWithValues<MetricValue<string>>[];

/** A question of a worker. The supervisor answers with a message of the same `id`. */
export type Question =
  /** The metrics of all processes, as text. */
  | { readonly type: 'metrics' }
  /** A slot for an upload. It is held until `leave`. */
  | { readonly type: 'enter'; readonly client: string }
  /** Counts one more upload of a client. */
  | { readonly type: 'count'; readonly key: string };

export type Answer =
  | { readonly type: 'metrics'; readonly text: string | null }
  | { readonly type: 'entered' }
  /** No slot is free, or the client has its share of them. */
  | { readonly type: 'refused'; readonly hasShare: boolean }
  | { readonly type: 'counted'; readonly current: number; readonly ttlMs: number };

type Identified<Message> = Message & { readonly id: number };

export type ToSupervisor =
  | Identified<Question>
  /** Gives back the slot of the question with this id, or stops waiting for it. */
  | { readonly type: 'leave'; readonly id: number }
  | { readonly type: 'snapshot'; readonly metrics: Snapshot };

export type ToWorker =
  | Identified<Answer>
  | { readonly type: 'collect' }
  /** Finish and end. A signal cannot say that: with Ctrl-C the workers get the signal as well as the supervisor. */
  | { readonly type: 'shutdown' };

/** Whether a message is one of these: Node and libraries use the channel too. */
const isOwn = (message: unknown): message is { readonly type: string } =>
  typeof message === 'object' && message !== null && 'type' in message && typeof message.type === 'string';

export const isToSupervisor = (message: unknown): message is ToSupervisor => isOwn(message);
export const isToWorker = (message: unknown): message is ToWorker => isOwn(message);

interface Channel {
  send?(message: unknown, handle: undefined, options: undefined, sent: (error: Error | null) => void): boolean;
}

/** Sends a message and never fails: if the channel is closed, the other process has ended or is about to. */
export function sendMessage(channel: Channel, message: ToSupervisor | ToWorker): void {
  try {
    // Without the last argument a failure would be an `error` event, which ends the process.
    channel.send?.(message, undefined, undefined, () => {});
  } catch {
    // As above.
  }
}
