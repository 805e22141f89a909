import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Admission, type Slot } from '../../../src/http/admission.ts';
import { Problem } from '../../../src/http/problem.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

type State = 'entered' | 'waiting' | 'refused';

/** Behind what has settled already. */
async function afterTurns(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await Promise.resolve();
}

/** What has become of a place by now. */
async function stateOf({ entered }: Slot): Promise<State> {
  return Promise.race([
    entered.then(
      () => 'entered' as const,
      () => 'refused' as const,
    ),
    afterTurns(3).then(() => 'waiting' as const),
  ]);
}

const statesOf = (places: readonly Slot[]): Promise<State[]> => Promise.all(places.map(stateOf));

function enter(admission: Admission, count: number): Slot[] {
  const places = Array.from({ length: count }, () => admission.enter('client'));
  // Nobody may be waiting for a refusal.
  for (const { entered } of places) entered.catch(() => {});
  return places;
}

const TIMEOUT_MS = 1000;
const limits = (maxUploads: number, maxQueuedUploads: number, maxUploadsPerClient = 0) => ({
  maxUploadsPerClient,
  maxUploads,
  maxQueuedUploads,
  queueTimeoutMs: TIMEOUT_MS,
});

describe('admission', () => {
  test('admits as many as there are slots, lets some wait and refuses the rest at once', async () => {
    const admission = new Admission(limits(2, 1));
    expect(await statesOf(enter(admission, 5))).toEqual(['entered', 'entered', 'waiting', 'refused', 'refused']);
    expect([admission.running, admission.queued]).toEqual([2, 1]);
  });

  test('refuses with 503 and Retry-After', async () => {
    const admission = new Admission(limits(1, 0));
    enter(admission, 1);
    const refused = await admission.enter('client').entered.catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Problem);
    expect(refused).toMatchObject({ code: 'too-busy', status: 503, headers: { 'Retry-After': '1' } });
  });

  test('gives a client its share, what it waits for included, and no more', async () => {
    const admission = new Admission(limits(3, 2, 2));
    const greedy = enter(admission, 3);
    expect(await statesOf(greedy)).toEqual(['entered', 'entered', 'refused']);
    await expect(greedy[2]?.entered).rejects.toMatchObject({ code: 'rate-limited', headers: { 'Retry-After': '1' } });
    const others = ['one', 'one', 'another'].map((client) => admission.enter(client));
    for (const { entered } of others) entered.catch(() => {});
    expect(await statesOf(others)).toEqual(['entered', 'waiting', 'waiting']);
    // The refused one had nothing to give back.
    greedy[2]?.leave();
    expect(await statesOf(enter(admission, 1))).toEqual(['refused']);
    greedy[0]?.leave();
    greedy[0]?.leave();
    expect(await statesOf(others)).toEqual(['entered', 'entered', 'waiting']);
    expect(await statesOf(enter(admission, 2))).toEqual(['waiting', 'refused']);
  });

  test('counts no more what has waited in vain', async () => {
    const admission = new Admission(limits(1, 1, 1));
    enter(admission, 1);
    const first = admission.enter('other');
    vi.advanceTimersByTime(TIMEOUT_MS);
    await expect(first.entered).rejects.toMatchObject({ code: 'too-busy' });
    expect(await stateOf(admission.enter('other'))).toBe('waiting');
  });

  test('hands a slot to the upload that has waited longest', async () => {
    const admission = new Admission(limits(1, 3));
    const places = enter(admission, 4);
    places[0]?.leave();
    expect(await statesOf(places.slice(1))).toEqual(['entered', 'waiting', 'waiting']);
    places[1]?.leave();
    expect(await statesOf(places.slice(2))).toEqual(['entered', 'waiting']);
    expect([admission.running, admission.queued]).toEqual([1, 1]);
    places[2]?.leave();
    places[3]?.leave();
    expect([admission.running, admission.queued]).toEqual([0, 0]);
  });

  test('forgets an upload that stops waiting, and rejects it', async () => {
    const admission = new Admission(limits(1, 2));
    const places = enter(admission, 3);
    places[1]?.leave();
    expect(admission.queued).toBe(1);
    await expect(places[1]?.entered).rejects.toMatchObject({ code: 'client-gone' });
    places[0]?.leave();
    expect(await statesOf(places.slice(1))).toEqual(['refused', 'entered']);
    expect([admission.running, admission.queued, vi.getTimerCount()]).toEqual([1, 0, 0]);
  });

  test('takes a slot back once, however often it is left', async () => {
    const admission = new Admission(limits(2, 1));
    const [first, second, third] = enter(admission, 3);
    for (let turn = 0; turn < 3; turn++) first?.leave();
    expect(await statesOf(third ? [third] : [])).toEqual(['entered']);
    expect([admission.running, admission.queued]).toEqual([2, 0]);
    for (let turn = 0; turn < 3; turn++) third?.leave();
    second?.leave();
    expect(admission.running).toBe(0);
  });

  test('refuses an upload that has waited for too long, which may still leave after that', async () => {
    const admission = new Admission(limits(1, 1));
    const [first, second] = enter(admission, 2);
    await vi.advanceTimersByTimeAsync(TIMEOUT_MS - 1);
    expect(admission.queued).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(await statesOf(second ? [second] : [])).toEqual(['refused']);
    second?.leave();
    expect([admission.running, admission.queued]).toEqual([1, 0]);
    first?.leave();
    expect(admission.running).toBe(0);
  });

  test('does not refuse later an upload that was admitted in time', async () => {
    const admission = new Admission(limits(1, 1));
    const [first, second] = enter(admission, 2);
    first?.leave();
    await vi.advanceTimersByTimeAsync(2 * TIMEOUT_MS);
    expect(await statesOf(second ? [second] : [])).toEqual(['entered']);
    expect([admission.running, vi.getTimerCount()]).toEqual([1, 0]);
  });

  test('takes nothing for a refusal, so there is nothing to give back', () => {
    const admission = new Admission(limits(1, 0));
    const [, refused] = enter(admission, 2);
    refused?.leave();
    expect(admission.running).toBe(1);
  });

  test('never has more under way or waiting than it may, and loses no slot', async () => {
    const steps = fc.array(fc.oneof(fc.constant(-1), fc.nat({ max: 30 })), { maxLength: 80 });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.nat({ max: 4 }), steps, async (uploads, queue, walk) => {
        const admission = new Admission(limits(uploads, queue));
        const inside: Slot[] = [];
        for (const step of walk) {
          if (step === -1) {
            const [place] = enter(admission, 1);
            if (place !== undefined && (await stateOf(place)) !== 'refused') inside.push(place);
          } else {
            inside.splice(step % (inside.length + 1), 1)[0]?.leave();
          }
          const running = Math.min(uploads, inside.length);
          expect([admission.running, admission.queued]).toEqual([running, inside.length - running]);
        }
        for (const place of inside.toReversed()) place.leave();
        expect([admission.running, admission.queued, vi.getTimerCount()]).toEqual([0, 0, 0]);
      }),
    );
  });
});
