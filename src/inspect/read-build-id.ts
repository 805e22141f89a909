/** Reads the build ID of an image. */
import { findBuildId } from '../elf/build-id.ts';
import type { Headers } from '../elf/view.ts';
import { driveWalk } from './drive-walk.ts';
import type { ImageSource } from './image-source.ts';

/** @returns lower-case hex; null when `findBuildId` finds none */
export const readBuildId = (source: ImageSource, headers: Headers): Promise<string | null> =>
  driveWalk(source, findBuildId(headers));
