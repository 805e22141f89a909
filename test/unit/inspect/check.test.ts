/** What is said of each requirement. test/property/check.test.ts holds the verdicts against those of other routes. */
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { type CheckedImage, type CheckRequest, checkImage, REQUIREMENTS } from '../../../src/inspect/check.ts';
import { ASKING_NOTES, KERNEL_PSTART, type KernelSpec, kernel, xenString } from '../../support/elf-builder.ts';

async function check(spec: KernelSpec, request: CheckRequest = {}): Promise<CheckedImage> {
  const checked = await checkImage(new MemorySource([kernel(spec).bytes]), request);
  if (!checked.ok) throw new Error(checked.broken.detail);
  return checked;
}

const namesOf = async (spec: KernelSpec, request?: CheckRequest): Promise<string[]> =>
  (await check(spec, request)).requirements.map(({ name }) => name);

/** What is said of one requirement. */
async function judge(name: (typeof REQUIREMENTS)[number], spec: KernelSpec): Promise<readonly unknown[]> {
  const { requirements, met } = await check(spec, { require: [name] });
  const [only] = requirements;
  expect([requirements.length, only?.name, only?.met]).toEqual([1, name, met]);
  return [met, only?.code, only?.detail];
}

const ASKING: KernelSpec = { notes: ASKING_NOTES };
const STRIPPED: KernelSpec = { ...ASKING, symtab: { type: 1 } };
const UNTERMINATED: KernelSpec = { strtab: { data: Buffer.from('\0a') }, symbols: [] };

describe('no-warnings', () => {
  test('is met by a kernel without any', async () => {
    expect(await judge('no-warnings', ASKING)).toEqual([true, null, 'There is no warning.']);
  });

  test('is not met with one, which it names', async () => {
    expect(await judge('no-warnings', { ...ASKING, ...UNTERMINATED })).toEqual([
      false,
      'strtab-unterminated',
      'The last of its 2 bytes is not NUL.',
    ]);
  });

  test('is not met with several: it describes the first and names the others', async () => {
    const { warnings } = await check(UNTERMINATED);
    expect(warnings.map(({ code }) => code)).toEqual(['no-xen-notes', 'strtab-unterminated']);
    expect(await judge('no-warnings', UNTERMINATED)).toEqual([
      false,
      'no-xen-notes',
      `${warnings[0]?.detail} Others: strtab-unterminated.`,
    ]);
  });

  test('counts those of the kernel when the symbols do not load', async () => {
    const { requirements, plan, broken } = await check({ symtab: { type: 1 } }, { require: ['no-warnings'] });
    expect([plan, broken?.code, requirements[0]?.code]).toEqual([null, 'no-symbol-table', 'no-xen-notes']);
  });
});

describe('symbols-requested', () => {
  test('says what the warning says when it is not met', async () => {
    const silent: KernelSpec = { notes: [xenString(8, 'generic')] };
    for (const [spec, code] of [
      [UNTERMINATED, 'no-xen-notes'],
      [{ ...silent, ...UNTERMINATED }, 'symbols-not-requested'],
    ] as const) {
      const { warnings } = await check(spec);
      const detail = warnings.find((warning) => warning.code === code)?.detail;
      expect(detail).toBeDefined();
      expect(await judge('symbols-requested', spec)).toEqual([
        false,
        code,
        `${detail} Xen places the symbols of a kernel only when it asks for them.`,
      ]);
    }
    expect(await judge('symbols-requested', ASKING)).toEqual([
      true,
      null,
      'The kernel asks for its symbols (BSD_SYMTAB).',
    ]);
  });
});

describe('symbols', () => {
  test('tells where they are, or why they do not load', async () => {
    const { plan } = await check(ASKING);
    expect(await judge('symbols', ASKING)).toEqual([true, null, `The symbols load: ${plan?.size} bytes at 0x102000.`]);
    const { broken } = await check(STRIPPED);
    expect(await judge('symbols', STRIPPED)).toEqual([false, 'no-symbol-table', broken?.detail]);
  });

  test('are not loaded when a reason was recorded, though there is a plan', async () => {
    const cut: KernelSpec = { ...ASKING, symtab: { header: { sh_size: 0x10_0000 } } };
    const { plan, broken, requirements } = await check(cut, { onBroken: 'load', require: ['symbols'] });
    expect(plan).not.toBeNull();
    expect(requirements).toEqual([{ name: 'symbols', met: false, code: broken?.code, detail: broken?.detail }]);
    expect(broken?.code).toBe('out-of-range-access');
  });
});

describe('a start', () => {
  test.each([
    ['pv', 'PV'],
    ['pvh', 'PVH'],
  ] as const)('as %s is met, or refused with the words of Xen', async (name, kind) => {
    const entry = { name: 'Xen', type: 18, desc: Uint8Array.of(0, 0, 0x10, 0) };
    expect(await judge(name, { notes: [...ASKING_NOTES, entry] })).toEqual([
      true,
      null,
      `Xen would start the kernel as a ${kind} guest.`,
    ]);
    const [met, , detail] = await judge(name, {});
    expect(met).toBe(false);
    expect(detail).toMatch(new RegExp(`^Xen would not start the kernel as a ${kind} guest: .*\\.$`));
  });

  test('that the ELF library refuses has its words too', async () => {
    const bad: KernelSpec = { notes: [...ASKING_NOTES.slice(0, 1), xenString(5, 'xen-2.0')] };
    expect((await judge('pv', bad))[2]).toMatch(/ Its ELF library says: .*\.$/);
    expect((await judge('pv', { ...ASKING, machine: 183 }))[2]).not.toContain('ELF library');
  });
});

describe('a guest', () => {
  const small: KernelSpec = { ...ASKING, symbols: 3 };

  test('finds the symbols, and how many', async () => {
    expect(await judge('freebsd', small)).toEqual([true, null, 'FreeBSD finds 4 symbols.']);
    expect(await judge('netbsd', small)).toEqual([true, null, 'NetBSD finds 3 symbols.']);
    expect(await judge('xtf', { ...small, class: 'ELF32' })).toEqual([
      true,
      null,
      'The Xen Test Framework finds the blob.',
    ]);
  });

  test('finds them with something of little consequence', async () => {
    const { format } = kernel();
    // A part of a symbol counts as one.
    const odd: KernelSpec = { ...small, symtab: { header: { sh_size: 4 * format.symbol.size + 1 } } };
    expect(await judge('freebsd', odd)).toEqual([
      true,
      null,
      'FreeBSD finds 5 symbols. Of little consequence: table-size-odd.',
    ]);
  });

  test('does not find them where it does not look, or where they are not', async () => {
    const elsewhere: KernelSpec = { ...ASKING, symbols: [{ name: 'end', value: KERNEL_PSTART }] };
    const [met, code, detail] = await judge('freebsd', elsewhere);
    expect([met, code]).toEqual([false, 'end-symbol-elsewhere']);
    expect(detail).toMatch(/^FreeBSD does not get its symbols: /);
    expect(await judge('freebsd', STRIPPED)).toEqual([
      false,
      'no-symbol-table',
      'FreeBSD finds no symbols: Xen does not load them (no-symbol-table).',
    ]);
    expect((await judge('xtf', small)).slice(0, 2)).toEqual([false, 'other-class']);
  });
});

describe('what is required', () => {
  test.each([
    ['FreeBSD', ['freebsd']],
    ['NetBSD', ['netbsd']],
    ['xtf', ['xtf']],
    ['XTF', ['xtf']],
    ['linux', []],
    ['constructor', []],
    ['', []],
  ])('of a guest %j is by default that it finds its symbols', async (os, guests) => {
    const expected = ['symbols', 'symbols-requested', ...guests];
    const spec = { notes: [...ASKING_NOTES, xenString(6, os)] };
    expect(await namesOf(spec)).toEqual(expected);
    expect(await namesOf(spec, { require: [] })).toEqual(expected);
  });

  test('comes in one order, each once, and all of it must be met', async () => {
    expect(await namesOf(ASKING, { require: REQUIREMENTS.toReversed() })).toEqual(REQUIREMENTS);
    expect(await namesOf(ASKING, { require: ['pv', 'symbols', 'pv'] })).toEqual(['symbols', 'pv']);
    expect((await check(ASKING, { require: ['symbols', 'pv'] })).met).toBe(true);
    expect((await check(ASKING, { require: ['symbols', 'pvh'] })).met).toBe(false);
  });
});
