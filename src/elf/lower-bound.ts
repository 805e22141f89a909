/**
 * Binary search.
 *
 * @param comesBefore whether an entry comes before the one sought: true for the first entries, false for the rest
 * @returns the index of the first entry that does not; `count` when all do
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
