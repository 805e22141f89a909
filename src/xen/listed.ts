/**
 * How many entries a list in an answer has. An image of a few hundred bytes can have 65,535 segments; what is not listed is
 * counted. Kernels have a handful of segments, and tables of symbols.
 */
export const MAX_LISTED = 1000;
