/** Reads the build ID of an image. */
import { findBuildId, locateNotes } from '../elf/build-id.ts';
import type { Headers } from '../elf/view.ts';
import type { ImageSource } from './image-source.ts';
import { runInSteps } from './turn.ts';

/** @returns lower-case hex, or null when the image has none where it is looked for */
export async function readBuildId(source: ImageSource, headers: Headers): Promise<string | null> {
  for (const { offset, length } of await runInSteps(locateNotes(headers))) {
    const buildId = findBuildId(await source.read(offset, length), headers.littleEndian);
    if (buildId !== null) return buildId;
  }
  return null;
}
