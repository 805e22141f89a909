/** Tables in pieces that end anywhere. */
import { describe, expect, test } from 'vitest';
import { ELF32, ELF64 } from '../../../src/elf/format.ts';
import type { SymbolBlock } from '../../../src/elf/symbols.ts';
import { MemorySource } from '../../../src/image/memory.ts';
import { readPieces, readSymbols } from '../../../src/inspect/symbol-blocks.ts';
import { makeSymbols, symbolTables } from '../../support/elf-builder.ts';
import { turnsOf } from '../../support/load.ts';

const KIB = 1024;
const COUNT = 20;

/** The bytes as they come from a source, in chunks of one length. */
function inChunks(bytes: Uint8Array, length: number): MemorySource {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += length) chunks.push(bytes.slice(at, at + length));
  return new MemorySource(chunks);
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const list: Item[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const entriesOf = (blocks: readonly SymbolBlock[]): unknown[] =>
  blocks.flatMap((block) =>
    Array.from({ length: block.count }, (_, at) => [block.first + at, block.nameOffset(at), block.entry(at).value]),
  );

describe.each([ELF64, ELF32])('symbols of $class', (format) => {
  const { symtab } = symbolTables(makeSymbols(COUNT), format);
  const { size } = format.symbol;
  const image = new Uint8Array([...new Uint8Array(5).fill(0xee), ...symtab, ...new Uint8Array(7).fill(0xee)]);
  const layout = { format, littleEndian: true };
  const range = { offset: 5, first: 3, count: COUNT + 1 };

  test.each([1, 5, size - 1, size, size + 1, 2 * size - 1, 100, 10_000])(
    'are the same in chunks of %i bytes, however long blocks are kept',
    async (length) => {
      const [whole] = await all(readSymbols(inChunks(image, image.length), layout, range));
      if (whole === undefined) throw new Error('there are no symbols');
      const expected = entriesOf([whole]);
      expect(expected).toHaveLength(COUNT + 1);
      expect(expected[0]).toEqual([3, 0, 0n]);
      expect(entriesOf(await all(readSymbols(inChunks(image, length), layout, range)))).toEqual(expected);
    },
  );

  test('of none are no blocks', async () => {
    expect(await all(readSymbols(inChunks(image, 7), layout, { ...range, count: 0 }))).toEqual([]);
  });
});

describe('pieces', () => {
  const bytes = new Uint8Array(1024 * KIB).map((_, at) => at % 251);

  test('are 256 KiB at most, and the range in order', async () => {
    const pieces = await all(readPieces(inChunks(bytes, 600 * KIB), 1, 1000 * KIB));
    // The first chunk has one byte less, as the range begins there.
    expect(pieces.map(({ length }) => length)).toEqual([256 * KIB, 256 * KIB, 88 * KIB - 1, 256 * KIB, 144 * KIB + 1]);
    expect(Buffer.concat(pieces).equals(bytes.subarray(1, 1 + 1000 * KIB))).toBe(true);
  });

  test.each([0, -1])('of %i bytes are none, and nothing is read', async (length) => {
    const source = {
      stream(): AsyncIterable<Uint8Array> {
        throw new Error('it was read');
      },
    };
    expect(await all(readPieces(source, 0, length))).toEqual([]);
  });

  test('let others have their turn after every 256 KiB', async () => {
    const read = (source: MemorySource) => turnsOf(() => all(readPieces(source, 0, bytes.length)));
    expect(await read(inChunks(bytes, bytes.length))).toBe(3);
    expect(await read(inChunks(bytes, 64 * KIB))).toBe(3);
  });
});
