/** Streams that other threads unpack: what they take and give back, and how they end. */
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';
import { type ThreadFault, ThreadUnpacker } from '../../../src/image/thread-unpacker.ts';
import { lz4Zeros } from '../../support/packed.ts';
import { eventually, MIB, pieces } from '../../support/uploads.ts';
import { readCompressedVectors } from '../../support/vectors.ts';

class Explained extends Error {
  readonly fault: ThreadFault;

  constructor(fault: ThreadFault) {
    super(fault.kind);
    this.fault = fault;
  }
}

function open(
  format: 'lz4' | 'xz',
  take: (piece: Uint8Array) => void | Promise<void>,
  memory = new Budget(64 * MIB),
): ThreadUnpacker {
  return new ThreadUnpacker({
    format,
    memory,
    maxWindowBytes: 128 * MIB,
    ignoreTrailing: false,
    take,
    explain: (fault) => new Explained(fault),
  });
}

const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'none',
    (error: unknown) => error,
  );

const packed = lz4Zeros(20 * MIB);

async function run(unpacker: ThreadUnpacker, bytes = packed): Promise<void> {
  for (const piece of pieces(bytes, 10_000)) await unpacker.append(piece);
  await unpacker.finish();
}

describe('memory', () => {
  test('is counted while a stream is unpacked, and given back when it has ended', async () => {
    const memory = new Budget(64 * MIB);
    let most = 0;
    let taken = 0;
    const unpacker = open(
      'lz4',
      (piece) => {
        most = Math.max(most, memory.used);
        taken += piece.length;
      },
      memory,
    );
    await run(unpacker);
    expect(taken).toBe(20 * MIB);
    expect(most).toBeGreaterThan(16 * MIB);
    await eventually('it is given back', () => memory.used === 0);
  });

  test('that the budget lacks is reported as missing, except for what every stream needs', async () => {
    const vector = readCompressedVectors().find(({ name }) => name === 'xz -6 -T1');
    const bytes = Buffer.from(vector?.file ?? '', 'base64');
    const memory = new Budget(MIB);
    let taken = 0;
    const take = (piece: Uint8Array): void => {
      taken += piece.length;
    };
    await run(open('xz', take, memory), bytes);
    expect(taken).toBe(vector?.expect.length);
    // The byte for the size of the dictionary, now of 64 MiB, in the header of the first block, which ends with a checksum.
    expect(bytes.subarray(12, 17).toString('hex')).toBe('0200210116');
    bytes[16] = 28;
    bytes.writeUInt32LE(crc32(bytes.subarray(12, 20)), 20);
    expect(await failureOf(run(open('xz', take, memory), bytes))).toMatchObject({
      fault: { kind: 'no-memory', neededBytes: expect.any(Number), limitBytes: MIB },
    });
    await eventually('it is given back', () => memory.used === 0);
  });

  test('is given back when a stream is closed early', async () => {
    const memory = new Budget(64 * MIB);
    const unpacker = open('lz4', () => new Promise(() => {}), memory);
    const work = failureOf(run(unpacker));
    await eventually('it is at work', () => memory.used > 16 * MIB);
    unpacker.destroy();
    unpacker.destroy();
    expect(await work).toMatchObject({ message: 'the stream was closed before its end' });
    await eventually('it is given back', () => memory.used === 0);
  });
});

describe('a stream fails', () => {
  const damage = { kind: 'damaged', what: 'a block is damaged' };

  test('with its fault', async () => {
    const failure = await failureOf(
      run(
        open('lz4', () => {}),
        packed.subarray(0, -3),
      ),
    );
    expect(failure).toMatchObject({ fault: { kind: 'cut' } });
  });

  test('after everything that came out before the fault was taken', async () => {
    let taken = 0;
    const take = async (piece: Uint8Array): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      taken += piece.length;
    };
    // Two blocks of the legacy format, and one that is nothing.
    const bytes = Buffer.concat([lz4Zeros(16 * MIB), Buffer.from([1, 0, 0, 0, 0xff])]);
    const unpacker = open('lz4', take);
    const failure = await failureOf(unpacker.append(bytes));
    expect([failure, taken]).toEqual([expect.objectContaining({ fault: damage }), 16 * MIB]);
  });

  test.each(['at once', 'later'])('when what it unpacks cannot be taken, which comes out %s', async (when) => {
    const fail = (): Promise<void> => {
      if (when === 'at once') throw new Error('no room');
      return Promise.reject(new Error('no room'));
    };
    expect(await failureOf(run(open('lz4', fail)))).toMatchObject({ message: 'no room' });
  });
});

test('many streams share the threads', async () => {
  const sums = await Promise.all(
    Array.from({ length: 12 }, async () => {
      let taken = 0;
      await run(
        open('lz4', (piece) => {
          taken += piece.length;
        }),
      );
      return taken;
    }),
  );
  expect(sums).toEqual(Array.from({ length: 12 }, () => 20 * MIB));
});

test('pieces come in order, one at a time', async () => {
  let underWay = 0;
  let most = 0;
  await run(
    open('lz4', async () => {
      underWay += 1;
      most = Math.max(most, underWay);
      await new Promise((resolve) => setImmediate(resolve));
      underWay -= 1;
    }),
  );
  expect(most).toBe(1);
});
