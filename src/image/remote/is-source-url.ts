/** In a file of its own, since the command calls it before it loads anything else about URLs. */

/** The start of a URL that names an image. */
export const SOURCE_SCHEME = /^(?:https?|file):\/\//i;

/** Whether an argument of the command is a URL and not a file name. */
export const isSourceUrl = (text: string): boolean => SOURCE_SCHEME.test(text);
