/** Reports hold 64-bit values exactly: as text in hex where JSON numbers cannot. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemorySource } from '../../src/image/memory.ts';
import { flattenImage, inspectKernel, loadImage, openSymbols } from '../../src/inspect/load.ts';
import { toFlatLayout, toKernelReport } from '../../src/report/kernel.ts';
import { toLayout } from '../../src/report/layout.ts';
import { writeSymbols } from '../../src/report/symbols.ts';
import { LOADERS } from '../../src/xen/loaders/bsdsyms.ts';
import { anyAddress, anyKernel, lie } from '../support/arbitraries.ts';
import { writeField } from '../support/elf-builder.ts';
import { MIB } from '../support/load.ts';

type Report = 'layout' | 'kernel' | 'flat' | 'symbols';

/** All reports that there are of an image. */
async function reportsOf(image: Uint8Array, loadAddress: bigint): Promise<ReadonlyMap<Report, unknown>> {
  const source = new MemorySource([image]);
  const reports = new Map<Report, unknown>();
  for (const loader of LOADERS) {
    const request = { loader, loadAddress, compareWith: 'xen-4.6', onBroken: 'load', maxBlobBytes: MIB } as const;
    const loaded = await loadImage(source, { ...request, askGuests: true });
    if (loaded.ok) reports.set('layout', [reports.get('layout'), toLayout(loaded, null)]);
  }
  const kernel = await inspectKernel(source);
  if (kernel.ok) reports.set('kernel', toKernelReport(kernel, null));
  const flat = await flattenImage(source, { symbols: 'always', onBroken: 'load', maxFlatBytes: 16 * MIB });
  if (flat.ok) reports.set('flat', toFlatLayout(flat, null));
  const symbols = await openSymbols(source);
  if (symbols.ok) {
    for (const query of [
      { page: { after: 0, limit: 100, types: [], binds: [], prefix: '' } },
      { addresses: [0n, loadAddress, 2n ** 64n - 1n] },
    ]) {
      let text = '';
      for await (const piece of writeSymbols(symbols, query, null)) text += piece;
      reports.set('symbols', [reports.get('symbols'), JSON.parse(text)]);
    }
  }
  return reports;
}

const isExact = (value: unknown): boolean => {
  if (typeof value === 'number') return Number.isSafeInteger(value);
  return typeof value !== 'object' || value === null || Object.values(value).every(isExact);
};

test('no number in any report of an image is rounded', async () => {
  const seen = new Map<Report, number>();
  const lies = anyKernel.chain((image) => {
    const { programHeader, sectionHeader, symbol } = image.format;
    const symtab = image.section('.symtab');
    const fields = [
      ...Object.values(programHeader.fields).map((field) => ({ at: image.programHeadersAt, field })),
      ...image.sections.flatMap(({ headerAt }) =>
        Object.values(sectionHeader.fields).map((field) => ({ at: headerAt, field })),
      ),
      ...(symtab.data.length < symbol.size
        ? []
        : Object.values(symbol.fields).map((field) => ({ at: symtab.offset, field }))),
    ];
    const one = fc.record({ where: fc.constantFrom(...fields), value: lie(image.bytes.length) });
    return fc.tuple(fc.constant(image), fc.array(one, { maxLength: 3 }));
  });
  await fc.assert(
    fc.asyncProperty(lies, anyAddress, async ([image, told], loadAddress) => {
      const bytes = image.bytes.slice();
      for (const { where, value } of told) writeField(bytes, where.at, where.field, value, image.littleEndian);
      for (const [name, report] of await reportsOf(bytes, loadAddress)) {
        seen.set(name, (seen.get(name) ?? 0) + 1);
        expect([name, isExact(report)]).toEqual([name, true]);
      }
    }),
    { numRuns: 250 },
  );
  expect([...seen.keys()].toSorted()).toEqual(['flat', 'kernel', 'layout', 'symbols']);
  expect(Math.min(...seen.values())).toBeGreaterThan(50);
});
