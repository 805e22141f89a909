/** How requests to the origins of images end. */
export const REQUEST_RESULTS = [
  'ok',
  'redirect',
  // Nobody needed the rest.
  'aborted',
  'source-changed',
  'source-not-allowed',
  'source-refused',
  'source-timeout',
  'source-unavailable',
  'source-unusable',
] as const;
export type RequestResult = (typeof REQUEST_RESULTS)[number];

/** The result that a failure stands for; what fails for reasons of this side only gives the request up. */
export const resultOf = (code: string): RequestResult => REQUEST_RESULTS.find((result) => result === code) ?? 'aborted';
