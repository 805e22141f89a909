import { describe, expect, test } from 'vitest';
import { ELF32, ELF64, EM_AARCH64, EM_ARM, EM_RISCV } from '../../../src/elf/format.ts';
import {
  hasMappingSymbols,
  isMappingName,
  SYMBOL_BINDS,
  SYMBOL_TYPES,
  SymbolBlock,
  symbolBindName,
  symbolBindNumbers,
  symbolSection,
  symbolTypeName,
  symbolTypeNumbers,
  visibilityName,
} from '../../../src/elf/symbols.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Written by hand, so that the builder of the other tests cannot be wrong in the same way. */
const ENTRIES = {
  // st_name, st_value, st_size, st_info, st_other, st_shndx
  'ELF32 little': '04030201 78563412 efbeadde 23 02 f1ff',
  'ELF32 big': '01020304 12345678 deadbeef 23 02 fff1',
  // st_name, st_info, st_other, st_shndx, st_value, st_size
  'ELF64 little': '04030201 23 02 f1ff 0000000078563412 efbeaddeffffffff',
  'ELF64 big': '01020304 23 02 fff1 1234567800000000 ffffffffdeadbeef',
};

describe('SymbolBlock', () => {
  test.each([
    ['ELF32', 'little'],
    ['ELF32', 'big'],
    ['ELF64', 'little'],
    ['ELF64', 'big'],
  ] as const)('reads every field of %s, %s-endian, wherever the block lies in memory', (elfClass, order) => {
    const format = elfClass === 'ELF64' ? ELF64 : ELF32;
    const entry = Buffer.from(ENTRIES[`${elfClass} ${order}`].replaceAll(' ', ''), 'hex');
    expect(entry).toHaveLength(format.symbol.size);
    const memory = Buffer.concat([Buffer.alloc(3, 0xee), Buffer.alloc(entry.length), entry, Buffer.alloc(7, 0xee)]);
    const block = new SymbolBlock(memory.subarray(3), 40, format, order === 'little');
    expect([block.count, block.first]).toEqual([2, 40]);
    const wide = elfClass === 'ELF64';
    const expected = {
      nameOffset: 0x0102_0304,
      value: wide ? 0x1234_5678_0000_0000n : 0x1234_5678n,
      size: wide ? 0xffff_ffff_dead_beefn : 0xdead_beefn,
      type: 3,
      bind: 2,
      visibility: 2,
      section: 0xfff1,
    };
    expect(block.entry(1)).toEqual(expected);
    expect(block.entry(0)).toEqual({
      nameOffset: 0,
      value: 0n,
      size: 0n,
      type: 0,
      bind: 0,
      visibility: 0,
      section: 0,
    });
    const { nameOffset, value, size, type, bind, section } = expected;
    expect([block.nameOffset(1), block.value(1), block.size(1)]).toEqual([nameOffset, value, size]);
    expect([block.type(1), block.bind(1), block.section(1)]).toEqual([type, bind, section]);
  });

  test.each([0, 1, 23, 24, 47])('counts whole symbols in %i bytes', (length) => {
    expect(new SymbolBlock(new Uint8Array(length), 0, ELF64, true).count).toBe(Math.floor(length / 24));
  });
});

describe('names', () => {
  test('of types and bindings are those of readelf', () => {
    expect(Array.from({ length: 16 }, (_, type) => symbolTypeName(type))).toEqual(
      'NOTYPE OBJECT FUNC SECTION FILE COMMON TLS 0x7 0x8 0x9 IFUNC 0xb 0xc 0xd 0xe 0xf'.split(' '),
    );
    expect(Array.from({ length: 16 }, (_, bind) => symbolBindName(bind))).toEqual(
      'LOCAL GLOBAL WEAK 0x3 0x4 0x5 0x6 0x7 0x8 0x9 UNIQUE 0xb 0xc 0xd 0xe 0xf'.split(' '),
    );
    expect([0, 1, 2, 3, 0x80 | 2].map(visibilityName)).toEqual([
      'DEFAULT',
      'INTERNAL',
      'HIDDEN',
      'PROTECTED',
      'HIDDEN',
    ]);
  });

  test('lead back to their numbers', () => {
    expect(SYMBOL_TYPES.map((name) => symbolTypeNumbers([name]).map(symbolTypeName))).toEqual(
      SYMBOL_TYPES.map((name) => [name]),
    );
    expect(SYMBOL_BINDS.map((name) => symbolBindNumbers([name]).map(symbolBindName))).toEqual(
      SYMBOL_BINDS.map((name) => [name]),
    );
    expect(symbolTypeNumbers(['FUNC', 'nonsense', 'OBJECT'])).toEqual([1, 2]);
  });

  test.each([
    [0, 'UNDEF'],
    [1, 1],
    [0xfeff, 0xfeff],
    [0xff00, '0xff00'],
    [0xfff1, 'ABS'],
    [0xfff2, 'COMMON'],
    [0xfffe, '0xfffe'],
    [0xffff, 'XINDEX'],
  ])('of the section %i: %s', (section, name) => {
    expect(symbolSection(section)).toBe(name);
  });
});

describe('mapping symbols', () => {
  test.each(['$a', '$t', '$d', '$x', '$c', '$d.42', '$x.', '$xrv64i2p1_m2p0'])('%s is one', (name) => {
    expect(isMappingName(bytes(name))).toBe(true);
  });

  test.each(['', '$', 'a', '$$', '$b', '$data', '$x1', 'x$d', '$xr', '$.d'])('%s is none', (name) => {
    expect(isMappingName(bytes(name))).toBe(false);
  });

  test('are those of some machines', () => {
    expect([EM_ARM, EM_AARCH64, EM_RISCV].every(hasMappingSymbols)).toBe(true);
    expect([0, 3, 62].some(hasMappingSymbols)).toBe(false);
  });
});
