/** Reads Xen's notes. */
import type { ElfImage } from '../elf/headers.ts';
import { walkXenNotes, type XenNotes } from '../xen/notes/walk.ts';
import type { KernelRange } from '../xen/segments.ts';
import { driveWalk } from './drive-walk.ts';
import type { ImageSource } from './image-source.ts';

/**
 * Xen's notes of an image that passed stage `segments`.
 *
 * @throws only what the source throws when it cannot be read
 */
export const readXenNotes = (
  source: Pick<ImageSource, 'read'>,
  image: ElfImage,
  kernel: KernelRange,
): Promise<XenNotes> => driveWalk(source, walkXenNotes(image, kernel));
