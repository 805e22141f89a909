/** Numbers and bytes for people. */

/** `1,456,040`. */
export const group = (value: number | string): string =>
  typeof value === 'number' ? value.toLocaleString('en-US') : value;

/** `406,960 bytes`. */
export const bytes = (value: number): string => `${group(value)} ${value === 1 ? 'byte' : 'bytes'}`;

/** `590 MB`: sizes of files, roughly. */
export function roughly(value: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let [size, unit] = [value, 0];
  for (; size >= 1000 && unit < units.length - 1; unit++) size /= 1000;
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toPrecision(3)} ${units[unit] ?? ''}`;
}

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${group(count)} ${count === 1 ? one : many}`;

/** `a, b and c`. */
export function enumerate(words: readonly string[]): string {
  const last = words.at(-1) ?? '';
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} and ${last}`;
}

const LINE_BYTES = 16;

/** Lines of 16 bytes as hexdump -C writes them. @param first the number at the first byte */
export function hexdump(data: Uint8Array, first: bigint): string {
  const lines: string[] = [];
  for (let at = 0; at < data.length; at += LINE_BYTES) {
    const line = data.subarray(at, at + LINE_BYTES);
    const cells = Array.from(line, (byte) => byte.toString(16).padStart(2, '0'));
    const text = Array.from(line, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
    const halves = `${cells.slice(0, 8).join(' ')}  ${cells.slice(8).join(' ')}`;
    lines.push(`${(first + BigInt(at)).toString(16).padStart(8, '0')}  ${halves.padEnd(3 * LINE_BYTES)}  |${text}|`);
  }
  return lines.join('\n');
}
