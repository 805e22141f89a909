/** Reads what Xen's notes need to be read, and no more. */
import type { ElfImage } from '../elf/headers.ts';
import { walkXenNotes, type XenNotes } from '../xen/notes/walk.ts';
import type { KernelRange } from '../xen/segments.ts';
import type { ImageSource } from './image-source.ts';
import { nextTurn } from './turn.ts';

/** Reads after which others get their turn. */
const READS_PER_TURN = 16;
const NOTHING = new Uint8Array();

/**
 * Xen's notes of an image whose segments were looked at; `image.view` stays as it is.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function readXenNotes(source: ImageSource, image: ElfImage, kernel: KernelRange): Promise<XenNotes> {
  const walk = walkXenNotes(image, kernel);
  let step = walk.next();
  for (let reads = 0; step.done !== true; ) {
    const range = step.value;
    if (range !== null) reads += 1;
    if (range === null || reads % READS_PER_TURN === 0) await nextTurn();
    step = walk.next(range === null ? NOTHING : await source.read(range.offset, range.length));
  }
  return step.value;
}
