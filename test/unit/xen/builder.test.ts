import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import { type InspectedKernel, inspectKernel } from '../../../src/inspect/load.ts';
import { type BuilderRefusalCode, findOtherLoader } from '../../../src/xen/builder.ts';
import {
  ASKING_NOTES,
  type KernelSpec,
  kernel,
  type NoteSpec,
  xenNumber,
  xenString,
} from '../../support/elf-builder.ts';

async function inspect(spec: KernelSpec): Promise<InspectedKernel> {
  const result = await inspectKernel(new MemorySource([kernel(spec).bytes]));
  if (!result.ok) throw new Error(result.broken.detail);
  return result;
}

const PHYS32_ENTRY = xenNumber(18, 0x10_0000n);
const FEATURES = (text: string): NoteSpec => xenString(10, text);
const UNALIGNED = { paddr: 0x10_0010n, header: { e_entry: 0x10_0010n } };
const I386 = { class: 'ELF32', machine: 3 } as const;

describe('a PV guest', () => {
  test.each<[string, KernelSpec, BuilderRefusalCode | null, string | null]>([
    ['for x86-64 is taken', { notes: ASKING_NOTES }, null, 'xen-3.0-x86_64'],
    ['that the ELF library refuses finds no loader', {}, 'no-loader', 'xen-3.0-x86_64'],
    ['that must be dom0', { notes: [...ASKING_NOTES, FEATURES('!dom0')] }, 'no-unprivileged', 'xen-3.0-x86_64'],
    ['that may be dom0 is taken', { notes: [...ASKING_NOTES, FEATURES('dom0')] }, null, 'xen-3.0-x86_64'],
    ['of another machine', { machine: 183, notes: ASKING_NOTES }, 'unknown-machine', null],
    ['for i386 without PAE', { ...I386, notes: ASKING_NOTES }, 'guest-type-unsupported', 'xen-3.0-x86_32'],
    ['for i386 with PAE', { ...I386, notes: [...ASKING_NOTES, xenString(9, 'yes')] }, null, 'xen-3.0-x86_32p'],
    [
      'for i386 with or without',
      { ...I386, notes: [...ASKING_NOTES, xenString(9, 'bimodal')] },
      null,
      'xen-3.0-x86_32p',
    ],
    ['that starts within a page', { ...UNALIGNED, notes: ASKING_NOTES }, 'not-page-aligned', 'xen-3.0-x86_64'],
  ])('%s', async (_what, spec, code, guestType) => {
    const { pv } = (await inspect(spec)).builder;
    expect([pv.ok, pv.why?.code ?? null, pv.guestType]).toEqual([code === null, code, guestType]);
  });

  test('has the finding in the words of the builder', async () => {
    const alpha = await inspect({ machine: 0x9026, notes: ASKING_NOTES });
    expect(alpha.builder.pv.why?.reason).toBe('unknown image type 36902');
    const unaligned = await inspect({ ...UNALIGNED, notes: ASKING_NOTES });
    expect(unaligned.builder.pv.why?.reason).toBe("segment boundary isn't page aligned (0x100010)");
  });
});

describe('an HVM guest', () => {
  test.each<[string, KernelSpec, BuilderRefusalCode | null]>([
    ['with an entry is taken', { notes: [PHYS32_ENTRY] }, null],
    ['of any machine is taken', { machine: 183, notes: [PHYS32_ENTRY] }, null],
    ['without an entry, though the ELF library accepts it', { notes: ASKING_NOTES }, 'no-pvh-entry'],
    ['that must be dom0', { notes: [PHYS32_ENTRY, FEATURES('!dom0')] }, 'no-unprivileged'],
    ['of 64 bits that the ELF library refuses', {}, 'not-32bit'],
    ['of 32 bits that the ELF library refuses is firmware', I386, 'taken-as-firmware'],
  ])('%s', async (_what, spec, code) => {
    const { hvm } = (await inspect(spec)).builder;
    expect([hvm.ok, hvm.why?.code ?? null]).toEqual([code === null, code]);
  });
});

const file = (fill: (data: DataView) => void, size = 9000): Uint8Array => {
  const bytes = new Uint8Array(size);
  fill(new DataView(bytes.buffer));
  return bytes;
};
const table = (at: number, flags: number) => (data: DataView) => {
  data.setUint32(at, 0x336e_c578, true);
  data.setUint32(at + 4, flags, true);
  data.setUint32(at + 8, -(0x336e_c578 + flags), true);
};

const setup = (version: number, offset: number, length: number, sectors = 0) =>
  file((data) => {
    data.setUint32(0x202, 0x5372_6448, true);
    data.setUint16(0x206, version, true);
    data.setUint8(0x1f1, sectors);
    data.setUint32(0x248, offset, true);
    data.setUint32(0x24c, length, true);
  });

const warningsOf = async (spec: KernelSpec): Promise<string[]> =>
  (await inspect(spec)).warnings.map(({ code }) => code);

describe('another loader', () => {
  test.each([
    [0, 0x1_0000 | (2 << 14), 'xen-3.0-x86_64', null],
    [8188, 0x1_0001 | (1 << 14), 'xen-3.0-x86_32p', null],
    [64, 0x1_0000, 'xen-3.0-x86_32', 'guest-type-unsupported'],
    [64, 0x2_0000, null, 'multiboot-flags'],
  ])('takes a file with a multiboot table at %i, flags %i', (at, flags, guestType, code) => {
    const found = findOtherLoader(file(table(at, flags)), 9000);
    expect(found).toMatchObject({ name: 'multiboot-binary', guestType });
    expect(found?.why?.code ?? null).toBe(code);
  });

  test('leaves a file whose table comes too late, is not at a step, or has a wrong sum', () => {
    expect(findOtherLoader(file(table(8192, 0x1_0000)), 9000)).toBeNull();
    expect(findOtherLoader(file(table(66, 0x1_0000)), 9000)).toBeNull();
    const wrong = file((data) => {
      table(64, 0x1_0000)(data);
      data.setUint8(72, data.getUint8(72) ^ 1);
    });
    expect(findOtherLoader(wrong, 9000)).toBeNull();
  });

  test('refuses an ELF file with a Linux setup header whose payload is inside', () => {
    expect(findOtherLoader(setup(0x208, 100, 8388), 9000)?.why?.code).toBe('unknown-compression');
  });

  test.each([
    ['an old version', setup(0x207, 100, 100)],
    ['a payload that begins outside', setup(0x208, 9000 - 512, 0)],
    ['a payload that ends outside', setup(0x208, 100, 8389)],
    ['setup sectors that push it outside', setup(0x208, 100, 100, 20)],
  ])('leaves one with %s', (_what, bytes) => {
    expect(findOtherLoader(bytes, 9000)).toBeNull();
  });
});

describe('warnings of a kernel', () => {
  const RELOC: NoteSpec = { name: 'Xen', type: 19, desc: new Uint8Array(12) };

  test.each<[string, KernelSpec, string[]]>([
    ['none', { notes: ASKING_NOTES }, []],
    ['no notes', {}, ['no-xen-notes']],
    ['notes of others only', { notes: [{ name: 'GNU', type: 3, desc: new Uint8Array(4) }] }, ['no-xen-notes']],
    ['notes that do not ask', { notes: [PHYS32_ENTRY] }, ['symbols-not-requested']],
    ['a guest section that asks', { before: [guestSection('LOADER=generic,XEN_VER=xen-3.0,BSD_SYMTAB')] }, []],
    ['a guest section that does not', { before: [guestSection('LOADER=generic')] }, ['symbols-not-requested']],
    ['a machine without Xen', { machine: 43, notes: ASKING_NOTES }, ['machine-unlikely']],
    ['code without bytes', { text: { type: 8, flags: 6 }, notes: ASKING_NOTES }, ['segments-empty']],
    ['segments without bytes', { segment: { header: { p_filesz: 0 } }, notes: ASKING_NOTES }, ['segments-empty']],
    ['a kernel that can be moved', { notes: [...ASKING_NOTES, PHYS32_ENTRY, RELOC] }, ['kernel-relocatable']],
    ['one that could, without an entry', { notes: [...ASKING_NOTES, RELOC] }, []],
  ])('%s', async (_what, spec, expected) => {
    expect(await warningsOf(spec)).toEqual(expected);
  });

  test('say what a guest section lacks', async () => {
    const { warnings } = await inspect({ before: [guestSection('LOADER=generic')] });
    expect(warnings[0]?.detail).toContain('__xen_guest');
  });
});

function guestSection(content: string) {
  return { name: '__xen_guest', data: new TextEncoder().encode(`${content}\0`) };
}
