/**
 * Writes a small kernel to try the service with: an ELF file with the notes and symbols of a NetBSD kernel for Xen, which
 * would not run.
 *
 *     npm run example-kernel -- netbsd               with its symbols
 *     npm run example-kernel -- --strip netbsd       without them
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { PT_LOAD } from '../src/elf/format.ts';
import { buildImage, kernel, xenNumber, xenString } from '../test/support/elf-builder.ts';

const START = 0x20_0000n;
const CODE = { name: '.text', data: new Uint8Array(1024 * 1024).fill(0xcc), addr: START };
const SEGMENT = { section: '.text', paddr: START, memsz: 0x80_0000n, align: 0x20_0000 };

/** The bytes of the kernel; the same every time. */
export function exampleKernel({ strip = false } = {}): Uint8Array {
  if (strip) return buildImage({ segments: [{ type: PT_LOAD, ...SEGMENT }], sections: [CODE] }).bytes;
  return kernel({
    symbols: 12_000,
    text: CODE,
    entry: START,
    paddr: START,
    segment: SEGMENT,
    notes: [
      xenString(6, 'NetBSD'),
      xenString(7, '10.0'),
      xenString(5, 'xen-3.0'),
      xenString(8, 'generic'),
      xenNumber(3, 0n),
      xenNumber(1, START),
      xenString(11, 'yes'),
    ],
  }).bytes;
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { strip: { type: 'boolean' } } });
  const [path] = positionals;
  if (path === undefined) throw new Error('Give the file to write: npm run example-kernel -- netbsd');
  writeFileSync(path, exampleKernel({ strip: values.strip === true }));
}
