/** Which ranges of an image are asked for, what is kept of them, and that all of it comes back. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Budget } from '../../../src/image/budget.ts';
import { UserAuthority } from '../../../src/image/remote/authority.ts';
import { Origin } from '../../../src/image/remote/origin.ts';
import { RemoteSource } from '../../../src/image/remote/remote-source.ts';
import { processSlabs } from '../../../src/image/slabs.ts';
import { TestOrigin } from '../../support/origin.ts';
import { LONG_MS } from '../../support/patience.ts';
import { KIB, MIB, noise } from '../../support/uploads.ts';

const PAGE = 64 * KIB;
const LONG = Number(LONG_MS);
const image = noise(24 * MIB);

let server: TestOrigin;
const memory = new Budget(64 * MIB);
const opened: RemoteSource[] = [];
beforeAll(async () => {
  server = await TestOrigin.start();
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((source) => source.close()));
  if (memory.used > 0 || processSlabs.used > 0) throw new Error('memory was not given back');
  server.reset();
});
afterAll(() => server.close());

/** An image whose first page has been read. */
function open(budget = memory): RemoteSource {
  const url = new URL(server.serve('/k', image));
  const limits = {
    sourceConnectTimeoutMs: LONG,
    sourceStallTimeoutMs: LONG,
    sourceTimeoutMs: LONG,
    sourceMaxRequests: 1000,
  };
  const validator = { etag: '"1"', lastModified: null, size: image.length };
  const origin = new Origin({ authority: new UserAuthority(), limits });
  const first = new Uint8Array(image.subarray(0, PAGE));
  const source = new RemoteSource(origin, { url, size: image.length, validator }, first, budget);
  opened.push(source);
  return source;
}

/** The ranges that were asked for, the end of each exclusive. */
const asked = (): (readonly [start: number, end: number])[] =>
  server.requests.map(({ headers }) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
    return [Number(first), Number(last) + 1] as const;
  });

async function read(source: RemoteSource, offset: number, length: number): Promise<void> {
  const bytes = await source.read(offset, length);
  expect(image.subarray(offset, offset + length).equals(bytes)).toBe(true);
}

async function stream(source: RemoteSource, offset: number, length: number): Promise<void> {
  const pieces: Buffer[] = [];
  for await (const piece of source.stream(offset, length)) pieces.push(Buffer.from(piece));
  expect(Buffer.concat(pieces).equals(image.subarray(offset, offset + length))).toBe(true);
}

describe('what is asked for', () => {
  test('a short read costs the page it lies in, and nothing when it is at hand', async () => {
    const source = open();
    await read(source, 100, 64);
    expect(asked()).toEqual([]);
    await read(source, 10 * PAGE + 100, 64);
    await read(source, 10 * PAGE, 10);
    await read(source, 11 * PAGE - 10, 10);
    expect(asked()).toEqual([[10 * PAGE, 11 * PAGE]]);
  });

  test('a read over the edge of what is at hand costs only the rest', async () => {
    const source = open();
    await read(source, PAGE - 10, 20);
    await read(source, 3 * PAGE, 20);
    await read(source, PAGE, 2 * PAGE + 20);
    expect(asked()).toEqual([
      [PAGE, 2 * PAGE],
      [3 * PAGE, 4 * PAGE],
      [2 * PAGE, 3 * PAGE],
    ]);
  });

  test('reads that follow each other read ahead, farther each time, 1 MiB at most', async () => {
    const source = open();
    for (let at = 4 * MIB; at < 12 * MIB; at += PAGE) await read(source, at, PAGE);
    const lengths = asked().map(([start, end]) => (end - start) / PAGE);
    expect(lengths.slice(0, 6)).toEqual([1, 2, 4, 8, 16, 16]);
    expect(lengths.length).toBeLessThanOrEqual(12);
    expect(Math.max(...lengths)).toBe(16);
  });

  test('a table that is announced takes one request, however it is read', async () => {
    const source = open();
    source.expect(1_000_001, 5_000_000);
    for (let at = 1_000_001; at < 6_000_001; at += 100_000) await read(source, at, 100_000);
    await stream(source, 1_000_001, 5_000_000);
    expect(asked()).toEqual([[1_000_001, 6_000_001]]);
  });

  test('a stream of what is kept in part asks for the gaps only', async () => {
    const source = open();
    await read(source, 2 * MIB, PAGE);
    await stream(source, MIB, 2 * MIB);
    expect(asked()).toEqual([
      [2 * MIB, 2 * MIB + PAGE],
      [MIB, 2 * MIB],
      [2 * MIB + PAGE, 3 * MIB],
    ]);
  });

  test.each([
    [206, 'source-unusable'],
    [404, 'source-refused'],
    [200, 'source-changed'],
  ])('an answer %s that is given up gives its connection back: more fail than there may be', async (status, code) => {
    server.misbehaviour = (request, response) => {
      const [, first, last] = /(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? [];
      response.writeHead(status, { ETag: '"1"', 'Content-Range': `bytes ${first}-${last}/${image.length}` });
      // More than was asked for, and the answer never ends.
      response.write(image.subarray(0, Number(last) - Number(first) + 2));
      return true;
    };
    const source = open();
    for (let attempt = 0; attempt < 4; attempt++) {
      await expect(source.read(10 * PAGE, 10)).rejects.toMatchObject({ code });
    }
    server.misbehaviour = () => false;
    await read(source, 10 * PAGE, 10);
  });

  test('all of it comes over one connection', async () => {
    const source = open();
    for (let at = MIB; at < 20 * MIB; at += 3 * MIB) await read(source, at, 100);
    await stream(source, 5 * MIB, MIB);
    expect([server.requests.length, server.connections]).toEqual([8, 1]);
  });
});

describe('what is kept', () => {
  test('is no more than 16 MiB; the rest passes through', async () => {
    const source = open();
    await stream(source, 0, image.length);
    expect(memory.used).toBeLessThanOrEqual(16 * MIB);
    await stream(source, 0, image.length);
    await read(source, 23 * MIB, 100);
    expect(memory.used).toBeLessThanOrEqual(18 * MIB);
  });

  test('is no more than there is memory for', async () => {
    const small = new Budget(MIB);
    const source = open(small);
    await stream(source, 2 * MIB, 8 * MIB);
    source.expect(12 * MIB, 8 * MIB);
    for (let at = 12 * MIB; at < 20 * MIB; at += MIB) await read(source, at, MIB);
    expect(small.used).toBeLessThanOrEqual(3 * MIB);
    await source.close();
    expect(small.used).toBe(0);
  });

  test("is in slabs, which are given back; what was read of it is the caller's", async () => {
    const source = open();
    await stream(source, MIB, 3 * MIB);
    expect(processSlabs.used).toBeGreaterThanOrEqual(12);
    const bytes = await source.read(MIB, MIB);
    await source.close();
    for (let count = 0; count < 16; count++) processSlabs.give(processSlabs.take().fill(0));
    expect(image.subarray(MIB, 2 * MIB).equals(bytes)).toBe(true);
  });

  test('comes back when the origin fails, or the source is closed, in the middle of a range', async () => {
    let answered = 0;
    server.misbehaviour = (request, response) => {
      answered += 1;
      response.writeHead(206, { ETag: '"1"', 'Content-Range': `bytes ${MIB}-${5 * MIB - 1}/${image.length}` });
      response.write(image.subarray(MIB, 2 * MIB), () => {
        if (answered === 1) request.socket.resetAndDestroy();
        else void source.close();
      });
      return true;
    };
    const source = open();
    source.expect(MIB, 4 * MIB);
    await expect(source.read(MIB, 10)).rejects.toMatchObject({ code: 'source-unavailable' });
    await expect(source.read(MIB, 10)).rejects.toBeInstanceOf(Error);
    expect([answered, memory.used, processSlabs.used]).toEqual([2, 0, 0]);
  });

  test('nothing is taken for a source that was closed', async () => {
    const source = open();
    await source.close();
    await expect(source.read(MIB, 10)).rejects.toThrow('the image was closed');
    await expect(source.hold(MIB, 10)).rejects.toThrow('the image was closed');
    await expect(stream(source, MIB, 10)).rejects.toThrow('the image was closed');
    expect(server.requests).toEqual([]);
  });
});
