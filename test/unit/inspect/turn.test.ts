import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ByteWalk } from '../../../src/elf/byte-walk.ts';
import { ELF64 } from '../../../src/elf/format.ts';
import type { Steps } from '../../../src/elf/steps.ts';
import { MemorySource } from '../../../src/image/memory.ts';
import { driveWalk } from '../../../src/inspect/drive-walk.ts';
import { flattenImage, inspectKernel, loadImage, openImage } from '../../../src/inspect/load.ts';
import { isTurnOver, nextTurn, runInSteps, TURN_MS } from '../../../src/inspect/turn.ts';
import { kernel, writeField } from '../../support/elf-builder.ts';
import { turnsOf } from '../../support/load.ts';

/** What the clock shows; it goes on only when a test says so. */
let now = performance.now();

beforeEach(() => {
  // The turns of other tests are over.
  now += 1000;
  vi.spyOn(performance, 'now').mockImplementation(() => now);
});

afterEach(async () => {
  // This clock is ahead of the real one: a turn of it would last long for the tests after these.
  vi.spyOn(performance, 'now').mockReturnValue(Number.NEGATIVE_INFINITY);
  await nextTurn();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

function* failing(): Steps<void> {
  yield null;
  throw new Error('no');
}

function* pauseOften(pauses: number, pauseMs: number): ByteWalk<void> {
  for (let pause = 0; pause < pauses; pause++) {
    now += pauseMs;
    yield null;
  }
}

function* readOften(reads = 64, length = 1): ByteWalk<void> {
  for (let read = 0; read < reads; read++) yield { offset: 0, length };
}

/** Takes `stepMs` between two pauses. @param onStep is called in every step */
function* stepsOf(count: number, stepMs: number, onStep: () => void = () => {}): Steps<string> {
  for (let step = 0; step < count; step++) {
    if (step > 0) yield null;
    now += stepMs;
    onStep();
  }
  return 'result';
}

describe('work in steps', () => {
  test('that does not pause is done in the turn in which it began', async () => {
    expect(await turnsOf(() => runInSteps(stepsOf(1, 100)))).toBe(0);
  });

  test('waits for a turn after its first step, and goes on for as long as a turn may take', async () => {
    const seen: number[] = [];
    await turnsOf((turn) => runInSteps(stepsOf(11, 1, () => seen.push(turn()))));
    const [first, ...others] = [...new Set(seen)].map((turn) => seen.filter((one) => one === turn).length);
    expect([first, ...others]).toEqual([1, TURN_MS, TURN_MS]);
  });

  test('gives its result', async () => {
    expect(await runInSteps(stepsOf(50, 1))).toBe('result');
  });

  test('fails as the steps do', async () => {
    await expect(runInSteps(failing())).rejects.toThrow('no');
  });

  test('is done by one piece at a time, however many there are, each in its turn', async () => {
    const seen: (readonly [turn: number, piece: number])[] = [];
    await turnsOf((turn) =>
      Promise.all(
        Array.from({ length: 20 }, (_, piece) =>
          runInSteps(stepsOf(1 + 3 * TURN_MS, 1, () => seen.push([turn(), piece]))),
        ),
      ),
    );
    // All take their first step as they come.
    const queued = seen.slice(20);
    for (const turn of new Set(queued.map(([one]) => one))) {
      const pieces = queued.filter(([one]) => one === turn).map(([, piece]) => piece);
      expect(new Set(pieces).size).toBe(1);
      expect(pieces.length).toBeLessThanOrEqual(TURN_MS);
    }
    const order = queued.filter((_, index) => index % TURN_MS === 0).map(([, piece]) => piece);
    expect(order).toEqual([0, 1, 2].flatMap(() => Array.from({ length: 20 }, (_, piece) => piece)));
  });
});

describe('a walk', () => {
  const source = { read: () => Promise.resolve(new Uint8Array(1)) };

  test('that pauses goes on for as long as a turn may take', async () => {
    expect(await turnsOf(() => driveWalk(source, pauseOften(4 * TURN_MS, 1)))).toBe(4);
    expect(await turnsOf(() => driveWalk(source, pauseOften(10, TURN_MS)))).toBe(10);
  });

  test('that reads waits for its turn after every 16 reads, however quick they are', async () => {
    expect(await turnsOf(() => driveWalk(source, readOften()))).toBe(4);
  });

  test('that reads waits for its turn after every megabyte, however few the reads', async () => {
    const MIB = 2 ** 20;
    expect(await turnsOf(() => driveWalk(source, readOften(6, MIB)))).toBe(6);
    expect(await turnsOf(() => driveWalk(source, readOften(6, MIB / 2)))).toBe(3);
    expect(await turnsOf(() => driveWalk(source, readOften(6, MIB / 2 - 1)))).toBe(2);
    expect(await turnsOf(() => driveWalk(source, readOften(15, 1)))).toBe(0);
  });
});

describe('an image of 65,535 headers', () => {
  const HEADERS = 65_535;
  const { elfHeader, programHeader, sectionHeader } = ELF64;
  const image = Buffer.concat([kernel().bytes, Buffer.alloc(HEADERS * 64)]);
  const at = image.length - HEADERS * 64;
  const crowded = (values: Readonly<Record<string, number>>): MemorySource => {
    const bytes = image.slice();
    for (const [name, value] of Object.entries(values)) {
      const field = Object.values(elfHeader.fields).find((one) => one.name === name);
      if (field !== undefined) writeField(bytes, 0, field, value, true);
    }
    return new MemorySource([bytes]);
  };
  const segments = { e_phoff: at, e_phnum: HEADERS, e_phentsize: programHeader.size };
  const sections = { e_shoff: at, e_shnum: HEADERS, e_shentsize: sectionHeader.size };

  /** Steps end after every 1,024 headers. */
  const steps = Math.floor(HEADERS / 1024);

  // With a clock by which every step takes the whole turn, there are as many turns as steps.
  beforeEach(() => {
    vi.spyOn(performance, 'now').mockImplementation(() => (now += TURN_MS));
  });

  test.each([
    ['is opened', 2, (source: MemorySource) => openImage(source), segments],
    ['is opened', 2, (source: MemorySource) => openImage(source), sections],
    ['is inspected', 4, (source: MemorySource) => inspectKernel(source), segments],
    ['is flattened', 3, (source: MemorySource) => flattenImage(source, { symbols: 'never' }), segments],
    ['is loaded', 3, (source: MemorySource) => loadImage(source, { loader: 'xen-4.6' }), sections],
  ] as const)('%s in turns, %i times what it takes to go through them', async (_what, times, work, values) => {
    expect(await turnsOf(() => work(crowded(values)))).toBeGreaterThanOrEqual(times * steps);
  });
});

describe('a turn', () => {
  test('is over for work that did not wait for one, and after its time', async () => {
    expect(isTurnOver()).toBe(true);
    await nextTurn();
    expect(isTurnOver()).toBe(false);
    now += TURN_MS - 1;
    expect(isTurnOver()).toBe(false);
    now += 1;
    expect(isTurnOver()).toBe(true);
  });

  test('comes after what the event loop has to do', async () => {
    const order: string[] = [];
    setImmediate(() => order.push('other'));
    await nextTurn().then(() => order.push('work'));
    expect(order).toEqual(['other', 'work']);
  });

  test('is made of messages in a browser, which has no setImmediate', async () => {
    vi.resetModules();
    vi.stubGlobal('setImmediate', undefined);
    const turn = await import('../../../src/inspect/turn.ts');
    const order: string[] = [];
    const first = turn.nextTurn().then(() => order.push('first'));
    const second = turn.nextTurn().then(() => order.push('second'));
    await Promise.resolve().then(() => order.push('before'));
    await Promise.all([first, second]);
    expect(order).toEqual(['before', 'first', 'second']);
    expect(await turn.runInSteps(stepsOf(30, 1))).toBe('result');
  });
});
