/** The results of requests to the origins of images. */
export const REQUEST_RESULTS = [
  'ok',
  'redirect',
  // The rest of the answer was not needed.
  'aborted',
  'source-changed',
  'source-not-allowed',
  'source-refused',
  'source-timeout',
  'source-unavailable',
  'source-unusable',
] as const;
export type RequestResult = (typeof REQUEST_RESULTS)[number];

/** The result for the code of a failure. A failure on this side of the connection counts as `aborted`. */
export const resultOf = (code: string): RequestResult => REQUEST_RESULTS.find((result) => result === code) ?? 'aborted';
