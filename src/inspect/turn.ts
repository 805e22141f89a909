/**
 * Shares the thread between long work and everything else.
 *
 * At most one piece of long work runs in a turn of the event loop, for `TURN_MS`, however many requests there are: they
 * queue for their turns. Work that ends in its first step never queues.
 */
import type { Steps } from '../elf/steps.ts';
import { MessageChannel, performance, setImmediate } from './platform.ts';

/** How long work may run in one turn, plus the time to its next pause. */
export const TURN_MS = 5;

/**
 * Calls back after everything else in the event loop. Browsers have no `setImmediate`. Node has both, but handles up to
 * 1,000 messages before it polls a socket again.
 */
const callInNextTurn: (callback: () => void) => void =
  typeof setImmediate === 'function' ? (callback) => setImmediate?.(callback) : byMessages();

function byMessages(): (callback: () => void) => void {
  const { port1, port2 } = new MessageChannel();
  const callbacks: (() => void)[] = [];
  port1.addEventListener('message', () => callbacks.shift()?.());
  port1.start();
  return (callback) => {
    callbacks.push(callback);
    port2.postMessage(null);
  };
}

/** Work that waits for its turn, in order of arrival. */
const waiting: (() => void)[] = [];
let turnEnds = Number.NEGATIVE_INFINITY;

/** Lets everything else run first, other long work included. */
export const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length === 1) callInNextTurn(startTurn);
  });

function startTurn(): void {
  const resume = waiting.shift();
  if (waiting.length > 0) callInNextTurn(startTurn);
  turnEnds = performance.now() + TURN_MS;
  resume?.();
}

/** Whether long work should wait for its next turn. True for work that never waited for one. */
export const isTurnOver = (): boolean => performance.now() >= turnEnds;

/** Runs steps, in as many turns as they take. Without a pause they run at once. */
export async function runInSteps<Result>(steps: Steps<Result>): Promise<Result> {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (isTurnOver()) await nextTurn();
  }
}
