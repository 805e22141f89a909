import { expect, test } from 'vitest';
import { ELF64, PT_LOAD, PT_NOTE, SHT_NOTE } from '../../../src/elf/format.ts';
import { runToEnd } from '../../../src/elf/steps.ts';
import { MemorySource } from '../../../src/image/memory.ts';
import { openImage } from '../../../src/inspect/load.ts';
import { readXenNotes } from '../../../src/inspect/read-notes.ts';
import { MAX_NOTES } from '../../../src/xen/notes/walk.ts';
import { groupSegments } from '../../../src/xen/segment-groups.ts';
import { listSegmentsInSteps } from '../../../src/xen/segments.ts';
import { kernel, noteBytes, type Value, writeField, xenNumber, xenString } from '../../support/elf-builder.ts';

type Table = 'program' | 'section';
const NAMES = {
  program: ['e_phoff', 'e_phentsize', 'e_phnum'],
  section: ['e_shoff', 'e_shentsize', 'e_shnum'],
} as const;

/** What there is to say about a kernel that ends with many copies of one header. @param stride 0 to let all be the first copy */
async function describeCopies(
  table: Table,
  values: Readonly<Record<string, Value>>,
  notes: Uint8Array,
  count: number,
  stride: number,
) {
  const { fields, size } = table === 'program' ? ELF64.programHeader : ELF64.sectionHeader;
  const start = Buffer.concat([kernel({ header: { e_shnum: 0, e_phnum: 0 } }).bytes, notes]);
  const at = Math.ceil(start.length / 8) * 8;
  const bytes = Buffer.alloc(at + count * size);
  bytes.set(start);
  const places: Readonly<Record<string, Value>> = { p_offset: start.length - notes.length, p_filesz: notes.length };
  for (let index = 0; index < count; index++) {
    for (const field of Object.values(fields)) {
      const value = values[field.name] ?? places[field.name.replace('sh_size', 'p_filesz').replace('sh_', 'p_')] ?? 0;
      writeField(bytes, at + index * size, field, value, true);
    }
  }
  for (const [index, name] of NAMES[table].entries()) {
    const field = ELF64.elfHeader.fields[name];
    writeField(bytes, 0, field, [at, stride, count][index] ?? 0, true);
  }
  const source = new MemorySource([bytes]);
  const opened = await openImage(source);
  if (!opened.ok) throw new Error(opened.broken.detail);
  return {
    kernel: opened.kernel,
    buildId: opened.image.buildId,
    segments: runToEnd(listSegmentsInSteps(opened.elf, 3)),
    groups: groupSegments(opened.elf, 4),
    notes: await readXenNotes(source, opened.elf, opened.kernel),
  };
}

const LOAD = { p_type: PT_LOAD, p_flags: 5, p_vaddr: 0x1000, p_paddr: 0x2000, p_memsz: 0x3000, p_align: 16 };
const FOREIGN = { name: 'NetBSD', type: 1, desc: new Uint8Array(4) };
const NOTES = noteBytes([xenString(6, 'netbsd'), FOREIGN, xenString(5, 'xen-3.0'), xenNumber(3, 0x1000n)]);

test.each<[what: string, table: Table, values: Readonly<Record<string, Value>>, notes: Uint8Array, count: number]>([
  ['two segments', 'program', LOAD, new Uint8Array(8), 2],
  ['five segments, more than are listed', 'program', LOAD, new Uint8Array(8), 5],
  ['five segments without memory', 'program', { ...LOAD, p_memsz: 0 }, new Uint8Array(8), 5],
  ['a single segment', 'program', LOAD, new Uint8Array(8), 1],
  ['three segments of notes', 'program', { p_type: PT_NOTE }, NOTES, 3],
  ['as many segments of notes as are read', 'program', { p_type: PT_NOTE }, NOTES, MAX_NOTES / 4],
  ['more segments of notes than are read', 'program', { p_type: PT_NOTE }, NOTES, MAX_NOTES / 4 + 1],
  [
    'more segments of notes, the last of which is cut',
    'program',
    { p_type: PT_NOTE },
    NOTES.subarray(0, -20),
    MAX_NOTES / 2,
  ],
  ['segments of an empty note', 'program', { p_type: PT_NOTE }, new Uint8Array(12), 65_535],
  ['segments without notes', 'program', { p_type: PT_NOTE }, new Uint8Array(0), 65_535],
  ['three sections of notes', 'section', { sh_type: SHT_NOTE }, NOTES, 3],
  ['more sections of notes than are read', 'section', { sh_type: SHT_NOTE }, NOTES, MAX_NOTES / 4 + 2],
])('%s: the same with a stride of 0 as side by side', async (what, table, values, notes, count) => {
  const { size } = table === 'program' ? ELF64.programHeader : ELF64.sectionHeader;
  const apart = await describeCopies(table, values, notes, count, size);
  expect(apart.notes.pv.broken?.code === 'too-many-notes').toBe(what.startsWith('more'));
  expect(apart.groups.count).toBe(values === LOAD ? count : apart.groups.empty);
  expect(await describeCopies(table, values, notes, count, 0)).toEqual(apart);
});
