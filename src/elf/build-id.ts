/** The GNU build ID, which identifies a kernel across copies, compression and renaming. */
import type { ByteWalk } from './byte-walk.ts';
import { PT_NOTE, SHT_NOTE } from './format.ts';
import { hexBytes } from './hex.ts';
import { asciiBytes, ImageReader, isSame } from './image-reader.ts';
import { type NoteAlignment, readNote } from './notes.ts';
import { isStepEnd, type Steps } from './steps.ts';
import { type Headers, View } from './view.ts';

const NT_GNU_BUILD_ID = 3;
const GNU_NAME = asciiBytes('GNU\0');
/** Build IDs have 16 or 20 bytes by default; linkers accept other lengths. */
const MAX_BUILD_ID_BYTES = 64;
/** Notes that hold a build ID are tiny, and there are few of them. */
export const MAX_NOTE_RANGE_BYTES = 64 * 1024;
const MAX_NOTE_RANGES = 16;

/** A range of the image that holds notes, in bytes. */
interface NoteRange {
  readonly offset: number;
  readonly length: number;
  readonly alignment: NoteAlignment;
}

/** The ranges that hold notes, each cut to `MAX_NOTE_RANGE_BYTES`: segments first, then sections. */
export function* locateNotes(headers: Headers): Steps<NoteRange[]> {
  const { format, programHeaders, sectionHeaders } = headers;
  const view = new View(headers);
  const ranges: NoteRange[] = [];
  const add = (offset: bigint, length: bigint, align: bigint): void => {
    const range = view.range('notes', offset, length);
    if (range === null || range.length === 0 || ranges.some(({ offset: known }) => known === range.offset)) return;
    const alignment = align === 8n ? 8 : 4;
    ranges.push({ offset: range.offset, length: Math.min(range.length, MAX_NOTE_RANGE_BYTES), alignment });
  };
  const { p_type, p_offset, p_filesz, p_align } = format.programHeader.fields;
  for (let index = 0; index < programHeaders.count && ranges.length < MAX_NOTE_RANGES; index++) {
    if (isStepEnd(index)) yield null;
    if (view.number(programHeaders, index, p_type) !== PT_NOTE) continue;
    const [offset, length, align] = [p_offset, p_filesz, p_align].map((field) =>
      view.bigint(programHeaders, index, field),
    );
    add(offset ?? 0n, length ?? 0n, align ?? 0n);
  }
  const { sh_type, sh_offset, sh_size, sh_addralign } = format.sectionHeader.fields;
  for (let index = 0; index < sectionHeaders.count && ranges.length < MAX_NOTE_RANGES; index++) {
    if (isStepEnd(index)) yield null;
    if (view.number(sectionHeaders, index, sh_type) !== SHT_NOTE) continue;
    const [offset, length, align] = [sh_offset, sh_size, sh_addralign].map((field) =>
      view.bigint(sectionHeaders, index, field),
    );
    add(offset ?? 0n, length ?? 0n, align ?? 0n);
  }
  return ranges;
}

/** The build ID in lower-case hex; null when the ranges of `locateNotes` hold none. */
export function* findBuildId(headers: Headers): ByteWalk<string | null> {
  const reader = new ImageReader(headers, null);
  for (const range of yield* locateNotes(headers)) {
    const buildId = yield* findInRange(reader, range);
    if (buildId !== null) return buildId;
  }
  return null;
}

function* findInRange(reader: ImageReader, { offset, length, alignment }: NoteRange): ByteWalk<string | null> {
  const end = offset + length;
  let seen = 0;
  for (let at = offset; at < end; ) {
    if (isStepEnd(seen++)) yield null;
    const note = yield* readNote(reader, at, alignment);
    if (
      note.nameSize === GNU_NAME.length &&
      note.descSize <= MAX_BUILD_ID_BYTES &&
      note.descAt + note.descSize <= end
    ) {
      const isBuildId = (yield* reader.word('type of a note', note.typeAt)) === NT_GNU_BUILD_ID;
      if (isBuildId && isSame(yield* reader.range(note.nameAt, GNU_NAME.length), GNU_NAME)) {
        return hexBytes(yield* reader.range(note.descAt, note.descSize));
      }
    }
    at = note.end;
  }
  return null;
}
