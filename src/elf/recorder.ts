/**
 * The first reason against an image.
 *
 * The loader never stops in the middle: a field outside the image reads as 0, the first such reason is recorded, and
 * the work continues. A stage starts its `Recorder` with what was recorded before, and returns what it has recorded.
 */

/** The stage of the loader in which something was found. */
export type Stage = 'init' | 'segments' | 'notes' | 'parse' | 'load';

/** Reasons after which the reference continues. `xen/broken.ts` has their wording. */
export type RecordedCode =
  | 'out-of-range-access'
  | 'too-many-section-headers'
  | 'no-symbol-table'
  | 'strtab-not-found'
  | 'string-too-long'
  | 'too-many-notes'
  | 'segments-too-large';

/** What a reason is about. */
export interface Finding {
  /** What was being read, for people and logs: `e_shoff of the ELF header`. */
  readonly what: string;
  /** Its offset in the image, real or claimed, and its length in bytes; null when it is not about bytes. */
  readonly offset: bigint | null;
  readonly length: bigint | null;
  /** What was found there, as one or more sentences. */
  readonly detail: string;
}

/** The first reason that was recorded against an image. */
export interface Recorded extends Finding {
  readonly code: RecordedCode;
  readonly stage: Stage;
}

/** A range that a reason is about, without the sentence about it. */
export type FoundRange = Omit<Finding, 'detail'>;

/** Keeps the first reason of one stage. */
export class Recorder {
  /** Part of every reason recorded. */
  readonly stage: Stage;
  #recorded: Recorded | null;

  /** @param before what earlier stages recorded: it stays the first reason */
  constructor(stage: Stage, before: Recorded | null = null) {
    this.stage = stage;
    this.#recorded = before;
  }

  /** The first reason; later ones never replace it. */
  get recorded(): Recorded | null {
    return this.#recorded;
  }

  /** Keeps the reason if it is the first. `describe` is called only then, so recording costs nothing in a loop. */
  record(code: RecordedCode, describe: () => Finding): void {
    this.#recorded ??= { code, stage: this.stage, ...describe() };
  }

  /** Records a range that is not inside an image of `imageSize` bytes. */
  recordOutside(imageSize: number, describe: () => FoundRange): void {
    this.record('out-of-range-access', () => {
      const range = describe();
      return { ...range, detail: describeOutside(range, imageSize) };
    });
  }
}

const describeOutside = ({ what, offset, length }: FoundRange, imageSize: number): string =>
  `${what[0]?.toUpperCase()}${what.slice(1)} would be ${length} bytes at offset ${offset}, ` +
  `but the image ends at ${imageSize}. The file is probably cut short: compare its size with the original.`;
