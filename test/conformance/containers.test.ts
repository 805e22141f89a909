/** What Xen's domain builder does with every recorded file, whether or not this service takes it. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import { gatherStream } from '../../src/image/gather.ts';
import { ImageError } from '../../src/inspect/image-error.ts';
import type { ImageSource } from '../../src/inspect/image-source.ts';
import { inspectKernel } from '../../src/inspect/load.ts';
import type { BuilderVerdict } from '../../src/xen/builder.ts';
import { type ContainerVector, readContainerVectors } from '../support/vectors.ts';

/** Xen takes these; this service refuses the data, or finds no image in it. */
const REFUSED_HERE = new Set([
  'bz/bzip2/truncated-10',
  'bz/gzip/size-word-1',
  'bz/lzma/size-word-1',
  'bz/lzo/bad-block-checksum',
  'bz/lzo/corrupt-middle',
  'bz/xz/bad-block-crc-size-word-1',
  'bz/xz/no-footer',
  'bz/xz/size-word-1',
  'bz/xz/truncated-10',
  'mb/flat-64',
  'top/gzip-appended-size+5000',
  'top/gzip-appended-size-16',
  'top/gzip-elf64-section-table-ends-16-behind',
]);
const WINDOW_TOO_LARGE = 'bz/zstd/window-2^31';
/** This service cannot unpack these, and so does not know what Xen finds in them. Xen takes only the window. */
const NOT_UNPACKED = new Set([
  WINDOW_TOO_LARGE,
  'bz/zstd/dictionary-id',
  'bz/zstd/skippable-first',
  'head/payload-offset-at-file-end',
]);

interface Found {
  /** Whether the image is taken here. */
  readonly isImage: boolean;
  readonly builder: BuilderVerdict | null;
  /** Of the bytes that Xen would see of an image that is taken here. */
  readonly sha256: string | null;
}

async function ask({ file }: ContainerVector): Promise<Found> {
  try {
    const { source } = await gatherStream(Readable.from([Buffer.from(file, 'base64')]), DEFAULTS);
    try {
      const inspected = await inspectKernel(source);
      const { builder } = inspected;
      if (!inspected.ok) return { isImage: false, builder, sha256: null };
      return { isImage: true, builder, sha256: await hashSeen(source, builder.takes.kernelSize ?? 0) };
    } finally {
      await source.close();
    }
  } catch (error) {
    if (error instanceof ImageError) return { isImage: false, builder: error.builder, sha256: null };
    throw error;
  }
}

/** The builder reads one member of gzip, and zeros after it. */
async function hashSeen(source: ImageSource, kernelSize: number): Promise<string> {
  const { gzip, bzImage, size } = source;
  const packed = bzImage === undefined ? gzip : bzImage.compression === 'gzip' ? bzImage : undefined;
  const first = packed?.firstMemberBytes ?? size;
  const seen = Buffer.alloc(kernelSize);
  seen.set(await source.read(0, Math.min(first, size, kernelSize)));
  return createHash('sha256').update(seen).digest('hex');
}

const vectors = readContainerVectors();

test('the files are all there', () => {
  expect(vectors).toHaveLength(102);
});

/** The same of the recorded answer, as far as this service can know it. */
function expected({ name, expect: pv, expectHvm }: ContainerVector): unknown {
  if (NOT_UNPACKED.has(name)) return { isImage: false, builder: null };
  const hvm = expectHvm ?? pv;
  const { accepted, kernelSize, guestType } = pv;
  return {
    // Firmware is taken, but is no kernel that starts through Xen notes.
    builder: { pv: accepted, hvm: hvm.accepted && hvm.loader !== 'HVM-generic' },
    ...(accepted ? { isImage: !REFUSED_HERE.has(name), kernelSize, guestType } : {}),
    ...(accepted && !REFUSED_HERE.has(name) ? { sha256: pv.sha256 } : {}),
  };
}

function found({ isImage, builder, sha256 }: Found): unknown {
  if (builder === null) return { isImage, builder };
  const { takes, pv, hvm } = builder;
  return {
    builder: { pv: pv.ok, hvm: hvm.ok },
    ...(pv.ok ? { isImage, kernelSize: takes.kernelSize, guestType: pv.guestType } : {}),
    ...(pv.ok && isImage ? { sha256 } : {}),
  };
}

describe('Xen would start, or not,', () => {
  test.each(vectors)('$name', async (vector) => {
    expect(found(await ask(vector))).toEqual(expected(vector));
  });

  test('what this service refuses', () => {
    const taken = vectors.filter(({ expect: { accepted } }) => accepted).map(({ name }) => name);
    expect(taken).toEqual(expect.arrayContaining([...REFUSED_HERE, WINDOW_TOO_LARGE]));
  });
});
