/** What the tables of a blob show, and whether it lies where a guest looks for it. */
import { describe, expect, test } from 'vitest';
import { PT_LOAD } from '../../../src/elf/format.ts';
import { MemorySource } from '../../../src/image/memory.ts';
import type { ImageSource } from '../../../src/inspect/image-source.ts';
import { type LoadedImage, type LoadRequest, loadImage } from '../../../src/inspect/load.ts';
import type { Warning } from '../../../src/xen/warnings.ts';
import {
  ASKING_NOTES,
  KERNEL_MEMORY_BYTES,
  KERNEL_PSTART,
  type KernelSpec,
  kernel,
  makeSymbols,
  type SegmentSpec,
  type SymbolSpec,
} from '../../support/elf-builder.ts';
import { CountingSource } from '../../support/sources.ts';

const PEND = KERNEL_PSTART + KERNEL_MEMORY_BYTES;

async function load(bytes: Uint8Array | ImageSource, request: LoadRequest = {}): Promise<LoadedImage> {
  const source = bytes instanceof Uint8Array ? new MemorySource([bytes]) : bytes;
  const loaded = await loadImage(source, { onBroken: 'load', ...request });
  if (!loaded.ok) throw new Error(loaded.broken.detail);
  return loaded;
}

const warningsOf = async (spec: KernelSpec, request: LoadRequest = {}): Promise<readonly Warning[]> =>
  (await load(kernel({ notes: ASKING_NOTES, ...spec }).bytes, request)).warnings;

const codesOf = async (spec: KernelSpec): Promise<string[]> => (await warningsOf(spec)).map(({ code }) => code);

const misplaced = async (spec: KernelSpec, request: LoadRequest = {}): Promise<string | null> =>
  (await warningsOf(spec, request)).find(({ code }) => code === 'end-symbol-elsewhere')?.detail ?? null;

const end = (value: bigint, more: Partial<SymbolSpec> = {}): SymbolSpec => ({
  name: 'end',
  value,
  info: 0x10,
  ...more,
});
const having = (...symbols: readonly SymbolSpec[]): KernelSpec => ({ symbols: [...makeSymbols(20), ...symbols] });

const segment = (vaddr: bigint, paddr: bigint, memsz: bigint): SegmentSpec => ({ vaddr, paddr, memsz });
const endAmong = (value: bigint, ...segments: readonly SegmentSpec[]): KernelSpec => ({
  ...having(end(value)),
  segments,
});

describe('the symbol end', () => {
  test('is where the blob begins, rounded up as the blob is', async () => {
    expect(await misplaced(having())).toBeNull();
    expect(await misplaced(having(end(PEND)))).toBeNull();
    expect(await misplaced({ ...having(end(PEND - 3n)), memsz: KERNEL_MEMORY_BYTES - 3n })).toBeNull();
    expect(await misplaced(having(end(PEND - 7n)))).toBeNull();
    expect(await misplaced(having(end(PEND - 8n)))).not.toBeNull();
    expect(await misplaced({ ...having(end(PEND - 3n)), class: 'ELF32' })).toBeNull();
    expect(await misplaced({ ...having(end(PEND - 7n)), class: 'ELF32' })).not.toBeNull();
  });

  test('may have something loaded after it, as in NetBSD kernels with a note there', async () => {
    const spec: KernelSpec = {
      ...having(end(PEND)),
      segments: [{ type: PT_LOAD, flags: 4, paddr: PEND + 0x1000n, memsz: 0x100 }],
    };
    expect(await misplaced(spec)).toBe(
      "FreeBSD and NetBSD look at the kernel's symbol end, which is at 0x102000, guest-physical 0x102000. The symbols begin at " +
        '0x103100. Either the image continues after that symbol, which the linker script must place last, or the load ' +
        'address is not the one that the guest expects.',
    );
    // What matters is where the blob goes, whoever says so.
    expect(await misplaced(spec, { loadAddress: PEND })).toBeNull();
    expect(await misplaced(having(end(PEND)), { loadAddress: PEND + 0x1000n })).not.toBeNull();
  });

  test('lies in physical memory as its segment does', async () => {
    const high = 0xffff_ffff_8000_0000n;
    // Ends there.
    const last = segment(high, 0x200_0000n, 0x1000n);
    expect(await misplaced(endAmong(high + 0x1000n, last))).toBeNull();
    expect(await misplaced(endAmong(high + 0xff8n, last))).toContain('guest-physical 0x2000ff8');
    // The one that holds it goes before the one that ends there.
    const before = segment(high - 0x1000n, 0x100_0000n, 0x1000n);
    expect(await misplaced(endAmong(high, before, last))).toContain('guest-physical 0x2000000');
    expect(await misplaced(endAmong(high, last, before))).toContain('guest-physical 0x2000000');
    // In none of them: as far after the last one before it.
    expect(await misplaced(endAmong(high + 0x3000n, before, last))).toContain('guest-physical 0x2003000');
    expect(await misplaced(endAmong(0x1000n, last))).toBeNull();
    // An address in front of all of them has no place; so has a segment that is not loaded.
    expect(await misplaced(endAmong(high + 0x1000n, { ...last, type: 4 }))).toContain('guest-physical');
  });

  test('of the class decides: _end is for the Xen Test Framework alone', async () => {
    const underscored = having(end(PEND - 0x100n, { name: '_end' }));
    expect(await misplaced(underscored)).toBeNull();
    expect(await misplaced({ ...underscored, class: 'ELF32' })).toMatch(/^The Xen Test Framework looks at/);
    const both = having(end(PEND - 0x100n, { name: '_end' }), end(PEND - 0x200n));
    expect(await misplaced({ ...both, class: 'ELF32' })).toMatch(
      /^The Xen Test Framework looks at the kernel's symbol _end, .* FreeBSD and NetBSD look at the kernel's symbol end, /,
    );
    expect(await misplaced({ ...both, byteOrder: 'big' })).toMatch(
      /^FreeBSD and NetBSD look at the kernel's symbol end, /,
    );
  });

  test.each([
    ['\0append\0', 4, true],
    ['\0append\0', 1, false],
    ['\0ende\0', 1, false],
  ])('may share its string with a longer name: %j at %i', async (strtab, nameOffset, isFound) => {
    const symbols = [end(PEND - 0x100n, { nameOffset })];
    expect((await misplaced({ symbols, strtab: { data: Buffer.from(strtab) } })) !== null).toBe(isFound);
  });

  test('is not any symbol of that name', async () => {
    const local = end(PEND - 0x100n, { info: 0 });
    expect(await misplaced(having(local))).toBeNull();
    expect(await misplaced(having({ ...local, other: 2 }))).not.toBeNull();
    expect(await misplaced(having(end(0n, { shndx: 0 })))).toBeNull();
    expect(await misplaced(having(local, end(PEND), end(0n, { shndx: 0 })))).toBeNull();
  });

  test('has no address in object files, and none without segments', async () => {
    const request: LoadRequest = { loadAddress: 0x1000n };
    expect(await misplaced({ ...having(end(PEND - 0x100n)), type: 1 }, request)).toBeNull();
    expect(await misplaced({ ...having(end(PEND - 0x100n)), header: { e_phnum: 0 } }, request)).toBeNull();
    expect(await misplaced({ ...having(end(PEND - 0x100n)), type: 3 }, request)).not.toBeNull();
  });

  test.each(['xen-4.8', 'xen-4.7', 'xen-4.6', 'libxc-4.6'] as const)('is looked at with %s', async (loader) => {
    expect(await misplaced(having(end(PEND - 0x100n)), { loader })).not.toBeNull();
  });

  test('is a warning of the guests that look there', async () => {
    const { bytes } = kernel(having(end(PEND - 0x100n)));
    const { guests } = await load(bytes, { askGuests: true });
    expect(guests?.freebsd).toMatchObject({ outcome: 'found', warnings: ['end-symbol-elsewhere'] });
    expect(guests?.netbsd.warnings).toEqual(['end-symbol-elsewhere']);
    expect((await load(bytes)).guests).toBeNull();
  });
});

describe('the tables', () => {
  test.each([
    [{ data: Buffer.from('\0a\0b') }, 'The last of its 4 bytes is not NUL.'],
    [{ data: new Uint8Array() }, 'The string table is empty.'],
  ])('%o is not terminated', async (strtab, detail) => {
    for (const type of [1, 2]) {
      const warnings = await warningsOf({ symbols: [], strtab, type }, { loadAddress: 0x1000n });
      expect(warnings).toContainEqual({ code: 'strtab-unterminated', detail });
    }
  });

  test('are not looked at when they were not copied', async () => {
    const beyond = { header: { sh_offset: 2n ** 40n } };
    // Without the strings there is nothing to hold the symbols against.
    expect(await codesOf({ symbols: [{ name: 'a', nameOffset: 1000 }], strtab: beyond })).toEqual([]);
    expect(await codesOf({ symtab: beyond })).toEqual([]);
    expect(await codesOf({ symtab: beyond, strtab: { data: Buffer.from('\0a') } })).toEqual(['strtab-unterminated']);
  });

  test('have a warning for their first bad name, and end symbols after it are found', async () => {
    const symbols = [...makeSymbols(30_000), end(PEND - 0x100n)];
    symbols[11_000] = { name: 'x', nameOffset: 0xffff_ffff };
    symbols[12_000] = { name: 'x', nameOffset: 0xffff_ffff };
    const warnings = await warningsOf({ symbols });
    expect(warnings.map(({ code }) => code)).toEqual(['symbol-name-outside', 'end-symbol-elsewhere']);
    expect(warnings[0]?.detail).toMatch(/^Symbol 11001 has its name outside the \d+ bytes/);
  });

  test('are read once', async () => {
    const { bytes, sections } = kernel({ symbols: [...makeSymbols(30_000), end(PEND)] });
    const source = new CountingSource(bytes);
    await load(source);
    const tables = sections.filter(({ name }) => name === '.symtab' || name === '.strtab');
    const tableBytes = tables.reduce((sum, { data }) => sum + data.length, 0);
    expect(source.bytesRead).toBeGreaterThanOrEqual(tableBytes);
    expect(source.bytesRead).toBeLessThan(tableBytes + 4096);
  });

  test('are read as far as they matter in an object file', async () => {
    const { bytes, sections } = kernel({ type: 1, symbols: makeSymbols(30_000) });
    const source = new CountingSource(bytes);
    await load(source);
    const symtab = sections.find(({ name }) => name === '.symtab')?.data.length ?? 0;
    expect(source.bytesRead).toBeLessThan(symtab + 4096);
  });
});
