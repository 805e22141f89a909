/** The log's way to a descriptor that may refuse: order, limits, and what is said about the gap. */
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LogOutput, relayLines } from '../../../src/service/log-output.ts';
import { systemError } from '../../support/uploads.ts';

const MIB = 1024 * 1024;

/** A pipe of which a test says how much it takes. */
class Pipe {
  written = '';
  room = Number.POSITIVE_INFINITY;
  failure = 'EAGAIN';
  attempts = 0;

  readonly write = (bytes: Uint8Array): number => {
    this.attempts += 1;
    if (this.room === 0) throw systemError(this.failure);
    const taken = bytes.subarray(0, this.room);
    this.room -= taken.length;
    this.written += Buffer.from(taken).toString('latin1');
    return taken.length;
  };

  get lines(): string[] {
    return this.written.split('\n').slice(0, -1);
  }
}

const line = (level: number, number: number): string =>
  `{"level":${level},"number":${number},"x":"${'x'.repeat(200)}"}\n`;
const numberOf = (text: string): number => Number(/"number":(\d+)/.exec(text)?.[1]);

let pipe: Pipe;
let output: LogOutput;
let gaps: number[];

beforeEach(() => {
  vi.useFakeTimers();
  pipe = new Pipe();
  output = new LogOutput(pipe.write);
  gaps = [];
  output.onGap = (dropped) => {
    gaps.push(dropped);
    output.write(`{"level":40,"dropped":${dropped}}\n`);
  };
});
afterEach(() => {
  vi.useRealTimers();
});

/** Writes so many lines of a level, numbered. */
function writeMany(count: number, level = 30): void {
  for (let number = 0; number < count; number++) output.write(line(level, number));
}

describe('LogOutput', () => {
  test('writes the lines of one turn together, in their order', async () => {
    output.write('a\n');
    output.write('b\n');
    expect(pipe.written).toBe('');
    await vi.advanceTimersByTimeAsync(0);
    expect([pipe.written, pipe.attempts]).toEqual(['a\nb\n', 1]);
  });

  test('writes the waiting lines at once when it is flushed', () => {
    output.write('a\n');
    output.flushSync();
    expect(pipe.written).toBe('a\n');
  });

  test('goes on where it was interrupted, in the middle of a line or of a character', async () => {
    pipe.room = 2;
    output.write('aé\n');
    output.write('b\n');
    await vi.advanceTimersByTimeAsync(0);
    expect(pipe.written).toHaveLength(2);
    output.write('c\n');
    pipe.room = Number.POSITIVE_INFINITY;
    await vi.advanceTimersByTimeAsync(1000);
    expect(Buffer.from(pipe.written, 'latin1').toString()).toBe('aé\nb\nc\n');
  });

  test('keeps a bounded number of lines and drops the rest, however many come', () => {
    pipe.room = 0;
    writeMany(100_000);
    pipe.room = Number.POSITIVE_INFINITY;
    output.flushSync();
    const kept = pipe.lines.filter((text) => text.includes('"number"'));
    expect(pipe.written.length).toBeLessThanOrEqual(MIB);
    expect(kept.length).toBeGreaterThan(1000);
    expect(kept.map(numberOf)).toEqual(kept.map((_, index) => index));
    expect(output.dropped).toBe(100_000 - kept.length);
  });

  test('keeps room for warnings, which are dropped last', () => {
    pipe.room = 0;
    writeMany(10_000, 30);
    const droppedBefore = output.dropped;
    writeMany(100, 40);
    writeMany(100, 60);
    expect([droppedBefore > 0, output.dropped]).toEqual([true, droppedBefore]);
    writeMany(10_000, 50);
    expect(output.dropped).toBeGreaterThan(droppedBefore);
    pipe.room = Number.POSITIVE_INFINITY;
    output.flushSync();
    expect(pipe.written.length).toBeLessThanOrEqual(MIB);
    expect(pipe.lines.filter((text) => text.startsWith('{"level":60')).length).toBe(100);
  });

  test('reports how many lines are missing once it is read again, even if nothing more is logged', async () => {
    pipe.room = 0;
    writeMany(10_000);
    const { dropped } = output;
    expect(gaps).toEqual([]);
    pipe.room = Number.POSITIVE_INFINITY;
    await vi.advanceTimersByTimeAsync(2000);
    expect(gaps).toEqual([dropped]);
    expect(pipe.lines.at(-1)).toBe(`{"level":40,"dropped":${dropped}}`);
    output.write('next\n');
    await vi.advanceTimersByTimeAsync(0);
    expect([gaps.length, pipe.lines.at(-1)]).toEqual([1, 'next']);
  });

  test('has one gap for a slow reader, not one for each line', async () => {
    pipe.room = 0;
    writeMany(10_000);
    // It reads a little at a time while lines still come.
    for (let round = 0; round < 20; round++) {
      pipe.room = 1000;
      output.flushSync();
      writeMany(10);
    }
    expect(gaps).toEqual([]);
    pipe.room = 0.5 * MIB;
    output.flushSync();
    writeMany(10);
    expect(gaps).toHaveLength(1);
    pipe.room = Number.POSITIVE_INFINITY;
    output.flushSync();
    output.flushSync();
    const gap = pipe.lines.findIndex((text) => text.includes('"dropped"'));
    expect(pipe.lines.slice(gap + 1).map(numberOf)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const numbered = pipe.lines.filter((text) => text.includes('"number"')).length;
    expect(numbered + (gaps[0] ?? 0)).toBe(10_000 + 20 * 10 + 10);
  });

  test.each(['EAGAIN', 'EPIPE', 'ENOSPC', 'EIO'])(
    'neither fails nor spins with %s, and goes on afterwards',
    async (code) => {
      pipe.room = 0;
      pipe.failure = code;
      output.write('a\n');
      await vi.advanceTimersByTimeAsync(60_000);
      // Doubling pauses: some in the first second, one a second then.
      expect(pipe.attempts).toBeLessThan(80);
      pipe.room = Number.POSITIVE_INFINITY;
      await vi.advanceTimersByTimeAsync(1000);
      expect(pipe.written).toBe('a\n');
    },
  );

  test('drain waits until all is written, and not for ever', async () => {
    pipe.room = 0;
    output.write('a\n');
    const inVain = output.drain(500);
    await vi.advanceTimersByTimeAsync(600);
    await inVain;
    expect(pipe.written).toBe('');
    const drained = output.drain(60_000);
    pipe.room = Number.POSITIVE_INFINITY;
    await vi.advanceTimersByTimeAsync(100);
    await drained;
    expect(pipe.written).toBe('a\n');
  });
});

/** What becomes of text that comes in these pieces. */
async function relay(...chunks: readonly (string | Buffer)[]): Promise<string[]> {
  vi.useRealTimers();
  const lines: string[] = [];
  const collecting = new LogOutput((bytes) => bytes.length);
  vi.spyOn(collecting, 'write').mockImplementation((text) => void lines.push(text));
  const stream = Readable.from(chunks, { objectMode: false });
  relayLines(stream, collecting);
  await new Promise((resolve) => {
    stream.once('close', resolve);
  });
  return lines;
}

describe('relayLines', () => {
  test('passes whole lines on, however they are cut', async () => {
    expect(await relay('a', 'b\nc', '\n', '\nd\n')).toEqual(['ab\n', 'c\n', '\n', 'd\n']);
    const bytes = Buffer.from('é\n');
    expect(await relay(bytes.subarray(0, 1), bytes.subarray(1))).toEqual(['é\n']);
  });

  test('ends the last line, if the writer did not', async () => {
    expect(await relay('a\nb')).toEqual(['a\n', 'b\n']);
    expect(await relay()).toEqual([]);
  });

  test('does not gather a line without an end', async () => {
    const long = 'x'.repeat(100_000);
    expect(await relay(long, long, '\n')).toEqual([long, long, '\n']);
  });
});
