/** The blob against a model: the layout of the loader's description, written down byte by byte. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { anyAddress, anyKernel, lowAddress } from '../support/arbitraries.ts';
import type { BuiltImage } from '../support/elf-builder.ts';
import { load, mustLoad } from '../support/load.ts';

const U64_END = 2n ** 64n;

interface Model {
  readonly blob: Uint8Array;
  readonly sizeWord: number;
  readonly reserved: number;
  readonly align: bigint;
}

function model({ bytes, format, section }: BuiltImage): Model {
  const wide = format.class === 'ELF64';
  const align = wide ? 8 : 4;
  const ru = (value: number): number => Math.ceil(value / align) * align;
  const [symtab, strtab] = [section('.symtab'), section('.strtab')];
  const symtabAt = wide ? 264 : 260;
  const symtabEnd = symtabAt + symtab.data.length;
  const strtabAt = ru(symtabEnd);
  const strtabEnd = strtabAt + strtab.data.length;
  const reserved = ru(ru((wide ? 264 : 192) + symtab.data.length) + strtab.data.length);
  const headersEnd = 68 + 3 * (wide ? 64 : 40);
  const written = Math.max(headersEnd, symtab.data.length > 0 ? symtabEnd : 0, strtab.data.length > 0 ? strtabEnd : 0);

  const blob = new Uint8Array(Math.max(reserved, ru(written)));
  // An empty table may lie beyond the blob's end.
  if (symtab.data.length > 0) blob.set(symtab.data, symtabAt);
  if (strtab.data.length > 0) blob.set(strtab.data, strtabAt);
  const data = new DataView(blob.buffer);
  const word = (at: number, value: number): void => {
    data.setUint32(at, value, true);
    if (wide) data.setUint32(at + 4, 0, true);
  };

  const sizeWord = strtabEnd - 4;
  data.setUint32(0, sizeWord, true);

  const elf = 4;
  blob.set(bytes.subarray(0, wide ? 64 : 52), elf);
  data.setUint32(elf + 20, 1, true); // e_version
  word(elf + (wide ? 32 : 28), 0); // e_phoff
  word(elf + (wide ? 40 : 32), 64); // e_shoff
  [wide ? 64 : 52, 0, 0, wide ? 64 : 40, 3, 0].forEach((value, index) => {
    data.setUint16(elf + (wide ? 52 : 40) + index * 2, value, true); // e_ehsize .. e_shstrndx
  });

  const headerBytes = wide ? 64 : 40;
  const symtabHeader = 68 + headerBytes;
  const strtabHeader = symtabHeader + headerBytes;
  blob.set(bytes.subarray(symtab.headerAt, symtab.headerAt + headerBytes), symtabHeader);
  blob.set(bytes.subarray(strtab.headerAt, strtab.headerAt + headerBytes), strtabHeader);
  word(symtabHeader + (wide ? 24 : 16), symtabAt - 4); // sh_offset
  data.setUint32(symtabHeader + (wide ? 40 : 24), 2, true); // sh_link
  word(strtabHeader + (wide ? 24 : 16), strtabAt - 4);
  return { blob, sizeWord, reserved, align: BigInt(align) };
}

const roundUp = (value: bigint, align: bigint): bigint => ((value + align - 1n) / align) * align;

describe('the symbols of a well-formed image', () => {
  test('are byte for byte what the layout says', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, lowAddress, async (image, loadAddress) => {
        const expected = model(image);
        const { blob, plan, recorded } = await mustLoad(image.bytes, { loadAddress });
        expect(recorded).toBeNull();
        expect(blob).toEqual(expected.blob);
        expect(plan.sizeWord).toBe(expected.sizeWord);
      }),
      { numRuns: 1500 },
    );
  });

  test('lie at the load address, rounded up, or are refused when they do not fit after it', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, anyAddress, async (image, loadAddress) => {
        const { blob, reserved, align } = model(image);
        const pstart = roundUp(loadAddress, align);
        const pend = pstart + BigInt(blob.length);
        const result = await load(image.bytes, { loadAddress });
        const xenReservedEnd = BigInt.asUintN(64, pstart + BigInt(reserved));
        expect(result).toMatchObject(
          pstart === 0n || pend > U64_END
            ? { outcome: 'refused', broken: { code: 'load-address-unusable', reason: null } }
            : { outcome: 'loaded', plan: { loadAddress, pstart, pend, xenReservedEnd } },
        );
      }),
      { numRuns: 2000 },
    );
  });

  test('fit exactly into a limit of their size, and not into one byte less', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, async (image) => {
        const { length } = model(image).blob;
        const at = { loadAddress: 0x1000n };
        expect(await load(image.bytes, { ...at, maxBlobBytes: length })).toMatchObject({ outcome: 'loaded' });
        expect(await load(image.bytes, { ...at, maxBlobBytes: length - 1 })).toMatchObject({
          outcome: 'refused',
          broken: { code: 'region-too-large', stage: 'parse' },
        });
      }),
      { numRuns: 200 },
    );
  });

  test('are written at the same bytes wherever the image keeps its tables', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, fc.nat(500), async (image, shift) => {
        // The image with its symbol tables moved behind a gap, and nothing else changed.
        const moved = new Uint8Array(image.bytes.length + shift + 2 * 1024);
        moved.set(image.bytes);
        const end = image.bytes.length + shift;
        const { sh_offset } = image.format.sectionHeader.fields;
        const data = new DataView(moved.buffer);
        for (const [name, at] of [
          ['.symtab', end],
          ['.strtab', end + 1024],
        ] as const) {
          const section = image.section(name);
          moved.set(section.data, at);
          const field = section.headerAt + sh_offset.offset;
          if (sh_offset.width === 8) data.setBigUint64(field, BigInt(at), image.littleEndian);
          else data.setUint32(field, at, image.littleEndian);
        }
        const at = { loadAddress: 0x1000n };
        expect((await mustLoad(moved, at)).blob).toEqual((await mustLoad(image.bytes, at)).blob);
      }),
      { numRuns: 300 },
    );
  });
});
