/** What each guest makes of a blob: one rule at a time. The measured answers are in test/conformance. */
import { describe, expect, test } from 'vitest';
import type { ElfClass } from '../../../../src/elf/format.ts';
import { readBlob } from '../../../../src/xen/guests/blob.ts';
import { judgeBlob } from '../../../../src/xen/guests/judge.ts';
import { GuestMemory } from '../../../../src/xen/guests/memory.ts';
import type { Placement } from '../../../../src/xen/guests/misreadings.ts';
import { GUESTS, type GuestVerdict, type GuestVerdicts } from '../../../../src/xen/guests/verdict.ts';
import { type BlobSpec, buildBlob } from '../../../support/blob-builder.ts';
import type { SymbolSpec } from '../../../support/elf-builder.ts';
import { readAsGuests } from '../../../support/guests.ts';
import { runWalk, type Walked } from '../../../support/walk.ts';

const NOWHERE: Placement = { address: null, elsewhere: new Set() };

function walk(bytes: Uint8Array, placement = NOWHERE): Walked<GuestVerdicts> {
  function* whole() {
    return yield* judgeBlob(yield* readBlob(new GuestMemory(bytes.length)), placement);
  }
  return runWalk(whole(), bytes);
}

/** The verdicts on a blob that is small enough for plain readers, which have to come to the same. */
function verdicts(spec: BlobSpec, placement = NOWHERE): GuestVerdicts {
  const { bytes } = buildBlob(spec);
  const { result } = walk(bytes, placement);
  const readings = readAsGuests(bytes);
  for (const guest of GUESTS) {
    const { outcome, symbols } = result[guest];
    expect([guest, { outcome, symbols }]).toEqual([guest, readings[guest]]);
  }
  return result;
}

const good = (symbols: bigint): GuestVerdict => ({ outcome: 'found', why: null, symbols, warnings: [] });

describe('a blob without a fault', () => {
  test('is found by the guests of its class', () => {
    expect(verdicts({})).toEqual({
      freebsd: good(3n),
      netbsd: good(2n),
      netbsdKdtrace: good(3n),
      xtf: { outcome: 'none', why: 'other-class', symbols: null, warnings: [] },
    });
    expect(verdicts({ class: 'ELF32' })).toMatchObject({
      freebsd: { outcome: 'none', why: 'other-class' },
      netbsd: good(2n),
      netbsdKdtrace: good(3n),
      xtf: good(0n),
    });
  });

  test('is found whatever EI_DATA says, with a warning', () => {
    const { bytes } = buildBlob();
    bytes[4 + 5] = 2;
    const { result } = walk(bytes);
    expect(result.freebsd).toEqual({ ...good(3n), warnings: ['byte-order-ignored'] });
    expect(result.netbsd.warnings).toEqual(['byte-order-ignored']);
  });
});

describe('FreeBSD', () => {
  test.each([
    [71, 3n],
    [72, 3n],
    [73, 4n],
    [2n ** 64n - 24n, 768_614_336_404_564_649n + 1n],
    [2n ** 64n - 23n, 0n],
    [2n ** 63n - 1n, 384_307_168_202_282_326n],
  ])('counts %i bytes of symbols as %i', (sh_size, symbols) => {
    const { freebsd } = verdicts({ sections: { 1: { sh_size } } });
    expect(freebsd).toMatchObject({ outcome: 'found', symbols });
    expect(freebsd.warnings.includes('table-size-odd')).toBe(BigInt(sh_size) % 24n !== 0n);
  });

  test('takes an empty table for none, and NetBSD does not', () => {
    const { freebsd, netbsd } = verdicts({ sections: { 1: { sh_size: 0 } } });
    expect([freebsd.why, netbsd]).toEqual(['symbol-table-empty', good(0n)]);
  });

  test('does not look at the size word', () => {
    expect(verdicts({ sizeWord: 0 }).freebsd).toMatchObject({ outcome: 'found', warnings: ['table-outside-size'] });
  });
});

describe('the search for the tables', () => {
  test('goes on after a link that leads to an sh_offset of 0', () => {
    const spec: BlobSpec = {
      sections: { 3: {}, 4: { sh_type: 2, sh_offset: 400, sh_size: 24, sh_link: 2 }, 1: { sh_link: 3 } },
    };
    expect(verdicts(spec).freebsd).toMatchObject({ outcome: 'found', symbols: 1n });
    expect(verdicts({ sections: { 1: { sh_link: 0 } } }).netbsd.why).toBe('no-symbol-table');
  });

  test.each([
    [3, 'link-outside'],
    [-1, 'link-outside'],
  ])('takes whatever lies at the index %i for a header', (link, warning) => {
    // After the headers there are symbols, and before them is the ELF header, whose e_entry is taken for sh_offset.
    const spec = { header: { e_entry: 300 }, symbols: [{ name: 'x', value: 1, size: 400 }] };
    const { freebsd } = verdicts({ ...spec, sections: { 1: { sh_link: link } } });
    expect(freebsd.outcome).toBe('found');
    expect(freebsd.warnings).toContain(warning);
  });

  test.each([
    ['a header that is cut', { size: 150 }, 'section-header-outside'],
    ['headers far away', { header: { e_shoff: 2n ** 40n } }, 'section-header-outside'],
    ['headers in front of the blob', { header: { e_shoff: 2n ** 64n - 1024n } }, 'section-header-outside'],
    ['a link far away', { sections: { 1: { sh_link: 0x7fff_ffff } } }, 'linked-header-outside'],
    ['a link far in front', { sections: { 1: { sh_link: 0x8000_0000 } } }, 'linked-header-outside'],
  ] as const)('does not know of %s', (_, spec, why) => {
    const { freebsd, netbsd, netbsdKdtrace } = verdicts(spec);
    for (const verdict of [freebsd, netbsd, netbsdKdtrace]) {
      expect(verdict).toEqual({ outcome: 'undefined', why, symbols: null, warnings: [] });
    }
  });

  test('reads headers from in front of the blob as far as they are inside', () => {
    const { bytes } = buildBlob({ header: { e_shoff: 2n ** 64n - 64n } });
    expect(walk(bytes).result.freebsd.outcome).toBe('none');
  });
});

const name = (text: string, more: Partial<SymbolSpec> = {}): SymbolSpec => ({ name: text, value: 1, ...more });

/** PROGBITS sections with these names, from section 3 on. */
const sectionsNamed = (names: readonly number[]): NonNullable<BlobSpec['sections']> =>
  Object.fromEntries(names.map((sh_name, index) => [index + 3, { sh_type: 1, sh_name, sh_offset: 4, sh_size: 4 }]));

describe('NetBSD', () => {
  test.each<readonly [string, SymbolSpec, boolean]>([
    ['one without a name', name('x', { nameOffset: 0 }), true],
    ['an undefined one', name('x', { shndx: 0 }), true],
    ['the name of a file', name('x.c', { info: 4 }), true],
    ['gcc2_compiled.', name('gcc2_compiled.', { info: 0 }), true],
    ['gcc2_compiled. as a function', name('gcc2_compiled.', { info: 2 }), false],
    ['what only begins so', name('gcc2_compiled.x', { info: 0 }), false],
    ['*ABS* at 0', name('*ABS*', { info: 0, value: 0 }), true],
    ['*ABS* elsewhere', name('*ABS*', { info: 0 }), false],
    ['any other without a type', name('x', { info: 0 }), false],
  ])('without DTrace drops %s', (_, symbol, isDropped) => {
    for (const elfClass of ['ELF32', 'ELF64'] as const) {
      const { netbsd, netbsdKdtrace } = verdicts({ class: elfClass, symbols: [name('first'), symbol, name('last')] });
      expect([netbsd.symbols, netbsdKdtrace.symbols]).toEqual([isDropped ? 2n : 3n, 4n]);
    }
  });

  test.each([0, 0x8000_0000, 0xffff_ffff])('does not take a size word of %i', (sizeWord) => {
    expect(verdicts({ sizeWord }).netbsd.why).toBe('size-word-unusable');
  });

  test('keeps sizes in 32 bits', () => {
    const { netbsd, netbsdKdtrace } = verdicts({ sections: { 1: { sh_size: 2n ** 32n + 48n } } });
    expect([netbsd.symbols, netbsdKdtrace.symbols]).toEqual([1n, 2n]);
    expect(netbsd.warnings).toContain('symbols-cut-off');
  });

  test.each(['ELF32', 'ELF64'] as const)('of class %s finds no symbols in a negative size, or crashes', (elfClass) => {
    const { netbsd, netbsdKdtrace } = verdicts({ class: elfClass, sections: { 1: { sh_size: 0xffff_fff0 } } });
    expect(netbsd).toMatchObject({ outcome: 'found', symbols: 0n });
    expect(netbsdKdtrace.why).toBe('symbol-map-outside');
  });

  test.each(['ELF32', 'ELF64'] as const)('of class %s takes 98,303 symbols and no more', (elfClass) => {
    for (const count of [98_303, 98_304]) {
      // All of them have the same name.
      const symbols = Array.from({ length: count - 1 }, () => name('x', { nameOffset: 1 }));
      const { bytes } = buildBlob({ class: elfClass, symbols, strtab: Buffer.from('\0x\0') });
      const { netbsd, netbsdKdtrace } = walk(bytes).result;
      expect(netbsdKdtrace.symbols).toBe(BigInt(Math.min(count, 98_303)));
      expect(netbsd.symbols).toBe(BigInt(Math.min(count, 98_303) - 1));
      expect(netbsd.warnings).toEqual(count > 98_303 ? ['symbols-cut-off'] : []);
    }
  });

  test('does not read what it cuts off', () => {
    const symbols = Array.from({ length: 98_400 }, (_, index) =>
      name('x', { nameOffset: index < 98_302 ? 1 : 0xffff_ffff }),
    );
    const { bytes } = buildBlob({ symbols, strtab: Buffer.from('\0x\0') });
    expect(walk(bytes).result.netbsd.outcome).toBe('found');
    const { bytes: other } = buildBlob({
      symbols: symbols.map((symbol, index) => (index === 98_301 ? name('x', { nameOffset: 0xffff_ffff }) : symbol)),
      strtab: Buffer.from('\0x\0'),
    });
    expect(walk(other).result.netbsd.why).toBe('symbol-name-outside');
  });

  test('reads names to their end, in the string table or not', () => {
    const spec = (nameOffset: number, size: number): BlobSpec => {
      const { bytes } = buildBlob();
      return { symbols: [name('one'), name('two', { nameOffset })], size: bytes.length + size };
    };
    expect(verdicts(spec(9, 0)).netbsd).toMatchObject({ outcome: 'undefined', why: 'symbol-name-outside' });
    expect(verdicts(spec(9, 1)).netbsd).toMatchObject({ outcome: 'found', warnings: ['name-outside-table'] });
    const endless: BlobSpec = { symbols: [name('one')], strtab: Buffer.from('\0one') };
    expect(verdicts(endless).netbsd.why).toBe('symbol-name-outside');
    expect(verdicts({ ...endless, size: buildBlob(endless).bytes.length + 1 }).netbsd.warnings).toEqual([
      'name-unterminated',
    ]);
  });

  test('does not read a symbol further than it has to', () => {
    const symbols = [name('one'), name('two', { nameOffset: 0 })];
    const cut = (bytes: number): BlobSpec => ({ symbols, strtabAt: 600, symtabAt: 700, size: 700 + 72 - bytes });
    expect(verdicts(cut(20)).netbsd).toMatchObject({ outcome: 'found', symbols: 1n });
    expect(verdicts(cut(21)).netbsd.why).toBe('symbol-outside');
    expect(verdicts(cut(20)).netbsdKdtrace.why).toBe('symbol-outside');
  });

  describe('packs in place', () => {
    const [symtabAt, strtabAt] = [400, 340];

    test('names that lie in the symbol table', () => {
      // The name is the st_name of the null symbol, whose place this very symbol takes.
      const symbols = [name('x', { nameOffset: symtabAt - strtabAt, info: 2 })];
      const { netbsd } = verdicts({ symbols, symtabAt, strtabAt, strtab: new Uint8Array(120) });
      expect(netbsd).toEqual({ ...good(1n), warnings: ['tables-overlap'] });
    });

    test('nothing of a string table that lies before it', () => {
      const strtab = Buffer.from('\0one\0two\0');
      expect(verdicts({ symtabAt: 400, strtabAt: 391, strtab }).netbsd).toEqual(good(2n));
      expect(verdicts({ symtabAt: 399, strtabAt: 391, strtab }).netbsd.warnings).toEqual(['tables-overlap']);
    });

    test('names that begin before the symbol table and run into it', () => {
      // The first symbol takes the place of the null symbol, and its st_name spells "S*": *ABS* is complete.
      const strtab = new Uint8Array(12_000);
      strtab.set(Buffer.from('*AB'), symtabAt - strtabAt - 3);
      const symbols = [
        name('x', { nameOffset: Buffer.from('S*').readUInt16LE(), info: 2 }),
        name('y', { nameOffset: symtabAt - strtabAt - 3, info: 0, value: 0 }),
      ];
      const { netbsd, netbsdKdtrace } = verdicts({ symbols, symtabAt, strtabAt, strtab });
      expect([netbsd.symbols, netbsdKdtrace.symbols]).toEqual([1n, 3n]);
    });

    test('names that only packing gives an end', () => {
      // From the last symbol on there is no NUL but the one that NetBSD writes.
      const all = 2n ** 64n - 1n;
      const last = (nameOffset: number): SymbolSpec =>
        name('x', { nameOffset, info: 0x12, shndx: 0xffff, value: all, size: all });
      const spec = (at: number): BlobSpec => ({ symbols: [last(at)], symtabAt, strtabAt, strtab: new Uint8Array(60) });
      // In ELF64 that is the 8th byte of a symbol; the null symbol is dropped.
      expect(verdicts(spec(60 + 7)).netbsd.outcome).toBe('found');
      expect(verdicts(spec(60 + 24 + 7)).netbsd.outcome).toBe('undefined');
      expect(verdicts(spec(60 + 24 + 7)).netbsdKdtrace.outcome).toBe('found');
      expect(verdicts(spec(60 + 24 + 8)).netbsdKdtrace.outcome).toBe('undefined');
    });
  });

  describe('with DTrace looks for .SUNW_ctf', () => {
    const strtab = Buffer.from('\0one\0two\0.SUNW_ctf\0.SUNW_ct');
    const spec = (names: readonly number[], e_shstrndx: number): BlobSpec => ({
      strtab,
      sections: sectionsNamed(names),
      header: { e_shstrndx },
    });

    test('when e_shstrndx is not 0', () => {
      expect(verdicts(spec([0xffff], 0)).netbsdKdtrace.outcome).toBe('found');
      expect(verdicts(spec([0xffff], 2)).netbsdKdtrace.why).toBe('section-name-outside');
      expect(verdicts(spec([0xffff], 2)).netbsd.outcome).toBe('found');
    });

    test('and no further than to the first', () => {
      expect(verdicts(spec([1, 9, 0xffff], 2)).netbsdKdtrace).toEqual(good(3n));
      expect(verdicts(spec([1, 0xffff, 9], 2)).netbsdKdtrace.why).toBe('section-name-outside');
    });

    test('in names that the memory cuts', () => {
      expect(verdicts(spec([19], 2)).netbsdKdtrace.why).toBe('section-name-outside');
      expect(verdicts(spec([23], 2)).netbsdKdtrace.outcome).toBe('found');
    });

    test('wherever e_shstrndx leads', () => {
      expect(verdicts(spec([], 40)).netbsdKdtrace.why).toBe('name-header-outside');
      expect(verdicts(spec([1], 1)).netbsdKdtrace.warnings).toEqual(['section-names-missing']);
      expect(verdicts({ header: { e_shstrndx: 4 }, size: 800 }).netbsdKdtrace.warnings).toEqual([
        'section-names-missing',
      ]);
    });
  });
});

describe('the Xen Test Framework', () => {
  test('looks at no table', () => {
    const spec: BlobSpec = { class: 'ELF32', sections: { 1: { sh_offset: 2n ** 32n - 1n, sh_link: 99 } } };
    expect(verdicts(spec).xtf).toEqual(good(0n));
  });

  test.each([
    [{ e_shnum: 4 }, 'none', 'section-count'],
    [{ e_ehsize: 40 }, 'none', 'header-leak'],
    [{ e_ehsize: 64 }, 'found', null],
    [{ e_ehsize: 100 }, 'found', null],
    [{ e_version: 2 }, 'found', null],
  ])('makes of %o: %s', (header, outcome, why) => {
    expect(verdicts({ class: 'ELF32', header }).xtf).toMatchObject({ outcome, why });
  });

  test('does not know what is zero outside', () => {
    const { bytes } = buildBlob({ class: 'ELF32', header: { e_shoff: 1000 } });
    expect(walk(bytes).result.xtf.why).toBe('header-leak');
    bytes.fill(0, 56);
    expect(walk(bytes).result.xtf.why).toBe('header-gap-outside');
  });
});

const at = (address: bigint | null, ...symbols: ('end' | '_end')[]): Placement => ({
  address,
  elsewhere: new Set(symbols),
});

/** The guests that are told of the end symbol. */
const misplacedOf = (elfClass: ElfClass, placement: Placement): string[] => {
  const judged = verdicts({ class: elfClass }, placement);
  return GUESTS.filter((guest) => judged[guest].warnings.includes('end-symbol-elsewhere'));
};

describe('the place of a blob', () => {
  test.each<readonly [ElfClass, bigint, boolean]>([
    ['ELF64', 0x1008n, false],
    ['ELF64', 0x1004n, true],
    ['ELF32', 0x1004n, false],
    ['ELF32', 0x1002n, true],
  ])('%s at %i', (elfClass, address, isWrong) => {
    const { netbsd } = verdicts({ class: elfClass }, at(address));
    expect(netbsd.warnings).toEqual(isWrong ? ['address-unaligned'] : []);
  });

  test('is a warning of those that look at the symbol', () => {
    expect(misplacedOf('ELF64', at(null, 'end'))).toEqual(['freebsd', 'netbsd', 'netbsdKdtrace']);
    expect(misplacedOf('ELF32', at(null, 'end'))).toEqual(['netbsd', 'netbsdKdtrace']);
    expect(misplacedOf('ELF32', at(null, '_end'))).toEqual(['xtf']);
  });
});

describe('what is misread', () => {
  test.each<readonly [string, BlobSpec, string]>([
    ['an e_shentsize of another size', { header: { e_shentsize: 40 } }, 'header-size-ignored'],
    ['a link to what is no STRTAB', { sections: { 2: { sh_type: 1 } } }, 'link-not-strtab'],
    ['a size word that is too small', { sizeWord: 300 }, 'table-outside-size'],
    ['a string table that is cut', { sections: { 2: { sh_size: 1000 } }, sizeWord: 2000 }, 'table-cut'],
    ['a name outside the string table', { sections: { 2: { sh_size: 5 } } }, 'name-outside-table'],
    ['a name without an end', { sections: { 2: { sh_size: 7 } } }, 'name-unterminated'],
  ])('%s', (_, spec, warning) => {
    const { freebsd, netbsd } = verdicts(spec);
    expect(freebsd.warnings).toEqual([warning]);
    expect(netbsd.warnings).toEqual([warning]);
  });
});
