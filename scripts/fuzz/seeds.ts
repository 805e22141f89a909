/** What mutation begins with: images and blobs of every kind that there is a test for. */
import { SHT_STRTAB, SHT_SYMTAB } from '../../src/elf/format.ts';
import { MemorySource } from '../../src/image/memory.ts';
import { loadImage } from '../../src/inspect/load.ts';
import { streamExtents } from '../../src/inspect/stream-extents.ts';
import { LOADERS } from '../../src/xen/loaders/bsdsyms.ts';
import { type KernelSpec, kernel, type NoteSpec } from '../../test/support/elf-builder.ts';
import { collect } from '../../test/support/load.ts';
import {
  imageOf,
  readBsdsymsVectors,
  readFlatImageVectors,
  readHistoricalVectors,
  readNotesVectors,
} from '../../test/support/vectors.ts';

/** Of each file of recorded answers one image in so many. */
const VECTOR_STEP = 41;
const MAX_SEED_BYTES = 64 * 1024;

const text = (value: string): Uint8Array => new TextEncoder().encode(`${value}\0`);
const NOTES: readonly NoteSpec[] = [
  { name: 'GNU', type: 3, desc: new Uint8Array(20) },
  { name: 'Xen', type: 6, desc: text('FreeBSD') },
  { name: 'Xen', type: 5, desc: text('xen-3.0') },
  { name: 'Xen', type: 10, desc: text('writable_page_tables|!dom0|pae_pgdir_above_4gb') },
  { name: 'Xen', type: 11, desc: text('yes') },
  { name: 'Xen', type: 18, desc: Uint8Array.of(0, 0, 16, 0) },
  { name: 'Xen', type: 19, desc: new Uint8Array(12) },
];

const SPECS: readonly KernelSpec[] = [
  {},
  { notes: NOTES },
  { symbols: 200 },
  { before: Array.from({ length: 20 }, () => ({ name: 'x', type: SHT_STRTAB, data: new Uint8Array(3) })) },
  { after: [{ name: '.more', type: SHT_SYMTAB, link: '.strtab', data: new Uint8Array(48) }] },
  {
    segments: Array.from({ length: 12 }, (_, index) => ({
      section: '.text',
      paddr: 0x10_2000 + index * 64,
      memsz: 128,
    })),
  },
  { before: [{ name: '__xen_guest', data: text('GUEST_OS=x,LOADER=generic,VIRT_BASE=0xc0000000,FEATURES=dom0|!x') }] },
  { placement: { sectionHeaderStride: 80, programHeaderStride: 100 } },
];

/** Images. Blobs, which are what `verify` takes, are among them: to the others they are images of another kind. */
export async function makeSeeds(): Promise<Uint8Array[]> {
  const seeds: Uint8Array[] = [];
  for (const spec of SPECS) {
    for (const elfClass of ['ELF32', 'ELF64'] as const) {
      for (const byteOrder of ['little', 'big'] as const)
        seeds.push(kernel({ ...spec, class: elfClass, byteOrder }).bytes);
    }
  }
  for (const image of seeds.slice()) {
    for (const loader of LOADERS) {
      const source = new MemorySource([image]);
      const loaded = await loadImage(source, { loader, onBroken: 'load' });
      if (loaded.ok) seeds.push(await collect(streamExtents(source, loaded.plan.extents)));
    }
  }
  const vectors: readonly { readonly image: string }[] = [
    ...readBsdsymsVectors(),
    ...readHistoricalVectors(),
    ...readNotesVectors(),
    ...readFlatImageVectors(),
  ];
  for (let index = 0; index < vectors.length; index += VECTOR_STEP) {
    const vector = vectors[index];
    if (vector !== undefined) seeds.push(imageOf(vector));
  }
  return seeds.filter(({ length }) => length <= MAX_SEED_BYTES);
}
