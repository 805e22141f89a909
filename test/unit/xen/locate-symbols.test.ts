import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { type OpenedSymbols, openSymbols, type RefusedImage } from '../../../src/inspect/load.ts';
import { locateSymbols } from '../../../src/xen/locate-symbols.ts';
import { type KernelSpec, kernel } from '../../support/elf-builder.ts';
import { mustInit } from '../../support/load.ts';

const open = (spec: KernelSpec): Promise<OpenedSymbols | RefusedImage> =>
  openSymbols(new MemorySource([kernel(spec).bytes]));

/** Recorded before the tables are looked at, and none of their business: program headers that wrap around. */
const WRAPPING = { e_phoff: 2n ** 64n - 56n };

describe('the tables', () => {
  test.each(['ELF32', 'ELF64'] as const)('of an %s image are where it has them', async (elfClass) => {
    const image = kernel({ class: elfClass, symbols: 5, symtab: { info: 4 } });
    const [symtab, strtab] = [image.section('.symtab'), image.section('.strtab')];
    expect(locateSymbols(await mustInit(image.bytes))).toEqual({
      ok: true,
      tables: {
        symtab: { index: symtab.index, offset: symtab.offset, length: symtab.data.length },
        strtab: { index: strtab.index, offset: strtab.offset, length: strtab.data.length },
        firstGlobal: 4,
      },
    });
  });

  test('are the first that the loader finds, not the dynamic ones', async () => {
    const result = await open({
      before: [{ name: '.dynsym', type: 11, link: '.strtab', data: new Uint8Array(24) }],
      after: [{ name: '.symtab2', type: 2, link: '.strtab', data: new Uint8Array(48) }],
    });
    expect(result.ok && result.table.tables.symtab.index).toBe(3);
    expect(result.ok && result.table.entries).toBe(4);
  });

  test('can be read whatever was recorded elsewhere, which is reported', async () => {
    const result = await open({ header: WRAPPING });
    expect(result).toMatchObject({ ok: true, table: { entries: 4 } });
    expect(result.ok && result.elf.recorded).toMatchObject({ code: 'out-of-range-access', stage: 'segments' });
  });

  test('leave nothing recorded', async () => {
    const image = await mustInit(kernel({ symtab: { header: { sh_size: 2n ** 40n } } }).bytes);
    expect(locateSymbols(image).ok).toBe(false);
    expect(image.recorded).toBeNull();
  });
});

describe('an image is refused', () => {
  test.each([
    ['without a symbol table', { symtab: { type: 1 } }, 'no-symbol-table', 'parse', 'stripped'],
    ['with a bad sh_link', { symtab: { link: 99 } }, 'no-symbol-table', 'parse', 'links to section 99'],
    [
      'with a linked section of another type',
      { symtab: { link: '.text' } },
      'strtab-link-invalid',
      'parse',
      'PROGBITS',
    ],
    ['with symbols outside', { symtab: { header: { sh_size: 2n ** 40n } } }, 'out-of-range-access', 'load', 'SYMTAB'],
    ['with strings outside', { strtab: { header: { sh_offset: 2n ** 63n } } }, 'out-of-range-access', 'load', 'STRTAB'],
    ['that is cut short', { placement: { imageSize: 600 } }, 'shdr-overflow', 'init', 'cut short'],
  ] as const)('%s', async (_what, spec, code, stage, words) => {
    const result = await open(spec);
    expect(result).toMatchObject({ ok: false, loadAddress: null, broken: { code, stage } });
    expect(!result.ok && result.broken.detail).toContain(words);
  });

  test('for the reason recorded first, with what ended the work', async () => {
    const result = await open({ header: WRAPPING, symtab: { type: 1 } });
    expect(result).toMatchObject({ ok: false, broken: { code: 'out-of-range-access', stage: 'segments' } });
    expect(!result.ok && result.broken.detail).toContain('no-symbol-table');
  });

  test('that is not an ELF image', async () => {
    expect(await openSymbols(new MemorySource([Buffer.from('hello')]))).toMatchObject({
      ok: false,
      broken: { code: 'not-elf' },
    });
  });
});
