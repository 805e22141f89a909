import { describe, expect, test } from 'vitest';
import { MAX_NAME_BYTES, StringTable, type SymbolName } from '../../../src/inspect/string-table.ts';
import { turnsOf } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';

const KIB = 1024;
/** What a read may take: a window and the longest name behind it. */
const MOST_BYTES_PER_READ = 20 * KIB;
const BEFORE = 100;

/** A table that lies behind and in front of other bytes. */
function tableOf(text: string): { readonly strings: StringTable; readonly source: CountingSource } {
  const bytes = Buffer.from(text, 'latin1');
  const source = new CountingSource(Buffer.concat([Buffer.alloc(BEFORE, 'x'), bytes, Buffer.alloc(BEFORE, 'y')]));
  return { source, strings: new StringTable(source, { offset: BEFORE, length: bytes.length }) };
}

const text = (name: SymbolName | null): string | null =>
  name === null ? null : Buffer.from(name.bytes).toString('latin1') + (name.cut ? '…' : '');
const read = async (table: string, at: number): Promise<string | null> => text(await tableOf(table).strings.read(at));

describe('a name', () => {
  test.each([
    ['\0main\0', 1, 'main'],
    ['\0main\0', 0, ''],
    ['\0main\0', 3, 'in'],
    ['\0main\0', 5, ''],
    ['\0main', 1, 'main'],
    ['\xff\xfe\0', 0, '\xff\xfe'],
  ])('of %j at %i is %j', async (table, at, name) => {
    expect(await read(table, at)).toBe(name);
  });

  test.each([
    ['\0main\0', 6],
    ['\0main', 5],
    ['', 0],
    ['\0', 2 ** 32 - 1],
  ])('of %j at %i is outside', async (table, at) => {
    const { strings, source } = tableOf(table);
    expect([await strings.read(at), strings.peek(at), source.reads]).toEqual([null, null, []]);
  });

  test.each([0, 1, 5])(
    'at most as long as names may be is whole, a longer one is cut: %i before it',
    async (before) => {
      const [whole, longer] = ['n'.repeat(MAX_NAME_BYTES), 'n'.repeat(MAX_NAME_BYTES + 1)];
      for (const end of ['', '\0', '\0more\0']) {
        const lead = 'x'.repeat(before);
        expect(await read(`${lead}${whole}${end}`, before)).toBe(whole);
        expect(await read(`${lead}${longer}${end}`, before)).toBe(`${whole}…`);
      }
    },
  );

  test('is the same wherever it lies in a window', async () => {
    const name = 'm'.repeat(MAX_NAME_BYTES);
    for (const border of [16 * KIB, 20 * KIB, 32 * KIB]) {
      for (const at of [border - MAX_NAME_BYTES, border - 100, border - 1, border, border + 1]) {
        expect(await read(`${'a'.repeat(at)}${name}\0z`, at)).toBe(name);
        expect(await read(`${'a'.repeat(at)}${name}m\0z`, at)).toBe(`${name}…`);
      }
    }
  });
});

describe('reads', () => {
  test('are not repeated for what is at hand, and none is as long as the table', async () => {
    const { strings, source } = tableOf('name\0'.repeat(100_000));
    for (let at = 0; at < 500_000; at += 5) expect(text(strings.peek(at) ?? (await strings.read(at)))).toBe('name');
    expect(source.reads).toHaveLength(Math.ceil(500_000 / (16 * KIB)));
    expect(Math.max(...source.reads.map(({ length }) => length))).toBeLessThanOrEqual(MOST_BYTES_PER_READ);
  });

  test('are one of a window for each name, when names jump about in a table of gigabytes', async () => {
    const source = new CountingSource(Buffer.from('x'), 2 ** 32);
    const strings = new StringTable(source, { offset: 1, length: 2 ** 32 - 1 });
    for (let jump = 0; jump < 500; jump++) await strings.read((jump * 2_654_435_761) % 2 ** 32);
    expect(source.reads.length).toBeLessThanOrEqual(500);
    expect(source.bytesRead).toBeLessThanOrEqual(500 * MOST_BYTES_PER_READ);
  });

  test('keep the windows that were used last', async () => {
    const { strings, source } = tableOf('\0'.repeat(3000 * KIB));
    await strings.read(0);
    // More than are kept, with a look at the first in between.
    for (let window = 1; window <= 150; window++) {
      await strings.read(window * 16 * KIB);
      expect(strings.peek(0)).toEqual({ bytes: new Uint8Array(), cut: false });
    }
    expect(source.reads).toHaveLength(151);
    expect(strings.peek(16 * KIB)).toBeUndefined();
  });
});

/** A source that holds what it is asked to hold, in pieces of this length. */
class HoldingSource extends CountingSource {
  readonly held: { readonly offset: number; readonly length: number }[] = [];
  readonly #pieceBytes: number;

  constructor(bytes: Uint8Array, pieceBytes: number) {
    super(bytes);
    this.#pieceBytes = pieceBytes;
  }

  async hold(offset: number, length: number): Promise<readonly Uint8Array[] | null> {
    this.held.push({ offset, length });
    const bytes = await super.read(offset, length);
    return Array.from({ length: Math.ceil(length / this.#pieceBytes) }, (_, index) =>
      bytes.subarray(index * this.#pieceBytes, (index + 1) * this.#pieceBytes),
    );
  }
}

describe('a table in which names jump about', () => {
  const long = 'l'.repeat(MAX_NAME_BYTES + 1);
  const strings = Buffer.from(`${'name\0'.repeat(600_000)}${long}\0${long.slice(1)}\0end`);
  const places = Array.from({ length: 4000 }, (_, index) => (index * 102_407) % 3_000_000);
  const atEnd = [3_000_000, 3_000_001, 3_000_000 + MAX_NAME_BYTES, strings.length - 3, strings.length - 1];

  const readAll = async (table: StringTable): Promise<(string | null)[]> => {
    const texts: (string | null)[] = [];
    for (const at of [...places, ...atEnd, strings.length]) texts.push(text(table.peek(at) ?? (await table.read(at))));
    return texts;
  };
  const expected = [
    ...places.map((at) => 'name'.slice(at % 5)),
    `${long.slice(1)}…`,
    long.slice(1),
    'l',
    'end',
    'd',
    null,
  ];

  test.each([1000, 4096, 5000, 256 * KIB, 4 * 1024 * KIB])('is held, in pieces of %i bytes', async (pieceBytes) => {
    const source = new HoldingSource(strings, pieceBytes);
    expect(await readAll(new StringTable(source, { offset: 0, length: strings.length }))).toEqual(expected);
    expect(source.held).toEqual([{ offset: 0, length: strings.length }]);
    // What was read before that, and the table.
    expect(source.reads.length).toBeLessThanOrEqual(128 + 1);
  });

  test('is read a window for each name where it is not held', async () => {
    const source = new CountingSource(strings);
    expect(await readAll(new StringTable(source, { offset: 0, length: strings.length }))).toEqual(expected);
    expect(source.reads.length).toBeGreaterThan(1000);
  });

  test('is not held if names follow each other', async () => {
    const source = new HoldingSource(strings, KIB);
    const table = new StringTable(source, { offset: 0, length: strings.length });
    for (let at = 0; at < 1_500_000; at += 5) await table.read(at);
    expect(source.held).toEqual([]);
  });
});

test('others have their turn after every 128 reads', async () => {
  const { strings, source } = tableOf('n'.repeat(257 * 16 * KIB));
  const turns = await turnsOf(async () => {
    for (let window = 0; window < 257; window++) await strings.read(window * 16 * KIB);
  });
  expect([source.reads.length, turns]).toEqual([257, 2]);
});
