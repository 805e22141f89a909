/** The pictures in docs/pictures, which `npm run docs` writes: examples of what `bsdsyms layout --svg` draws. */
import { MemorySource } from '../src/image/memory.ts';
import { type LoadRequest, loadImage } from '../src/inspect/load.ts';
import { toPicture } from '../src/report/picture/picture.ts';
import { ASKING_NOTES, kernel, type SegmentSpec } from '../test/support/elf-builder.ts';
import { exampleKernel } from './example-kernel.ts';

interface Example {
  /** Of the file, without its end. */
  readonly name: string;
  readonly image: () => Uint8Array;
  readonly request?: LoadRequest;
  /** Whether there is one more file, whose colours are always the dark ones. */
  readonly dark?: boolean;
}

const apart = (count: number): SegmentSpec[] =>
  Array.from({ length: count }, (_, index) => ({
    paddr: 0x20_0000 + index * index * 0x1000,
    memsz: 0x800 + index * 0x20,
    flags: 4 + (index % 3),
  }));

const EXAMPLES: readonly Example[] = [
  { name: 'netbsd', image: () => exampleKernel(), dark: true },
  { name: 'compared', image: () => exampleKernel(), request: { compareWith: 'xen-4.6' }, dark: true },
  {
    name: 'i386',
    image: () =>
      kernel({
        class: 'ELF32',
        symbols: 40,
        notes: ASKING_NOTES,
        segments: [{ paddr: 0x40_0000, memsz: 0x1_2345, flags: 6 }],
      }).bytes,
    request: { loadAddress: 0x60_0000n },
  },
  { name: 'many-segments', image: () => kernel({ symbols: 40, notes: ASKING_NOTES, segments: apart(60) }).bytes },
  {
    name: 'overlapping',
    image: () => kernel({ notes: ASKING_NOTES, symtab: { data: new Uint8Array() } }).bytes,
    request: { loadAddress: 0x10_1000n },
  },
];

const DARK_SCREENS = '@media screen and (prefers-color-scheme: dark)';

/** The text of each picture, by its file. */
export async function drawPictures(): Promise<ReadonlyMap<string, string>> {
  const pictures = new Map<string, string>();
  for (const { name, image, request = {}, dark = false } of EXAMPLES) {
    const loaded = await loadImage(new MemorySource([image()]), request);
    if (!loaded.ok) throw new Error(`${name}: ${loaded.broken.detail}`);
    const picture = await toPicture(loaded);
    pictures.set(`docs/pictures/${name}.svg`, picture);
    if (dark) pictures.set(`docs/pictures/${name}-dark.svg`, picture.replace(DARK_SCREENS, '@media all'));
  }
  return pictures;
}
