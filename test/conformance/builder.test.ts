/** What Xen's domain builder does with plain ELF files, as it was measured. */
import { describe, expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { inspectKernel } from '../../src/inspect/load.ts';
import { type ContainerVector, readContainerVectors } from '../support/vectors.ts';

const ELF_MAGIC = '7f454c46';
const vectors = readContainerVectors().filter(
  ({ file }) => Buffer.from(file, 'base64').toString('hex', 0, 4) === ELF_MAGIC,
);

const builderOf = async ({ file }: ContainerVector) => {
  const result = await inspectKernel(new MemorySource([new Uint8Array(Buffer.from(file, 'base64'))]));
  return result.ok ? result.builder : null;
};

describe('plain ELF files', () => {
  test('are all there', () => {
    expect(vectors).toHaveLength(9);
    expect(vectors.filter(({ expect: { accepted } }) => accepted)).toHaveLength(5);
  });

  test.each(vectors)('as a PV guest: $name', async (vector) => {
    const { accepted, guestType } = vector.expect;
    const builder = await builderOf(vector);
    // A file that does not pass init has no report at all.
    const isTaken = builder?.pv.ok ?? false;
    expect([isTaken, isTaken ? builder?.pv.guestType : null]).toEqual([accepted, guestType]);
  });

  test.each(vectors)('as an HVM guest: $name', async (vector) => {
    const expected = vector.expectHvm ?? vector.expect;
    // Firmware is taken, but is no kernel that starts through Xen notes.
    const accepted = expected.accepted && expected.loader !== 'HVM-generic';
    expect((await builderOf(vector))?.hvm.ok ?? false).toBe(accepted);
  });
});
