/** Random images and addresses for property tests. */
import * as fc from 'fast-check';
import { type BuiltImage, type KernelSpec, kernel, makeSymbols } from './elf-builder.ts';

export const MAX_U64 = 2n ** 64n - 1n;

/** Any address, with a liking for the edges. */
export const anyAddress: fc.Arbitrary<bigint> = fc.oneof(
  fc.bigInt({ min: 0n, max: MAX_U64 }),
  fc.bigInt({ min: 0n, max: 64n }),
  fc.bigInt({ min: MAX_U64 - 4096n, max: MAX_U64 }),
  fc.bigInt({ min: 2n ** 32n - 64n, max: 2n ** 32n + 64n }),
);

/** Where a well-formed image and its symbols have room. */
export const lowAddress: fc.Arbitrary<bigint> = fc.bigInt({ min: 1n, max: 2n ** 48n });

/** A field value that lies about an image of `size` bytes. */
export const lie = (size: number): fc.Arbitrary<bigint> =>
  fc.oneof(
    fc.constantFrom(0n, 1n, 2n, 3n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 63n, MAX_U64 - 1n, MAX_U64),
    fc.integer({ min: -1, max: 1 }).map((off) => BigInt(size + off)),
    fc.bigInt({ min: 0n, max: BigInt(size) }),
    fc.bigInt({ min: MAX_U64 - BigInt(size), max: MAX_U64 }),
    fc.bigInt({ min: 0n, max: MAX_U64 }),
  );

export const kernelSpec: fc.Arbitrary<KernelSpec> = fc.record({
  class: fc.constantFrom('ELF32' as const, 'ELF64' as const),
  byteOrder: fc.constantFrom('little' as const, 'big' as const),
  symbols: fc.integer({ min: 0, max: 8 }).map(makeSymbols),
  memsz: fc.integer({ min: 0, max: 0x3001 }),
  // Not only what a linker writes: raw tables of any length meet all alignments.
  symtab: tableOverride(),
  strtab: tableOverride(),
  before: fc.constantFrom([], [{ name: '.data', data: new Uint8Array(5) }]),
  after: fc.constantFrom([], [{ name: '.bss', type: 8 }]),
});

/** A well-formed image of either class and byte order. Counterexamples show how to build it, not its bytes. */
export const anyKernel: fc.Arbitrary<BuiltImage> = kernelSpec.map((spec) =>
  Object.assign(kernel(spec), { [fc.toStringMethod]: () => `kernel(${fc.stringify(spec)})` }),
);

/** A copy with the bits at these positions flipped; positions count on from the start when the end is reached. */
export function flipBits({ bytes: original }: Pick<BuiltImage, 'bytes'>, positions: readonly number[]) {
  const bytes = original.slice();
  for (const position of positions) {
    const at = (position >>> 3) % bytes.length;
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (position & 7));
  }
  return bytes;
}

function tableOverride(): fc.Arbitrary<{ data?: Uint8Array<ArrayBuffer> }> {
  return fc.record({ data: fc.uint8Array({ maxLength: 120 }) }, { requiredKeys: [] });
}
