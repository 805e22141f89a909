import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../../src/image/memory.ts';
import {
  flattenImage,
  type LoadedImage,
  type LoadRequest,
  loadImage,
  type RefusedImage,
} from '../../../src/inspect/load.ts';
import { buildImage, kernel } from '../../support/elf-builder.ts';
import { MIB } from '../../support/load.ts';
import { CountingSource } from '../../support/sources.ts';

const request: LoadRequest = { onBroken: 'load', maxBlobBytes: MIB };

const run = (bytes: Uint8Array, options: Partial<LoadRequest> = {}): Promise<LoadedImage | RefusedImage> =>
  loadImage(new MemorySource([bytes]), { ...request, ...options });

const buildIdNote = { name: 'GNU', type: 3, desc: Uint8Array.of(0xde, 0xad, 0xbe, 0xef) };
const image = kernel({ symbols: 4, notes: [buildIdNote] });

describe('a good image', () => {
  test('is loaded after its kernel, with what is known about it', async () => {
    const result = await run(image.bytes);
    expect(result).toMatchObject({
      ok: true,
      image: {
        size: image.bytes.length,
        identity: { class: 'ELF64', byteOrder: 'little-endian', type: 'EXEC', machine: 'x86-64' },
        buildId: 'deadbeef',
      },
      kernel: { pstart: 0x10_0000n, pend: 0x10_2000n },
      plan: { loadAddress: 0x10_2000n, pstart: 0x10_2000n },
      broken: null,
      warnings: [{ code: 'no-xen-notes' }],
    });
  });

  test('is loaded at the requested address', async () => {
    const result = await run(image.bytes, { loadAddress: 0x5001n });
    expect(result).toMatchObject({ ok: true, plan: { loadAddress: 0x5001n, pstart: 0x5008n }, broken: null });
    expect(result.ok && result.warnings.map(({ code }) => code)).toEqual(['load-address-unaligned', 'no-xen-notes']);
  });

  test('is the same in however many pieces', async () => {
    const pieces = Array.from({ length: image.bytes.length }, (_, at) => image.bytes.subarray(at, at + 1));
    expect(await loadImage(new MemorySource(pieces), request)).toEqual(await run(image.bytes));
  });

  test('is not read outside its headers and symbols', async () => {
    const source = new CountingSource(image.bytes, 2 ** 33);
    await loadImage(source, request);
    // Notes are read in blocks of 1 KiB.
    expect(source.bytesRead).toBeLessThan(4 * image.bytes.length + 2048);
  });

  test('without a build ID has none', async () => {
    expect(await run(kernel().bytes)).toMatchObject({ image: { buildId: null } });
  });
});

describe('warnings', () => {
  test('of the plan come first, then those of the kernel and of the tables', async () => {
    const odd = kernel({
      class: 'ELF32',
      byteOrder: 'big',
      symtab: { data: new Uint8Array(16).fill(0xff), entsize: 7 },
      strtab: { data: Uint8Array.of(0x61) },
    });
    const result = await run(odd.bytes, { loadAddress: 2n });
    expect(result.ok && result.warnings.map(({ code }) => code)).toEqual([
      'big-endian-mixed',
      'elf32-under-reserved',
      'entry-size-unusual',
      'load-address-unaligned',
      'no-xen-notes',
      'strtab-unterminated',
      'symbol-name-outside',
    ]);
  });
});

describe('a request that asks for nothing', () => {
  test('has the defaults of the service', async () => {
    const result = await loadImage(new MemorySource([image.bytes]));
    expect(result).toMatchObject({ ok: true, plan: { loader: 'xen-4.8', loadAddress: 0x10_2000n } });
    const flat = await flattenImage(new MemorySource([image.bytes]));
    expect(flat).toMatchObject({ ok: true, symbols: null, plan: { pstart: 0x10_0000n, pend: 0x10_2000n } });
  });

  test('refuses blobs and flat images beyond their limits', async () => {
    const { bytes } = kernel({ symtab: { header: { sh_size: 2 ** 29 } }, placement: { imageSize: 4096 } });
    const large = new CountingSource(bytes, 2 ** 30);
    expect(await loadImage(large)).toMatchObject({ ok: false, broken: { code: 'region-too-large' } });
    const wide = kernel({ memsz: 2n ** 33n });
    const flat = await flattenImage(new MemorySource([wide.bytes]), { symbols: 'never' });
    expect(flat).toMatchObject({ ok: false, broken: { code: 'segments-too-large' } });
  });
});

describe('an image with a reason against it', () => {
  const cut = kernel({ symtab: { header: { sh_size: 0x1_0000 } } }).bytes;

  test('is refused for it unless it is to be loaded', async () => {
    const refused = {
      ok: false,
      loadAddress: 0x10_2000n,
      image: { size: cut.length },
      broken: { code: 'out-of-range-access', reason: 'out of range access', stage: 'load', length: 0x1_0000n },
    };
    expect(await loadImage(new MemorySource([cut]))).toMatchObject(refused);
    expect(await run(cut, { onBroken: 'reject' })).toMatchObject(refused);
    expect(await flattenImage(new MemorySource([cut]), { symbols: 'always' })).toMatchObject(refused);
  });

  test('is refused without a look at its symbols', async () => {
    const source = new CountingSource(cut);
    await loadImage(source);
    const rejected = source.bytesRead;
    await loadImage(source, { onBroken: 'load' });
    expect(source.bytesRead - rejected).toBeGreaterThan(rejected);
  });

  test('can be flattened all the same', async () => {
    const flat = await flattenImage(new MemorySource([cut]), { symbols: 'always', onBroken: 'load' });
    expect(flat).toMatchObject({ ok: true, broken: { code: 'out-of-range-access' } });
  });

  test('is loaded as the reference does, with the reason', async () => {
    const result = await run(kernel({ symtab: { header: { sh_size: 0x1_0000 } } }).bytes);
    expect(result).toMatchObject({
      ok: true,
      broken: { code: 'out-of-range-access', reason: 'out of range access', stage: 'load', length: 0x1_0000n },
    });
  });

  test.each([
    ['no-symbol-table', { symtab: { type: 1 } }],
    ['strtab-link-invalid', { symtab: { link: '.text' } }],
  ] as const)('that leaves no symbols is refused: %s', async (code, spec) => {
    expect(await run(kernel(spec).bytes)).toMatchObject({
      ok: false,
      loadAddress: 0x10_2000n,
      broken: { code, stage: 'parse' },
      image: { identity: { class: 'ELF64' } },
    });
  });

  test('is refused beyond the limit, for its reason if it has one', async () => {
    expect(await run(image.bytes, { maxBlobBytes: 100 })).toMatchObject({
      ok: false,
      broken: { code: 'region-too-large' },
    });
    const lying = kernel({ symtab: { header: { sh_size: 2 * MIB } } });
    expect(await run(lying.bytes)).toMatchObject({ ok: false, broken: { code: 'out-of-range-access' } });
  });

  test('at an unusable address is refused', async () => {
    for (const loadAddress of [0n, 2n ** 64n - 1n]) {
      const result = await run(image.bytes, { loadAddress });
      expect(result).toMatchObject({ ok: false, loadAddress, broken: { code: 'load-address-unusable' } });
    }
  });

  test('and no segments has no place of its own', async () => {
    const object = buildImage({
      sections: [
        { name: '.symtab', type: 2, link: '.strtab', entsize: 24, data: new Uint8Array(24) },
        { name: '.strtab', type: 3, data: new Uint8Array(1) },
      ],
    });
    expect(await run(object.bytes)).toMatchObject({
      ok: false,
      loadAddress: 0n,
      broken: { code: 'load-address-unusable' },
    });
    expect(await run(object.bytes, { loadAddress: 8n })).toMatchObject({ ok: true, plan: { pstart: 8n } });
  });
});

describe('an image that fails at once', () => {
  test.each([
    ['program', { header: { e_phoff: 2n ** 40n } }, 'phdr-overflow'],
    ['section', { header: { e_shoff: 2n ** 40n } }, 'shdr-overflow'],
  ] as const)('tells which table does not fit: %s', async (table, spec, code) => {
    const { bytes } = kernel(spec);
    const result = await run(bytes, { loadAddress: 7n });
    expect(result).toMatchObject({ ok: false, loadAddress: 7n, broken: { code, stage: 'init', offset: 2n ** 40n } });
    expect(result.broken?.what).toBe(`${table} header table`);
    for (const part of [String(2 ** 40), String(bytes.length), 'cut short']) {
      expect(result.broken?.detail).toContain(part);
    }
  });

  test('has the reason that was recorded before', async () => {
    const { bytes } = kernel({ header: { e_shnum: 0xffff } });
    const result = await run(bytes);
    expect(result.broken?.code).toBe('shdr-overflow');
    expect(result.broken?.detail).toContain('too-many-section-headers');
  });

  test.each([
    ['nothing', new Uint8Array(), 'empty'],
    ['text', Buffer.from('hello'), 'text'],
    ['half a header', image.bytes.subarray(0, 51), 'only 51 bytes'],
    ['an archive', Buffer.from('!<arch>\n'), 'ar archive'],
    ['bytes', Uint8Array.of(1, 2, 3), '`file`'],
  ])('is not an ELF image, and what it may be: %s', async (_name, bytes, advice) => {
    const result = await run(bytes);
    expect(result).toMatchObject({
      ok: false,
      image: { size: bytes.length, identity: null, buildId: null },
      loadAddress: null,
      broken: { code: 'not-elf', reason: 'not an ELF binary', stage: 'init', offset: 0n },
    });
    expect(result.broken?.detail).toContain(advice);
  });
});

test('a source that cannot be read throws its own error', async () => {
  const failure = new Error('the disk is gone');
  const source = new MemorySource([image.bytes]);
  source.read = () => Promise.reject(failure);
  await expect(loadImage(source, request)).rejects.toBe(failure);
});
