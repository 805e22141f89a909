/** Apart from all else about URLs: the command asks it before it loads any of that. */

/** How a URL begins that names an image. */
export const SOURCE_SCHEME = /^(?:https?|file):\/\//i;

/** Whether an argument of the command is a URL and no file name. */
export const isSourceUrl = (text: string): boolean => SOURCE_SCHEME.test(text);
