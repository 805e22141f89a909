/** What Xen's domain builder does with plain ELF files and with gzip files, as it was measured. */

import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { DEFAULTS } from '../../src/config.ts';
import { gatherStream } from '../../src/image/gather.ts';
import { ImageError } from '../../src/inspect/image-error.ts';
import { inspectKernel, loadImage } from '../../src/inspect/load.ts';
import type { BuilderVerdict } from '../../src/xen/builder.ts';
import { ASKING_NOTES, kernel } from '../support/elf-builder.ts';
import { type ContainerVector, readContainerVectors } from '../support/vectors.ts';

const bytesOf = ({ file }: ContainerVector): Buffer => Buffer.from(file, 'base64');
const startsWith = (magic: string) => (vector: ContainerVector) => bytesOf(vector).toString('hex').startsWith(magic);
const elfFiles = readContainerVectors().filter(startsWith('7f454c46'));
const gzipFiles = readContainerVectors().filter(startsWith('1f8b'));

/** The verdict; null for what is no image here: damaged data, a file that does not pass init, or another container. */
async function ask(vector: ContainerVector): Promise<BuilderVerdict | null> {
  try {
    const { source } = await gatherStream(Readable.from([bytesOf(vector)]), DEFAULTS);
    const result = await inspectKernel(source);
    await source.close();
    return result.ok ? result.builder : null;
  } catch (error) {
    if (error instanceof ImageError) return null;
    throw error;
  }
}

const answerOf = ({ expect: { accepted, guestType } }: ContainerVector): unknown[] => [accepted, guestType];
const hvmAnswerOf = (vector: ContainerVector): boolean => {
  const { accepted, loader } = vector.expectHvm ?? vector.expect;
  // Firmware is taken, but is no kernel that starts through Xen notes.
  return accepted && loader !== 'HVM-generic';
};

describe('plain ELF files', () => {
  test('are all there', () => {
    expect(elfFiles).toHaveLength(9);
    expect(elfFiles.filter(({ expect: { accepted } }) => accepted)).toHaveLength(5);
  });

  test.each(elfFiles)('as a PV guest: $name', async (vector) => {
    const builder = await ask(vector);
    const isTaken = builder?.pv.ok ?? false;
    expect([isTaken, isTaken ? builder?.pv.guestType : null]).toEqual(answerOf(vector));
  });

  test.each(elfFiles)('as an HVM guest: $name', async (vector) => {
    expect((await ask(vector))?.hvm.ok ?? false).toBe(hvmAnswerOf(vector));
  });
});

/** Refused here as damaged or as no ELF image, whatever Xen makes of the bytes. */
const NO_IMAGE: readonly string[] = [
  'top/gzip-bad-header-crc',
  'top/gzip-isize-1',
  'top/gzip-isize-17',
  'top/gzip-isize-1GiB+1',
  'top/gzip-isize-1GiB-15',
  'top/gzip-truncated-last-byte',
  'top/gzip-appended-size-16',
  'top/gzip-appended-size-17',
  'top/gzip-appended-size+5000',
  'top/gzip-in-gzip',
  'top/gzip-of-zstd',
  'top/gzip-elf64-section-table-ends-16-behind',
  'top/gzip-elf64-section-table-ends-17-behind',
];

describe('gzip files', () => {
  test('are images, or none', async () => {
    expect(gzipFiles).toHaveLength(19);
    const none = [];
    for (const vector of gzipFiles) if ((await ask(vector)) === null) none.push(vector.name);
    expect(none.toSorted()).toEqual(NO_IMAGE.toSorted());
  });

  test.each(gzipFiles.filter(({ name }) => !NO_IMAGE.includes(name)))('$name', async (vector) => {
    const builder = await ask(vector);
    const isTaken = builder?.pv.ok ?? false;
    expect([isTaken, isTaken ? builder?.pv.guestType : null]).toEqual(answerOf(vector));
    expect(builder?.hvm.ok).toBe(hvmAnswerOf(vector));
    expect(isTaken ? builder?.takes.kernelSize : null).toBe(vector.expect.kernelSize);
  });
});

describe('the warning that Xen reads something else', () => {
  const image = kernel({ symbols: 100, notes: ASKING_NOTES }).bytes;
  const [head, rest] = [image.subarray(0, 2000), image.subarray(2000)];

  test.each([
    ['one member', gzipSync(image), []],
    ['one member and padding', Buffer.concat([gzipSync(image), Buffer.alloc(512)]), ['xen-reads-differently']],
    ['two members', Buffer.concat([gzipSync(head), gzipSync(rest)]), ['xen-reads-differently']],
    ['an empty member after it', Buffer.concat([gzipSync(image), gzipSync('')]), ['xen-reads-differently']],
  ])('%s', async (_what, packed, expected) => {
    const { source } = await gatherStream(Readable.from([packed]), DEFAULTS);
    const inspected = await inspectKernel(source);
    const loaded = await loadImage(source);
    await source.close();
    for (const result of [inspected, loaded]) {
      expect(result.ok ? result.warnings.map(({ code }) => code) : null).toEqual(expected);
    }
  });
});
