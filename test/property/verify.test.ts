/** Whatever is said to be a blob, there is a verdict, and it is about the bytes that are there. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { type VerifiedBlob, verifyBlob } from '../../src/inspect/verify.ts';
import { toVerifyReport } from '../../src/report/verify.ts';
import { GUEST_FINDINGS, GUESTS } from '../../src/xen/guests/judge.ts';
import { LOADERS, type Loader } from '../../src/xen/loaders/bsdsyms.ts';
import { anyAddress, lie } from '../support/arbitraries.ts';
import { type KernelSpec, kernel } from '../support/elf-builder.ts';
import { mustLoad } from '../support/load.ts';

const KERNELS: readonly (readonly [KernelSpec, readonly Loader[]])[] = [
  [{ class: 'ELF64' }, LOADERS],
  [{ class: 'ELF32' }, ['xen-4.8', 'xen-4.6', 'libxc-4.6']],
  [{ class: 'ELF64', byteOrder: 'big' }, ['xen-4.8']],
  [{ class: 'ELF32', byteOrder: 'big' }, ['xen-4.8']],
];
const blobs = await Promise.all(
  KERNELS.flatMap(([spec, loaders]) =>
    loaders.map(async (loader) => (await mustLoad(kernel({ ...spec, symbols: 20 }).bytes, { loader })).blob),
  ),
);

interface Mutation {
  readonly at: number;
  readonly width: 1 | 2 | 4 | 8;
  readonly value: bigint;
}

/** Mostly in the headers, where a byte means most. */
const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.oneof(fc.nat(67), fc.nat(260), fc.nat(2000)),
  width: fc.constantFrom(1, 2, 4, 8),
  value: lie(2000),
});

const mutated: fc.Arbitrary<Uint8Array> = fc
  .record({
    blob: fc.constantFrom(...blobs),
    mutations: fc.array(mutation, { maxLength: 4 }),
    cut: fc.option(fc.nat(2000), { freq: 4 }),
  })
  .map(({ blob, mutations, cut }) => {
    const bytes = blob.slice();
    for (const { at, width, value } of mutations) {
      for (let byte = 0; byte < width && at + byte < bytes.length; byte++) {
        bytes[at + byte] = Number((value >> BigInt(8 * byte)) & 0xffn);
      }
    }
    return bytes.subarray(0, cut ?? bytes.length);
  });

/** What no verdict may be. */
function contradictions({ guests, size }: VerifiedBlob): string[] {
  const wrong: string[] = [];
  for (const name of GUESTS) {
    const { found, why, symbols, firstMisfit } = guests[name];
    if (found !== (why === null)) wrong.push(`${name}: found ${found}, why ${why?.code}`);
    if (!found && (symbols !== 0 || firstMisfit !== null)) wrong.push(`${name}: not found, but with symbols`);
    for (const finding of [why, firstMisfit]) {
      if (finding !== null && !(finding.code in GUEST_FINDINGS)) wrong.push(`${name}: ${finding.code}`);
      if ((finding?.symbol ?? 0) > size / 16) wrong.push(`${name}: symbol ${finding?.symbol} of ${size} bytes`);
    }
  }
  // All of them read it with the same header.
  if (guests.netbsd.found && !guests.freebsd.found) wrong.push('NetBSD finds what FreeBSD does not');
  return wrong;
}

test('10,000 blobs that were tampered with are judged', async () => {
  await fc.assert(
    fc.asyncProperty(mutated, fc.option(anyAddress), async (bytes, address) => {
      const verified = await verifyBlob(new MemorySource([bytes]), address);
      expect(contradictions(verified)).toEqual([]);
      expect(() => JSON.stringify(toVerifyReport(verified))).not.toThrow();
    }),
    { numRuns: 10_000 },
  );
});

test('bytes of any kind are judged', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      expect(contradictions(await verifyBlob(new MemorySource([bytes]), null))).toEqual([]);
    }),
    { numRuns: 1000 },
  );
});
