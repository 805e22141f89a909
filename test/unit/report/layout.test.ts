import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { type LoadedImage, loadImage } from '../../../src/inspect/load.ts';
import { toLayout } from '../../../src/report/layout.ts';
import { type KernelSpec, kernel } from '../../support/elf-builder.ts';

async function loaded(spec: KernelSpec, loadAddress: bigint | null = null): Promise<LoadedImage> {
  const source = new MemorySource([kernel(spec).bytes]);
  const result = await loadImage(source, { loadAddress, onBroken: 'load' });
  if (!result.ok) throw new Error(result.broken.detail);
  return result;
}

describe('toLayout', () => {
  test('writes addresses in lower-case hex, to the last of 64 bits', async () => {
    const { bsdsyms, kernel: range } = toLayout(await loaded({ paddr: 0xabc000n }, 0xffff_ffff_ffff_0000n), null);
    expect([range.pstart, range.pend]).toEqual(['0xabc000', '0xabe000']);
    expect([bsdsyms.loadAddress, bsdsyms.pstart]).toEqual(['0xffffffffffff0000', '0xffffffffffff0000']);
    expect(bsdsyms.elfHeader?.address).toBe('0xffffffffffff0004');
    expect(bsdsyms.sections[1]?.address).toBe('0xffffffffffff0108');
  });

  test.each([
    ['ELF64', 64, 264, 24],
    ['ELF32', 52, 260, 16],
  ] as const)('counts in the sizes of %s', async (elfClass, headerBytes, symtabAt, symbolBytes) => {
    const { bsdsyms, image } = toLayout(await loaded({ class: elfClass, symbols: 6 }), null);
    expect(image.class).toBe(elfClass);
    expect(bsdsyms.elfHeader).toMatchObject({ offset: 4, size: headerBytes });
    expect(bsdsyms.sections).toMatchObject([
      { index: 0, type: 'NULL' },
      { index: 1, type: 'SYMTAB', offset: symtabAt, shOffset: symtabAt - 4, size: 7 * symbolBytes, entries: 7 },
      { index: 2, type: 'STRTAB' },
    ]);
    expect(bsdsyms.sections[0]).toEqual({ index: 0, type: 'NULL' });
    expect(bsdsyms.sections[2]).not.toHaveProperty('entries');
  });

  test('counts whole symbols', async () => {
    const { bsdsyms } = toLayout(await loaded({ symtab: { data: new Uint8Array(24 * 3 + 23) } }), null);
    expect(bsdsyms.sections[1]).toMatchObject({ size: 24 * 3 + 23, entries: 3 });
  });

  test.each([null, 'gzip', 'zstd'] as const)('tells the compression: %s', async (compression) => {
    expect(toLayout(await loaded({}), compression).image.compression).toBe(compression);
  });

  test('has code, words, stage and detail of a reason, and no more', async () => {
    const { broken } = toLayout(await loaded({ symtab: { header: { sh_size: 0x1_0000 } } }), null);
    expect(Object.keys(broken ?? {}).sort()).toEqual(['code', 'detail', 'reason', 'stage']);
    expect(toLayout(await loaded({}), null).broken).toBeNull();
  });

  test('can be written as JSON', async () => {
    const layout = toLayout(await loaded({ class: 'ELF32', byteOrder: 'big', memsz: 3 }), null);
    expect(JSON.parse(JSON.stringify(layout))).toEqual(layout);
    expect(layout.warnings.length).toBeGreaterThan(0);
  });

  test('throws for an image without a header', async () => {
    const image = await loaded({});
    expect(() =>
      toLayout({ ...image, image: { size: 3, identity: null, buildId: null, container: null } }, null),
    ).toThrow('no layout');
  });
});
