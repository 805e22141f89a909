/**
 * Work in steps. Pure code cannot yield to the event loop; a generator that pauses can be run by code that does.
 * `src/inspect/turn.ts` runs steps between other work, `runToEnd` runs them all at once.
 */

/** Work that pauses at each null and returns its result. Between two pauses it is short, whatever the image. */
export type Steps<Result> = Generator<null, Result>;

/** Table entries between two pauses: a fraction of a millisecond. */
export const ENTRIES_PER_STEP = 1024;

/** Whether to pause at entry `index` of a table. Tables shorter than `ENTRIES_PER_STEP` never pause. */
export const isStepEnd = (index: number): boolean => index % ENTRIES_PER_STEP === ENTRIES_PER_STEP - 1;

/** Runs all steps without a pause. */
export function runToEnd<Result>(steps: Steps<Result>): Result {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** A known result, where steps are expected. */
export function* withoutSteps<Result>(result: Result): Steps<Result> {
  yield* [];
  return result;
}
