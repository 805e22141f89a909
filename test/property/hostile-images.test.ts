/** Whatever is done to an image, the core gives an answer that its callers know how to handle, and never throws. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Field, Struct } from '../../src/elf/format.ts';
import { BROKEN_KINDS } from '../../src/xen/broken.ts';
import type { SymbolPlan } from '../../src/xen/loaders/bsdsyms.ts';
import { anyAddress, anyKernel, flipBits, lie } from '../support/arbitraries.ts';
import { type BuiltImage, kernel, writeField } from '../support/elf-builder.ts';
import { type LoadResult, load, MIB } from '../support/load.ts';

const isKnown = (code: string): boolean => Object.hasOwn(BROKEN_KINDS, code);

/** What a caller could not cope with; nothing for a good answer. */
function complaints(image: Uint8Array, result: LoadResult): string[] {
  switch (result.outcome) {
    case 'not-elf':
      return image.length >= 52 && Buffer.from(image).toString('latin1', 0, 4) === '\x7fELF' ? ['is ELF'] : [];
    case 'init-failed': {
      const { code, recorded, offset, length } = result.failure;
      const fitsIn = BigInt.asUintN(64, offset + length) <= BigInt(image.length);
      return [...(isKnown(code) ? [] : [code]), ...(fitsIn ? ['the table fits'] : []), ...stageOf(recorded, ['init'])];
    }
    case 'refused': {
      const { broken, recorded } = result;
      const { code, reason, what, detail } = broken;
      const wrong = [];
      if (!isKnown(code)) wrong.push(`unknown code ${code}`);
      if (reason !== BROKEN_KINDS[code].reason) wrong.push(`reason ${reason} of ${code}`);
      if (what === '' || detail === '') wrong.push('says nothing');
      if (recorded !== null && recorded.code !== code) wrong.push(`hides the recorded ${recorded.code}`);
      return wrong;
    }
    case 'loaded':
      return [
        ...planComplaints(result.plan, image.length),
        ...stageOf(result.recorded, ['init', 'segments', 'load']),
        ...(result.blob.length === result.plan.size ? [] : [`the blob has ${result.blob.length} bytes`]),
      ];
  }
}

function stageOf(recorded: { readonly stage: string; readonly code: string } | null, stages: string[]): string[] {
  if (recorded === null) return [];
  return stages.includes(recorded.stage) && isKnown(recorded.code) ? [] : [`${recorded.stage}: ${recorded.code}`];
}

function planComplaints(plan: SymbolPlan, imageSize: number): string[] {
  const wrong = [];
  const sum = plan.extents.reduce((total, { length }) => total + length, 0);
  if (sum !== plan.size) wrong.push(`the extents are ${sum} bytes, the plan ${plan.size}`);
  if (plan.size > MIB) wrong.push(`the plan is too long: ${plan.size}`);
  if (plan.pend !== plan.pstart + BigInt(plan.size) || plan.pend > 2n ** 64n) wrong.push('pend is wrong');
  if (plan.pstart < plan.loadAddress || plan.pstart - plan.loadAddress >= 8n) wrong.push('pstart is wrong');
  for (const extent of plan.extents) {
    if (extent.length <= 0) wrong.push(`an empty ${extent.kind}`);
    if (extent.kind === 'bytes' && extent.bytes.length !== extent.length) wrong.push('bytes of another length');
    if (extent.kind === 'copy' && (extent.offset < 0 || extent.offset + extent.length > imageSize)) {
      wrong.push(`a copy outside the image: ${extent.offset}+${extent.length}`);
    }
  }
  return wrong;
}

/** What is wrong with the answers for an image at its kernel's end and at the given address. */
async function problems(image: Uint8Array, loadAddress: bigint): Promise<string[]> {
  const answers = [await load(image), await load(image, { loadAddress })];
  return answers.flatMap((answer) => complaints(image, answer));
}

interface PlacedField {
  /** File offset of the header that the field is in. */
  readonly at: number;
  readonly field: Field;
}

const fieldsAt = (at: number, { fields }: Struct): PlacedField[] =>
  Object.values(fields).map((field) => ({ at, field }));

/** Every field of every header of an image but `e_ident`. */
function headerFields({ format, sections, programHeadersAt, programHeaderCount }: BuiltImage): PlacedField[] {
  const programHeaders = Array.from({ length: programHeaderCount }, (_, index) =>
    fieldsAt(programHeadersAt + index * format.programHeader.size, format.programHeader),
  );
  return [
    ...fieldsAt(0, format.elfHeader).filter(({ field }) => field.name !== 'e_ident'),
    ...programHeaders.flat(),
    ...sections.flatMap(({ headerAt }) => fieldsAt(headerAt, format.sectionHeader)),
  ];
}

describe('an image that', () => {
  test('is cut short anywhere gets a known answer', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, fc.nat(), anyAddress, async ({ bytes }, cut, loadAddress) => {
        expect(await problems(bytes.subarray(0, cut % bytes.length), loadAddress)).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });

  test('has flipped bits gets a known answer', async () => {
    const flips = fc.array(fc.nat(), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(anyKernel, flips, anyAddress, async (image, positions, loadAddress) => {
        expect(await problems(flipBits(image, positions), loadAddress)).toEqual([]);
      }),
      { numRuns: 3000 },
    );
  });

  test('lies in its headers gets a known answer', async () => {
    const lies = anyKernel.chain((image) => {
      const one = fc.record({ where: fc.constantFrom(...headerFields(image)), value: lie(image.bytes.length) });
      return fc.tuple(fc.constant(image), fc.array(one, { minLength: 1, maxLength: 4 }));
    });
    await fc.assert(
      fc.asyncProperty(lies, anyAddress, async ([image, told], loadAddress) => {
        const bytes = image.bytes.slice();
        for (const { where, value } of told) writeField(bytes, where.at, where.field, value, image.littleEndian);
        expect(await problems(bytes, loadAddress)).toEqual([]);
      }),
      { numRuns: 5000 },
    );
  });

  test('contradicts its e_ident gets a known answer', async () => {
    await fc.assert(
      fc.asyncProperty(anyKernel, fc.nat(15), fc.nat(255), anyAddress, async (image, index, byte, loadAddress) => {
        const bytes = image.bytes.slice();
        bytes[index] = byte;
        expect(await problems(bytes, loadAddress)).toEqual([]);
      }),
      { numRuns: 1000 },
    );
  });

  test('is noise after the magic gets a known answer', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), anyAddress, async (noise, loadAddress) => {
        expect(await problems(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, ...noise), loadAddress)).toEqual([]);
      }),
      { numRuns: 1000 },
    );
  });

  test('has one wrong value in any field gets a known answer', async () => {
    for (const elfClass of ['ELF32', 'ELF64'] as const) {
      for (const byteOrder of ['little', 'big'] as const) {
        const image = kernel({ class: elfClass, byteOrder });
        const size = BigInt(image.bytes.length);
        const values = [0n, 1n, size - 1n, size, size + 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n];
        for (const { at, field } of headerFields(image)) {
          for (const value of values) {
            const bytes = image.bytes.slice();
            writeField(bytes, at, field, value, image.littleEndian);
            expect(await problems(bytes, 0x20_0000n)).toEqual([]);
          }
        }
      }
    }
  });
});
