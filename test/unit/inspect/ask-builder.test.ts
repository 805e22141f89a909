/** What Xen's domain builder takes out of a file. test/conformance/containers.test.ts has the measured answers. */
import { describe, expect, test } from 'vitest';
import { ELF64, PT_NOTE, SHT_NOTE, SHT_STRTAB } from '../../../src/elf/format.ts';
import { askBuilderOfRefused } from '../../../src/inspect/ask-builder.ts';
import type { BzImageFacts, GzipFacts, ImageSource } from '../../../src/inspect/image-source.ts';
import { inspectKernel } from '../../../src/inspect/load.ts';
import type { BuilderVerdict } from '../../../src/xen/builder.ts';
import { ASKING_NOTES, kernel, noteBytes, xenNumber } from '../../support/elf-builder.ts';
import { CountingSource } from '../../support/sources.ts';

const GIB = 2 ** 30;
const { bytes: pv } = kernel({ notes: ASKING_NOTES });
/** The builder starts it as no guest. */
const { bytes: useless } = kernel();

type Packing = Pick<ImageSource, 'gzip' | 'fileCompression' | 'bzImage'>;

const packed = (bytes: Uint8Array, packing: Packing = {}, size = bytes.length): ImageSource =>
  Object.assign(new CountingSource(bytes, size), packing);

/** The image up to `length`, and zeros: what the builder sees as a file of its own. */
const seenOf = (image: Uint8Array, length: number, size: number): ImageSource =>
  packed(image.slice(0, length), {}, size);

interface Asked {
  readonly takes: BuilderVerdict['takes'];
  readonly pv: boolean;
  /** Why Xen reads the file differently. */
  readonly warning: string | null;
}

async function ask(source: ImageSource): Promise<Asked> {
  const inspected = await inspectKernel(source);
  if (!inspected.ok) throw new Error(inspected.broken.detail);
  const { builder, warnings } = inspected;
  const warning = warnings.find(({ code }) => code === 'xen-reads-differently')?.detail ?? null;
  return { takes: builder.takes, pv: builder.pv.ok, warning };
}

/** A gzip file that unpacks to this image whole. */
const gzipOf = (image: Uint8Array, more: Partial<GzipFacts> = {}): GzipFacts => ({
  fileBytes: 1000,
  sizeWord: image.length,
  firstMemberBytes: image.length,
  ...more,
});

const bzImageOf = (image: Uint8Array, more: Partial<BzImageFacts> = {}): BzImageFacts => ({
  payloadBytes: image.length,
  payloadEnd: 5000,
  fileBytes: 6000,
  payloadStart: image.slice(0, 8),
  compression: null,
  sizeWord: image.length,
  firstMemberBytes: image.length,
  unpackedBytes: image.length,
  fault: null,
  traits: new Set(),
  ...more,
});

describe('a file that is not packed', () => {
  test('is the kernel itself, up to 1 GiB', async () => {
    const taken = { ok: true, container: null, why: null };
    for (const size of [pv.length, GIB]) {
      expect(await ask(packed(pv, {}, size))).toEqual({
        takes: { ...taken, kernelSize: size },
        pv: true,
        warning: null,
      });
    }
    expect(await ask(packed(pv, {}, GIB + 1))).toEqual({
      takes: {
        ok: false,
        container: null,
        kernelSize: null,
        why: { code: 'file-too-large', reason: 'tried to map file which is too large' },
      },
      pv: false,
      warning: null,
    });
  });

  test('of no bytes is refused', async () => {
    const { takes, pv: start } = await askBuilderOfRefused(packed(new Uint8Array()));
    expect([takes.why?.code, start.ok, start.why?.code]).toEqual(['file-empty', false, 'file-empty']);
    expect((await askBuilderOfRefused(packed(Uint8Array.of(1)))).takes).toMatchObject({ ok: true, kernelSize: 1 });
  });
});

describe('a gzip file', () => {
  test('is unpacked, and zeros follow', async () => {
    expect(await ask(packed(pv, { gzip: gzipOf(pv) }))).toEqual({
      takes: { ok: true, container: 'gzip', kernelSize: pv.length + 16, why: null },
      pv: true,
      warning: null,
    });
  });

  test('of several members has a warning, whether or not Xen would start its first', async () => {
    const zeros = 100;
    const image = new Uint8Array(pv.length + zeros);
    image.set(pv);
    const {
      warning,
      pv: start,
      takes,
    } = await ask(packed(image, { gzip: gzipOf(image, { firstMemberBytes: pv.length }) }));
    expect([takes.ok, start]).toEqual([true, true]);
    expect(warning).toBe(
      'Xen unpacks the first member of the gzip file only, into as many bytes as the last four of the file say ' +
        `(${image.length}) and 16 more. It has ${image.length + 16} bytes: the ${pv.length} of the first member, then ` +
        'zeros. Compress the kernel again, as one member.',
    );
    const cut = await ask(packed(pv, { gzip: gzipOf(pv, { firstMemberBytes: 64 }) }));
    expect([cut.takes.ok, cut.pv, cut.warning?.includes('the 64 of the first member')]).toEqual([true, false, true]);
  });

  test('whose last four bytes say too much is refused, with a warning for every kernel', async () => {
    for (const image of [pv, useless]) {
      const { takes, warning } = await ask(packed(image, { gzip: gzipOf(image, { sizeWord: GIB + 1 }) }));
      expect(takes).toMatchObject({
        ok: false,
        container: 'gzip',
        kernelSize: null,
        why: { code: 'gzip-size-insane' },
      });
      expect(warning).toContain('looks insane');
    }
  });

  test('is judged as the file that Xen unpacks would be, wherever its first member ends', async () => {
    const { size } = ELF64.sectionHeader;
    const verdicts = new Set<string>();
    for (let length = 0; length <= pv.length; length += length < 200 ? 8 : size / 2) {
      const packing = { gzip: gzipOf(pv, { firstMemberBytes: length }) };
      const { takes: _, ...unpacked } = await askBuilderOfRefused(packed(pv, packing));
      const { takes: __, ...plain } = await askBuilderOfRefused(seenOf(pv, length, pv.length + 16));
      expect(unpacked).toEqual(plain);
      verdicts.add(JSON.stringify(unpacked));
    }
    expect(verdicts.size).toBeGreaterThan(1);
  });
});

describe('the zeros that Xen adds', () => {
  test('follow what was unpacked here, when that is less than Xen unpacks', async () => {
    const packing = { gzip: gzipOf(pv) };
    const { takes, ...unpacked } = await askBuilderOfRefused(packed(pv.slice(0, 64), packing));
    const { takes: _, ...plain } = await askBuilderOfRefused(seenOf(pv, 64, pv.length + 16));
    expect([takes.kernelSize, unpacked]).toEqual([pv.length + 16, plain]);
  });

  test('may hold headers, wherever the image ends', async () => {
    const { bytes } = kernel({ notes: ASKING_NOTES, header: { e_shoff: pv.length + 4096 } });
    const packing = { gzip: gzipOf(bytes, { sizeWord: bytes.length + 8192 }) };
    const { takes: _, ...unpacked } = await askBuilderOfRefused(packed(bytes, packing));
    const { takes: __, ...plain } = await askBuilderOfRefused(seenOf(bytes, bytes.length, bytes.length + 8192 + 16));
    expect(unpacked).toEqual(plain);
  });

  test('have a warning when they change for one kind of guest what Xen would do', async () => {
    const at = 8192;
    const data = noteBytes([xenNumber(18, 0x10_0000n)]);
    const { bytes } = kernel({
      after: [
        { name: '.shstrtab', type: SHT_STRTAB, offset: 6000 },
        { name: '.note', type: SHT_NOTE, offset: at, data },
      ],
      segments: [{ type: PT_NOTE, section: '.note' }],
      // The last bytes of the note, which are zeros, are missing.
      placement: { sectionHeaders: 4096, imageSize: at + data.length - 4 },
    });
    const inspected = await inspectKernel(packed(bytes));
    const unpacked = await inspectKernel(packed(bytes, { gzip: gzipOf(bytes) }));
    if (!inspected.ok || !unpacked.ok) throw new Error('the image was refused');
    const started = [inspected, unpacked].map(({ builder }) => [builder.pv.ok, builder.hvm.ok]);
    expect(started).toEqual([
      [false, false],
      [false, true],
    ]);
    expect(unpacked.warnings.map(({ code }) => code)).toContain('xen-reads-differently');
  });
});

describe('a file of another compression', () => {
  test('is unpacked by nobody, with a warning for what Xen would start', async () => {
    const { takes, pv: start, warning } = await ask(packed(pv, { fileCompression: 'xz' }));
    expect(takes).toMatchObject({ ok: false, container: 'xz', kernelSize: null, why: { code: 'no-loader' } });
    expect(start).toBe(false);
    expect(warning).toBe(
      'Xen does not unpack a file that is compressed with xz. xc_dom_find_loader: no loader found ' +
        'Give Xen the kernel unpacked, or compressed with gzip.',
    );
    expect((await ask(packed(useless, { fileCompression: 'xz' }))).warning).toBeNull();
  });
});

describe('a bzImage', () => {
  test('has a payload, which is the kernel', async () => {
    expect(await ask(packed(pv, { bzImage: bzImageOf(pv) }))).toEqual({
      takes: { ok: true, container: 'bzImage', kernelSize: pv.length, why: null },
      pv: true,
      warning: null,
    });
  });

  test('whose payload Xen does not know has a warning for every kernel', async () => {
    for (const image of [pv, useless]) {
      const bzImage = bzImageOf(image, { compression: 'xz', payloadStart: new Uint8Array(8) });
      const { takes, warning } = await ask(packed(image, { bzImage }));
      expect(takes).toMatchObject({ ok: false, container: 'bzImage', why: { code: 'unknown-compression' } });
      expect(warning).toMatch(
        new RegExp(
          `^Xen unpacks the payload of a bzImage into as many bytes as the size at its end says \\(${image.length}\\)\\. ` +
            '.* Give Xen the kernel unpacked\\.$',
        ),
      );
    }
  });

  test('in a gzip file is unpacked when all of its payload is in the first member', async () => {
    const both = (firstMemberBytes: number | null, sizeWord = 6000): Packing => ({
      gzip: gzipOf(pv, { firstMemberBytes, sizeWord }),
      bzImage: bzImageOf(pv),
    });
    expect((await ask(packed(pv, both(5000)))).takes).toMatchObject({ ok: true, container: 'bzImage' });
    expect((await ask(packed(pv, both(4999)))).takes).toMatchObject({
      ok: false,
      container: 'bzImage',
      why: { code: 'no-loader' },
    });
    expect((await ask(packed(pv, both(null)))).takes).toMatchObject({
      ok: false,
      container: 'gzip',
      why: { code: 'gzip-inflate-failed' },
    });
  });
});
