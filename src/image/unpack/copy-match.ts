/** Copies within unpacked bytes, as all formats of the LZ77 family need. */

/** Room that a buffer must have after a copy: copies write eight bytes at a time, so up to 7 bytes too many. */
export const COPY_SLACK_BYTES = 8;
/** From this length on, the built-in copies are faster than a loop. */
const MIN_CALLED_BYTES = 64;

/** Copies bytes from another buffer. Both have `COPY_SLACK_BYTES` after the end of the range. */
export function copyLiterals(
  target: Uint8Array,
  targetView: DataView,
  at: number,
  source: Uint8Array,
  sourceView: DataView,
  from: number,
  length: number,
): void {
  if (length >= MIN_CALLED_BYTES) {
    target.set(source.subarray(from, from + length), at);
    return;
  }
  const end = at + length;
  for (let to = at, read = from; to < end; to += 8, read += 8) {
    targetView.setInt32(to, sourceView.getInt32(read, true), true);
    targetView.setInt32(to + 4, sourceView.getInt32(read + 4, true), true);
  }
}

/** Repeats what lies `distance` bytes before. The buffer has `COPY_SLACK_BYTES` after the end of the range. */
export function copyMatch(bytes: Uint8Array, view: DataView, at: number, distance: number, length: number): void {
  const end = at + length;
  if (length < MIN_CALLED_BYTES && distance >= 4) {
    for (let to = at, from = at - distance; to < end; to += 8, from += 8) {
      view.setInt32(to, view.getInt32(from, true), true);
      view.setInt32(to + 4, view.getInt32(from + 4, true), true);
    }
    return;
  }
  if (length < MIN_CALLED_BYTES) {
    for (let to = at; to < end; to++) bytes[to] = bytes[to - distance] as number;
    return;
  }
  // The repeated part doubles with every copy.
  const from = at - distance;
  for (let to = at; to < end; ) {
    const part = Math.min(to - from, end - to);
    bytes.copyWithin(to, from, from + part);
    to += part;
  }
}
