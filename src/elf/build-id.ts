/** The GNU build ID: what identifies a kernel across copies, compression and renaming. */
import { PT_NOTE, SHT_NOTE } from './format.ts';
import { hexBytes } from './hex.ts';
import { isStepEnd, type Steps } from './steps.ts';
import { type Headers, View } from './view.ts';

const NT_GNU_BUILD_ID = 3;
const GNU_NAME = [0x47, 0x4e, 0x55, 0x00];
const NOTE_HEADER_BYTES = 12;
/** Build IDs are 16 or 20 bytes by default; linkers take other lengths by hand. */
const MAX_BUILD_ID_BYTES = 64;
/** Notes that hold a build ID are tiny, and there are few of them. */
export const MAX_NOTE_RANGE_BYTES = 64 * 1024;
const MAX_NOTE_RANGES = 16;

/** Ranges of the image, at most `MAX_NOTE_RANGE_BYTES` each, where notes lie: segments first, then sections. */
export function* locateNotes(headers: Headers): Steps<{ readonly offset: number; readonly length: number }[]> {
  const { format, programHeaders, sectionHeaders } = headers;
  const view = new View(headers);
  const ranges: { offset: number; length: number }[] = [];
  const add = (offset: bigint, length: bigint): void => {
    const range = view.range('notes', offset, length);
    if (range === null || range.length === 0 || ranges.some(({ offset: known }) => known === range.offset)) return;
    ranges.push({ offset: range.offset, length: Math.min(range.length, MAX_NOTE_RANGE_BYTES) });
  };
  const { p_type, p_offset, p_filesz } = format.programHeader.fields;
  for (let index = 0; index < programHeaders.count && ranges.length < MAX_NOTE_RANGES; index++) {
    if (isStepEnd(index)) yield null;
    if (view.number(programHeaders, index, p_type) !== PT_NOTE) continue;
    add(view.bigint(programHeaders, index, p_offset), view.bigint(programHeaders, index, p_filesz));
  }
  const { sh_type, sh_offset, sh_size } = format.sectionHeader.fields;
  for (let index = 0; index < sectionHeaders.count && ranges.length < MAX_NOTE_RANGES; index++) {
    if (isStepEnd(index)) yield null;
    if (view.number(sectionHeaders, index, sh_type) !== SHT_NOTE) continue;
    add(view.bigint(sectionHeaders, index, sh_offset), view.bigint(sectionHeaders, index, sh_size));
  }
  return ranges;
}

/** Names and descriptions are padded to 4 bytes. */
const padded = (size: number): number => Math.ceil(size / 4) * 4;

/** The build ID in lower-case hex from a run of notes, or null. */
export function findBuildId(notes: Uint8Array, littleEndian: boolean): string | null {
  const data = new DataView(notes.buffer, notes.byteOffset, notes.byteLength);
  for (let at = 0; at + NOTE_HEADER_BYTES <= notes.length; ) {
    const nameSize = data.getUint32(at, littleEndian);
    const descSize = data.getUint32(at + 4, littleEndian);
    const type = data.getUint32(at + 8, littleEndian);
    const name = at + NOTE_HEADER_BYTES;
    const desc = name + padded(nameSize);
    const end = desc + padded(descSize);
    const isGnu = nameSize === GNU_NAME.length && GNU_NAME.every((byte, index) => notes[name + index] === byte);
    if (isGnu && type === NT_GNU_BUILD_ID && descSize <= MAX_BUILD_ID_BYTES && desc + descSize <= notes.length) {
      return hexBytes(notes.subarray(desc, desc + descSize));
    }
    at = end;
  }
  return null;
}
