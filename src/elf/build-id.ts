/** The GNU build ID, which identifies a kernel across copies, compression and renaming. */
import type { ByteWalk } from './byte-walk.ts';
import { type Field, PT_NOTE, SHT_NOTE } from './format.ts';
import { hexBytes } from './hex.ts';
import { asciiBytes, ImageReader, isSame } from './image-reader.ts';
import { type NoteAlignment, readNote } from './notes.ts';
import { isStepEnd, type Steps } from './steps.ts';
import { countSame, type Headers, type TableBytes, View } from './view.ts';

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

/** How the headers of a table lead to notes: the type of those that do, and the fields that say where. */
interface NoteFields {
  readonly noteType: number;
  readonly type: Field;
  readonly offset: Field;
  readonly length: Field;
  readonly align: Field;
}

/** The ranges that hold notes, each cut to `MAX_NOTE_RANGE_BYTES`: segments first, then sections. */
export function* locateNotes(headers: Headers): Steps<NoteRange[]> {
  const ranges: NoteRange[] = [];
  const { programHeaders, sectionHeaders, format } = headers;
  const { p_type, p_offset, p_filesz, p_align } = format.programHeader.fields;
  const { sh_type, sh_offset, sh_size, sh_addralign } = format.sectionHeader.fields;
  const segments: NoteFields = { noteType: PT_NOTE, type: p_type, offset: p_offset, length: p_filesz, align: p_align };
  const sections: NoteFields = {
    noteType: SHT_NOTE,
    type: sh_type,
    offset: sh_offset,
    length: sh_size,
    align: sh_addralign,
  };
  yield* addNoteRanges(ranges, headers, programHeaders, segments);
  yield* addNoteRanges(ranges, headers, sectionHeaders, sections);
  return ranges;
}

function* addNoteRanges(
  ranges: NoteRange[],
  headers: Headers,
  table: TableBytes,
  { noteType, type, offset, length, align }: NoteFields,
): Steps<void> {
  const view = new View(headers);
  for (let index = 0; index < table.count && ranges.length < MAX_NOTE_RANGES; index += countSame(table, index)) {
    if (isStepEnd(index)) yield null;
    if (view.number(table, index, type) !== noteType) continue;
    const range = view.range('notes', view.bigint(table, index, offset), view.bigint(table, index, length));
    if (range === null || range.length === 0 || ranges.some((known) => known.offset === range.offset)) continue;
    const alignment = view.bigint(table, index, align) === 8n ? 8 : 4;
    ranges.push({ offset: range.offset, length: Math.min(range.length, MAX_NOTE_RANGE_BYTES), alignment });
  }
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
