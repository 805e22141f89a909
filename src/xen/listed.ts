/**
 * How many entries a list in an answer has at most; further ones are counted. An image of a few hundred bytes can have
 * 65,535 segments. Kernels have a handful.
 */
export const MAX_LISTED = 1000;
