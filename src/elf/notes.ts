/** Notes in PT_NOTE segments and SHT_NOTE sections; gABI, chapter 5. */
import type { ByteWalk } from './byte-walk.ts';
import type { ImageReader } from './image-reader.ts';

/** Sizes of name and description, and the type: 4 bytes each. */
const NOTE_HEADER_BYTES = 12;

/** The alignment of names and descriptions: 8 in a segment or section aligned to 8, otherwise 4. */
export type NoteAlignment = 4 | 8;

/** The sizes and positions of one note. Positions are image offsets, see `Table.position`. */
export interface Note {
  readonly nameSize: number;
  readonly descSize: number;
  readonly typeAt: number;
  readonly nameAt: number;
  readonly descAt: number;
  /** Where the next note begins. */
  readonly end: number;
}

/** Reads the sizes of the note that begins at `at`. Padding wraps at 32 bits, as in Xen. */
export function* readNote(reader: ImageReader, at: number, alignment: NoteAlignment): ByteWalk<Note> {
  const nameSize = reader.wordAtHand(at) ?? (yield* reader.word('name size of a note', at));
  const descSize = reader.wordAtHand(at + 4) ?? (yield* reader.word('description size of a note', at + 4));
  const nameAt = at + NOTE_HEADER_BYTES;
  // The description is aligned relative to the note, whose header is not a multiple of 8.
  const lead = NOTE_HEADER_BYTES % alignment;
  const descAt = nameAt + pad(nameSize + lead, alignment) - lead;
  return { nameSize, descSize, typeAt: at + 8, nameAt, descAt, end: descAt + pad(descSize, alignment) };
}

const pad = (size: number, alignment: NoteAlignment): number => ((size + alignment - 1) & -alignment) >>> 0;
