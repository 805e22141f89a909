/**
 * Binary search.
 *
 * @param count entries, in an order in which those that come before the one looked for are first
 * @returns the index of the first entry that does not come before it; `count` when all do
 */
export function lowerBound(count: number, comesBefore: (index: number) => boolean): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (comesBefore(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}
