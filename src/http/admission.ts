/** Limits the uploads that are under way at once. A full service refuses at once instead of letting clients time out. */
import { clientGone, Problem } from './problem.ts';

export interface AdmissionLimits {
  readonly maxUploads: number;
  /** How many more may wait for a slot, and for how long. */
  readonly maxQueuedUploads: number;
  readonly queueTimeoutMs: number;
  /** How many slots one client may have, those that it waits for included; 0 for no limit. */
  readonly maxUploadsPerClient: number;
}

/** One of the slots for uploads, or a place in the queue for one. */
export interface Slot {
  /**
   * Resolves when the upload has its slot.
   *
   * @throws Problem too-busy, rate-limited when the client has its share, or client-gone when the upload left the queue
   */
  readonly entered: Promise<void>;
  /** Gives the slot back, or stops waiting for it. Idempotent. */
  leave(): void;
}

/** Hands out slots: those of this process, or those that several workers share. */
export interface AdmissionControl {
  /** Uploads of this process that have a slot. */
  readonly running: number;
  /** Uploads of this process that wait for one. */
  readonly queued: number;
  /** @param client the key of the client that uploads, see `clientKey` */
  enter(client: string): Slot;
}

const RETRY_AFTER_SECONDS = 1;
const ENTERED = Promise.resolve();

/** Hands out slots in the order of arrival. */
export class Admission implements AdmissionControl {
  readonly #limits: AdmissionLimits;
  /** The uploads that wait, longest first; each is called when it gets a slot. */
  readonly #queue = new Set<() => void>();
  /** How many slots each client has or waits for; empty without a limit. */
  readonly #shares = new Map<string, number>();
  #running = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#running;
  }

  get queued(): number {
    return this.#queue.size;
  }

  enter(client: string): Slot {
    const { maxUploadsPerClient } = this.#limits;
    if (maxUploadsPerClient === 0) return this.#enter();
    const share = this.#shares.get(client) ?? 0;
    if (share >= maxUploadsPerClient) return refused(shareTaken(this.#limits));
    const slot = this.#enter();
    this.#shares.set(client, share + 1);
    const giveBack = once(() => {
      const left = (this.#shares.get(client) ?? 1) - 1;
      if (left === 0) this.#shares.delete(client);
      else this.#shares.set(client, left);
    });
    slot.entered.catch(giveBack);
    return {
      entered: slot.entered,
      leave: () => {
        giveBack();
        slot.leave();
      },
    };
  }

  #enter(): Slot {
    if (this.#running < this.#limits.maxUploads) {
      this.#running += 1;
      return { entered: ENTERED, leave: once(() => this.#leave()) };
    }
    if (this.#queue.size >= this.#limits.maxQueuedUploads) return refused(tooBusy(this.#limits));
    return this.#wait();
  }

  #wait(): Slot {
    const { promise: entered, resolve, reject } = Promise.withResolvers<void>();
    ignoreRejection(entered);
    const stopWaiting = (): void => {
      clearTimeout(timer);
      this.#queue.delete(admit);
    };
    const giveUp = (problem: Problem): void => {
      stopWaiting();
      reject(problem);
    };
    const timer = setTimeout(() => giveUp(tooBusy(this.#limits)), this.#limits.queueTimeoutMs);
    let leave = (): void => giveUp(clientGone());
    const admit = (): void => {
      stopWaiting();
      leave = () => this.#leave();
      resolve();
    };
    this.#queue.add(admit);
    return { entered, leave: once(() => leave()) };
  }

  /** Hands the slot to the upload that has waited longest. */
  #leave(): void {
    const [next] = this.#queue;
    if (next === undefined) this.#running -= 1;
    else next();
  }
}

function once(call: () => void): () => void {
  let called = false;
  return () => {
    if (called) return;
    called = true;
    call();
  };
}

function refused(problem: Problem): Slot {
  const entered = Promise.reject(problem);
  ignoreRejection(entered);
  return { entered, leave: () => {} };
}

/** Keeps a rejection from counting as unhandled: an upload may end before anything waits for its slot. */
export function ignoreRejection(promise: Promise<unknown>): void {
  promise.catch(() => {});
}

export function tooBusy({ maxUploads }: Pick<AdmissionLimits, 'maxUploads'>): Problem {
  return new Problem(
    'too-busy',
    `All ${maxUploads} slots for uploads are taken. Send the request again after the time in Retry-After.`,
    { headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) } },
  );
}

export function shareTaken({ maxUploadsPerClient }: Pick<AdmissionLimits, 'maxUploadsPerClient'>): Problem {
  return new Problem(
    'rate-limited',
    `This address has ${maxUploadsPerClient} uploads under way (BSDSYMS_MAX_UPLOADS_PER_CLIENT). Send the request again when one is done.`,
    { headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) } },
  );
}
