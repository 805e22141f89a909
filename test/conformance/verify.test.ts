/** What /verify says of a blob against readers of their own, which meet the blob as guests do. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { verifyBlob } from '../../src/inspect/verify.ts';
import { findBlobEnd, GUESTS, type GuestName, type GuestVerdict } from '../../src/xen/guests/judge.ts';
import {
  canReadSectionNames,
  countSymbols,
  freebsdTables,
  GuestMemory,
  netbsdTables,
  openbsdTables,
  symbolAddress,
  type Tables,
  type TablesReader,
  xtfComplaints,
} from '../support/guests.ts';
import { type Loaded, load } from '../support/load.ts';
import {
  type BsdsymsVector,
  describeVector,
  type HistoricalVector,
  imageOf,
  loadAddressOf,
  readBsdsymsVectors,
  readHistoricalVectors,
} from '../support/vectors.ts';

type Vector = Pick<BsdsymsVector, 'name' | 'loadAddress' | 'image'> & Partial<Pick<HistoricalVector, 'loader'>>;

async function* blobsOf(vectors: readonly Vector[]): AsyncGenerator<{ vector: Vector; loaded: Loaded }> {
  for (const vector of vectors) {
    const loader = vector.loader ?? 'xen-4.8';
    const loaded = await load(imageOf(vector), { loader, loadAddress: loadAddressOf(vector) });
    if (loaded.outcome === 'loaded') yield { vector, loaded };
  }
}

/** A verdict without its prose; of what is misread the symbol, or in a word what else. */
interface Bare {
  readonly found: boolean;
  readonly symbols: number | null;
  readonly misfit: number | 'table' | 'section names' | null;
}

const NOT_FOUND: Bare = { found: false, symbols: 0, misfit: null };

function bare({ found, symbols, firstMisfit }: GuestVerdict): Bare {
  const other = firstMisfit?.code === 'section-names-sought' ? 'section names' : 'table';
  return { found, symbols, misfit: firstMisfit === null ? null : (firstMisfit.symbol ?? other) };
}

/** What a reader comes to; null when it gives up, or runs into what is not there. */
function tried<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

/** The verdicts that follow from the readers, in a memory that ends with the blob. */
function expectedOf({ plan, blob, image }: Loaded): Readonly<Record<GuestName, Bare>> {
  const { format, littleEndian } = image.headers;
  const { pstart } = plan;
  const memory = new GuestMemory(pstart, blob, { littleEndian, marginBytes: 0 });

  function findMisfit(tables: Tables): Bare['misfit'] {
    const { symtab, strtab } = tables;
    if (![symtab, strtab].every(({ address, bytes }) => memory.has(address, Number(bytes)))) return 'table';
    const strings = memory.read(strtab.address, Number(strtab.bytes));
    for (let index = 0; index < countSymbols(tables, format); index++) {
      const name = Number(memory.field(symbolAddress(tables, index, format), format.symbol.fields.st_name));
      if (name >= strings.length || !strings.includes(0, name)) return index;
    }
    return null;
  }
  function expected(read: TablesReader, looksForNames = false): Bare {
    const tables = tried(() => read(memory, pstart, format));
    if (tables === null) return NOT_FOUND;
    const misled = looksForNames && !canReadSectionNames(memory, pstart, format);
    return {
      found: true,
      symbols: countSymbols(tables, format),
      misfit: misled ? 'section names' : findMisfit(tables),
    };
  }
  const complaints = tried(() => xtfComplaints(memory, pstart, format));
  return {
    freebsd: expected(freebsdTables),
    netbsd: expected(netbsdTables, true),
    openbsd: expected(openbsdTables),
    xtf: complaints?.length === 0 ? { found: true, symbols: null, misfit: null } : NOT_FOUND,
  };
}

const sources: readonly (readonly [string, readonly Vector[], number])[] = [
  ['of Xen 4.8', readBsdsymsVectors(), 2355],
  ['of the loaders before it', readHistoricalVectors(), 1812],
];

describe.each(sources)('the blobs %s', (_name, vectors, count) => {
  test('are judged as by readers of their own', async () => {
    const wrong: unknown[] = [];
    let judged = 0;
    let byChance = 0;
    for await (const { vector, loaded } of blobsOf(vectors)) {
      const { guests } = await verifyBlob(new MemorySource([loaded.blob]), loaded.plan.pstart);
      const expected = expectedOf(loaded);
      judged += 1;
      for (const guest of GUESTS) {
        // What a reader finds where no section header is, is chance.
        if (guests[guest].why?.code === 'link-outside') byChance += 1;
        else if (!isDeepStrictEqual(bare(guests[guest]), expected[guest])) {
          wrong.push([describeVector(vector), vector.loader, guest, guests[guest], expected[guest]]);
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(judged).toBe(count);
    expect(byChance).toBeLessThan(20);
  });

  test('end where their size word says', async () => {
    const wrong: unknown[] = [];
    for await (const { vector, loaded } of blobsOf(vectors)) {
      const { header, sizeWord } = await verifyBlob(new MemorySource([loaded.blob, new Uint8Array(99)]), null);
      if (header === null || sizeWord === null || loaded.recorded !== null) continue;
      const end = findBlobEnd(header, sizeWord);
      // Empty tables of ELF32 may lie behind the blob.
      const expected = Math.max(loaded.blob.length, ...loaded.plan.tables.map(({ offset, size }) => offset + size));
      if (end !== expected) wrong.push([describeVector(vector), vector.loader, end, expected]);
    }
    expect(wrong).toEqual([]);
  });

  test('show which loader made them, where a header can tell', async () => {
    const guesses = new Map<string, number>();
    for await (const { loaded } of blobsOf(vectors)) {
      const { header } = await verifyBlob(new MemorySource([loaded.blob]), null);
      if (header === null || !header.littleEndian) continue;
      const right = header.loader === loaded.plan.loader ? 'right' : `${loaded.plan.loader} taken for ${header.loader}`;
      guesses.set(right, (guesses.get(right) ?? 0) + 1);
    }
    const total = [...guesses.values()].reduce((sum, one) => sum + one, 0);
    expect((guesses.get('right') ?? 0) / total).toBeGreaterThan(0.9);
  });
});

test('no guest is left out', async () => {
  const { guests } = await verifyBlob(new MemorySource([new Uint8Array(3)]), null);
  expect(Object.keys(guests)).toEqual([...GUESTS]);
});
