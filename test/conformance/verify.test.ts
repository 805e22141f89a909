/** What /verify says of a blob against readers of their own, which meet the blob as guests do. */
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { type VerifiedBlob, verifyBlob } from '../../src/verify.ts';
import { GUESTS } from '../../src/xen/guest.ts';
import { freebsdSymbols, GuestMemory, netbsdSymbols, xtfComplaints } from '../support/guests.ts';
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

/** Their readers are little-endian. */
const EI_DATA = 5;
const isLittleEndian = (blob: Uint8Array): boolean => blob[4 + EI_DATA] === 1;

async function* blobsOf(vectors: readonly Vector[]): AsyncGenerator<{ vector: Vector; loaded: Loaded }> {
  for (const vector of vectors) {
    const loader = vector.loader ?? 'xen-4.8';
    const loaded = await load(imageOf(vector), { loader, loadAddress: loadAddressOf(vector) });
    if (loaded.outcome === 'loaded') yield { vector, loaded };
  }
}

/** How many symbols a reader finds; null when it does not find any, or runs into what is not there. */
function countOf(read: () => readonly unknown[]): number | null {
  try {
    return read().length;
  } catch {
    return null;
  }
}

/** Where the verdict and the reader differ. A reader that stumbles over a name has found the tables all the same. */
function disagreements({ plan, blob, image }: Loaded, { guests }: VerifiedBlob): string[] {
  const { format } = image.headers;
  const memory = (): GuestMemory => new GuestMemory(plan.pstart, blob);
  const readers = {
    freebsd: countOf(() => freebsdSymbols(memory(), plan.pstart, format)),
    netbsd: countOf(() => netbsdSymbols(memory(), plan.pstart, format)),
  };
  const wrong: string[] = [];
  for (const [name, count] of Object.entries(readers) as ['freebsd' | 'netbsd', number | null][]) {
    const { found, symbols, firstMisfit } = guests[name];
    const clean = found && firstMisfit === null;
    if (clean ? count !== symbols : found ? count !== null && count !== symbols : count !== null) {
      wrong.push(`${name} finds ${count}, the verdict is ${JSON.stringify(guests[name])}`);
    }
  }
  const complaints = countOf(() => xtfComplaints(memory(), plan.pstart, format));
  if ((complaints === 0) !== guests.xtf.found)
    wrong.push(`xtf has ${complaints} complaints: ${JSON.stringify(guests.xtf)}`);
  return wrong;
}

const sources: readonly (readonly [string, readonly Vector[], number])[] = [
  ['of Xen 4.8', readBsdsymsVectors(), 2000],
  ['of the loaders before it', readHistoricalVectors(), 1800],
];

describe.each(sources)('the blobs %s', (_name, vectors, atLeast) => {
  test('are judged as by readers of their own', async () => {
    const wrong: unknown[] = [];
    let judged = 0;
    for await (const { vector, loaded } of blobsOf(vectors)) {
      const { blob, plan } = loaded;
      const verified = await verifyBlob(new MemorySource([blob]), plan.pstart);
      judged += 1;
      // What a reader finds at a link that leads nowhere is chance.
      if (verified.guests.freebsd.why?.code === 'link-outside') continue;
      if (!isLittleEndian(blob) || !verified.guests.freebsd.found) {
        // Nothing of an ELF file, or one whose headers mix byte orders.
        if (
          isLittleEndian(blob) &&
          countOf(() =>
            freebsdSymbols(new GuestMemory(plan.pstart, blob), plan.pstart, loaded.image.headers.format),
          ) !== null
        ) {
          wrong.push(describeVector(vector));
        }
        continue;
      }
      const found = disagreements(loaded, verified);
      if (found.length > 0) wrong.push([describeVector(vector), ...found]);
    }
    expect(wrong).toEqual([]);
    expect(judged).toBeGreaterThan(atLeast);
  });

  test('show which loader made them, where a header can tell', async () => {
    const guesses = new Map<string, number>();
    for await (const { loaded } of blobsOf(vectors)) {
      const { header } = await verifyBlob(new MemorySource([loaded.blob]), null);
      if (header === null || !header.littleEndian) continue;
      const right = header.loader === loaded.plan.loader ? 'right' : `${loaded.plan.loader} taken for ${header.loader}`;
      guesses.set(right, (guesses.get(right) ?? 0) + 1);
    }
    const total = [...guesses.values()].reduce((sum, count) => sum + count, 0);
    expect((guesses.get('right') ?? 0) / total).toBeGreaterThan(0.9);
  });
});

test('no guest is left out', async () => {
  const { guests } = await verifyBlob(new MemorySource([new Uint8Array(3)]), null);
  expect(Object.keys(guests)).toEqual([...GUESTS]);
});
