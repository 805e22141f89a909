/** What Xen's domain builder does with bzImages and compressed files, as it was measured. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import { gatherStream } from '../../src/image/gather.ts';
import { ImageError } from '../../src/inspect/image-error.ts';
import { inspectKernel } from '../../src/inspect/load.ts';
import { type ContainerVector, readContainerVectors } from '../support/vectors.ts';

/** Xen takes these, and this service refuses the data: it is cut, its checksums do not fit, or its window is very large. */
const DAMAGED = new Set([
  'bz/gzip/size-word-1',
  'bz/bzip2/truncated-10',
  'bz/lzma/size-word-1',
  'bz/xz/size-word-1',
  'bz/xz/truncated-10',
  'bz/xz/no-footer',
  'bz/xz/bad-block-crc-size-word-1',
  'bz/lzo/corrupt-middle',
  'bz/lzo/bad-block-checksum',
  'bz/zstd/window-2^31',
]);

const vectors = readContainerVectors().filter(
  ({ name }) => /^(?:bz|head)\//.test(name) || /^top\/(?:bzip2|lzma|lzo|zstd|gzip-of-zstd)$/.test(name),
);

interface Found {
  readonly accepted: boolean;
  readonly kernelSize: number | null;
  readonly sha256: string | null;
}

/** The builder's verdict, and the bytes that it would see; null where this service refuses the file. */
async function ask({ file }: ContainerVector): Promise<Found | null> {
  try {
    const { source } = await gatherStream(Readable.from([Buffer.from(file, 'base64')]), DEFAULTS);
    try {
      const inspected = await inspectKernel(source);
      if (!inspected.ok) return null;
      const { pv, takes } = inspected.builder;
      if (takes.kernelSize === null || !pv.ok) return { accepted: pv.ok, kernelSize: null, sha256: null };
      // The builder reads one member of gzip, and zeros after it.
      const own = source.bzImage?.compression === 'gzip' ? source.bzImage.firstMemberBytes : source.size;
      const seen = Buffer.alloc(takes.kernelSize);
      seen.set((await source.read(0, Math.min(own, source.size))).subarray(0, takes.kernelSize));
      return { accepted: true, kernelSize: seen.length, sha256: createHash('sha256').update(seen).digest('hex') };
    } finally {
      await source.close();
    }
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
}

test('the files are all there', () => {
  expect(vectors).toHaveLength(73);
});

describe('accepted containers', () => {
  test.each(vectors.filter(({ name }) => !DAMAGED.has(name)))('$name', async (vector) => {
    const { accepted, kernelSize, sha256 } = vector.expect;
    const found = (await ask(vector)) ?? { accepted: false, kernelSize: null, sha256: null };
    expect(found).toEqual(accepted ? { accepted, kernelSize, sha256 } : { accepted, kernelSize: null, sha256: null });
  });
});

test.each(vectors.filter(({ name }) => DAMAGED.has(name)))('is refused here: $name', async (vector) => {
  expect(await ask(vector)).toBeNull();
});
