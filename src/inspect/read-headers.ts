/** The one asynchronous step before the loader: reads the headers of an image and nothing else. */
import { dataOf } from '../elf/fields.ts';
import { ELF_HEADER_BYTES, locateHeaders } from '../elf/headers.ts';
import { entryPosition, type Headers, type Table, type TableBytes } from '../elf/view.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Tables whose entries lie closer than this are read in one run; entries further apart one by one. */
const MAX_RUN_STRIDE_BYTES = 4096;
/** Bytes of a run that are read at once, so that a wide table is never in memory as a whole. */
const RUN_BYTES = 1024 * 1024;
/** Entries read one by one before other work gets its turn. */
const ENTRIES_PER_TURN = 1024;

/**
 * The ELF header and both header tables.
 *
 * @returns null when the image is not ELF
 */
export async function readHeaders(source: Pick<ImageSource, 'size' | 'read'>): Promise<Headers | null> {
  const located = locateHeaders(await source.read(0, Math.min(ELF_HEADER_BYTES, source.size)), source.size);
  if (located === null) return null;
  return {
    ...located,
    programHeaders: await readTable(source, located.programHeaders),
    sectionHeaders: await readTable(source, located.sectionHeaders),
  };
}

/** Reads the entries of a table, packed. Bytes outside the image stay zero. */
async function readTable(source: Pick<ImageSource, 'size' | 'read'>, table: Table): Promise<TableBytes> {
  const { count, stride } = table;
  const entrySize = table.struct.size;
  if (count === 0) return { ...table, bytes: dataOf(new Uint8Array()), pitch: entrySize };

  // Entries that overlap, as no linker writes them: the run itself is the smallest copy.
  if (stride < entrySize) {
    const run = new Uint8Array(stride * (count - 1) + entrySize);
    const { start, length } = clip(table.position, run.length, source.size);
    if (length > 0) run.set(await source.read(start, length), start - table.position);
    return { ...table, bytes: dataOf(run), pitch: stride };
  }

  const packed = new Uint8Array(count * entrySize);
  const entriesPerRun = stride <= MAX_RUN_STRIDE_BYTES ? Math.max(1, Math.floor(RUN_BYTES / stride)) : 1;
  for (let first = 0; first < count; first += entriesPerRun) {
    const entries = Math.min(entriesPerRun, count - first);
    const position = entryPosition(table, first);
    const { start, length } = clip(position, stride * (entries - 1) + entrySize, source.size);
    if (length === 0) continue;
    const run = await source.read(start, length);
    for (let entry = 0; entry < entries; entry++) {
      const from = position + entry * stride - start;
      // Headers that begin outside the image are never used.
      if (from >= 0) packed.set(run.subarray(from, from + entrySize), (first + entry) * entrySize);
    }
    const more = first + entries < count;
    if (more && (entriesPerRun > 1 || first % ENTRIES_PER_TURN === ENTRIES_PER_TURN - 1)) await nextTurn();
  }
  return { ...table, bytes: dataOf(packed), pitch: entrySize };
}

/** The part of a range that is inside an image of `size` bytes. */
function clip(position: number, length: number, size: number): { readonly start: number; readonly length: number } {
  const start = Math.min(Math.max(position, 0), size);
  return { start, length: Math.max(0, Math.min(position + length, size) - start) };
}
