/**
 * Work in steps. Pure code cannot let others have their turn; a generator that pauses now and then can be run by code that
 * does. `src/inspect/turn.ts` runs steps between other work, `runToEnd` runs them all at once.
 */

/** Work that pauses now and then, at each null, and returns its result. Between two pauses it is short, whatever the image. */
export type Steps<Result> = Generator<null, Result>;

/** Entries of a table, or of a list as long as one, between two pauses: a fraction of a millisecond. */
export const ENTRIES_PER_STEP = 1024;

/** Whether to pause after entry `index` of a table, so that tables of up to `ENTRIES_PER_STEP` entries never do. */
export const isStepEnd = (index: number): boolean => index % ENTRIES_PER_STEP === ENTRIES_PER_STEP - 1;

/** Runs all steps without a pause. */
export function runToEnd<Result>(steps: Steps<Result>): Result {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** A result that takes no work, where steps are expected. */
export function* withoutSteps<Result>(result: Result): Steps<Result> {
  yield* [];
  return result;
}
