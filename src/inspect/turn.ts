/** Lets everything else that waits for this process go on first. Work of a length that the image decides calls it often. */
export const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
