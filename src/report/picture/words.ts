/** Numbers and texts as a picture shows them. */

/** Bytes, exact as long as that is easy to read. */
export function bytes(value: bigint | number): string {
  const size = BigInt(value);
  if (size === 1n) return '1 byte';
  if (size < EXACT_BELOW) return `${group(size)} bytes`;
  let unit = 0;
  let scaled = Number(size);
  while (scaled >= 1024 && unit < UNITS.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${scaled.toFixed(1)} ${UNITS[unit] ?? ''}`;
}

const EXACT_BELOW = 10n ** 10n;
const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** A number with a comma after each three digits, the same everywhere. */
export const group = (value: bigint | number): string => value.toString().replaceAll(/\B(?=(\d{3})+$)/g, ',');

/** A number with what it counts. */
export const counted = (number: number, one: string): string => `${group(number)} ${one}${number === 1 ? '' : 's'}`;

/** `p_flags` as letters. */
export const permissions = (flags: number): string =>
  [flags & 4 ? 'R' : '', flags & 2 ? 'W' : '', flags & 1 ? 'X' : ''].join('');

/** Wider than nearly all texts of the fonts that browsers choose, in parts of the font's size. */
const CHARACTER_WIDTH = 0.58;

/** How wide a text is at most, as far as that can be known without its font. */
export const textWidth = (text: string, size: number): number => Array.from(text).length * size * CHARACTER_WIDTH;

/** The text, cut where it would be wider than `width` in a font of `size`. */
export function fit(text: string, width: number, size: number): string {
  const most = Math.max(1, Math.floor(width / (size * CHARACTER_WIDTH)));
  const characters = Array.from(text);
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join('')}…`;
}

/** Words with commas between them, in lines of at most `most` characters; what exceeds `lines` is left out. */
export function wrap(words: readonly string[], most: number, lines: number): string[] {
  const wrapped: string[] = [];
  for (const word of words) {
    const last = wrapped.at(-1);
    if (last !== undefined && last.length + word.length + 2 <= most) wrapped[wrapped.length - 1] = `${last}, ${word}`;
    else wrapped.push(word);
  }
  if (wrapped.length <= lines) return wrapped.map((line, at) => (at + 1 < wrapped.length ? `${line},` : line));
  return wrapped.slice(0, lines).map((line, at) => (at + 1 < lines ? `${line},` : `${line}, …`));
}
