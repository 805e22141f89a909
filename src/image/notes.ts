/** Reads what Xen's notes need to be read, and no more. */
import type { ElfImage } from '../elf/headers.ts';
import type { KernelRange } from '../xen/kernel.ts';
import { walkXenNotes, type XenNotes } from '../xen/notes.ts';
import type { ImageSource } from './source.ts';

/** Reads after which others get their turn. */
const READS_PER_TURN = 16;

/**
 * Xen's notes of an image whose segments were looked at; `image.view` stays as it is.
 *
 * @throws only what the source throws when it cannot be read
 */
export async function readXenNotes(source: ImageSource, image: ElfImage, kernel: KernelRange): Promise<XenNotes> {
  const walk = walkXenNotes(image, kernel);
  let step = walk.next();
  for (let reads = 1; step.done !== true; reads++) {
    step = walk.next(await source.read(step.value.offset, step.value.length));
    if (reads % READS_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return step.value;
}
